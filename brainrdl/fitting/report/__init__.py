"""One page about a fit to measured RDMs, made of the files that it leaves behind and of nothing else."""

from brainrdl.fitting.report.page import write_report

__all__ = ["write_report"]
