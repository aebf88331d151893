"""Takes an image folder and a beton to write, gives peak resident MB of the converting process and of its largest worker."""

import resource
import sys

from deit_fast.config import SourceConfig, WriteConfig
from deit_fast.data.write import write_beton

write_beton(SourceConfig(path=sys.argv[1]), WriteConfig(out=sys.argv[2], num_workers=2))
print([resource.getrusage(whose).ru_maxrss // 1024 for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)])
