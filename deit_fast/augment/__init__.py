"""What the options of augmentation mean: policies of timm and torchvision, as tables that kernels draw from."""
