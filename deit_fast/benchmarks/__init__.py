"""Measurements of the product, and comparisons with others."""
