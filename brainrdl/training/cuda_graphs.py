"""One update, recorded on a GPU and replayed for other batches (CUDA graphs).

A small network's update is hundreds of kernels of a few microseconds each, and launching them one by one takes many
times as long as running them. Recorded, they are launched together. What an update reads from the host (the learning
rate, α) is fixed in the recording, so that every epoch makes its own.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import torch
from torch import Tensor

from brainrdl.rdms.condensed import sample_pairs
from brainrdl.training.finite import Value

Pairs = dict[tuple[int, int], Tensor]
"""(stimuli, number of pairs) → the pairs drawn of them."""

Recorder = Callable[[Callable[[], None]], Callable[[], None]]
"""Called with a function, it gives one that does on the device what that did."""

Update = Callable[[Tensor, Tensor, Pairs], tuple[list[Value], Tensor]]
"""(images, labels, pairs) → values, flags: forward, backward and the optimiser's step, all on the device."""


class RecordedUpdate:
    """An update that is recorded for the first batch it is given, and replayed for every batch.

    Parameters
    ----------
    update : callable
        What is recorded; it runs once, and what it does to tensors happens at every replay.
    images, labels : Tensor
        A batch, for shapes.
    pairs : dict of Tensor
        Pairs as such an update draws them.
    recorder : callable
        Makes the recording.
    """

    def __init__(
        self,
        update: Update,
        images: Tensor,
        labels: Tensor,
        pairs: Pairs,
        *,
        recorder: Recorder,
    ) -> None:
        self._images, self._labels = images.clone(), labels.clone()
        self._pairs = {key: drawn.clone() for key, drawn in pairs.items()}
        self._values: list[Value] = []
        self._packed = torch.empty(0)

        def recorded() -> None:
            values, flags = update(self._images, self._labels, self._pairs)
            self._values = [Value(v.column, v.value.detach(), v.alpha) for v in values]
            self._packed = torch.cat((torch.stack([v.value.double() for v in self._values]), flags.double()))

        self._replay = recorder(recorded)

    def fits(self, images: Tensor, labels: Tensor) -> bool:
        """Whether a batch is of the recorded shapes."""
        return all(
            given.shape == own.shape and given.dtype == own.dtype
            for given, own in ((images, self._images), (labels, self._labels))
        )

    def __call__(
        self, images: Tensor, labels: Tensor, generator: torch.Generator, drawing: AbstractContextManager[None]
    ) -> tuple[list[Value], Tensor]:
        """Make the update of another batch.

        Parameters
        ----------
        images, labels : Tensor
            The batch.
        generator : torch.Generator
            Source of the pair draws.
        drawing : context manager
            Around what draws from torch's global generators.

        Returns
        -------
        values : list of Value
            The parts of its loss.
        flags : Tensor
            Whether each value and each gradient is finite, as numbers.
        """
        self._images.copy_(images, non_blocking=True)
        self._labels.copy_(labels, non_blocking=True)
        for n in {n for n, _ in self._pairs}:
            drawn = sample_pairs(n, n * (n - 1) // 2, generator)
            for key, own in self._pairs.items():
                if key[0] == n:
                    own.copy_(drawn[: len(own)], non_blocking=True)
        with drawing:
            self._replay()
        packed = self._packed.clone()  # the next replay writes over it
        values = [Value(v.column, packed[place], v.alpha) for place, v in enumerate(self._values)]
        return values, packed[len(values) :]


@contextmanager
def beside_default_stream(device: torch.device) -> Iterator[None]:
    """Queue what is launched within on a stream of its own: the default one cannot be recorded.

    All updates have to be there, not the recorded ones alone: autograd adds a parameter's gradient up on the stream
    on which the parameter was first used.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.current_stream(device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(before)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        before.wait_stream(stream)
        # the memory that was free for this stream alone
        torch.cuda.empty_cache()


def recorder_on(device: torch.device) -> Recorder | None:
    """What records on a device: CUDA graphs on a GPU, nothing elsewhere."""
    return cuda_graphs() if device.type == "cuda" else None


def cuda_graphs() -> Recorder:
    """A recorder of CUDA graphs on the current stream, all of them in one memory pool.

    Raises
    ------
    RuntimeError
        When it records: if the function does what cannot be recorded, such as waiting for the device.
    """
    pool = torch.cuda.graph_pool_handle()
    # the pool lives as long as one of its graphs: the last one stays until there is another
    kept: list[torch.cuda.CUDAGraph] = []

    def record(function: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(pool=pool, capture_error_mode="relaxed")
        try:
            function()
        except Exception as error:
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
