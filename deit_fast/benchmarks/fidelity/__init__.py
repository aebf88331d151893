"""What the rows of `bench fidelity` compare: our views beside those of Pillow, torchvision and timm."""
