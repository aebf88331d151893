"""All that Numba compiles: what happens to stored bytes and pixels. Knows nothing of files, FFCV, options or models."""
