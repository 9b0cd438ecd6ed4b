"""Results of single fits on disk, so that a study that was interrupted is resumed where it was."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainrdl.exchange.npz import load_arrays
from brainrdl.files.store import atomic_path


@dataclass(frozen=True, eq=False)
class Outcome:
    """The prediction of an arm after its fit to the training stimuli of a split."""

    arm: str
    seed: int  # of the network that it began with; 0 for what has none
    rdm: np.ndarray  # (n(n-1)/2,): its condensed RDM of all stimuli, in the study's order
    fitted_to: tuple[str, ...] = ()  # the stimuli whose targets the fit has seen
    layer: str = ""  # where the RDM was read, empty where it is of no layer
    setting: Mapping[str, Any] = field(default_factory=dict)  # what was chosen: alpha0, updates, a head's strength
    task_error: float = nan  # in percent on the test images, NaN where there is no task network
    history: pd.DataFrame = field(default_factory=pd.DataFrame)  # learning curve, empty where nothing was trained

    @property
    def record(self) -> dict[str, Any]:
        """All but RDM and history, as JSON has it."""
        record = {name: getattr(self, name) for name in ("arm", "seed", "fitted_to", "layer", "setting")}
        return {**record, "task_error": None if np.isnan(self.task_error) else self.task_error}


def save_outcome(outcome: Outcome, path: Path) -> None:
    """Write an outcome, atomically."""
    content = io.BytesIO()
    np.savez(
        content,
        rdm=outcome.rdm,
        record=np.array(json.dumps(outcome.record)),
        history=np.array("" if outcome.history.empty else outcome.history.to_csv(index=False, lineterminator="\n")),
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_outcome(path: Path) -> Outcome:
    """Read what `save_outcome` wrote; ValueError if the file is damaged."""
    try:
        file = load_arrays(path)
        record = json.loads(str(file["record"]))
        history = str(file["history"])
        record["fitted_to"] = tuple(record["fitted_to"])
        record["task_error"] = nan if record["task_error"] is None else record["task_error"]
        curve = pd.read_csv(io.StringIO(history)) if history else pd.DataFrame()
        return Outcome(**record, rdm=file["rdm"], history=curve)
    except Exception as error:  # a damaged archive can make its readers fail in any way
        raise ValueError(f"{path} is damaged ({error}); remove it to have the fit made again") from error
