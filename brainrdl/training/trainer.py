"""The trainer: a plain loop over task loss + Σ α · term (Eq. 5), on Lightning Fabric."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn.functional import cross_entropy

from brainrdl.arguments import whole_number
from brainrdl.features.networks import train_as_set
from brainrdl.features.recorder import kept_modes, run_model
from brainrdl.files.store import path_of
from brainrdl.progress import Bar
from brainrdl.stimuli.stimulus_set import StimulusSet
from brainrdl.terms.base import Term
from brainrdl.threads import settled
from brainrdl.training.checks import (
    check_fabric,
    check_ranks,
    check_request,
    check_student,
    check_task_loss,
    check_terms,
    check_validation,
    check_writable,
    scalar_loss,
    validation_scores,
)
from brainrdl.training.fit_threads import FitThreads
from brainrdl.training.keeping import Keeper, alone, read_every
from brainrdl.training.loggers import closed, save
from brainrdl.training.progress import validation_in_short
from brainrdl.training.run import MakeOptimizer, Setup, TrainingRun
from brainrdl.training.stopping import Stopped, stop_signals
from brainrdl.training.streams import StimulusStream, task_batch
from brainrdl.training.update import TaskLoss, is_classification
from brainrdl.warned import warnings_given


class Trainer:
    """Train a student on a task and toward a teacher's geometry.

    Each update minimises ``task_loss + Σ α · term`` (Eq. 5) over a task batch, a stimulus batch, or both.

    Parameters
    ----------
    student : nn.Module
        Network to train, in place. Modules that are in eval mode while others are not (frozen normalisation) stay so.
    terms : sequence of Term
        Terms that are added to the task loss.
    task_loss : callable or None
        Function ``task_loss(output, label)`` → scalar mean over the batch; None trains on the terms alone.
    optimizer : callable, optional
        Function ``parameters → Optimizer`` or ``→ (Optimizer, LRScheduler)``; called once per fit with the student's
        and all heads' parameters that require a gradient. The scheduler steps once per update where its course is as
        long as the training has updates (``OneCycleLR(total_steps=epochs * batches)``, ``T_max``), else once per epoch;
        ``→ (Optimizer, LRScheduler, "update")`` or ``"epoch"`` says which. Absent: SGD(.05, .9).
    fabric : lightning_fabric.Fabric, optional
        Device, precision, loggers; the best single device in full precision if absent. Loggers write what they hold
        after each epoch, and are finalized at the end of each fit, with status ``success``, ``failed`` or ``aborted``.
    cuda_graphs : bool
        Whether an epoch's update is recorded on a GPU and repeated for all further batches of the same shape, which
        can save a small network most of its time. For students, teachers, terms, optimisers and losses that do the same
        at every update and never wait for the device, as those of this package do: what Python code decides or counts
        is decided once an epoch. Updates that also see a stimulus stream, batches with ids, teachers that are no
        networks and optimisers that count on the host run as ever, and so does everything on a CPU.
    threads : int, optional
        Number of CPU threads of a fit; torch's own is restored behind it. Absent: what ``OMP_NUM_THREADS`` or
        ``torch.set_num_threads`` says; else one for updates below 10⁸ multiply-adds, which gain nothing by more and
        lose much where other work shares the cores, and for larger ones all cores if they are measured to be free. The
        number changes the last digits.

    Raises
    ------
    TypeError
        If `student` is no module, `terms` is no sequence of terms, `task_loss` or `optimizer` is not a function, or
        `fabric` no Fabric.
    ValueError
        If `fabric` stands for more than one device, `student` is distributed over several, or a term is given twice.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> loader = [(torch.randn(8, 1, 2, 2), torch.randint(2, (8,)))]
    >>> history = rdl.Trainer(student).fit(loader, epochs=2)
    >>> list(history["epoch"])
    [0, 1]
    """

    def __init__(
        self,
        student: nn.Module,
        terms: Sequence[Term] = (),
        *,
        task_loss: TaskLoss | None = cross_entropy,
        optimizer: MakeOptimizer | None = None,
        fabric: Fabric | None = None,
        cuda_graphs: bool = False,
        threads: int | None = None,
    ) -> None:
        if isinstance(terms, Term):
            raise TypeError(f"terms must be a sequence, got the single term {terms.name!r}; write [term]")
        check_terms(terms)
        if optimizer is not None and not callable(optimizer):
            raise TypeError(
                f"optimizer must be a function parameters -> Optimizer, got a {type(optimizer).__name__}; the heads' "
                "parameters exist only in fit: write lambda parameters: SGD(parameters, lr=…)"
            )
        check_student(student)
        check_task_loss(task_loss)
        check_fabric(fabric)
        check_ranks(student)
        self.student = student
        # a copy: a list that grows behind the checks would not be checked
        self.terms = tuple(terms)
        self._task_loss = task_loss
        self._make_optimizer = optimizer or partial(torch.optim.SGD, lr=0.05, momentum=0.9)
        self._fabric = fabric or Fabric(accelerator="auto", devices=1)
        self._cuda_graphs = cuda_graphs
        self._threads = threads
        self._chosen = settled(threads)  # of the last fit, once there is one
        if self._fabric.world_size > 1:
            raise ValueError(
                f"the Fabric stands for {self._fabric.world_size} devices, and training runs on one: the pairs of a "
                "batch must be together; give Fabric(devices=1)"
            )

    def fit(
        self,
        task_loader: Iterable[Any] | None,
        *,
        epochs: int,
        stimuli: StimulusSet | StimulusStream | Iterable[Any] | None = None,
        validation: Iterable[Any] | Callable[[nn.Module], Mapping[str, float]] | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_every: int | str | None = None,
        seed: int = 0,
        log_every: int = 50,
    ) -> pd.DataFrame:
        """Train.

        Parameters
        ----------
        task_loader : iterable of (image, label) or (image, label, id), or None
            Task batches, with a length; each pass starts anew, so no generator. An epoch is one pass over it, or,
            where there is none, over `stimuli` or as many updates as these say (`StimulusStream`).
        epochs : int
            Number of epochs.
        stimuli : StimulusSet, StimulusStream or iterable of (image, id), optional
            Stimulus stream, for terms with ``stream="stimuli"``: a StimulusSet shown whole at every update, or cycling.
        validation : iterable of (image, label), or callable, optional
            Data to evaluate on after each epoch. A function ``student → {name: number}`` is given the student in eval
            mode, and its scores become the columns ``validation_<name>``: a score on held-out stimuli, say.
        checkpoint : path, optional
            File that is written after each epoch, atomically; the one before it stays beside it, as
            ``<checkpoint>.previous``. If it exists, the run is resumed from it and ends as it would have without the
            break: on the CPU bitwise, given the same number of threads, and no loader whose workers persist
            (``persistent_workers``: they hold random states that no file can). It holds checksums of each stream's
            first batches (images, labels, ids; as many as hold 512 images, at most 32: what differs only behind them is
            not seen) and facts of the user's functions (code, constants, closures): a run on others is refused, and
            what cannot be told is warned of. What data sets draw with NumPy, ``random`` or a generator of their own
            goes on as well. A finished run's checkpoint restores the student and returns the history; with more
            `epochs` than it was made with, the training goes on and ends as one of so many from the start, where no
            schedule (of α, of the learning rate) depends on their number, and is refused elsewhere. On SIGTERM and
            Ctrl-C it is written behind the update under way; then the handler that the signal had before is called, and
            the process ends (status 143 and 130).
        checkpoint_every : int or str, optional
            Number of updates (``500``) or minutes (``"10 min"``) after which the checkpoint is written within an epoch
            too. What is resumed there reads the epoch's batches up to it again.
        seed : int
            Seed of data order, forward passes (dropout), heads and pair draws, each from a generator of its own.
        log_every : int
            Number of updates between two read-outs of the losses.

        Returns
        -------
        pandas.DataFrame
            History, one row per epoch: ``epoch, task_loss, task_error, <term>/<layer>, alpha/<layer>, lr,
            validation_loss, validation_error, seconds``; losses are means over updates, errors are in percent,
            ``task_error`` that of the training batches as they were seen, ``lr`` that of the epoch's first update.
            ``history.attrs["configuration"]`` holds what was run, the comparison each term chose among it,
            ``["fingerprint"]`` checksums of the first batches (see `checkpoint`) and facts of the functions,
            ``["warnings"]`` all that was warned of, ``["threads"]`` the number of CPU threads and why. A batch in which
            a term has nothing to compare (too few stimuli, no measured pair, a dead layer) is left out of its means;
            the epoch's row then has ``<term>/pairs``, the number of pairs compared (in the layer with the fewest), and
            NaN for the mean of none.

        Raises
        ------
        TypeError
            For batches, losses and terms that are not tensors, validation scores that are not numbers by name, and
            numbers of epochs or seeds that are not whole.
        ValueError
            For streams, terms, optimisers, labels and checkpoints that do not fit together, iterators, lost gradients,
            a damaged checkpoint, and a teacher that changed during the training. Before the first update: for a student
            or a network teacher that writes to its input, or whose answer to a stimulus depends on the batch or on
            chance, and for a term that has nothing to compare in any batch.
        OSError
            If the checkpoint cannot be written, or another training is writing it.
        FloatingPointError
            If a loss or a gradient is not finite; it names the term and layer, or the parameters, and the update,
            which is not applied. Likewise for a network teacher's answers, and for weights after an update.
        SystemExit, KeyboardInterrupt
            If the process was asked to end and there is a checkpoint.
        RuntimeError
            If updates are to be recorded as CUDA graphs and cannot be.
        """
        with warnings_given() as given:
            epochs, log_every, seed = (
                whole_number(value, name, at_least=None)
                for name, value in (("epochs", epochs), ("log_every", log_every), ("seed", seed))
            )
            check_request(task_loader, stimuli, self.terms, self._task_loss, epochs, log_every)
            if validation is not None and not callable(validation):
                check_validation(validation)
            path = None if checkpoint is None else path_of(checkpoint, "checkpoint")
            every = read_every(checkpoint_every, path)
            how = self._make_optimizer, self._fabric, self._cuda_graphs, self._threads
            setup = Setup(self.student, self.terms, self._task_loss, *how)
            run = TrainingRun(setup, task_loader, stimuli, epochs, seed)
            run.warned = given
            # outside the loop: hooks are taken off and modes given back however training ends, and before a signal is
            # handed on
            with (
                stop_signals(path is not None) as stop,
                run.recorder,
                kept_modes(self.student),
                run.device_queue(),
                run.threads,
            ):
                run.prepare()
                with alone(path):
                    keeper = Keeper(run.save, path, every, stop)
                    keeper.rows += run.restore(path)
                    # before the first epoch is spent; a finished run's checkpoint is only read, perhaps from a
                    # read-only place
                    if path is not None and len(keeper.rows) < epochs:
                        check_writable(path)
                    with closed(self._fabric.loggers), stop.waiting():
                        self._epochs(run, keeper, log_every, validation)
                        run.weights.check(f"epoch {epochs}")
            stop.hand_on()
        history = pd.DataFrame(keeper.rows)
        history.attrs["configuration"] = run.configuration
        history.attrs["fingerprint"] = run.fingerprint.state_dict()
        history.attrs["warnings"] = given
        self._chosen = run.threads.chosen
        if self._chosen is not None:  # a finished checkpoint computes nothing
            history.attrs["threads"] = self._chosen._asdict()
        return history

    def _epochs(
        self,
        run: TrainingRun,
        keeper: Keeper,
        log_every: int,
        validation: Iterable[Any] | Callable[[nn.Module], Mapping[str, float]] | None,
    ) -> None:
        """Run the epochs that are left, and add their rows to the history."""
        rows = keeper.rows
        done = len(rows) * run.steps + (0 if run.progress is None else run.progress.updates)
        # initial: a resumed run's bar starts where the run does
        with Bar(run.epochs * run.steps, "training", done=done) as bar:
            if rows:
                bar.lead(validation_in_short(rows[-1]))
            for epoch in range(len(rows), run.epochs):
                train_as_set(self.student)
                row = run.epoch(epoch, log_every, bar, keeper)
                if validation is not None:
                    try:
                        # it may take long, and changes nothing that the training depends on
                        with keeper.stop.waiting(wait=False):
                            scores = self._validated(validation)
                    except Stopped:
                        keeper.write()
                        raise
                    row |= {f"validation_{key}": value for key, value in scores.items()}
                assert run.progress is not None  # noqa: S101 - `epoch` makes it
                row["seconds"] = run.progress.seconds
                run.check_teachers()
                rows.append(row)
                bar.lead(validation_in_short(row))
                run.progress = None
                if self._fabric.loggers:
                    self._fabric.log_dict(row, step=(epoch + 1) * run.steps)
                    save(self._fabric.loggers)
                keeper.write()

    def _validated(self, validation: Iterable[Any] | Callable[[nn.Module], Mapping[str, float]]) -> Mapping[str, float]:
        """Scores of the student as it is, by name."""
        if not callable(validation):
            scores = self.evaluate(validation)
            if not isfinite(scores.get("loss", 0.0)):
                warnings.warn(
                    f"the loss on the validation images is {scores['loss']}, though that of training was finite: look "
                    "for images that are not, and for layers that do otherwise in eval mode",
                    stacklevel=4,
                )
            return scores
        device = next(self.student.parameters()).device
        # what it draws, or leaves switched off, must not change the training
        with (
            kept_modes(self.student),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
            torch.set_grad_enabled(torch.is_grad_enabled()),
        ):
            return validation_scores(validation(self.student.eval()))

    @torch.no_grad()
    def evaluate(self, loader: Iterable[Any]) -> dict[str, float]:
        """Score the student in eval mode.

        Parameters
        ----------
        loader : iterable of (image, label) or (image, label, id)
            Data to score on.

        Returns
        -------
        dict of float
            Scores: ``loss`` (the task loss, if any, mean over images) and, for class labels, ``error`` in percent.

        Raises
        ------
        ValueError
            If the loader has no batches.
        """
        device = next(self.student.parameters()).device
        # sums stay on the device: reading each batch's would make the host wait
        loss = wrong = torch.zeros((), device=device, dtype=torch.float64)
        n, classified = 0, False
        threads = FitThreads(self._threads if self._chosen is None else self._chosen.number, device)
        # a loader may draw from the global generators: what it draws must not shift the training
        with (
            threads,
            kept_modes(self.student),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        ):
            self.student.eval()
            for batch in loader:
                images, labels, _ = task_batch(batch)
                images, labels = images.to(device), labels.to(device)
                threads.decide([self.student], [images])
                with self._fabric.autocast():
                    output = run_model(self.student, images, "the student")
                    if self._task_loss is not None:
                        # back to a sum over images: the last batch may be smaller
                        loss = loss + scalar_loss(self._task_loss, output, labels).double() * len(labels)
                classified = is_classification(output, labels)
                if classified:
                    wrong = wrong + (output.argmax(dim=1) != labels).sum()
                n += len(labels)
        if n == 0:
            raise ValueError("the loader to evaluate has no batches")
        scores = {} if self._task_loss is None else {"loss": loss.item() / n}
        return scores | ({"error": 100 * wrong.item() / n} if classified else {})
