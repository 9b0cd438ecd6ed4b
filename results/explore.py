"""Try settings of RDL on the validation images of an MNIST study, with its clean teacher; the test set stays closed.

    python results/explore.py results/mnist/10000 --data-dir DIR

Each try is one training of the length and data of the study's own tries (another seed than any of its runs), with
one thing different from the recipe: what the list `VARIANTS` names. A line is added to `exploration.csv` in the study's
folder as each try ends; tries found there are not made again.
"""

import argparse
import csv
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from brainrdl.files.store import read_json
from brainrdl.studies.paper.mnist import mnist_study
from brainrdl.studies.paper.recipe import override, recipe_from
from brainrdl.studies.paper.runs import read_run
from brainrdl.studies.paper.study import Request
from brainrdl.studies.paper.training import Context, train

_SEED = -1  # as all tries of a study

# (arm, α₀, fields of the recipe that differ)
VARIANTS: list[tuple[str, float, tuple[str, ...]]] = [
    # does a warm-up, or clipping, lift the limit on α₀?
    ("plain", 0.0, ("clip=1",)),
    *(("rdl", alpha0, ("clip=1",)) for alpha0 in (1, 2, 4, 10)),
    *(("rdl", alpha0, ("warmup=3",)) for alpha0 in (2, 4, 10)),
    ("rdl", 10.0, ("warmup=3", "clip=1")),
    # scale-free: what is compared, where, and how long
    *(("rdl_corr", alpha0, ("corr_metric=mse",)) for alpha0 in (1, 3)),
    ("rdl_corr", 3.0, ("clip=1",)),
    ("rdl_corr", 10.0, ("clip=1",)),
    ("rdl_corr", 3.0, ("schedule=constant",)),
    ("rdl_corr", 3.0, ("layers=fc",)),
    ("rdl_corr", 3.0, ("layers=pool1,pool2",)),
    ("rdl_corr", 3.0, ("corr_pairs=500",)),
    ("rdl_corr", 3.0, ("corr_metric=correlation",)),
    # raw distances: gradient, pairs, layers, schedule
    ("rdl", 1.0, ("gradient=mean",)),
    ("rdl", 1.0, ("n_pairs=none",)),
    ("rdl", 1.0, ("layers=fc",)),
    ("rdl", 1.0, ("schedule=constant",)),
    ("rdl", 1.0, ("metric=correlation",)),
    # is distillation held back by what was tried?
    *(("kd", alpha0, ("clip=1",)) for alpha0 in (0.1, 0.3, 1)),
    *(("kd", alpha0, ("temperature=2",)) for alpha0 in (0.1, 0.3, 1)),
]
_COLUMNS = ("arm", "alpha0", "changed", "epochs", "validation_error", "validation_loss", "died", "seconds")


def tries(folder: Path, data_dir: Path | None) -> Iterator[dict[str, object]]:
    """Make every variant that `exploration.csv` does not hold.

    Parameters
    ----------
    folder : Path
        A study of MNIST: its configuration, choices and clean teacher are read, nothing in it is changed.
    data_dir : Path or None
        Folder with the data.

    Yields
    ------
    dict
        A line of ``exploration.csv``: errors in percent, empty where a training diverged.
    """
    study = mnist_study()
    configuration = read_json(folder / "study.json", dict, ("recipe", "train_size", "teacher_size"))
    recipe = recipe_from(configuration["recipe"])
    epochs = recipe.choice_epochs or recipe.epochs
    splits = study.load(Request(out=folder, data_dir=data_dir, limit_train=configuration["train_size"]))
    make = study.networks(splits)["student"]

    def network() -> torch.nn.Sequential:
        return make().to(memory_format=torch.channels_last)

    teacher = read_run(folder / "runs" / "teacher-clean-seed0", network)
    if teacher is None:
        raise FileNotFoundError(f"{folder} holds no clean teacher; run the study first")
    chosen = next(
        entry["setting"] for entry in read_json(folder / "tries" / "plain" / "choice.json", list) if entry["chosen"]
    )
    for arm, alpha0, changes in VARIANTS:
        line: dict[str, object] = {"arm": arm, "alpha0": f"{alpha0:g}", "changed": " ".join(changes), "epochs": epochs}
        if _key(line) in {_key(other) for other in _read(folder / "exploration.csv")}:
            continue
        context = Context(
            recipe=replace(override(recipe, changes), epochs=epochs),
            model=network,
            training=splits.students.training,
            validation=splits.students.validation,
            unlabelled=None,
            teacher=teacher.model,
            batches=study.batches,
            fabric=Fabric(accelerator="cpu", devices=1, precision="32-true"),
            seed=_SEED,
        )
        setting = chosen | ({"alpha0": alpha0} if arm != "plain" else {})
        with tempfile.TemporaryDirectory() as checkpoints:
            try:
                _, history = train(study.arm(arm), context, setting, Path(checkpoints))
            except FloatingPointError as error:
                yield line | {"died": str(error)}
                continue
        last = history.iloc[-1]
        measured = {name: f"{last[name]:.6g}" for name in ("validation_error", "validation_loss")}
        yield line | measured | {"seconds": f"{history['seconds'].sum():.0f}"}


def _key(line: dict[str, object]) -> tuple[object, ...]:
    return line["arm"], line["alpha0"], line["changed"], int(str(line["epochs"]))


def _read(path: Path) -> list[dict[str, object]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Parse the options and try."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of an MNIST study")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder with the data (default: $BRAINRDL_DATA)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    path = options.study / "exploration.csv"
    for line in tries(options.study, options.data_dir):
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(line)
        print(", ".join(f"{key} {value}" for key, value in line.items() if value != ""), flush=True)


if __name__ == "__main__":
    main()
