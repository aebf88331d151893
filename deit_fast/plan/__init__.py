"""Takes the configuration of a run, gives what it will cost on this machine, before it is paid."""

from deit_fast.plan.plan import plan, predict

__all__ = ["plan", "predict"]
