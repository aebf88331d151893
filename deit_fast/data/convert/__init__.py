"""Converts a set of images into a beton."""
