"""The demonstration: trains a small DeiT with every command of the main job, one after another."""

from deit_fast.demo.run import demo

__all__ = ["demo"]
