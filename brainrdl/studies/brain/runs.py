"""The fits of a study, each kept in a file of its own once it is done."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import numpy as np
import pandas as pd
import torch
import xarray as xr
from lightning_fabric import Fabric
from torch import Tensor, nn

from brainrdl.features.recorder import capture
from brainrdl.inference.splits import Split
from brainrdl.studies.brain.configuration import Configuration
from brainrdl.studies.brain.inputs import Inputs
from brainrdl.studies.brain.outcomes import Outcome, load_outcome, save_outcome
from brainrdl.studies.brain.students import FittedStudent, Plan, Snapshot, fit_student, rdms_by_layer
from brainrdl.studies.brain.task_networks import attempt_of, make_student, task_network, updates_of_task
from brainrdl.studies.folder import locked
from brainrdl.studies.kept import kept
from brainrdl.studies.tries import Tries, kept_tries
from brainrdl.training.trainer import Trainer


def file_name(name: str) -> str:
    """Write a name, such as a category's, as that of a file: letters and digits as they are, blanks as hyphens."""
    safe = "".join(c if c.isalnum() or c in "-_. " else quote(c, safe="") for c in name)
    # a leading dot hides a file, and two of them lead out of the folder
    return (safe.replace(".", "%2E") if safe.startswith(".") else safe).replace(" ", "-")


def place(fitted: str, split: Split) -> str:
    """Name the folder of what belongs to a split in a fitted study."""
    return "/".join(map(file_name, (fitted, split.scheme, split.name)))


class RunsInStudy(Protocol):
    """A task that is done in a study under way."""

    def make(self, runs: "FitRuns", /) -> object:
        """Make the task's result, or read it where it is done."""


@dataclass(frozen=True, eq=False)
class FitRuns:
    """A study under way: networks, fits and choices are kept below its folder, `log` is called with a line at a time.

    With `locks`, other processes work in the folder too, and a result that one of them is making raises a HeldError.
    """

    configuration: Configuration
    inputs: Inputs
    fabric: Fabric
    folder: Path
    log: Callable[[str], None] = print
    locks: bool = False
    advance: Callable[[float], None] = lambda updates: None  # called with the updates of each training that is done
    _networks: dict[int, nn.Module] = field(default_factory=dict)
    _starts: dict[int, Snapshot] = field(default_factory=dict)

    def run(self, task: "RunsInStudy") -> object:
        """Make a task's result, or read it where it is done."""
        return task.make(self)

    def task_network(self, seed: int) -> nn.Module:
        """Copy the network that the students of a seed begin as."""
        # a copy each time, since students are trained in place
        if seed not in self._networks:
            folder, lock = self._network_folder, self._lock(f"networks/task-seed{seed}")
            there = (folder / f"task-seed{seed}.safetensors").exists()
            self._networks[seed] = task_network(
                self.configuration, self.inputs.task, seed, folder, self.fabric, lock=lock, log=self.log
            )
            if not there:
                self.advance(updates_of_task(self.configuration, self.inputs))
        return deepcopy(self._networks[seed])

    def fit(self, target: xr.DataArray | None, plan: Plan, *, on_test: bool = False) -> FittedStudent:
        """Fit the student of the plan's seed, see `fit_student`."""
        student, configuration, inputs = self.task_network(plan.seed), self.configuration, self.inputs
        try:
            return fit_student(
                student, target, plan, configuration=configuration, inputs=inputs, fabric=self.fabric, on_test=on_test
            )
        finally:  # a fit that died is done, too
            self.advance(plan.updates[-1])

    def features(self, seed: int) -> dict[str, Tensor]:
        """Compute the task network's features of all stimuli at the layers that may be fitted."""
        images, _ = self.inputs.stimuli.batch()
        # on the CPU: heads are fitted there, in float64
        network = self.task_network(seed).cpu().eval()
        with torch.no_grad():
            return capture(network, self.configuration.fit.layers, images, flatten=False)[1]

    def task_error(self, seed: int) -> float:
        """Measure the error of the task network of a seed on the test images in percent; NaN without a task."""
        images = self.inputs.task
        if images is None:
            return float("nan")

        def make() -> Outcome:
            trainer = Trainer(
                self.task_network(seed).to(self.fabric.device), fabric=self.fabric, threads=torch.get_num_threads()
            )
            error = trainer.evaluate(images.batches.evaluation(images.test))["error"]
            return Outcome("task_network", seed, np.empty(0), task_error=error)

        return self.made(f"task_network-seed{seed}", make).task_error

    def start(self, seed: int) -> Snapshot:
        """Look at the task network of a seed as heads and fits find it, after no further update."""
        # each of many splits asks for it
        if seed not in self._starts:
            rdms = rdms_by_layer(self.task_network(seed).eval(), self.inputs, self.configuration.fit)
            self._starts[seed] = Snapshot(0, rdms, self.task_error(seed))
        return self._starts[seed]

    def untrained(self, seed: int) -> dict[str, np.ndarray]:
        """Compute the condensed RDM of all stimuli by layer, in the network of a seed before any training."""
        # the very initialisation that the task network was trained from, which may be a later attempt
        self.task_network(seed)
        attempt = attempt_of(self.configuration, seed, self._network_folder)
        untrained = make_student(self.configuration, seed, attempt, trained=False).eval()
        return rdms_by_layer(untrained, self.inputs, self.configuration.fit)

    def task_only(self, seed: int) -> list[Snapshot]:
        """Go on with the task network of a seed on the task, without the brain: a snapshot at each length of a fit."""
        fit = self.configuration.fit
        if self.inputs.task is None:
            rdms = rdms_by_layer(self.task_network(seed).eval(), self.inputs, fit)
            return [Snapshot(updates, rdms, np.nan) for updates in fit.updates]
        names = {
            (layer, updates): f"task_only/{file_name(layer)}-seed{seed}-updates{updates}"
            for layer, updates in product(fit.layers, fit.updates)
        }
        complete = all((self.folder / "fits" / f"{name}.npz").exists() for name in names.values())
        # one lock for all of them: they are read out of one training
        with nullcontext() if complete else self._lock(f"fits/task_only/seed{seed}"):
            continued = cache(partial(self._continued, seed))

            def make(key: tuple[str, int]) -> Outcome:
                return continued()[key]

            found = {key: self.made(name, partial(make, key)) for key, name in names.items()}
        snapshots = []
        for n in fit.updates:
            first = found[fit.layers[0], n]
            curve = first.history if first.history.empty else first.history[first.history["update"] <= n]
            snapshots.append(Snapshot(n, {layer: found[layer, n].rdm for layer in fit.layers}, first.task_error, curve))
        return snapshots

    @property
    def _network_folder(self) -> Path:
        return self.folder / "networks"

    @property
    def seeds(self) -> range:
        """0 … seeds − 1."""
        return range(self.configuration.seeds)

    def made(self, name: str, make: Callable[[], Outcome], check: Callable[[Outcome], None] | None = None) -> Outcome:
        """Read an outcome that is done already, or make and keep it; `check` refuses that of another fit."""
        path = self.folder / "fits" / f"{name}.npz"
        n_pairs = len(self.inputs.stimuli) * (len(self.inputs.stimuli) - 1) // 2

        def check_size(found: Outcome) -> None:
            if found.rdm.shape not in ((n_pairs,), (0,)):
                raise ValueError(
                    f"{path} holds {found.rdm.size} distances, expected {n_pairs}; remove it to have the fit made again"
                )
            if check is not None:
                check(found)

        return kept(
            path, make, write=save_outcome, read=load_outcome, check=check_size, lock=self._lock(f"fits/{name}")
        )

    def chosen(self, name: str, choose: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Read a table of tries that was made already, or make and keep it."""
        path = self.folder / "choices" / f"{name}.json"

        def make() -> Tries:
            table = choose().astype(object)
            # JSON has no NaN
            records = table.where(table.notna(), None).to_dict("records")
            return [{str(column): value for column, value in record.items()} for record in records]

        fields = ("layer", "inner_split", "value", "chosen")
        rows = kept_tries(path, make, fields=fields, lock=self._lock(f"choices/{name}"))
        if not any(row["chosen"] for row in rows):
            raise ValueError(f"{path} says of none of {len(rows)} tries that it was chosen; remove it to choose again")
        return pd.DataFrame(rows)

    def _lock(self, name: str) -> AbstractContextManager[object]:
        # all below one hidden folder, since a result is a file, and a lock is a file in a folder
        return locked(self.folder / ".locks" / name, required=True) if self.locks else nullcontext()

    def place(self, fitted: str, split: Split) -> str:
        """Name the folder of what belongs to a split."""
        return place(fitted, split)

    def _continued(self, seed: int) -> dict[tuple[str, int], Outcome]:
        """Go on with the task as in the fits of this seed, but without stimuli."""
        # the batches are the same only up to the lengths' greatest common divisor: this makes passes of so many
        # batches, each in an order of its own, and a fit is a single pass
        fit = self.configuration.fit
        # without a target the layer means nothing, and α is 0
        fitted = self.fit(None, Plan(fit.layers[0], 0.0, fit.updates, seed), on_test=True)
        found = {}
        for snapshot, layer in product(fitted.snapshots, fit.layers):
            setting, rdm = {"updates": snapshot.updates}, snapshot.rdms[layer]
            outcome = Outcome("task_only", seed, rdm, (), layer, setting, snapshot.task_error, fitted.history)
            found[layer, snapshot.updates] = outcome
        return found
