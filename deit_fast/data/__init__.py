"""From a file of images to batches in memory: the only package that imports FFCV."""

from deit_fast.data.ffcv_import import import_ffcv

import_ffcv()
