"""One page about runs, sweeps and results of bench, with figures and tables."""

from deit_fast.report.write import write_report

__all__ = ["write_report"]
