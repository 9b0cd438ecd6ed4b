"""Why does raw RDL harm on CIFAR-100? One thing changed at a time, on validation images; the test set stays closed.

    python results/cifar_harm.py results/cifar100/60-epochs --data-dir DIR

Each variant is one training run on 20,000 images for 20 epochs, toward the study's own teacher, scored on its 10,000
validation images, with one thing different from the recipe: those in the list `VARIANTS`. A line is added to `harm.csv`
in the study's folder as each run ends; those found there are not repeated.
"""

import argparse
import csv
import multiprocessing
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path

import torch
from torch import Tensor, nn

from brainrdl.features.recorder import capture
from brainrdl.rdms.distances import rdm
from brainrdl.studies.paper.arms import TEACHER
from brainrdl.studies.paper.cifar100 import cifar100_study
from brainrdl.studies.paper.recipe import override
from brainrdl.studies.paper.runs import read_run
from brainrdl.studies.paper.study import Request
from brainrdl.studies.paper.training import Context, Setting, initialised, train
from brainrdl.teachers.network import NetworkTeacher
from brainrdl.terms.alpha import alpha_of, linear_decay, relative_alpha
from brainrdl.terms.base import Term
from brainrdl.terms.losses import RDLoss
from brainrdl.terms.rdl import RDLTerm
from brainrdl.training.machine import open_fabric, use_threads

SEED = -1  # as all tries of a study
IMAGES, EPOCHS, RISE = 20_000, 20, 5
_COLUMNS = (
    "variant",
    "arm",
    "alpha0",
    "changed",
    "validation_error",
    "validation_loss",
    "rdl_pool1",
    "died",
    "seconds",
)


@dataclass(frozen=True)
class Variant:
    """One try: an arm, its α₀, the recipe's fields that differ, and how its term is made if not by the arm."""

    name: str
    arm: str
    alpha0: float = nan
    changes: tuple[str, ...] = ()
    term: str = ""  # "rising" or "scaled"

    def words(self) -> dict[str, str]:
        """Name the try in a line of ``harm.csv``."""
        changed = " ".join(self.changes)
        return {"variant": self.name, "arm": self.arm, "alpha0": f"{self.alpha0:g}", "changed": changed}


_BALANCED = ("balanced=true",)
VARIANTS = [
    Variant("control", "plain_readout"),
    Variant("α relative to the teacher", "rdl", 0.1),
    Variant("α balanced", "rdl", 0.3, _BALANCED),
    Variant("scale fitted at the start", "rdl", 0.1, (), "scaled"),
    Variant("α relative to the teacher", "rdl", 0.01),
    Variant("α balanced", "rdl", 0.1, _BALANCED),
    Variant("α balanced", "rdl", 1.0, _BALANCED),
    Variant("α absolute", "rdl", 0.1, ("relative=false",)),
    Variant("scale-free", "rdl_corr", 1.0),
    Variant("scale-free", "rdl_corr", 0.3),
    Variant("without pool3", "rdl", 0.1, ("layers=pool1,pool2",)),
    Variant("without pool3", "rdl", 0.3, (*_BALANCED, "layers=pool1,pool2")),
    Variant("α rises over 5 epochs", "rdl", 0.1, (), "rising"),
    Variant("scale fitted at the start", "rdl", 0.01, (), "scaled"),
    Variant("α balanced", "rdl", 0.01, _BALANCED),
    Variant("scale fitted at the start", "rdl", 1.0, (), "scaled"),
    Variant("α balanced", "rdl", 0.03, _BALANCED),
    Variant("no clipping", "rdl", 0.3, (*_BALANCED, "clip=none")),
    Variant("no clipping", "rdl", 0.01, ("clip=none",)),
    Variant("α absolute", "rdl", 10.0, ("relative=false",)),
    Variant("no weight decay", "rdl", 0.1, ("weight_decay=0",)),
    Variant("no weight decay", "plain_readout", nan, ("weight_decay=0",)),
    Variant("scale-free", "rdl_corr", 3.0),
]


class ScaledTeacher(NetworkTeacher):
    """A network teacher whose mean squared distances are a constant times its own, layer by layer."""

    def __init__(self, model: nn.Module, layers: Iterable[str], factors: Mapping[str, float]) -> None:
        super().__init__(model, layers)
        self._factors = dict(factors)

    def features(self, images: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Scale the features by the root: mean squared distances by the factor."""
        found = super().features(images, list(layers))
        return {layer: value * self._factors[layer] ** 0.5 for layer, value in found.items()}


def scaled_terms(context: Context, setting: Setting) -> list[Term]:
    """Raw RDL toward distances that are, in the mean, as long as the untrained student's; α relative to these."""
    recipe = context.recipe
    images = context.batches.tensor(context.training.take(range(500)))
    teacher = context.ask(recipe.metric).to(images.device)
    student = initialised(context.model, context.seed).to(images.device).train()  # as in its first update
    with torch.no_grad(), torch.random.fork_rng([images.device] if images.is_cuda else []):
        mine = capture(student, recipe.layers, images)[1]
        theirs = teacher.features(images, recipe.layers)
    factors = {
        layer: float(rdm(mine[layer], recipe.metric).mean() / rdm(theirs[layer], recipe.metric).mean())
        for layer in recipe.layers
    }
    scaled = ScaledTeacher(teacher._model, recipe.layers, factors).to(images.device)
    layers = {layer: layer for layer in recipe.layers}
    alpha = linear_decay(relative_alpha(setting["alpha0"], scaled, images, layers))
    loss = RDLoss(metric=recipe.metric, compare="mse", gradient=recipe.gradient)
    return [RDLTerm(scaled, layers, loss=loss, n_pairs=recipe.n_pairs, alpha=alpha)]


def rising(term: Term) -> Term:
    """Let a term's α rise in equal steps over its first epochs."""
    falling = term.alpha

    def alpha(epoch: int, epochs: int) -> dict[str, float]:
        rise = min(1, (epoch + 1) / (RISE + 1))
        return {layer: rise * alpha_of(falling, layer, epoch, epochs) for layer in term.layers}

    term.alpha = alpha
    return term


def make(variant: Variant, folder: Path, data_dir: Path | None, device: str) -> dict[str, object]:
    """Train one variant; its line of ``harm.csv``, errors in percent."""
    use_threads(1)
    study = cifar100_study()
    fabric = open_fabric(device, "auto")
    request = Request(out=folder, data_dir=data_dir, limit_train=IMAGES, train_size=40_000)
    splits = study.load(request).on(fabric.device, None)
    networks = study.networks(splits)
    teacher = read_run(folder / "runs" / f"{TEACHER}-cifar10-seed0", networks["teacher"])
    if teacher is None:
        raise FileNotFoundError(f"{folder} holds no teacher; run the study first")
    arm = study.arm(variant.arm)
    if variant.term == "scaled":
        arm = replace(arm, terms=scaled_terms)
    elif variant.term == "rising":
        of_arm = arm.terms
        arm = replace(arm, terms=lambda context, setting: [rising(term) for term in of_arm(context, setting)])
    recipe = override(study.recipe, ("balanced=false", *variant.changes))
    context = Context(
        recipe=replace(recipe, epochs=EPOCHS),
        model=lambda: networks[arm.network]().to(memory_format=torch.channels_last),
        training=splits.students.training,
        validation=splits.students.validation,
        unlabelled=None,
        teacher=teacher.model,
        batches=study.batches,
        fabric=fabric,
        seed=SEED,
    )
    line: dict[str, object] = dict(variant.words())
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as checkpoints:
        try:
            _, history = train(arm, context, {"alpha0": variant.alpha0}, Path(checkpoints))
        except FloatingPointError as error:
            return line | {"died": str(error), "seconds": f"{time.perf_counter() - started:.0f}"}
    last = history.iloc[-1]
    measured = {name: f"{last[name]:.6g}" for name in ("validation_error", "validation_loss")}
    seconds = {"seconds": f"{time.perf_counter() - started:.0f}"}
    return line | measured | seconds


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _one(arguments: tuple[Variant, Path, Path | None, str]) -> dict[str, object]:
    return make(*arguments)


def main() -> None:
    """Parse the options and try."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a CIFAR-100 study whose teacher is trained")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder with the data (default: $BRAINRDL_DATA)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="parallel processes (default: %(default)s)")
    options = parser.parse_args()
    path = options.study / "harm.csv"
    done = {tuple(line[name] for name in ("variant", "arm", "alpha0", "changed")) for line in _read(path)}
    left = [variant for variant in VARIANTS if tuple(variant.words().values()) not in done]
    work = [(variant, options.study, options.data_dir, options.device) for variant in left]
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for line in pool.imap_unordered(_one, work):
            new = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(line)
            print(", ".join(f"{key} {value}" for key, value in line.items() if value != ""), flush=True)


if __name__ == "__main__":
    main()
