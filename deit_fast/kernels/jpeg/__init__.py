"""JPEG: its Huffman-coded data, its transform and its colours, from stored bytes to pixels and back to bytes."""
