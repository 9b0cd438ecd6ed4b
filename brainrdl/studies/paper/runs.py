"""The runs of a paper's study: teachers, validation trials and students, each kept in a folder of its own once done.

A run that is found done is read; one that was interrupted is resumed at its last epoch. So a study that is killed
anywhere is resumed by the same command.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import nn

from brainrdl.data.images import LabelledImages
from brainrdl.files.store import atomic_path, read_json, sha256, write_json
from brainrdl.studies.folder import HeldError, locked
from brainrdl.studies.kept import kept
from brainrdl.studies.paper.arms import TEACHER
from brainrdl.studies.paper.recipe import Recipe
from brainrdl.studies.paper.study import Partition, Request, Row, Splits, Study, labelled_subset
from brainrdl.studies.paper.training import Arm, Context, Setting, train
from brainrdl.studies.tries import Tries, kept_tries, tries_table
from brainrdl.training.checkpoint import load_model, remove_checkpoint, save_model
from brainrdl.training.machine import device_name, precision_of
from brainrdl.training.randomness import derive_seed

CHOICE_SEED = -1  # trials share no seed with the runs they choose for
_LABELS_FOR_CHOICE = 1_000
_RECORD = ("arm", "seed", "labels", "teacher", "setting", "epochs", "seconds", "weights", "history", "died")


@dataclass(frozen=True)
class FinishedTraining:
    """A finished run: its network (None if it diverged or was a candidate), its history and the record of the run."""

    model: nn.Module | None
    history: pd.DataFrame
    record: dict[str, Any]

    @property
    def validation(self) -> tuple[float, float]:
        """Error in percent and loss after the last epoch, infinite for a run that diverged."""
        if self.record["died"]:
            return inf, inf
        last = self.history.iloc[-1]
        return float(last["validation_error"]), float(last["validation_loss"])


@dataclass(eq=False)
class StudyRuns:
    """A study under way in one folder: it makes teachers, validation trials and students."""

    study: Study
    recipe: Recipe  # the study's with what the user changed
    splits: Splits  # on the device of the fabric
    request: Request
    fabric: Fabric
    log: Callable[[str], None] = print  # called with a line of progress at a time
    advance: Callable[[float], None] = lambda epochs: None  # called with the epochs of each training that is done
    _teacher_images: dict[tuple[str, int | None], Partition] = field(default_factory=dict)

    def make(self, arm: str) -> nn.Sequential:
        """Make the untrained network of an arm."""
        # channels last, measured on a CPU: a step of Table 1's network took 38 ms instead of 54
        networks = self.study.networks(self.splits)
        return networks[self.study.arm(arm).network]().to(memory_format=torch.channels_last)

    def run(self, row: Row) -> FinishedTraining:
        """Make one run, or read it where it is done; HeldError if another process makes it, or what it needs."""
        if row.of_teacher:
            return self.teacher(row.teacher, row.seed, row.labels)
        arm = self.study.arm(row.arm)
        setting = self.choose(arm, row.labels)

        def context() -> Context:
            teacher = self.teacher(row.teacher, self.teacher_seed(row.seed), row.labels).model if row.teacher else None
            return self._context(arm, row.labels, row.seed, teacher, final=True)

        return self._make(row, arm, context, setting, self.request.out / "runs" / row.name)

    def teacher(self, kind: str, seed: int, labels: int | None = None) -> FinishedTraining:
        """Train a teacher, or read it where it is done; FloatingPointError if its training diverged."""
        row = Row(TEACHER, seed, kind, labels if kind == "labels" else None)
        arm = self.study.arm(TEACHER)
        setting = self._choose(arm, kind, row.labels, lambda: self._teacher_context(row, CHOICE_SEED))
        folder = self.request.out / "runs" / row.name
        run = self._make(row, arm, lambda: self._teacher_context(row, seed, final=True), setting, folder)
        if run.model is None:
            raise FloatingPointError(
                f"{row.name} diverged ({run.record['died']}), and nothing can be learned from it; lower the "
                f"recipe's learning_rate in another out=, or remove {folder}"
            )
        return run

    def has_teacher(self, kind: str, seed: int, labels: int | None = None) -> bool:
        """Tell if a teacher is trained, and lived."""
        row = Row(TEACHER, seed, kind, labels if kind == "labels" else None)
        path = self.request.out / "runs" / row.name / "run.json"
        return path.exists() and not read_json(path, dict, ("died",))["died"]

    def teacher_seed(self, seed: int) -> int:
        """Look up the seed of the teacher that serves a student's seed."""
        return 0 if self.request.one_teacher else seed

    def choose(self, arm: Arm, labels: int | None) -> Setting:
        """Choose an arm's setting on validation, beside what was chosen for its baseline."""
        n_labels = None if labels is None else self.labels_for_choice(labels)

        def context() -> Context:
            teacher = self.teacher(self.study.choice_teacher, 0).model if arm.taught else None
            return self._context(arm, n_labels, CHOICE_SEED, teacher)

        setting = self._choose(arm, self.study.choice_teacher if arm.taught else "", n_labels, context)
        # an arm and its baseline differ in the arm's terms alone: learning rate and weight decay are the baseline's
        return setting if arm.baseline is None else {**self.choose(self.study.arm(arm.baseline), labels), **setting}

    def tries(self) -> pd.DataFrame:
        """Table every setting tried so far in this folder, what it gave on validation, and which were chosen."""
        return tries_table(self.choices())

    def choices(self) -> list[Path]:
        """List the files of the choices made so far in this folder."""
        return sorted((self.request.out / "tries").glob("*/choice.json"))

    def choice_folder(self, row: Row) -> Path:
        """Name the folder of a choice, whose row has the seed of choices."""
        return self.request.out / "tries" / row.name.removesuffix(f"-seed{CHOICE_SEED}")

    def _choose(self, arm: Arm, kind: str, labels: int | None, context: Callable[[], Context]) -> Setting:
        row = Row(arm.name, CHOICE_SEED, kind, labels)
        folder = self.choice_folder(row)
        # without a lock of its own: of two processes that have read all trials, each writes the same
        note = folder / "choice.json"
        tries = kept_tries(note, lambda: self._try_all(row, arm, context, folder), fields=("setting", "chosen"))
        chosen = [entry["setting"] for entry in tries if entry["chosen"]]
        if len(chosen) != 1:
            raise ValueError(f"{note} marks {len(chosen)} settings as chosen, expected 1; remove it to choose again")
        return dict(chosen[0])

    def _try_all(self, row: Row, arm: Arm, context: Callable[[], Context], folder: Path) -> Tries:
        """Try an arm's settings, and mark the one with the lowest validation error (then loss) as chosen."""
        candidates = arm.candidates_of(self.request.alphas, self.request.tries)
        # with one candidate there is no trial, and so no need of the baseline's setting
        baseline = arm.baseline if len(candidates) > 1 else None
        inherited = {} if baseline is None else self.choose(self.study.arm(baseline), row.labels)

        def trial() -> Context:
            full = context()
            epochs = min(full.recipe.epochs, self.recipe.choice_epochs or full.recipe.epochs)
            # with few labels an epoch is a share of the updates
            updates = epochs * full.recipe.updates_per_epoch
            return dataclasses.replace(full, recipe=dataclasses.replace(full.recipe, epochs=epochs, updates=updates))

        runs = self._trials(row, arm, trial, [{**inherited, **candidate} for candidate in candidates], folder)
        if runs and all(run.record["died"] for run in runs):
            raise FloatingPointError(
                f"all {len(runs)} candidate settings of {arm.name!r} diverged (see {folder}); lower the "
                "recipe's learning_rate or α₀ (alphas=) in another out="
            )
        best = min(range(len(candidates)), key=lambda number: runs[number].validation) if runs else 0
        tries = []
        for number, candidate in enumerate(candidates):
            record = runs[number].record if runs else {"seconds": 0.0, "died": ""}
            error, loss = runs[number].validation if runs and not record["died"] else (None, None)
            tried = {"arm": arm.name, "labels": row.labels, "teacher": row.teacher, "try": number, "setting": candidate}
            found = {"validation_error": error, "validation_loss": loss, "chosen": number == best}
            tries.append({**tried, **found, "seconds": record["seconds"], "died": record["died"]})
        return tries

    def _trials(
        self, row: Row, arm: Arm, context: Callable[[], Context], settings: list[Setting], folder: Path
    ) -> list[FinishedTraining]:
        """Try each setting; those that other processes are trying hold none of the others up."""
        if len(settings) == 1:  # there is nothing to choose
            return []
        runs, held = [], None
        for number, setting in enumerate(settings):
            try:
                runs.append(self._make(row, arm, context, setting, folder / str(number), keep=False))
            except HeldError as error:
                held = error
        if held is not None:
            raise held
        return runs

    def labels_for_choice(self, labels: int) -> int:
        """One number of labels for all choices, so that α₀ is fixed once; a study with fewer images: each its own."""
        unlabelled = len(self.splits.students.training) - _LABELS_FOR_CHOICE
        return _LABELS_FOR_CHOICE if unlabelled >= self.recipe.batch_size else labels

    def _context(
        self, arm: Arm, labels: int | None, seed: int, teacher: nn.Module | None, *, final: bool = False
    ) -> Context:
        training, validation = _parts(self.splits.students, final)
        unlabelled = None
        if labels is not None:
            training, unlabelled = labelled_subset(training, labels)
        return Context(
            recipe=self.recipe,
            model=lambda: self.make(arm.name),
            training=training,
            validation=validation,
            unlabelled=unlabelled,
            teacher=teacher,
            batches=self.study.batches,
            fabric=self.fabric,
            seed=seed,
            checkpoint_every=self.request.checkpoint_every,
        )

    def _teacher_context(self, row: Row, seed: int, *, final: bool = False) -> Context:
        training, validation = _parts(self._images_of_teacher(row.teacher, row.labels), final)
        recipe = dataclasses.replace(self.recipe, epochs=self.recipe.teacher_epochs)
        # another initialisation and order than the student of the same seed
        seed = derive_seed(seed, "teacher", row.teacher)
        arm = self.study.arm(TEACHER)
        return dataclasses.replace(
            self._context(arm, None, seed, None), recipe=recipe, training=training, validation=validation
        )

    def _images_of_teacher(self, kind: str, labels: int | None) -> Partition:
        if (kind, labels) not in self._teacher_images:
            # on the CPU wherever training runs: another device's filters round another way, and pixels would differ
            students = self.splits.students.training.to(torch.device("cpu"))
            labelled = students if labels is None else labelled_subset(students, labels)[0]
            size = self.request.limit_teacher or self.study.teacher_size
            # one kind at a time: 120,000 images of two kinds need not fit into memory
            self._teacher_images = {(kind, labels): self.splits.teacher(kind, size, labelled).to(self.fabric.device)}
        return self._teacher_images[(kind, labels)]

    def _make(
        self, row: Row, arm: Arm, context: Callable[[], Context], setting: Setting, folder: Path, *, keep: bool = True
    ) -> FinishedTraining:
        """Make a run, resume it, or read it where it is done. Without `keep` its network is not kept."""
        make = (lambda: self.make(arm.name)) if keep else None

        def check(run: FinishedTraining) -> None:
            if run.record["setting"] != dict(setting):
                raise ValueError(
                    f"{folder} holds a run with {_format_setting(run.record['setting'])}, where "
                    f"{_format_setting(setting)} is asked for now: made by another version, with other settings to "
                    "try? Remove it to make it again, or give another out="
                )

        return kept(
            folder,
            lambda: self._train(row, arm, context(), setting, folder),
            write=partial(self._write, keep=keep),
            # looked up at each call: read_run may have been replaced
            read=lambda folder: read_run(folder, make),
            check=check,
            lock=locked(folder, required=self.request.jobs > 1),
        )

    def _train(
        self, row: Row, arm: Arm, context: Context, setting: Setting, folder: Path
    ) -> tuple[nn.Module, pd.DataFrame, dict[str, Any]]:
        """Train a network; the network, its history and the record of what was run."""
        (folder / "test.npz").unlink(missing_ok=True)  # answers of an earlier run of the same name
        epochs = context.recipe.epochs
        self.log(f"{folder.relative_to(self.request.out)}: {epochs} epochs, {_format_setting(setting)}")
        died = ""
        try:
            model, history = train(arm, context, setting, folder)
        except FloatingPointError as error:
            # a run that diverged is a result too: it is recorded, and not made again
            died, model, history = str(error), context.model(), pd.DataFrame()
        if not died and not all(bool(torch.isfinite(value).all()) for value in model.state_dict().values()):
            died = "its weights are not finite after the last update"
        self.advance(epochs)
        steps = len(context.batches.training(context.training, context.recipe.batch_size))
        teacher_seed = row.seed if row.of_teacher else None
        record = {
            "arm": row.arm,
            "seed": row.seed,
            "labels": row.labels,
            "teacher": row.teacher,
            "teacher_seed": self.teacher_seed(row.seed) if arm.taught and row.teacher else teacher_seed,
            "teacher_size": (self.request.limit_teacher or self.study.teacher_size) if row.teacher else None,
            "train_size": len(context.training),
            "setting": dict(setting),
            "epochs": epochs,
            # with few labels an epoch is a share of the updates
            "updates": epochs * (context.recipe.updates_per_epoch if context.unlabelled is not None else steps),
            "device": device_name(self.fabric.device),
            "threads": torch.get_num_threads(),
            "precision": precision_of(self.fabric),
            "seconds": 0.0 if died else float(history["seconds"].sum()),
            "weights": _digest(model),
            "history": sha256(_history_text(history).encode()),
            "died": died,
        }
        return model, history, record

    def _write(self, made: tuple[nn.Module, pd.DataFrame, dict[str, Any]], folder: Path, *, keep: bool) -> None:
        model, history, record = made
        if keep and not record["died"]:
            save_model(model, folder / "model.safetensors", record)
        with atomic_path(folder / "history.csv") as temporary:
            temporary.write_text(_history_text(history), encoding="utf-8", newline="")
        write_json(record, folder / "run.json")  # last: its presence says that the run is done
        for leftover in ("checkpoint.pt", "hint.pt"):
            remove_checkpoint(folder / leftover)
        outcome = f"died: {record['died']}" if record["died"] else _outcome(history)
        self.log(f"{folder.relative_to(self.request.out)}: {outcome} ({record['seconds']:.0f} s)")


def read_run(folder: Path, make: Callable[[], nn.Module] | None) -> FinishedTraining | None:
    """Read a finished run, without its network if nothing makes one; None where there is no run.

    ValueError if a file of it is missing or damaged.
    """
    if not (folder / "run.json").exists():
        return None
    record = read_json(folder / "run.json", dict, _RECORD)
    if record["died"]:
        return FinishedTraining(None, pd.DataFrame(), record)
    try:
        model = None if make is None else load_model(folder / "model.safetensors", make)
        history = (folder / "history.csv").read_bytes()
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{folder} holds a finished run with a fault: {error}. Remove the folder to make it again"
        ) from error
    if model is not None and _digest(model) != record["weights"]:
        raise ValueError(
            f"{folder / 'model.safetensors'} holds other weights than the run was finished with; remove {folder} to "
            "make the run again"
        )
    if sha256(history) != record["history"]:
        raise ValueError(
            f"{folder / 'history.csv'} is not the history that the run was finished with; remove {folder} to make the "
            "run again"
        )
    return FinishedTraining(model, pd.read_csv(BytesIO(history)), record)


def _digest(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, in the order of their names."""
    named = sorted(model.state_dict().items())
    parts = ((name.encode(), value.detach().cpu().contiguous().numpy().tobytes()) for name, value in named)
    return sha256(*chain.from_iterable(parts))


def _history_text(history: pd.DataFrame) -> str:
    return history.to_csv(index=False, lineterminator="\n")


def _parts(partition: Partition, final: bool) -> tuple[LabelledImages, LabelledImages | None]:
    """Select what a network is trained on, and what is held out from it."""
    if final and partition.final is not None:
        return partition.final, None
    return partition.training, partition.validation


def _outcome(history: pd.DataFrame) -> str:
    name = "validation" if "validation_error" in history else "task"
    return f"{name.replace('task', 'training')} error {history[f'{name}_error'].iloc[-1]:.2f} %"


def _format_setting(setting: Setting) -> str:
    return ", ".join(f"{knob} {value:g}" for knob, value in setting.items()) or "default settings"
