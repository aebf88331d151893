"""Takes FFCV betons of images, gives trained DeiT and ResNet classifiers and the record of what they cost."""

__version__ = "0.1.0"
