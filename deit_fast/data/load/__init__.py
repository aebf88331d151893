"""From a beton to batches in memory."""
