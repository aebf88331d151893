"""What happens to a view: scalar definitions in Numba that know nothing of files, FFCV or models."""
