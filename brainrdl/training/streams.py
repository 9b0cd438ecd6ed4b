"""The two streams of batches: task images, and stimuli whose geometry is known."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from brainrdl.arguments import whole_number
from brainrdl.features.recorder import kept_modes
from brainrdl.stimuli.stimulus_set import StimulusSet
from brainrdl.training.first_batches import FirstBatches
from brainrdl.training.generators import own_generators, reseeded_generators
from brainrdl.training.randomness import OutsideStates, RandomStates, as_json

Norm = Literal["shared", "own", "eval"]


class Repeated:
    """A loader whose pass has a given number of batches; made by `repeat`."""

    def __init__(self, loader: Iterable[Any], steps: int) -> None:
        steps = whole_number(steps, "steps", at_least=None)
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        refuse_one_pass(loader, "the loader to repeat")
        self.loader = loader
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        given = 0
        while given < self.steps:
            # a pass of its own each time, which shuffles anew; itertools.cycle would keep all batches of the first
            before = given
            for batch in self.loader:
                yield batch
                given += 1
                if given == self.steps:
                    return
            if given == before:
                raise ValueError("the loader to repeat is empty")


def repeat(loader: Iterable[Any], steps: int) -> Repeated:
    """Make a loader whose pass has `steps` batches: cycles where the loader is shorter, is cut where it is longer.

    Parameters
    ----------
    loader : iterable of batches
        Loader to repeat, such as a DataLoader; each new pass over it is shuffled anew if it shuffles.
    steps : int
        Number of batches, at least 1.

    Returns
    -------
    iterable of batches
        Loader with a length.

    Raises
    ------
    ValueError
        If `steps` is below 1, the loader is an iterator, or (when read) it is empty.

    Examples
    --------
    >>> import brainrdl as rdl
    >>> list(rdl.repeat([1, 2], 5))
    [1, 2, 1, 2, 1]
    """
    return Repeated(loader, steps)


class StimulusStream:
    """A stream of stimuli beside the task: how many per update, how often, and in which mode of the network.

    Parameters
    ----------
    stimuli : StimulusSet
        Images with ids.
    batch_size : int, optional
        Number of stimuli per update, drawn without replacement in shuffled passes; all of them if absent.
    every : int
        Number of updates per stimulus batch.
    norm : {"shared", "own", "eval"}
        Treatment of the stimulus batch by BatchNorm (and InstanceNorm with running statistics). ``shared``: normalises
        it by its own mean and variance, which enter the running statistics as the task batch's do. ``own``: normalises
        it by its own mean and variance, and the running statistics stay as they are, those of the task images.
        ``eval``: normalises it by the running statistics, as after training, which stay as they are too.
    dropout : bool
        Whether the stimulus batch meets dropout. Without it, every layer but those that `norm` governs is in eval
        mode during the forward pass of the stimuli, stochastic depth and attention dropout included.
    steps : int, optional
        Number of updates per epoch of a training without a task; one pass over the stimuli if absent.

    Raises
    ------
    TypeError
        If `dropout` is neither True nor False.
    ValueError
        If `batch_size` is below 2 or above the number of stimuli, `every` or `steps` below 1, or `norm` unknown.

    Notes
    -----
    Photographs of a brain study and small task images have other statistics. ``shared`` mixes both into one set of
    running statistics, by which the task is then evaluated; with ``own`` the task is evaluated as if there were no
    stimuli, but a stimulus's features depend on the batch it comes in; with ``eval`` they do not, and training sees the
    very features that a later evaluation sees. ``own`` and ``eval`` need running statistics from elsewhere: from the
    task batches, or from earlier training where there is no task. Gradients reach the network in all three cases.

    The mode holds for the forward pass. A network that computes layers again in the backward pass
    (`torch.utils.checkpoint`) does so in training mode, and needs the defaults.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> stimuli = rdl.StimulusSet.from_arrays(torch.zeros(5, 3, 8, 8), list("abcde"))
    >>> len(rdl.StimulusStream(stimuli, batch_size=2, norm="eval", dropout=False))
    2
    """

    def __init__(
        self,
        stimuli: StimulusSet,
        *,
        batch_size: int | None = None,
        every: int = 1,
        norm: Norm = "shared",
        dropout: bool = True,
        steps: int | None = None,
    ) -> None:
        n = len(stimuli)
        size = n if batch_size is None else whole_number(batch_size, "batch_size", at_least=None)
        every = whole_number(every, "every", at_least=None)
        steps = None if steps is None else whole_number(steps, "steps", at_least=None)
        if not 2 <= size <= n:
            raise ValueError(f"batch_size must lie in 2 … {n} (the number of stimuli), got {size}")
        if every < 1:
            raise ValueError(f"every must be at least 1 update, got {every}")
        if steps is not None and steps < 1:
            raise ValueError(f"steps must be at least 1 update, got {steps}")
        if norm not in get_args(Norm):
            raise ValueError(f"unknown norm {norm!r}; known are: {', '.join(get_args(Norm))}")
        if not isinstance(dropout, bool):
            raise TypeError(f"dropout must be True or False, got {dropout!r}")
        self.stimuli = stimuli
        self.batch_size = size
        self.every = every
        self.norm = norm
        self.dropout = dropout
        self.steps = steps
        self._whole: tuple[Tensor, tuple[str, ...]] | None = None

    def __len__(self) -> int:
        return len(self.stimuli) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, tuple[str, ...]]]:
        if self.batch_size == len(self.stimuli):
            # in one order, read once: the RDM of all stimuli is the same in any
            if self._whole is None:
                self._whole = self.stimuli.batch()
            images, ids = self._whole
            yield images.clone(), ids  # a network that writes to its input leaves the stimuli as they are
            return
        order = torch.randperm(len(self.stimuli)).tolist()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield self.stimuli.batch(order[start : start + self.batch_size])


class Passes:
    """Seeded passes over a loader: one per epoch, or cycling, at a position that a checkpoint can hold."""

    # every pass is reseeded from (seed, purpose, pass), so that it is the same wherever a run is resumed

    def __init__(self, loader: Iterable[Any], states: RandomStates, purpose: str) -> None:
        self.loader = loader
        self.first = FirstBatches()
        self._states = states
        self._purpose = purpose
        self._pass = 0
        self._position = 0
        self._batches: Iterator[Any] | None = None

    @property
    def length(self) -> int | None:
        """Batches of a pass, None where the loader does not tell."""
        return batches_of(self.loader)

    def one_pass(self, number: int, *, known: int = 0) -> Iterator[Any]:
        """Yield the batches of one pass; of the first pass, note what the first ones hold.

        The first `known` batches of a resumed run are read again, so that their draws have happened too; the states
        outside torch's generators, which were restored, are left as they are by it.
        """
        for place, (batch, drawn) in enumerate(self._one_pass(number, known)):
            if number == 0:
                self.first.note(place, batch, drawn_outside=drawn)
            yield batch

    def read_first(self) -> FirstBatches:
        """Read the first batches once more; all random states but the purpose's own stay as they are."""
        read = FirstBatches()
        with self._states.outside.kept():
            for place, (batch, drawn) in enumerate(self._one_pass(0)):
                read.note(place, batch, drawn_outside=drawn)
                if read.is_complete:
                    break
        return read

    def _one_pass(self, number: int, known: int = 0) -> Iterator[tuple[Any, bool]]:
        """Yield the batches of one pass, and of the first ones whether torch's generators were not all they used."""
        outside = self._states.outside
        restored = outside.read() if known else None
        if known:
            outside.begin_again(self._purpose)
        elif not isinstance(self.loader, StimulusStream):  # whose order is torch's, and whose passes may be an update
            outside.begin_pass(self._purpose)
        seed = self._states.reseed(self._purpose, number)
        # a loader's own generator (DataLoader(generator=…)) is not among the global ones
        for generator in reseeded_generators(self.loader):
            generator.manual_seed(seed)
        with self._states.use(self._purpose):
            batches = iter(self.loader)
        place = 0
        while True:
            before = as_json(outside.read()) if number == 0 and self.first.wants(place) else None
            # around each batch, not the whole pass: between two batches the network draws from states of its own
            with self._states.use(self._purpose):
                try:
                    batch = next(batches)
                except StopIteration:
                    return
            drawn = before is not None and before != as_json(outside.read())
            place += 1
            if place == known and restored is not None:
                outside.write(restored)
            yield batch, drawn

    def next(self) -> Any:
        """Yield the next batch, starting a new pass where one ends."""
        if self._batches is None:
            self._batches = self.one_pass(self._pass, known=self._position)
            for _ in range(self._position):
                next(self._batches)
        try:
            batch = next(self._batches)
        except StopIteration:
            if self._position == 0:  # a new pass would end at once as well, and so on
                raise ValueError("the loader of the stimuli is empty") from None
            self._pass, self._position, self._batches = self._pass + 1, 0, None
            return self.next()
        self._position += 1
        return batch

    def state_dict(self) -> dict[str, int]:
        """Position of a cycling stream."""
        return {"pass": self._pass, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue at a position; the batches before it are read and let go."""
        self._pass, self._position, self._batches = state["pass"], state["position"], None


def refuse_one_pass(loader: Any, what: str) -> None:
    """Raise a ValueError for an iterator (a generator, ``iter(…)``), which a second epoch would find empty."""
    if isinstance(loader, Iterator):
        raise ValueError(
            f"{what} is a {type(loader).__name__}, which can be read once only; give something that starts anew for "
            "each pass: a DataLoader, or list(…)"
        )


def first_batch(loader: Iterable[Any], what: str) -> Any:
    """Read the first batch, and leave all generators as they were; ValueError if there is none."""
    before = [(generator, generator.get_state()) for generator in reseeded_generators(loader)]
    outside = OutsideStates(own_generators(loader, "loader"))
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), outside.kept():
        batch = next(iter(loader), None)
    for generator, state in before:
        generator.set_state(state)
    if batch is None:
        raise ValueError(f"{what} has no batches")
    return batch


def last_batch_size(loader: Any) -> int | None:
    """Size of a pass's last batch, None where the loader does not tell."""
    if isinstance(loader, Repeated):
        inner = loader.loader  # its own last batch comes only if a pass over it is not cut
        given = batches_of(inner)
        return last_batch_size(inner) if given is not None and given <= loader.steps else None
    size, drop_last = getattr(loader, "batch_size", None), getattr(loader, "drop_last", False)
    data = getattr(loader, "sampler", None) or getattr(loader, "data", None)
    if not isinstance(size, int) or drop_last or not isinstance(data, Sized):
        return None
    return len(data) % size or size


def length(loader: Iterable[Any], what: str) -> int:
    """Count the batches of a loader; ValueError if it has none, or does not know."""
    found = batches_of(loader)
    if found is None:
        raise ValueError(f"{what} has no length; repeat(loader, steps) gives it one")
    if found == 0:
        raise ValueError(f"{what} has no batches; give it at least one (a batch size above the data's, drop_last?)")
    return found


def batches_of(loader: Iterable[Any]) -> int | None:
    """Count the batches of a pass, None where the loader does not tell: it has no length, or its data set has none."""
    try:
        return len(loader) if isinstance(loader, Sized) else None
    except TypeError:  # a DataLoader of an IterableDataset
        return None


def steps_alone(stimuli: Any) -> int:
    """Count the updates of an epoch that has no task: as many as the stream says, or a pass; errors as of `length`."""
    if isinstance(stimuli, StimulusStream) and stimuli.steps is not None:
        return stimuli.steps
    return length(stimuli, "the stimuli")


def task_batch(batch: Any) -> tuple[Tensor, Tensor, tuple[str, ...] | None]:
    """Take a task loader's batch apart: images (n, ...), labels (n, ...), and ids or None."""
    if not isinstance(batch, Sequence) or len(batch) not in (2, 3):
        raise ValueError(f"a task loader yields (image, label) or (image, label, id), got {_kind(batch)}")
    _need_tensors("task", image=batch[0], label=batch[1])
    return _usable(batch[0]), _usable(batch[1]), None if len(batch) == 2 else _ids(batch[2], len(batch[0]))


def stimulus_batch(batch: Any) -> tuple[Tensor, tuple[str, ...]]:
    """Take a stimulus loader's batch apart: images (n, ...), ids."""
    if not isinstance(batch, Sequence) or len(batch) != 2:
        raise ValueError(f"a stimulus loader yields (image, id), got {_kind(batch)}")
    _need_tensors("stimulus", image=batch[0])
    return _usable(batch[0]), _ids(batch[1], len(batch[0]))


def _usable(tensor: Tensor) -> Tensor:
    """A tensor that a gradient may pass: one made in inference mode is copied."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor


def _need_tensors(stream: str, **parts: Any) -> None:
    for part, value in parts.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"a {stream} loader yields batches of tensors, and its {part}s are a {type(value).__name__}; "
                "torch.as_tensor makes one, and a DataLoader does so for numbers and arrays"
            )


def _ids(ids: Any, n: int) -> tuple[str, ...]:
    if isinstance(ids, str) or not isinstance(ids, Sequence) or not all(isinstance(i, str) for i in ids):
        raise ValueError(f"stimulus ids must be strings, one per image, got {_kind(ids)}")
    if len(ids) != n:
        raise ValueError(f"a batch has {n} images and {len(ids)} ids")
    return tuple(ids)


def _kind(value: Any) -> str:
    """Name a value's type for a message, and those of its parts."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a {type(value).__name__} of {len(value)}: " + ", ".join(type(part).__name__ for part in value[:4])
    return f"a {type(value).__name__}"


@contextmanager
def stimulus_mode(model: nn.Module, norm: Norm, dropout: bool) -> Iterator[None]:
    """Put a network in training mode into the mode of a `StimulusStream` with this `norm` and `dropout`."""
    if norm == "shared" and dropout:  # training mode itself
        yield
        return
    with kept_modes(model):
        kept = []
        for module in model.modules():
            normalises = isinstance(module, _NormBase)
            # "and": a layer that refuses training mode stays as it is
            module.training = module.training and (norm != "eval" if normalises else dropout)
            if normalises and norm == "own":
                kept.append((module, dict(module._buffers)))
        # the layers update copies: putting old values back into the buffers would break the task batch's backward pass
        for module, buffers in kept:
            module._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
        try:
            yield
        finally:
            for module, buffers in kept:
                module._buffers.update(buffers)
