"""Creates models by name with timm, loads weights into them, and adapts them for training."""
