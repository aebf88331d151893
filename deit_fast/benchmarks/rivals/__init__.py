"""Loaders to measure beside each other, ours among them: each takes a work and files, gives a System."""
