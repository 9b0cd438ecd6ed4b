"""Where the fits of a study are made, each kept in a file of its own once it is done."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from brainrdl.features import capture
from brainrdl.files import check_json, read_json, write_json
from brainrdl.inference.splits import Split
from brainrdl.rdms.labelled import condense
from brainrdl.rdms.layers import layer_rdms
from brainrdl.studies.brain.configuration import Configuration
from brainrdl.studies.brain.inputs import Inputs
from brainrdl.studies.brain.outcomes import Outcome, load_outcome, save_outcome
from brainrdl.studies.brain.students import Plan, Snapshot, fit_student
from brainrdl.studies.brain.task_networks import attempt_of, make_student, task_network
from brainrdl.training.trainer import Trainer


def file_name(name: str) -> str:
    """A name, such as a category's, as that of a file: letters and digits as they are, blanks as hyphens.

    Examples
    --------
    >>> from brainrdl.studies.brain.runs import file_name
    >>> file_name("human face"), file_name("../a/b")
    ('human-face', '%2E%2E%2Fa%2Fb')
    """
    kept = "".join(sign if sign.isalnum() or sign in "-_. " else quote(sign, safe="") for sign in name)
    # a leading dot hides a file, and two of them lead out of the folder
    return (kept.replace(".", "%2E") if kept.startswith(".") else kept).replace(" ", "-")


@dataclass(frozen=True, eq=False)
class Workshop:
    """A study under way: what it is, what it is made of, and what is done of it.

    Attributes
    ----------
    configuration : Configuration
    inputs : Inputs
    fabric : Fabric
        Device and precision.
    folder : Path
        The study's; networks, fits and choices are kept below it.
    log : callable
        Told what is going on, a line at a time.
    """

    configuration: Configuration
    inputs: Inputs
    fabric: Fabric
    folder: Path
    log: Callable[[str], None] = print
    _networks: dict[int, nn.Module] = field(default_factory=dict)

    def task_network(self, seed: int) -> nn.Module:
        """A copy of the network that the students of a seed begin as."""
        if seed not in self._networks:
            self._networks[seed] = task_network(
                self.configuration, self.inputs.task, seed, self._network_folder, self.fabric, log=self.log
            )
        return deepcopy(self._networks[seed])

    def features(self, seed: int) -> dict[str, Tensor]:
        """The task network's features of all stimuli at the layers that may be fitted."""
        images, _ = self.inputs.stimuli.batch()
        network = self.task_network(seed).cpu().eval()
        with torch.no_grad():
            return capture(network, self.configuration.fit.layers, images, flatten=False)[1]

    def task_error(self, seed: int) -> float:
        """Error of the task network of a seed on the test images in percent, NaN where there is no task."""
        images = self.inputs.task
        if images is None:
            return float("nan")

        def make() -> Outcome:
            loader = images.batches.evaluation(images.test)
            error = Trainer(self.task_network(seed).to(self.fabric.device), fabric=self.fabric).evaluate(loader)[
                "error"
            ]
            return Outcome("task_network", seed, np.empty(0), task_error=error)

        return self.made(f"task_network-seed{seed}", make).task_error

    def untrained(self, seed: int) -> dict[str, np.ndarray]:
        """Layer → condensed RDM of all stimuli in the network of a seed before any training."""
        self.task_network(seed)
        attempt = attempt_of(self.configuration, seed, self._network_folder)
        return self._layers(make_student(self.configuration, seed, attempt, trained=False))

    def task_only(self, seed: int) -> list[Snapshot]:
        """The task network of a seed as the task goes on without the brain, at each length of a fit."""
        fit = self.configuration.fit
        if self.inputs.task is None:
            return [Snapshot(updates, self._layers(self.task_network(seed)), np.nan) for updates in fit.updates]
        going_on: dict[tuple[str, int], Outcome] = {}

        def make(layer: str, updates: int) -> Outcome:
            if not going_on:
                going_on.update(self._continued(seed))
            return going_on[layer, updates]

        found = {
            key: self.made(f"task_only/{file_name(key[0])}-seed{seed}-updates{key[1]}", partial(make, *key))
            for key in product(fit.layers, fit.updates)
        }
        return [
            Snapshot(
                updates,
                {layer: found[layer, updates].rdm for layer in fit.layers},
                found[fit.layers[0], updates].task_error,
            )
            for updates in fit.updates
        ]

    @property
    def _network_folder(self) -> Path:
        return self.folder / "networks"

    @property
    def seeds(self) -> range:
        """0 … seeds − 1."""
        return range(self.configuration.seeds)

    def made(self, name: str, make: Callable[[], Outcome]) -> Outcome:
        """An outcome that is done already, or is made and kept."""
        path = self.folder / "fits" / f"{name}.npz"
        if not path.exists():
            save_outcome(make(), path)
        found = load_outcome(path)  # read back: a study must not depend on what was made just now
        n_pairs = len(self.inputs.stimuli) * (len(self.inputs.stimuli) - 1) // 2
        if found.rdm.shape not in ((n_pairs,), (0,)):
            raise ValueError(
                f"{path} holds {found.rdm.size} distances, expected {n_pairs}; remove it to have the fit made again"
            )
        return found

    def chosen(self, name: str, choose: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """A table of tries that was made already, or is made and kept."""
        path = self.folder / "choices" / f"{name}.json"
        if not path.exists():
            write_json(choose().astype(object).where(lambda table: table.notna(), None).to_dict("records"), path)
        rows = read_json(path, list)
        for row in rows:
            check_json(row, dict, ("layer", "inner_split", "value", "chosen"), f"a try in {path}")
        if not any(row["chosen"] for row in rows):
            raise ValueError(f"{path} says of none of {len(rows)} tries that it was chosen; remove it to choose again")
        return pd.DataFrame(rows)

    def place(self, fitted: str, split: Split) -> str:
        """Where what belongs to a split is kept."""
        return "/".join(map(file_name, (fitted, split.scheme, split.name)))

    def _layers(self, model: nn.Module) -> dict[str, np.ndarray]:
        fit = self.configuration.fit
        rdms = condense(layer_rdms(model.eval(), self.inputs.stimuli, fit.layers, fit.metric))
        return dict(zip(fit.layers, rdms, strict=True))

    def _continued(self, seed: int) -> dict[tuple[str, int], Outcome]:
        """The task goes on as in the fits of this seed, but without stimuli.

        The batches are the same only up to the lengths' greatest common divisor: this makes passes of so many batches,
        each in an order of its own, and a fit is a single pass.
        """
        fit = self.configuration.fit
        plan = Plan(fit.layers[0], 0.0, fit.updates, seed)
        fitted = fit_student(
            self.task_network(seed),
            None,
            plan,
            configuration=self.configuration,
            inputs=self.inputs,
            fabric=self.fabric,
            on_test=True,
        )
        return {
            (layer, updates): Outcome(
                "task_only",
                seed,
                snapshot.rdms[layer],
                layer=layer,
                setting={"updates": updates},
                task_error=snapshot.task_error,
                history=fitted.history,
            )
            for updates, snapshot in zip(fit.updates, fitted.snapshots, strict=True)
            for layer in fit.layers
        }
