"""RDMs from and for other tools: one module per format, nothing guessed, nothing lost unsaid."""

from brainrdl.exchange.description import describe, describe_as_text
from brainrdl.exchange.files import read_rdms, write_rdms
from brainrdl.exchange.rsatoolbox import from_rsatoolbox, to_rsatoolbox

__all__ = [
    "describe",
    "describe_as_text",
    "from_rsatoolbox",
    "read_rdms",
    "to_rsatoolbox",
    "write_rdms",
]
