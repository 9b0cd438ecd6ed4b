"""One fit: its streams, optimiser, random states and what a checkpoint holds."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, final

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from brainrdl.features import Recorder, kept_modes, run_model
from brainrdl.identity import describe, describe_scheduler, layers_of, settings
from brainrdl.stimuli import StimulusSet
from brainrdl.teachers.base import RDMTeacher
from brainrdl.teachers.network import NetworkTeacher
from brainrdl.terms.alpha import alpha_of
from brainrdl.terms.base import Batch, Term
from brainrdl.training.checkpoint import load_checkpoint, save_checkpoint
from brainrdl.training.checks import check_last_batch, check_optimizer, check_value, scalar_loss
from brainrdl.training.cuda_graphs import Pairs, RecordedUpdate, beside_default_stream, recorder_on
from brainrdl.training.finite import FiniteGuard, Value, updates_between_reads
from brainrdl.training.randomness import RandomStates
from brainrdl.training.streams import (
    Norm,
    Passes,
    StimulusStream,
    length,
    steps_alone,
    stimulus_batch,
    stimulus_mode,
    task_batch,
)

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer | tuple[torch.optim.Optimizer, LRScheduler]]
TaskLoss = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """What is trained: the student, the terms and how."""

    student: nn.Module
    terms: tuple[Term, ...]
    loss: TaskLoss | None
    make_optimizer: MakeOptimizer
    fabric: Fabric
    cuda_graphs: bool = False


@final
class EpochMeans:
    """Sums on the device, in place so that a recorded update adds to them too, and counts on the host."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add an update's values, by column."""
        for column, value in values.items():
            if column in self._sums:
                self._sums[column] += value
            else:
                # a copy, and wide: a term may give whole numbers first, or other types later
                self._sums[column] = value.to(torch.float64, copy=True)

    def count(self, columns: Iterable[str]) -> None:
        """Count an update in which these columns were added to."""
        for column in columns:
            self._counts[column] = self._counts.get(column, 0) + 1

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns so far."""
        return tuple(self._sums)

    def means(self) -> dict[str, float]:
        """Read the means; the host waits for the device."""
        return {column: value.item() / self._counts[column] for column, value in self._sums.items()}


class TrainingRun:
    """The state of one fit: streams, optimiser, random states, configuration."""

    def __init__(
        self,
        what: Task,
        task_loader: Iterable[Any] | None,
        stimuli: StimulusSet | StimulusStream | Iterable[Any] | None,
        epochs: int,
        seed: int,
    ) -> None:
        self.what = what
        self.names = _unique([term.name for term in what.terms])
        self.fabric = what.fabric
        self.device = self.fabric.device
        self.epochs = epochs
        self.seed = seed
        self.states = RandomStates(seed, self.device)
        stream = StimulusStream(stimuli) if isinstance(stimuli, StimulusSet) else stimuli
        self.every = stream.every if isinstance(stream, StimulusStream) else 1
        self.stimuli_per_update = stream.batch_size if isinstance(stream, StimulusStream) else None
        self.norm: Norm = stream.norm if isinstance(stream, StimulusStream) else "shared"
        self.dropout = stream.dropout if isinstance(stream, StimulusStream) else True
        self.task = None if task_loader is None else Passes(task_loader, self.states, "task order")
        self.stimuli = None if stream is None else Passes(stream, self.states, "stimulus order")
        self.steps = steps_alone(stream) if task_loader is None else length(task_loader, "the task loader")
        self.asked: dict[str, dict[RDMTeacher, tuple[str, ...]]] = {"task": {}, "stimuli": {}}
        what.student.to(self.device)
        self.teachers = list(dict.fromkeys(t for term in what.terms for t in term.teachers()))
        for teacher in self.teachers:
            teacher.to(self.device)
        layers = dict.fromkeys(layer for term in what.terms for layer in term.layers)
        self.recorder = Recorder(what.student, layers, flatten=False)
        self.before: tuple[list[torch.Size], Pairs] = [], {}  # shapes and pairs of the last task batch
        self.record = recorder_on(self.device) if self._can_be_recorded() else None
        self.configuration: dict[str, Any] = {}

    def stream(self) -> AbstractContextManager[None]:
        """Where the device's work is queued."""
        return nullcontext() if self.record is None else beside_default_stream(self.device)

    def prepare(self) -> None:
        """Build the heads, then the optimiser, then describe the run."""
        student = self.what.student
        with self.states.use("heads"):
            for term in self.what.terms:
                term.heads.clear()
            for stream in dict.fromkeys(term.stream for term in self.what.terms):
                self._set_up(stream)
        if self.task is not None:
            check_last_batch(student, self.task.loader, self.what.terms, self.fabric.to_device)
        heads = [
            (f"{name}/{key}", parameter)
            for term, name in zip(self.what.terms, self.names, strict=True)
            for key, parameter in term.heads.to(self.device).named_parameters()
        ]
        self.parameters = {
            name: parameter for name, parameter in chain(student.named_parameters(), heads) if parameter.requires_grad
        }
        if not self.parameters:
            raise ValueError("no parameter of the student or of a head requires a gradient: there is nothing to train")
        made = self.what.make_optimizer(list(self.parameters.values()))
        optimizer, self.scheduler = check_optimizer(made, self.parameters)
        self.configuration = self._describe(optimizer)
        self.model, self.optimizer = self.fabric.setup(student, optimizer)

    def restore(self, checkpoint: str | Path | None) -> list[dict[str, float]]:
        """Go on from a checkpoint where there is one; the rows of the history so far."""
        if checkpoint is None or not Path(checkpoint).exists():
            return []
        state = load_checkpoint(checkpoint, self.configuration)
        self.what.student.load_state_dict(state["student"])
        for term, heads in zip(self.what.terms, state["heads"], strict=True):
            term.heads.load_state_dict(heads)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.states.load_state_dict(state["random"])
        if self.stimuli is not None:
            self.stimuli.load_state_dict(state["stimuli"])
        rows: list[dict[str, float]] = state["history"]
        return rows

    def save(self, checkpoint: str | Path, rows: list[dict[str, float]]) -> None:
        """Write everything that the next epoch depends on."""
        save_checkpoint(
            {
                "configuration": self.configuration,
                "student": self.what.student.state_dict(),
                "heads": [term.heads.state_dict() for term in self.what.terms],
                "optimizer": self.optimizer.state_dict(),
                "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
                "random": self.states.state_dict(),
                "stimuli": None if self.stimuli is None else self.stimuli.state_dict(),
                "history": rows,
            },
            checkpoint,
        )

    def epoch(self, epoch: int, log_every: int, bar: Any) -> dict[str, float]:
        """Run one epoch; its row of the history."""
        figures = EpochMeans()
        alphas: dict[str, float] = {}
        health = FiniteGuard(
            self.optimizer,
            self.parameters,
            every=updates_between_reads(self.device, log_every),
            # a gradient scaler (16-mixed) expects infinite gradients, and leaves such updates out
            gradients=getattr(self.fabric._precision, "scaler", None) is None,
        )
        lr = float(self.optimizer.param_groups[0]["lr"])
        replay: RecordedUpdate | None = None
        means: dict[str, float] = {}
        for step, batch in self._updates(epoch):
            place = f"epoch {epoch}, update {step} (both counted from 0)"
            seen = None if self.record is None else self._on_device(batch)
            if replay is None and step and seen is not None:
                replay = self._recorded(epoch, seen, health, figures)
            if replay is not None and seen is not None and replay.fits(*seen):
                values, flags = replay(*seen, self.states.pairs, self.states.only("task forward"))
                figures.count(figures.columns)
                health.note(values, flags, place)
            else:
                values, extra = self._forward(epoch, step, batch)
                self._apply(values)
                health.step(values, place)
                columns = {v.column: v.value.detach() for v in values} | extra
                figures.add(columns)
                figures.count(columns)
            alphas |= {v.column: v.alpha for v in values if v.column != "task_loss"}
            bar.update()
            if (step + 1) % log_every == 0 or step + 1 == self.steps:
                means = figures.means()
                bar.set_postfix_str(f"epoch {epoch + 1}/{self.epochs} " + _summary(means, alphas), refresh=False)
                if self.fabric.loggers:
                    self.fabric.log_dict(means, step=epoch * self.steps + step + 1)
        health.check()
        if self.scheduler is not None:
            self.scheduler.step()
        task = {column: means.pop(column) for column in ("task_loss", "task_error") if column in means}
        return {"epoch": epoch, **task, **means, **self._alpha_columns(alphas), "lr": lr}

    def _can_be_recorded(self) -> bool:
        """Whether an update does the same each time: on the task alone, taught by networks that draw nothing."""
        return (
            self.what.cuda_graphs
            and self.task is not None
            and self.stimuli is None
            and all(type(teacher) is NetworkTeacher for teacher in self.teachers)
        )

    def _recorded(
        self, epoch: int, seen: tuple[Tensor, Tensor], health: FiniteGuard, figures: EpochMeans
    ) -> RecordedUpdate | None:
        """The epoch's update as a recording.

        None after an update of other shapes, whose pairs were others, and for an optimiser that counts on the host.
        """
        shapes, pairs = self.before
        if self.record is None or shapes != [part.shape for part in seen] or self._counts_on_host():
            return None

        def update(images: Tensor, labels: Tensor, pairs: Pairs) -> tuple[list[Value], Tensor]:
            values, extra = self._forward(epoch, 0, (images, labels), pairs)
            self._apply(values)
            flags = health.flags(values)
            health.apply(flags)
            figures.add({v.column: v.value.detach() for v in values} | extra)
            return values, flags

        with self.states.only("task forward"):
            drawn = self._drawn_on_host()
            replay = RecordedUpdate(update, *seen, pairs, recorder=self.record)
            if any(not torch.equal(a, b) for a, b in zip(drawn, self._drawn_on_host(), strict=True)):
                raise RuntimeError(
                    "an update draws random numbers on the host, which a recorded one would not do again: a term, a "
                    "layer or preprocess that calls a generator of its own; train with cuda_graphs=False"
                )
        return replay

    def _counts_on_host(self) -> bool:
        """Whether the optimiser's state holds numbers that a recorded update would not count on."""
        state = [value for state in self.optimizer.state.values() for value in state.values()]
        return any(
            value.device.type != self.device.type if isinstance(value, Tensor) else isinstance(value, int | float)
            for value in state
        )

    def _drawn_on_host(self) -> tuple[Tensor, Tensor]:
        return torch.get_rng_state(), self.states.pairs.get_state()

    def _on_device(self, batch: Any) -> tuple[Tensor, Tensor] | None:
        """Images and labels of a task batch without ids."""
        images, labels, ids = task_batch(batch)
        if ids is not None:
            return None
        moved: tuple[Tensor, Tensor] = self.fabric.to_device((images, labels))
        return moved

    def _updates(self, epoch: int) -> Iterator[tuple[int, Any]]:
        """Number the epoch's task batches (None where there is no task), as many as the loader's length says."""
        if self.task is None:
            yield from ((step, None) for step in range(self.steps))
            return
        given = 0
        for batch in self.task.one_pass(epoch):
            given += 1
            if given > self.steps:
                break
            yield given - 1, batch
        if given != self.steps:
            raise ValueError(
                f"the task loader has a length of {self.steps}, but a pass over it gave "
                f"{'more' if given > self.steps else given} batches; repeat(loader, steps) gives it as many as it says"
            )

    def _forward(
        self, epoch: int, step: int, batch: Any, pairs: Pairs | None = None
    ) -> tuple[list[Value], dict[str, Tensor]]:
        """All parts of the loss of one update, and the share of wrong answers on the task batch in percent.

        The pairs of the task batch are drawn, unless they are given.
        """
        for teacher in self.teachers:
            teacher.draw(self.states.pairs)
        values: list[Value] = []
        extra: dict[str, Tensor] = {}
        if self.task is not None:
            images, labels, ids = task_batch(batch)
            images, labels = self.fabric.to_device((images, labels))
            with self.states.use("task forward"), self.fabric.autocast():
                seen = self._see("task", images, labels, ids, pairs)
                if self.what.loss is not None:
                    values.append(Value("task_loss", scalar_loss(self.what.loss, seen[0].output, labels), 1.0))
            values += self._terms("task", *seen, epoch)
            self.before = [images.shape, labels.shape], seen[0].drawn()
            if is_classification(seen[0].output, labels):
                extra["task_error"] = 100 * (seen[0].output.detach().argmax(dim=1) != labels).float().mean()
        if self.stimuli is not None and (epoch * self.steps + step) % self.every == 0:
            images, ids = stimulus_batch(self.stimuli.next())
            images = self.fabric.to_device(images)
            mode = stimulus_mode(self.what.student, self.norm, self.dropout)
            with self.states.use("stimulus forward"), self.fabric.autocast(), mode:
                seen = self._see("stimuli", images, None, ids)
            values += self._terms("stimuli", *seen, epoch)
        return values, extra

    def _see(
        self,
        stream: str,
        images: Tensor,
        labels: Tensor | None,
        ids: tuple[str, ...] | None,
        pairs: Pairs | None = None,
    ) -> tuple[Batch, dict[str, Tensor]]:
        output = run_model(self.model, images, "the student")
        batch = Batch(images, labels, ids, output, self.states.pairs, self.asked[stream], dict(pairs or {}))
        return batch, self.recorder.features() if self.recorder.layers else {}

    def _terms(self, stream: str, batch: Batch, features: dict[str, Tensor], epoch: int) -> list[Value]:
        values = []
        # what a term draws (a dropout in its head) must not shift the forward passes
        with self.states.use("heads"), self.fabric.autocast():
            for term, name in zip(self.what.terms, self.names, strict=True):
                if term.stream == stream:
                    for layer, value in term(features, batch, self.states.pairs).items():
                        alpha = alpha_of(term.alpha, layer, epoch, self.epochs)
                        values.append(check_value(Value(f"{name}/{layer}", value, alpha), layer))
        return values

    def _apply(self, values: list[Value]) -> None:
        """Eq. 5: the gradient of task loss + Σ α · term."""
        total = torch.stack([(value.alpha * value.value).double() for value in values]).sum()
        self.optimizer.zero_grad()
        self.fabric.backward(total)

    def _set_up(self, stream: str) -> None:
        """Let the terms of a stream see its first batch. Nothing is learned from it: eval mode, no gradient."""
        student = self.what.student
        passes = self.task if stream == "task" else self.stimuli
        assert passes is not None  # noqa: S101 - check_request refused terms without their stream
        raw = next(passes.one_pass(0), None)
        if raw is None:
            raise ValueError(f"the {'task loader' if stream == 'task' else 'loader of the stimuli'} gave no batch")
        labels: Tensor | None = None
        ids: tuple[str, ...] | None
        if stream == "task":
            images, labels, ids = task_batch(raw)
            labels = self.fabric.to_device(labels)
        else:
            images, ids = stimulus_batch(raw)
        images = self.fabric.to_device(images)
        with kept_modes(student), torch.no_grad():
            output = run_model(student.eval(), images, "the student")
            batch = Batch(images, labels, ids, output, self.states.pairs, self.asked[stream])
            features = self.recorder.features() if self.recorder.layers else {}
        for term in self.what.terms:
            if term.stream == stream:
                term.setup(features, batch, self.states.pairs)

    def _alpha_columns(self, alphas: dict[str, float]) -> dict[str, float]:
        # declared layers too, so that a term that this epoch left out does not change another's column
        declared = [layer for term in self.what.terms for layer in term.layers or ("output",)]
        layers = [column.split("/", 1)[1] for column in alphas]
        return {
            f"alpha/{layer}" if max(layers.count(layer), declared.count(layer)) == 1 else f"alpha/{column}": alpha
            for (column, alpha), layer in zip(alphas.items(), layers, strict=True)
        }

    def _describe(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """What must agree for a checkpoint to be this run's; JSON-able."""
        terms = [
            {"name": name}
            | term.describe()
            | {
                "alpha": [
                    {layer: alpha_of(term.alpha, layer, epoch, self.epochs) for layer in term.layers or ("output",)}
                    for epoch in range(self.epochs)
                ]
            }
            for term, name in zip(self.what.terms, self.names, strict=True)
        ]
        configuration = {
            "student": {name: list(value.shape) for name, value in self.what.student.state_dict().items()},
            "layers": layers_of(self.what.student),
            "trained": [n for n, p in self.what.student.named_parameters() if p.requires_grad],
            "task_loss": describe(self.what.loss),
            "optimizer": {"name": type(optimizer).__name__, "groups": [settings(g) for g in optimizer.param_groups]},
            "scheduler": None if self.scheduler is None else describe_scheduler(self.scheduler, self.epochs),
            "epochs": self.epochs,
            "updates_per_epoch": self.steps,
            "stimuli_every": self.every,
            "stimuli_per_update": self.stimuli_per_update,
            "stimuli_norm": None if self.stimuli is None else self.norm,
            "stimuli_dropout": None if self.stimuli is None else self.dropout,
            "seed": self.seed,
            "precision": str(self.fabric._precision.precision),
            "terms": terms,
            "teachers": [teacher.describe() for teacher in self.teachers],
        }
        plain: dict[str, Any] = json.loads(json.dumps(configuration))
        return plain


def is_classification(output: Any, labels: Tensor) -> bool:
    return isinstance(output, Tensor) and output.ndim == 2 and labels.ndim == 1 and not labels.is_floating_point()


def _unique(names: Sequence[str]) -> list[str]:
    """The second of two equal names becomes name_2, and so on."""
    return [
        name if names[:i].count(name) == 0 else f"{name}_{names[:i].count(name) + 1}" for i, name in enumerate(names)
    ]


def _summary(means: dict[str, float], alphas: dict[str, float]) -> str:
    losses = [f"{column} {value:.3g}" for column, value in means.items()]
    return " ".join([*losses, *(f"α({column}) {alpha:.2g}" for column, alpha in alphas.items())])
