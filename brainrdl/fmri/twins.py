"""One scan under two names: its noise would be cross-validated with itself, or its subject counted twice."""

from collections.abc import Hashable, Sequence

import numpy as np

from brainrdl.files.store import sha256
from brainrdl.fmri.bids import Run
from brainrdl.fmri.images import same_files
from brainrdl.rdms.patterns import SAME_SCANS, Array


def check_scans(runs: Sequence[Run]) -> None:
    """Raise a ValueError if the images of two runs are one and the same, of one subject or of two."""
    twins = same_files(run.image for run in runs)
    if twins:
        one, other = twins[0]
        raise ValueError(
            f"{one} and {other} are one and the same scan ({len(twins)} such pairs in all), so that its noise would be "
            "cross-validated with itself, or its subject count twice; take one out, or fetch the right one"
        )


def scan_digest(Y: Array) -> str:
    """Digest of a run's data (scans, voxels)."""
    return sha256(np.ascontiguousarray(Y).tobytes())


def mark(digests: Sequence[str], runs: Sequence[Hashable]) -> dict[str, list[str]]:
    """Attribute of patterns that names the runs of the same data, pair behind pair; empty where there are none."""
    first: dict[str, Hashable] = {}
    pairs = [(first.setdefault(digest, run), run) for digest, run in zip(digests, runs, strict=True)]
    marked = [str(run) for pair in pairs if pair[0] is not pair[1] for run in pair]
    return {SAME_SCANS: marked} if marked else {}
