"""Takes folders of runs and sweeps and results of bench, gives one page about them, with its figures and tables."""

from deit_fast.report.write import write_report

__all__ = ["write_report"]
