"""From a file of images to batches in memory: the only room that knows FFCV."""
