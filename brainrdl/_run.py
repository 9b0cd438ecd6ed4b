"""One fit: its streams, optimiser, random states and what a checkpoint holds."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from brainrdl.checkpoint import load_checkpoint, save_checkpoint
from brainrdl.features import Recorder
from brainrdl.randomness import RandomStates
from brainrdl.schedules import alpha_of
from brainrdl.stimuli import StimulusSet
from brainrdl.streams import Passes, StimulusStream, length, stimulus_batch, task_batch
from brainrdl.teachers import RDMTeacher
from brainrdl.terms import Batch, Term

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


@dataclass
class _Value:
    """One part of the loss: its column in the history, its value and its α."""

    column: str
    value: Tensor
    alpha: float


class Run:
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
        self.task = None if task_loader is None else Passes(task_loader, self.states, "task order")
        self.stimuli = None if stream is None else Passes(stream, self.states, "stimulus order")
        self.steps = length(
            task_loader if task_loader is not None else stream,  # type: ignore[arg-type] # one of them is there
            "the task loader" if task_loader is not None else "the stimuli",
        )
        self.asked: dict[str, dict[RDMTeacher, tuple[str, ...]]] = {"task": {}, "stimuli": {}}
        what.student.to(self.device)
        self.teachers = list(dict.fromkeys(t for term in what.terms for t in term.teachers()))
        for teacher in self.teachers:
            teacher.to(self.device)
        layers = dict.fromkeys(layer for term in what.terms for layer in term.layers)
        self.recorder = Recorder(what.student, layers, flatten=False)
        self.configuration: dict[str, Any] = {}

    def prepare(self) -> None:
        """Build the heads, then the optimiser, then describe the run."""
        student = self.what.student
        with self.states.use("heads"):
            for term in self.what.terms:
                term.heads.clear()
            for stream in dict.fromkeys(term.stream for term in self.what.terms):
                self._set_up(stream)
        heads = [term.heads.to(self.device) for term in self.what.terms]
        parameters = [p for p in chain(student.parameters(), *(h.parameters() for h in heads)) if p.requires_grad]
        if not parameters:
            raise ValueError("no parameter of the student or of a head requires a gradient: there is nothing to train")
        made = self.what.make_optimizer(parameters)
        optimizer, scheduler = made if isinstance(made, tuple) else (made, None)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ValueError(
                f"optimizer must be a function parameters -> Optimizer or (Optimizer, LRScheduler), and it returned a "
                f"{type(optimizer).__name__}"
            )
        self.parameters = parameters
        self.scheduler: LRScheduler | None = scheduler
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
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        alphas: dict[str, float] = {}
        health = _Health(self, log_every)
        lr = float(self.optimizer.param_groups[0]["lr"])
        for step, batch in self._updates(epoch):
            values, extra = self._forward(epoch, step, batch)
            self._apply(values, health, epoch, step)
            for column, value in chain(((v.column, v.value.detach()) for v in values), extra.items()):
                sums[column] = sums[column] + value if column in sums else value
                counts[column] = counts.get(column, 0) + 1
            alphas |= {v.column: v.alpha for v in values if v.column != "task_loss"}
            bar.update()
            if (step + 1) % log_every == 0 or step + 1 == self.steps:
                means = {column: sums[column].item() / counts[column] for column in sums}
                bar.set_postfix_str(f"epoch {epoch + 1}/{self.epochs} " + _summary(means, alphas), refresh=False)
                if self.fabric.loggers:
                    self.fabric.log_dict(means, step=epoch * self.steps + step + 1)
        health.check()
        if self.scheduler is not None:
            self.scheduler.step()
        task = {column: means.pop(column) for column in ("task_loss", "task_error") if column in means}
        return {"epoch": epoch, **task, **means, **self._alpha_columns(alphas), "lr": lr}

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

    def _forward(self, epoch: int, step: int, batch: Any) -> tuple[list[_Value], dict[str, Tensor]]:
        """All parts of the loss of one update, and the share of wrong answers on the task batch in percent."""
        for teacher in self.teachers:
            teacher.draw(self.states.pairs)
        values: list[_Value] = []
        extra: dict[str, Tensor] = {}
        if self.task is not None:
            images, labels, ids = task_batch(batch)
            images, labels = self.fabric.to_device((images, labels))
            with self.states.use("task forward"), self.fabric.autocast():
                seen = self._see("task", images, labels, ids)
                if self.what.loss is not None:
                    values.append(_Value("task_loss", self.what.loss(seen[0].output, labels), 1.0))
            values += self._terms("task", *seen, epoch)
            if is_classification(seen[0].output, labels):
                extra["task_error"] = 100 * (seen[0].output.detach().argmax(dim=1) != labels).float().mean()
        if self.stimuli is not None and (epoch * self.steps + step) % self.every == 0:
            images, ids = stimulus_batch(self.stimuli.next())
            images = self.fabric.to_device(images)
            with self.states.use("stimulus forward"), self.fabric.autocast():
                seen = self._see("stimuli", images, None, ids)
            values += self._terms("stimuli", *seen, epoch)
        return values, extra

    def _see(
        self, stream: str, images: Tensor, labels: Tensor | None, ids: tuple[str, ...] | None
    ) -> tuple[Batch, dict[str, Tensor]]:
        output = self.model(images)
        batch = Batch(images, labels, ids, output, self.states.pairs, self.asked[stream])
        return batch, self.recorder.features() if self.recorder.layers else {}

    def _terms(self, stream: str, batch: Batch, features: dict[str, Tensor], epoch: int) -> list[_Value]:
        values = []
        # what a term draws (a dropout in its head) must not shift the forward passes
        with self.states.use("heads"), self.fabric.autocast():
            for term, name in zip(self.what.terms, self.names, strict=True):
                if term.stream == stream:
                    for layer, value in term(features, batch, self.states.pairs).items():
                        alpha = alpha_of(term.alpha, layer, epoch, self.epochs)
                        values.append(_Value(f"{name}/{layer}", value, alpha))
        return values

    def _apply(self, values: list[_Value], health: "_Health", epoch: int, step: int) -> None:
        """Eq. 5: the gradient of task loss + Σ α · term, and the update."""
        total = torch.stack([(value.alpha * value.value).double() for value in values]).sum()
        self.optimizer.zero_grad()
        self.fabric.backward(total)
        health.step(values, epoch, step)

    def _set_up(self, stream: str) -> None:
        """Let the terms of a stream see its first batch. Nothing is learned from it: eval mode, no gradient."""
        student = self.what.student
        was_training = student.training
        passes = self.task if stream == "task" else self.stimuli
        assert passes is not None  # noqa: S101 - _check_request refused terms without their stream
        raw = next(passes.one_pass(0))
        labels: Tensor | None = None
        ids: tuple[str, ...] | None
        if stream == "task":
            images, labels, ids = task_batch(raw)
            labels = self.fabric.to_device(labels)
        else:
            images, ids = stimulus_batch(raw)
        images = self.fabric.to_device(images)
        student.eval()
        with torch.no_grad():
            batch = Batch(images, labels, ids, student(images), self.states.pairs, self.asked[stream])
            features = self.recorder.features() if self.recorder.layers else {}
        student.train(was_training)
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
        loss = self.what.loss
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
            "trained": [n for n, p in self.what.student.named_parameters() if p.requires_grad],
            "task_loss": None if loss is None else getattr(loss, "__qualname__", type(loss).__name__),
            "optimizer": {"name": type(optimizer).__name__, "groups": [_settings(g) for g in optimizer.param_groups]},
            "scheduler": None
            if self.scheduler is None
            else {"name": type(self.scheduler).__name__} | _settings(self.scheduler.state_dict()),
            "epochs": self.epochs,
            "updates_per_epoch": self.steps,
            "stimuli_every": self.every,
            "stimuli_per_update": self.stimuli_per_update,
            "seed": self.seed,
            "precision": str(self.fabric._precision.precision),
            "terms": terms,
            "teachers": [teacher.fingerprint() for teacher in self.teachers],
        }
        plain: dict[str, Any] = json.loads(json.dumps(configuration))
        return plain


class _Health:
    """Steps the optimiser only where every loss is finite, and says which was not.

    On the CPU it is asked before each step. On an accelerator the host would have to wait for the answer; there the
    update is undone on the device where a flag says so, and the flag is read every `log_every` updates.
    """

    def __init__(self, run: Run, log_every: int) -> None:
        self._run = run
        self._every = 1 if run.device.type == "cpu" else log_every
        self._seen: list[tuple[list[_Value], int, int, Tensor]] = []
        self._good: Tensor | None = None

    def step(self, values: list[_Value], epoch: int, step: int) -> None:
        good = torch.stack([torch.isfinite(value.value.detach()) for value in values]).all()
        self._seen.append(([_Value(v.column, v.value.detach(), v.alpha) for v in values], epoch, step, good))
        if self._every == 1:
            self.check()
            self._run.optimizer.step()
            return
        self._good = good if self._good is None else self._good & good
        before = [parameter.detach().clone() for parameter in self._run.parameters]
        self._run.optimizer.step()
        with torch.no_grad():
            for parameter, old in zip(self._run.parameters, before, strict=True):
                parameter.copy_(torch.where(self._good, parameter, old))
        if len(self._seen) >= self._every:
            self.check()

    def check(self) -> None:
        seen, self._seen = self._seen, []
        if not seen or bool(torch.stack([good for *_, good in seen]).all()):
            return
        for values, epoch, step, good in seen:
            if not good:
                bad = next(v for v in values if not torch.isfinite(v.value))
                others = ", ".join(f"{v.column} = {v.value.item():.4g}" for v in values)
                raise FloatingPointError(
                    f"{bad.column} is {bad.value.item()} in epoch {epoch}, update {step} (both counted from 0): "
                    f"{others}. That update was not applied, and training stopped. Lower the learning rate or α, or "
                    "look for images or targets with values that are not finite"
                )


def _settings(state: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers, names and switches among the settings of an optimiser's group or a scheduler."""
    simple = (int, float, str)
    return {
        key: value
        for key, value in state.items()
        if isinstance(value, simple) or (isinstance(value, list | tuple) and all(isinstance(v, simple) for v in value))
    }


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
