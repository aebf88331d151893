"""CUDA kernels that do to batches on the device what the CPU code of `augment` does, by the same scalar definitions."""
