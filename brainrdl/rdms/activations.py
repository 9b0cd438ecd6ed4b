"""Answers of layers to all stimuli, handed out in blocks of units, whatever fits into memory.

A network answers stimulus by stimulus, a Gram matrix wants all stimuli of some units. Where the answers do not fit into
memory in between, they wait in a file; where that has no room either, the model runs again for each share of them.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from brainrdl.arguments import name_some
from brainrdl.features.answers import DEPENDS, difference
from brainrdl.features.recorder import Recorder
from brainrdl.progress import Bar
from brainrdl.rdms.float64 import not_finite, undefined, unit_means, unit_slices
from brainrdl.stimuli.stimulus_set import StimulusSet

_SAMPLE = 4096


class Layer(NamedTuple):
    """One layer's answer to one stimulus."""

    n_units: int
    dtype: torch.dtype
    sample: Tensor | None = None
    """Some of its units' answers to the first stimulus alone."""

    def sampled(self, answer: Tensor) -> Tensor:
        """The units of one stimulus's answer that `sample` holds."""
        # a copy: an in-place operation behind the layer would change what it answered
        return answer.detach().flatten()[:: 1 + self.n_units // _SAMPLE].cpu().clone()


class Block(NamedTuple):
    """Units ``start`` to ``stop - 1`` of a layer."""

    layer: str
    start: int
    stop: int

    @property
    def width(self) -> int:
        """Number of units."""
        return self.stop - self.start


class Patterns(NamedTuple):
    """A layer's patterns as wholes."""

    mean: Tensor  # (n, 1), over units
    without: Tensor  # (n,), those that have no direction


class ModelOnStimuli(NamedTuple):
    """A model on a device, and what it is shown."""

    model: nn.Module
    stimuli: StimulusSet
    batch_size: int
    device: torch.device

    def answers(self, keep: Mapping[str, Callable[[Tensor, int], None]], n: int | None = None) -> Iterator[int]:
        """Show the first n stimuli (all by default); yields how many were shown in each batch.

        `keep`: layer → function of the answer to a batch (stimuli, ...) and the position of its first stimulus.
        """
        # called as the layer answers: nothing behind it has changed the answer, and no two wait side by side
        n = len(self.stimuli) if n is None else n
        first = 0

        def handle(layer: str, answer: object) -> Tensor:
            if not isinstance(answer, Tensor) or answer.ndim == 0 or answer.shape[0] != size:
                what = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
                raise ValueError(
                    f"layer {layer!r} responds to {size} stimuli with {what}, expected a tensor (stimuli, ...); name a "
                    "layer within it or behind it"
                )
            ran.add(layer)
            keep[layer](answer.detach(), first)
            return torch.zeros(size, 1)  # all that the Recorder has to keep

        with Recorder(self.model, keep, select={layer: partial(handle, layer) for layer in keep}) as recorder:
            while first < n:
                images, _ = self.stimuli.batch(range(first, min(first + self.batch_size, n)))
                size = len(images)
                ran: set[str] = set()
                with torch.no_grad():
                    self._show(images)
                for layer in keep:
                    if layer not in ran:
                        raise ValueError(
                            f"layer {layer!r} did not run when the model did; name a layer that its forward calls"
                        )
                try:
                    recorder.features()
                except RuntimeError as error:  # a layer ran more than once
                    raise ValueError(str(error)) from error
                yield size
                first += size

    def _show(self, images: Tensor) -> None:
        try:
            self.model(images.to(self.device))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            weights = next((f" with weights of {value.dtype}" for value in self.model.parameters()), "")
            raise ValueError(
                f"{type(self.model).__name__}{weights} does not take the stimuli, {images.dtype} of shape "
                f"{tuple(images.shape)}: {str(error).strip().splitlines()[0]}; give stimuli of the type, channels and "
                "size that the model expects"
            ) from error


def measure_layers(run: ModelOnStimuli, layers: Iterable[str]) -> dict[str, Layer]:
    """The layers' sizes, from one stimulus."""
    sizes: dict[str, Layer] = {}

    def keep(layer: str, answer: Tensor, first: int) -> None:
        if answer.is_complex() or answer.numel() == 0:
            raise ValueError(
                f"layer {layer!r} returns {answer.dtype} of shape {tuple(answer.shape)}; distances need real "
                "numbers, and at least one unit"
            )
        found = Layer(prod(answer.shape[1:]), answer.dtype)
        sizes[layer] = found._replace(sample=found.sampled(answer))

    for _ in run.answers({layer: partial(keep, layer) for layer in layers}, n=1):
        pass
    return sizes


def plan_passes(layers: Mapping[str, Layer], n: int, width: int, room: int) -> list[list[Block]]:
    """Share layers, as blocks of `width` units at most, out over passes whose answers take `room` bytes each."""
    passes: list[list[Block]] = []
    left = 0
    for name, layer in layers.items():
        unit = n * layer.dtype.itemsize
        blocks = [Block(name, s, min(s + width, layer.n_units)) for s in range(0, layer.n_units, width)]
        if not passes or (left < unit * layer.n_units):
            passes.append([])
            left = room
        for block in blocks:
            if left < unit * block.width and passes[-1]:
                passes.append([])
                left = room
            passes[-1].append(block)
            left -= unit * block.width
    return passes


@final
class _Memory:
    """The answers of one pass: `put` keeps those to the stimuli from `first` on, `get` gives all, (n, units)."""

    def __init__(self, blocks: Iterable[Block], n: int, layers: Mapping[str, Layer]) -> None:
        self._parts = {block: torch.empty(n, block.width, dtype=layers[block.layer].dtype) for block in blocks}

    def put(self, block: Block, first: int, rows: Tensor) -> None:
        self._parts[block][first : first + len(rows)] = rows

    def get(self, block: Block) -> Tensor:
        return self._parts[block]


@final
class _File:
    """The same in a file laid out block by block, so that each is read in one go."""

    def __init__(self, file: Any, blocks: Iterable[Block], n: int, layers: Mapping[str, Layer]) -> None:
        self._file, self._n, self._layers = file, n, layers
        self._offsets: dict[Block, int] = {}
        end = 0
        for block in blocks:
            self._offsets[block] = end
            end += n * self._row(block)

    def _row(self, block: Block) -> int:
        return block.width * self._layers[block.layer].dtype.itemsize

    def put(self, block: Block, first: int, rows: Tensor) -> None:
        self._file.seek(self._offsets[block] + first * self._row(block))
        self._file.write(rows.contiguous().view(torch.uint8).numpy().data)

    def get(self, block: Block) -> Tensor:
        values = torch.empty(self._n, block.width, dtype=self._layers[block.layer].dtype)
        view = values.view(torch.uint8).numpy().reshape(-1).data
        self._file.seek(self._offsets[block])
        if self._file.readinto(view) != len(view):
            raise OSError(f"the temporary file in {tempfile.gettempdir()} was cut short; was it cleaned up meanwhile?")
        return values


@final
class Activations:
    """The layers' answers to all stimuli, block by block, waiting `in_memory` or in a temporary file."""

    def __init__(
        self,
        run: ModelOnStimuli,
        layers: Mapping[str, Layer],
        passes: list[list[Block]],
        metric: str,
        *,
        in_memory: bool,
    ) -> None:
        self._run, self._layers, self._passes, self._metric = run, layers, passes, metric
        self._loaded: int | None = None
        self._store: _Memory | _File
        self._patterns: dict[str, Patterns] = {}
        self._open = ExitStack()
        self._file = None if in_memory else self._open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        # every number is recorded once and used once, at least: a layer with close pairs, or a pass that is made again,
        # is more work than is known at first, and the bar's total grows
        total = 2 * len(run.stimuli) * sum(layer.n_units for layer in layers.values())
        self._bar = self._open.enter_context(Bar(total, "RDMs"))

    def __enter__(self) -> "Activations":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def patterns(self, layer: str) -> Patterns:
        """The layer's patterns as wholes; runs the model if it has not seen the layer yet."""
        if layer not in self._patterns:
            self._load(next(k for k, blocks in enumerate(self._passes) if any(b.layer == layer for b in blocks)))
        return self._patterns[layer]

    def blocks(self, layer: str) -> Iterator[Tensor]:
        """The layer's answers as blocks of units (n, w); runs the model where they are no longer at hand."""
        for k, planned in enumerate(self._passes):
            of_layer = [block for block in planned if block.layer == layer]
            if of_layer:
                self._load(k)
            for block in of_layer:
                yield self._store.get(block)
                self._bar.describe(self._describe(k, f"distances of {layer}"))
                self._bar.advance(len(self._run.stimuli) * block.width)

    def _load(self, number: int) -> None:
        if self._loaded == number:
            return
        blocks = self._passes[number]
        n = len(self._run.stimuli)
        self._loaded = None
        if self._file is None:
            self._store = _Memory((), n, {})  # the last pass's goes before this one's comes
            self._store = _Memory(blocks, n, self._layers)
        else:
            self._store = _File(self._file, blocks, n, self._layers)
        keep = {layer: self._keeper(layer, list(part)) for layer, part in groupby(blocks, lambda block: block.layer)}
        units = sum(block.width for block in blocks)
        self._bar.describe(self._describe(number, "the model runs"))
        for size in self._run.answers(keep):
            self._bar.advance(size * units)
        self._loaded = number

    def _keeper(self, layer: str, blocks: list[Block]) -> Callable[[Tensor, int], None]:
        n, n_units = len(self._run.stimuli), self._layers[layer].n_units
        found = Patterns(torch.zeros(n, 1, dtype=torch.float64), torch.zeros(n, dtype=torch.bool))
        self._patterns[layer] = found

        def keep(answer: Tensor, first: int) -> None:
            rows = answer.flatten(1).cpu()
            if rows.shape[1] != n_units or rows.dtype != self._layers[layer].dtype:
                raise ValueError(
                    f"layer {layer!r} responds to stimulus {self._run.stimuli.ids[first]!r} with {rows.shape[1]} units "
                    f"of {rows.dtype}, the first stimulus with {n_units} of {self._layers[layer].dtype}; give a "
                    "transform that makes all images alike"
                )
            if odd := not_finite(rows):
                ids = [self._run.stimuli.ids[first + k] for k in odd]
                raise ValueError(
                    f"layer {layer!r} returns NaN or infinite values to stimuli {name_some(ids)}; distances need "
                    "finite patterns: drop these stimuli, or look for the weights or the image that made them"
                )
            if first == 0:
                self._check_alone(layer, rows[0])
            batch = slice(first, first + len(rows))
            found.without[batch] = undefined(rows, self._metric)
            if self._metric == "correlation":
                found.mean[batch] = unit_means(rows, unit_slices(*rows.shape))
            for block in blocks:
                self._store.put(block, first, rows[:, block.start : block.stop])

        return keep

    def _check_alone(self, layer: str, answer: Tensor) -> None:
        """Refuse a layer whose answer to the first stimulus is another within its batch than alone."""
        known = self._layers[layer]
        if known.sample is None:
            return
        off = difference(known.sample, known.sampled(answer), known.dtype, self._run.device)
        if off is not None:
            raise ValueError(
                f"layer {layer!r} responds to stimulus {self._run.stimuli.ids[0]!r} alone differently than in its "
                f"batch, by {off:.2g} of its largest response: {DEPENDS}; RDMs need responses that do not"
            )

    def _describe(self, number: int, what: str) -> str:
        return f"pass {number + 1} of {len(self._passes)}, {what}"


def disk_room() -> int:
    """Bytes that a temporary file may take: half of what is free, and nothing where the folder is memory itself."""
    folder = Path(tempfile.gettempdir()).resolve()
    return 0 if _is_memory(folder) else shutil.disk_usage(folder).free // 2


def _is_memory(folder: Path) -> bool:
    """True if the folder lies in a file system that is kept in memory, as far as the system says (Linux)."""
    mounts = Path("/proc/mounts")
    if not os.path.exists(mounts):
        return False
    kinds = {}
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, kind, *_ = line.split(" ")
        kinds[Path(point)] = kind
    place = next((parent for parent in (folder, *folder.parents) if parent in kinds), None)
    return place is not None and kinds[place] in ("tmpfs", "ramfs")
