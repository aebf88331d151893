"""Architectures by name, from timm where timm has them."""
