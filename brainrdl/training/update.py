"""One update: the student's forward passes, the terms, and Eq. 5, E = E_task + Σ_m α_m E_m."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from brainrdl.features.recorder import Recorder, run_model
from brainrdl.teachers.base import NothingToCompare, RDMTeacher
from brainrdl.terms.alpha import alpha_of
from brainrdl.terms.base import Batch, Term
from brainrdl.training.checks import check_reached, check_value, scalar_loss
from brainrdl.training.dead_layers import DeadLayers
from brainrdl.training.finite import Value
from brainrdl.training.outputs import warn_other_outputs
from brainrdl.training.randomness import RandomStates

TaskLoss = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Losses:
    """The parts of Eq. 5 in one update, each with its α, and values that are watched beside them, by column."""

    parts: list[Value]
    watched: dict[str, Tensor]
    pairs: dict[str, Tensor]  # that a part compares (), by column; of none, the part belongs into no mean

    def columns(self) -> dict[str, Tensor]:
        """Column of the history → value (), without gradient."""
        return {part.column: part.value.detach() for part in self.parts} | self.watched


@dataclass(frozen=True)
class Objective:
    """The right side of Eq. 5. During a fit nothing in it changes but weights and random states."""

    student: nn.Module  # as Fabric wraps it
    recorder: Recorder  # of the student's layers that terms name
    task_loss: TaskLoss | None  # (output, labels) → E_task
    terms: Mapping[str, Term]  # name in the history → term, which gives E_m for its layers m
    fabric: Fabric
    states: RandomStates
    epochs: int  # over which α_m falls
    dead: DeadLayers

    def losses(
        self,
        epoch: int,
        task: Batch | None,
        stimuli: Batch | None,
        stimulus_mode: AbstractContextManager[None],
        *,
        recording: bool = False,
    ) -> Losses:
        """Compute every part of Eq. 5 on the batches that there are, stimuli shown in `streams.stimulus_mode`.

        `recording`: the update is being recorded, and nothing of it may be read.
        """
        # before any pair is drawn: a teacher that draws its RDM keeps it for both streams and all terms
        for teacher in teachers_of(self.terms.values()):
            teacher.draw(self.states.pairs)
        parts: list[Value] = []
        watched: dict[str, Tensor] = {}
        pairs: dict[str, Tensor] = {}
        first, look = (asked and not recording for asked in (self.dead.first, self.dead.watching))
        if task is not None:
            with self.states.use("task forward"), self.fabric.autocast():
                seen, features = show(task, self.student, self.recorder)
                assert seen.labels is not None  # noqa: S101 - a task batch has them
                if self.task_loss is not None:
                    e_task = scalar_loss(self.task_loss, seen.output, seen.labels)
                    if first:
                        warn_other_outputs(self.task_loss, seen.output, self.dead)
                    parts.append(Value("task_loss", e_task, alpha=1.0))
            if look:
                self.dead.look(features, seen.images)
            parts += self._terms(seen, features, epoch, pairs, "task", first=first)
            if is_classification(seen.output, seen.labels):
                wrong = seen.output.detach().argmax(dim=1) != seen.labels
                watched["task_error"] = 100 * wrong.float().mean()
        if stimuli is not None:
            # a forward pass of its own: in one batch with the task's images, BatchNorm would mix the two
            with self.states.use("stimulus forward"), self.fabric.autocast(), stimulus_mode:
                seen, features = show(stimuli, self.student, self.recorder)
            if look:
                self.dead.look(features, seen.images)
            parts += self._terms(seen, features, epoch, pairs, "stimuli", first=first)
        return Losses(parts, watched, pairs)

    def _terms(
        self,
        batch: Batch,
        features: dict[str, Tensor],
        epoch: int,
        pairs: dict[str, Tensor],
        stream: str,
        *,
        first: bool,
    ) -> list[Value]:
        """α_m and E_m of every layer m of the terms on a stream; adds to `pairs`."""
        parts = []
        # what a term draws (a dropout in its head) must not shift the forward passes
        with self.states.use("heads"), self.fabric.autocast():
            for name, term in self.terms.items():
                if term.stream != stream:
                    continue
                try:
                    values = term(features, batch, self.states.pairs)
                except NothingToCompare:
                    pairs |= {f"{name}/{layer}": torch.zeros((), device=batch.images.device) for layer in term.layers}
                    continue
                for layer, e_m in values.items():
                    alpha_m = alpha_of(term.alpha, layer, epoch, self.epochs)
                    part = check_value(Value(f"{name}/{layer}", e_m, alpha_m), layer)
                    if term.teachers() and layer in features:
                        check_reached(part, layer, features[layer], look=first and len(term.heads) > 0)
                    parts.append(part)
                pairs |= {f"{name}/{layer}": number for layer, number in batch.noted(term).items()}
        return parts

    def backward(self, losses: Losses, optimizer: Any) -> None:
        """Replace the parameters' gradients by those of Eq. 5; the optimiser has not stepped yet."""
        if not losses.parts:  # every term left the batch out
            optimizer.zero_grad()
            return
        # Eq. 5: E = E_task + Σ_m α_m E_m, α = 1 for the task. In float64: the parts may be of different types
        total = torch.stack([(part.alpha * part.value).double() for part in losses.parts]).sum()
        optimizer.zero_grad()
        self.fabric.backward(total)


def show(batch: Batch, student: nn.Module, recorder: Recorder) -> tuple[Batch, dict[str, Tensor]]:
    """Run the student on a batch: the batch with its output, and layer → features (n, ...)."""
    output = run_model(student, batch.images, "the student")
    # without layers the student may be compiled, and then no hook of the recorder fires
    features = recorder.features() if recorder.layers else {}
    # answers of its own: a teacher's features are let go with this batch, before the backward pass
    return replace(batch, output=output, _answers={}), features


def teachers_of(terms: Iterable[Term]) -> list[RDMTeacher]:
    """All teachers of some terms, each once."""
    return list(dict.fromkeys(teacher for term in terms for teacher in term.teachers()))


def is_classification(output: Any, labels: Tensor) -> bool:
    """Can a batch have an error rate, with scores (n, classes) against whole numbers (n,)?"""
    return isinstance(output, Tensor) and output.ndim == 2 and labels.ndim == 1 and not labels.is_floating_point()
