"""Translates the options of augmentation, such as policies of timm and torchvision, into tables that kernels draw from."""
