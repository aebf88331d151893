"""stub"""
from deit_fast.augment.compiled import compiled
def blur_bytes(h,w): return 0
@compiled()
def blur(): pass
