"""Comparisons of `bench fidelity`: our views beside those of Pillow, torchvision and timm."""
