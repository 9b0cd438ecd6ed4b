"""The state of one fit: its streams, optimiser, random states, history, and what a checkpoint holds of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, final

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from brainrdl.features.networks import refuse_lazy
from brainrdl.features.recorder import Recorder
from brainrdl.identity import differences
from brainrdl.progress import Bar
from brainrdl.stimuli.stimulus_set import StimulusSet
from brainrdl.teachers.base import RDMTeacher
from brainrdl.teachers.network import NetworkTeacher
from brainrdl.terms.base import Batch, Term
from brainrdl.training.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from brainrdl.training.checks import check_last_batch, check_optimizer, warn_nothing_compared
from brainrdl.training.configuration import describe_run, describe_teachers, other_configuration
from brainrdl.training.cuda_graphs import Pairs, RecordedUpdate, beside_default_stream, counts_on_host, recording_on
from brainrdl.training.dead_layers import DeadLayers
from brainrdl.training.fingerprint import Fingerprint
from brainrdl.training.finite import FiniteGuard, FiniteWeights, Value, naming_images, updates_between_reads
from brainrdl.training.first_look import look
from brainrdl.training.fit_threads import FitThreads
from brainrdl.training.generators import watched
from brainrdl.training.keeping import Keeper
from brainrdl.training.label_order import LabelOrder
from brainrdl.training.machine import memory_for
from brainrdl.training.progress import EpochMeans, Progress, losses_in_short, restored
from brainrdl.training.randomness import RandomStates
from brainrdl.training.schedulers import Interval, interval_of
from brainrdl.training.stopping import until_asked
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
from brainrdl.training.update import Objective, TaskLoss, teachers_of

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer | tuple[torch.optim.Optimizer, LRScheduler]]


@dataclass(frozen=True)
class Setup:
    """The student, the terms and the way they are trained, as given to the trainer."""

    student: nn.Module
    terms: tuple[Term, ...]
    task_loss: TaskLoss | None
    make_optimizer: MakeOptimizer
    fabric: Fabric
    cuda_graphs: bool = False
    threads: int | None = None


@final
class TrainingRun:
    """The state of one fit: `prepare` comes first, then `restore`, then epochs, whose updates `update` computes."""

    def __init__(
        self,
        setup: Setup,
        task_loader: Iterable[Any] | None,
        stimuli: StimulusSet | StimulusStream | Iterable[Any] | None,
        epochs: int,
        seed: int,
    ) -> None:
        self.setup = setup
        self.terms = dict(zip(_unique([term.name for term in setup.terms]), setup.terms, strict=True))
        self.fabric = setup.fabric
        self.device = self.fabric.device
        self.epochs = epochs
        self.seed = seed
        self.states = RandomStates(seed, self.device)
        self.threads = FitThreads(setup.threads, self.device)
        stream = StimulusStream(stimuli) if isinstance(stimuli, StimulusSet) else stimuli
        self.every = stream.every if isinstance(stream, StimulusStream) else 1
        self.stimuli_per_update = stream.batch_size if isinstance(stream, StimulusStream) else None
        self.norm: Norm = stream.norm if isinstance(stream, StimulusStream) else "shared"
        self.dropout = stream.dropout if isinstance(stream, StimulusStream) else True
        self.task = None if task_loader is None else Passes(task_loader, self.states, "task order")
        self.stimuli = None if stream is None else Passes(stream, self.states, "stimulus order")
        self.states.outside = watched(task=task_loader, stimuli=stream)
        self.steps = steps_alone(stream) if task_loader is None else length(task_loader, "the task loader")
        self.asked: dict[str, dict[RDMTeacher, tuple[str, ...]]] = {"task": {}, "stimuli": {}}
        # before the optimiser is made: its state lies where the parameters lie
        setup.student.to(self.device)
        self.teachers = teachers_of(setup.terms)
        for teacher in self.teachers:
            teacher.to(self.device)
        layers = dict.fromkeys(layer for term in setup.terms for layer in term.layers)
        # on the bare student: it then records in `_set_up`, and from within Fabric's wrapper in every update
        self.recorder = Recorder(setup.student, layers, flatten=False)
        self.record = recording_on(self.device) if self._can_be_recorded() else None
        self.configuration: dict[str, Any] = {}
        self.dead = DeadLayers()
        self.order = LabelOrder()
        self.warned: list[str] = []  # warnings so far, before an interruption too
        self.interval: Interval = "epoch"  # how often the scheduler steps
        self.progress: Progress | None = None  # of an epoch that is under way

    def device_queue(self) -> AbstractContextManager[None]:
        """Context in which the device's work is queued."""
        return nullcontext() if self.record is None else beside_default_stream(self.device)

    def prepare(self) -> None:
        """Build the heads, then the optimiser, then the objective; describe the run."""
        student = self.setup.student
        with self.states.use("heads"):
            # a second fit starts with fresh heads, as the first did
            for term in self.setup.terms:
                term.heads.clear()
            for stream in dict.fromkeys(term.stream for term in self.setup.terms):
                self._set_up(stream)
        if self.task is not None:
            check_last_batch(student, self.task.loader, self.setup.terms, self.fabric.to_device)
        heads = [
            (f"{name}/{key}", parameter)
            for name, term in self.terms.items()
            for key, parameter in term.heads.to(self.device).named_parameters()
        ]
        refuse_lazy(student, "the student")
        self.parameters = {
            name: parameter for name, parameter in chain(student.named_parameters(), heads) if parameter.requires_grad
        }
        if not self.parameters:
            raise ValueError("no parameter of the student or of a head requires a gradient: there is nothing to train")
        made = self.setup.make_optimizer(list(self.parameters.values()))
        optimizer, self.scheduler = check_optimizer(made, self.parameters)
        self.interval = interval_of(made, self.epochs, self.epochs * self.steps)
        if self.interval == "update":  # a recorded update keeps its learning rate
            self.record = None
        # described before Fabric wraps the optimiser, so that its name and groups are the user's
        self._described = partial(describe_run, self, optimizer)
        self.configuration = self._described()
        self.fingerprint = Fingerprint(self, optimizer)
        model, self.optimizer = self.fabric.setup(student, optimizer)
        self.objective = Objective(
            model, self.recorder, self.setup.task_loss, self.terms, self.fabric, self.states, self.epochs, self.dead
        )
        of_heads = {f"{name}/{key}": v for name, t in self.terms.items() for key, v in t.heads.state_dict().items()}
        self.weights = FiniteWeights(student.state_dict() | of_heads)

    def restore(self, checkpoint: Path | None) -> list[dict[str, float]]:
        """Resume from a checkpoint where there is one; the rows of the history so far."""
        if checkpoint is None or not has_checkpoint(checkpoint):
            return []
        compare = partial(other_configuration, self, self._described)
        state = load_checkpoint(checkpoint, self.configuration, compare)
        self.fingerprint.check(state.get("fingerprint"), checkpoint)
        self.setup.student.load_state_dict(state["student"])
        for term, heads in zip(self.setup.terms, state["heads"], strict=True):
            term.heads.load_state_dict(heads)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.states.load_state_dict(state["random"])
        self.threads.resume(state.get("threads"))
        # the task's passes need no state: an epoch is one pass, seeded by its number
        if self.stimuli is not None:
            self.stimuli.load_state_dict(state["stimuli"])
        # absent where it was written before there were checkpoints within an epoch
        if (progress := state.get("progress")) is not None:
            self.progress = restored(progress, self.device)
        self.warned[:0] = [text for text in state.get("warnings", ()) if text not in self.warned]
        return list(state["history"])

    def save(self, checkpoint: Path, rows: list[dict[str, float]]) -> None:
        """Write everything that the next update depends on."""
        save_checkpoint(
            {
                "configuration": self.configuration,
                "fingerprint": self.fingerprint.state_dict(),
                "student": self.setup.student.state_dict(),
                "heads": [term.heads.state_dict() for term in self.setup.terms],
                "optimizer": self.optimizer.state_dict(),
                "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
                "random": self.states.state_dict(),
                "stimuli": None if self.stimuli is None else self.stimuli.state_dict(),
                "history": rows,
                "threads": torch.get_num_threads(),
                "warnings": list(self.warned),
                "progress": None if self.progress is None else self.progress.state_dict(),
            },
            checkpoint,
        )

    def epoch(self, epoch: int, log_every: int, bar: Bar, keeper: Keeper) -> dict[str, float]:
        """Run one epoch, or what is left of it, update by update; its row of the history."""
        # read before the scheduler steps: the row says what the epoch was trained with
        progress = self.progress = self.progress or Progress(float(self.optimizer.param_groups[0]["lr"]))
        means = progress.means
        guard = FiniteGuard(
            self.optimizer,
            self.parameters,
            every=updates_between_reads(self.device, log_every),
            # a gradient scaler (16-mixed) expects infinite gradients, and leaves such updates out
            gradients=getattr(self.fabric._precision, "scaler", None) is None,
        )
        recorded: RecordedUpdate | None = None
        shapes: list[torch.Size] = []
        pairs: Pairs = {}
        for step, task, stimuli in until_asked(self._updates(epoch, progress.updates), keeper.stop):
            place = _place(epoch, step)
            if epoch == 0:
                self.order.note(None if task is None else task.labels, stacklevel=5)
            self.dead.watch_last(epoch, step + 2 >= self.steps)
            self.threads.decide(self._networks(), [part.images for part in (task, stimuli) if part is not None])
            given = self._recordable(task)
            # behind an update of the same shapes: by then the optimiser has its state, and the pairs are known
            if recorded is None and given is not None and shapes == [part.shape for part in given]:
                recorded = self._recorded(epoch, given, pairs, guard, means)
            if recorded is not None and given is not None and recorded.fits(*given):
                parts, flags = recorded(*given)
                means.count(means.columns)
                guard.note(parts, flags, place)
            else:
                mode = stimulus_mode(self.setup.student, self.norm, self.dropout)
                with memory_for(place):
                    losses = self.objective.losses(epoch, task, stimuli, mode)
                    self.objective.backward(losses, self.optimizer)
                parts, columns = losses.parts, losses.columns()
                with naming_images(task, stimuli):
                    guard.step(parts, place)
                means.add(columns, losses.pairs)
                means.count(columns)
                if task is not None and given is not None:
                    shapes, pairs = [part.shape for part in given], task.drawn()
            self._step_scheduler("update")
            progress.updates = step + 1
            progress.alphas |= {part.column: part.alpha for part in parts if part.column != "task_loss"}
            bar.advance()
            if (step + 1) % log_every == 0 or step + 1 == self.steps:
                so_far = means.means()
                bar.describe(f"epoch {epoch + 1}/{self.epochs}", losses_in_short(so_far, progress.alphas))
                if self.fabric.loggers:
                    self.fabric.log_dict(so_far, step=epoch * self.steps + step + 1)
            if keeper.due():
                self._check_values(guard, epoch, progress)
                keeper.write()
        self._check_values(guard, epoch, progress)
        if progress.updates < self.steps:  # the process was asked to end while it waited for a batch
            keeper.write()
        self._step_scheduler("epoch")
        if epoch == 0:
            self.order.end(stacklevel=5)
        warn_nothing_compared(self.dead.unsaid(means.uncompared()), epoch)
        return {"epoch": epoch, **self._columns(progress), "lr": progress.lr}

    def _networks(self) -> list[nn.Module]:
        """The networks that compute in an update."""
        return [self.setup.student, *(found._model for found in self.teachers if isinstance(found, NetworkTeacher))]

    def _check_values(self, guard: FiniteGuard, epoch: int, progress: Progress) -> None:
        """Refuse updates, and weights behind the last one, that are not finite."""
        guard.check()
        self.weights.check(_place(epoch, progress.updates - 1))

    def _step_scheduler(self, behind: Interval) -> None:
        if self.scheduler is not None and self.interval == behind:
            self.scheduler.step()

    def _columns(self, progress: Progress) -> dict[str, float]:
        """Columns of the epoch's row: those of the task, of the terms, and of α."""
        means = progress.means.means()
        of_task = [column for column in ("task_loss", "task_error") if column in means]
        left = progress.means.pairs_left()
        return {column: means[column] for column in of_task} | means | left | self._alpha_columns(progress.alphas)

    def check_teachers(self) -> None:
        """Refuse teachers that are no longer what they were at the beginning; ValueError, which names them."""
        now = describe_teachers(self.teachers)
        for teacher, before, after in zip(self.teachers, self.configuration["teachers"], now, strict=True):
            if changed := differences(before, after):
                raise ValueError(
                    f"the {type(teacher).__name__} changed during the training: {'; '.join(changed)} than at its "
                    "beginning. A teacher stays as it is: look for what writes to its parameters or buffers (a term, a "
                    "hook, an optimiser), or give it a copy of the network that changes"
                )

    def _updates(self, epoch: int, done: int) -> Iterator[tuple[int, Batch | None, Batch | None]]:
        """Number the epoch's updates and read their batches: of the task, as many as its loader says, and stimuli."""
        if self.task is None:
            for step in range(done, self.steps):
                yield step, None, self._next_stimuli(epoch, step)
            return
        given = 0
        for raw in self.task.one_pass(epoch, known=done):
            given += 1
            if given > self.steps:
                break
            if given > done:
                yield given - 1, self._batch("task", raw), self._next_stimuli(epoch, given - 1)
        if given != self.steps:
            raise ValueError(
                f"the task loader has a length of {self.steps}, but a pass over it gave "
                f"{'more' if given > self.steps else given} batches; repeat(loader, steps) gives it as many as it says"
            )

    def _next_stimuli(self, epoch: int, step: int) -> Batch | None:
        """The next stimuli where they are due."""
        # counted over all epochs, so that every=n keeps its rhythm where n does not divide an epoch
        if self.stimuli is None or (epoch * self.steps + step) % self.every != 0:
            return None
        return self._batch("stimuli", self.stimuli.next())

    def _batch(self, stream: str, raw: Any) -> Batch:
        """Take apart what a stream's loader gave, and move it to the device."""
        labels: Tensor | None = None
        ids: tuple[str, ...] | None
        if stream == "task":
            images, labels, ids = task_batch(raw)
            images, labels = self.fabric.to_device((images, labels))
        else:
            images, ids = stimulus_batch(raw)
            images = self.fabric.to_device(images)
        return Batch(images, labels, ids, generator=self.states.pairs, asked=self.asked[stream], _watched=True)

    def _can_be_recorded(self) -> bool:
        """Is an update the same each time: on the task alone, taught by networks that draw nothing?"""
        return (
            self.setup.cuda_graphs
            and self.task is not None
            and self.stimuli is None
            # exactly this class: one derived from it may draw, or look up ids, in Python
            and all(type(teacher) is NetworkTeacher for teacher in self.teachers)
        )

    def _recordable(self, task: Batch | None) -> tuple[Tensor, Tensor] | None:
        """Images and labels of a task batch whose update may be recorded; ids are read by Python code."""
        if self.record is None or task is None or task.labels is None or task.ids is not None:
            return None
        return task.images, task.labels

    def _recorded(
        self, epoch: int, given: tuple[Tensor, Tensor], pairs: Pairs, guard: FiniteGuard, means: EpochMeans
    ) -> RecordedUpdate | None:
        """Record the epoch's update; None for an optimiser that counts on the host."""
        if self.record is None or counts_on_host(self.optimizer, self.device):
            return None

        def update(images: Tensor, labels: Tensor, pairs: Pairs) -> tuple[list[Value], Tensor]:
            known, asked = dict(pairs), self.asked["task"]
            batch = Batch(images, labels, generator=self.states.pairs, asked=asked, _pairs=known, _watched=True)
            losses = self.objective.losses(epoch, batch, None, nullcontext(), recording=True)
            self.objective.backward(losses, self.optimizer)
            flags = guard.flags(losses.parts)
            guard.apply(flags)
            means.add(losses.columns(), losses.pairs)
            return losses.parts, flags

        return RecordedUpdate(update, *given, pairs, record=self.record, states=self.states)

    def _set_up(self, stream: str) -> None:
        """Let the terms of a stream see its first batch. Nothing is learned from it: eval mode, no gradient."""
        student = self.setup.student
        passes = self.task if stream == "task" else self.stimuli
        assert passes is not None  # noqa: S101 - check_request refused terms without their stream
        batches = (self._batch(stream, raw) for raw in islice(passes.one_pass(0), self.steps))
        first = next(batches, None)
        if first is None:
            raise ValueError(f"the {'task loader' if stream == 'task' else 'loader of the stimuli'} gave no batch")
        terms = [term for term in self.setup.terms if term.stream == stream]
        look(chain([first], batches), terms, student, self.recorder, self.states.pairs, dead=self.dead)

    def _alpha_columns(self, alphas: dict[str, float]) -> dict[str, float]:
        """Name α's columns: ``alpha/layer``, with the term's name where several terms are on that layer."""
        # declared layers too, so that a term that this epoch left out does not change another's column
        declared = [layer for term in self.setup.terms for layer in term.layers or ("output",)]
        layers = [column.split("/", 1)[1] for column in alphas]
        return {
            f"alpha/{layer}" if max(layers.count(layer), declared.count(layer)) == 1 else f"alpha/{column}": alpha
            for (column, alpha), layer in zip(alphas.items(), layers, strict=True)
        }


def _place(epoch: int, step: int) -> str:
    return f"epoch {epoch + 1}, update {step + 1}"


def _unique(names: Sequence[str]) -> list[str]:
    """Make names unique: the second of two equal ones becomes name_2, and so on."""
    return [f"{name}_{k + 1}" if (k := names[:i].count(name)) else name for i, name in enumerate(names)]
