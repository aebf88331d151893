"""Loaders to compare, ours among them: each opens a System for a work and files."""
