"""Studies that fit students to measured RDMs: what ``brainrdl fit`` and ``brainrdl card`` do."""

from brainrdl.fitting.configuration import Configuration, checked, read_configuration, write_example
from brainrdl.fitting.fitted import load_fitted
from brainrdl.fitting.inputs import load_inputs
from brainrdl.fitting.study import Machine, fit, say_plan

__all__ = [
    "Configuration",
    "Machine",
    "checked",
    "fit",
    "load_fitted",
    "load_inputs",
    "read_configuration",
    "say_plan",
    "write_example",
]
