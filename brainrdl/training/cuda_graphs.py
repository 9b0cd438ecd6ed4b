"""One update, recorded on a GPU and repeated for other batches (CUDA graphs).

A small network's update is hundreds of kernels of a few microseconds each, and launching them one by one takes many
times as long as running them. Recorded, they are launched together. What an update reads from the host (the learning
rate, α) is fixed in the recording, so that every epoch makes its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, final

import torch
from torch import Tensor

from brainrdl.rdms.condensed import sample_pairs
from brainrdl.training.finite import Value
from brainrdl.training.randomness import RandomStates

Pairs = dict[tuple[int, int], Tensor]
"""(stimuli, number of pairs) → the pairs (P, 2) drawn of them."""

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Called with a function, it gives one that does on the device what that did."""

DeviceUpdate = Callable[[Tensor, Tensor, Pairs], tuple[list[Value], Tensor]]
"""(images, labels, pairs) → parts of the loss, flags: forward, backward and the optimiser's step, all on the device."""


@final
class RecordedUpdate:
    """An update, recorded on a batch like those to come; RuntimeError if it draws random numbers on the host."""

    def __init__(
        self,
        update: DeviceUpdate,
        images: Tensor,
        labels: Tensor,
        pairs: Pairs,
        *,
        record: Record,
        states: RandomStates,
    ) -> None:
        # memory of its own: a recording reads and writes the addresses it was made with
        self._images, self._labels = images.clone(), labels.clone()
        self._pairs = {key: drawn.clone() for key, drawn in pairs.items()}
        self._states = states
        self._parts: list[Value] = []
        self._packed = torch.empty(0)

        def recorded() -> None:
            parts, flags = update(self._images, self._labels, self._pairs)
            self._parts = [Value(part.column, part.value.detach(), part.alpha) for part in parts]
            # in one tensor, so that what an update gives is copied once
            self._packed = torch.cat((torch.stack([part.value.double() for part in self._parts]), flags.double()))

        with states.only("task forward"):
            before = self._host_generators()
            self._repeat = record(recorded)
            if any(not torch.equal(a, b) for a, b in zip(before, self._host_generators(), strict=True)):
                raise RuntimeError(
                    "an update draws random numbers on the host, which a recorded one would not do again: a term, a "
                    "layer or preprocess that calls a generator of its own; train with cuda_graphs=False"
                )

    def fits(self, images: Tensor, labels: Tensor) -> bool:
        """Compare a batch with the recorded shapes and types."""
        return all(
            given.shape == kept.shape and given.dtype == kept.dtype
            for given, kept in ((images, self._images), (labels, self._labels))
        )

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[list[Value], Tensor]:
        """Make the update of another batch: the parts of its loss, and flags of those that are finite, as numbers."""
        self._images.copy_(images, non_blocking=True)
        self._labels.copy_(labels, non_blocking=True)
        # as `Batch.pairs` draws them: one permutation per number of stimuli, of which each subset is the beginning
        for n in {n for n, _ in self._pairs}:
            drawn = sample_pairs(n, n * (n - 1) // 2, self._states.pairs)
            for (stimuli, _), kept in self._pairs.items():
                if stimuli == n:
                    kept.copy_(drawn[: len(kept)], non_blocking=True)
        with self._states.only("task forward"):
            self._repeat()
        packed = self._packed.clone()  # the next repetition writes over it
        parts = [Value(part.column, packed[place], part.alpha) for place, part in enumerate(self._parts)]
        return parts, packed[len(parts) :]

    def _host_generators(self) -> tuple[Tensor, Tensor]:
        return torch.get_rng_state(), self._states.pairs.get_state()


@contextmanager
def beside_default_stream(device: torch.device) -> Iterator[None]:
    """Queue what is launched within on a stream of its own: the default one cannot be recorded."""
    if device.type != "cuda":
        yield
        return
    # for all updates, not the recorded ones alone: autograd adds a parameter's gradient up on the stream on which the
    # parameter was first used
    before = torch.cuda.current_stream(device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(before)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        before.wait_stream(stream)
        # memory that is free for this stream alone, and would stay so
        torch.cuda.empty_cache()


def counts_on_host(optimizer: Any, device: torch.device) -> bool:
    """Look for numbers in an optimiser's state that a recorded update would not count on."""
    state = [value for of_parameter in optimizer.state.values() for value in of_parameter.values()]
    return any(
        value.device.type != device.type if isinstance(value, Tensor) else isinstance(value, int | float)
        for value in state
    )


def recording_on(device: torch.device) -> Record | None:
    """Function that records on a device: CUDA graphs on a GPU, None elsewhere."""
    return cuda_graphs() if device.type == "cuda" else None


def cuda_graphs() -> Record:
    """Make a function that records CUDA graphs, or raises a RuntimeError for what cannot be recorded."""
    pool = torch.cuda.graph_pool_handle()
    # the pool lives as long as one of its graphs: the last one stays until there is another
    kept: list[torch.cuda.CUDAGraph] = []

    def record(function: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # relaxed: other threads (a loader's that pins memory) may call CUDA meanwhile
        graph.capture_begin(pool=pool, capture_error_mode="relaxed")
        try:
            function()
        except Exception as error:
            # the stream must leave its recording state, which fails once more behind an error
            with suppress(RuntimeError):
                graph.capture_end()
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise RuntimeError(
                f"this update cannot be recorded as a CUDA graph ({type(error).__name__}: {error}); train with "
                "cuda_graphs=False"
            ) from error
        graph.capture_end()
        kept[:] = [graph]
        return graph.replay

    return record
