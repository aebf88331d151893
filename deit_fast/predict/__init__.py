"""Classifies images with a trained model: which images, their views, the model, the results."""
