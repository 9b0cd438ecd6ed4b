"""One page about a study, made of the files that the study leaves behind and of nothing else."""

from brainrdl.experiments.report.page import write_report

__all__ = ["write_report"]
