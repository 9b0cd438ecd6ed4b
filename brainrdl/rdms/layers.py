"""A network's layers as labelled RDMs: model × stimuli → RDMs, however wide the layers are."""

import json
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from brainrdl.arguments import name_some, whole_number
from brainrdl.features.networks import is_random, refuse_lazy, weights_digest, with_weights
from brainrdl.features.work import threads_for
from brainrdl.identity import DIGEST
from brainrdl.ids import check_ids
from brainrdl.known import check_metric
from brainrdl.rdms.activations import Activations, Layer, ModelOnStimuli, disk_room, measure_layers, plan_passes
from brainrdl.rdms.float64 import fill_distances, mirror
from brainrdl.rdms.layout import DIMS
from brainrdl.stimuli.repeats import SAME_IMAGE, find_repeats
from brainrdl.stimuli.stimulus_set import StimulusSet
from brainrdl.threads import limited
from brainrdl.warned import warnings_given, with_warnings

MAX_MEMORY = 2**30
"""Default limit of the bytes that `layer_rdms` holds."""

_OVERHEAD = 24 * 2**20  # of chunks of a matrix, buffers and all small things
_BLOCK_ELEMENTS = 2**20
_NO_DISTANCE = 1e-4  # of the largest distance: one image differs by rounding from batch to batch
_NAMED = 3


def layer_rdms(
    model: nn.Module,
    stimuli: StimulusSet,
    layers: Iterable[str],
    metric: str = "mse",
    *,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    max_memory: int = MAX_MEMORY,
) -> xr.DataArray:
    """Compute the RDMs of a network's layers over a set of stimuli.

    Parameters
    ----------
    model : nn.Module
        Network that takes a batch of images; it runs in eval mode, and is left in its mode and on its device.
    stimuli : StimulusSet
        Images with ids, at least two, as the model wants them (size, normalisation).
    layers : sequence of str
        Names as in `list_layers`; the answer of each is flattened to its units.
    metric : {"mse", "sqeuclidean", "euclidean", "correlation", "cosine"}
        Metric of `rdm`, in float64; distances of near-duplicates are computed from the differences of their patterns.
    batch_size : int
        Stimuli in one forward pass. The result does not depend on it beyond the rounding of the network's own answers:
        a layer that answers the first stimulus alone differently than in its batch is refused.
    device : device, optional
        Device to run on; that of the model's parameters if absent.
    max_memory : int
        Bytes that are held at most beside the model and what its forward pass of one batch takes: the result (8 n² for
        each layer) and blocks of units. What the layers answer waits in memory where it fits; else in a temporary file
        (in ``$TMPDIR``, half the free space at most); else the model runs again for each share of the units.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        One RDM per layer, labelled by its name, with coordinates ``layer`` and ``model`` (its class, and
        ``(random weights)`` where `load_named_model` gave it these). Patterns without
        a direction (constant ones under ``correlation``, zero ones under ``cosine``) have NaN distances. The attribute
        ``provenance`` is JSON: the model, the SHA-256 of its weights, versions, the stimuli that are one image, and all
        ``warnings`` if any was given.

    Raises
    ------
    TypeError
        If `model` is not a module, `stimuli` not a StimulusSet, or `batch_size` not a whole number.
    ValueError
        If a layer is unknown (with near matches), is named twice, answers with no tensor or with values that are not
        finite; if it did not run, or ran more than once, in a forward pass; if its answers depend on the batch or on
        chance; if all of its patterns lack a direction; if `max_memory` or `batch_size` is too small, the metric or
        the device unknown, the model does not take the stimuli, or there are fewer than two of them.

    Warns
    -----
    UserWarning
        Names the stimuli whose patterns have no direction, and those that are the same image under several ids.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5), torch.nn.ReLU())
    >>> stimuli = rdl.StimulusSet.from_arrays(torch.rand(4, 3, 2, 2), ["face", "body", "house", "shoe"])
    >>> rdms = rdl.layer_rdms(model, stimuli, ["1", "2"], "euclidean")
    >>> rdms.sizes["rdm"], rdms["layer"].values.tolist(), rdms.attrs["metric"]
    (2, ['1', '2'], 'euclidean')
    """
    check_metric(metric)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, expected a torch.nn.Module, whose layers have names")
    if not isinstance(stimuli, StimulusSet):
        raise TypeError(
            f"stimuli is a {type(stimuli).__name__}, expected a StimulusSet, whose ids label the RDM: "
            "StimulusSet.from_folder(path, transform) or .from_arrays(images, ids)"
        )
    n = len(stimuli)
    if n < 2:
        raise ValueError(f"an RDM needs at least 2 stimuli, got {n}")
    batch_size = whole_number(batch_size, "batch_size", at_least=1)
    names = check_ids(layers, "layers")
    if not names:
        raise ValueError("layers is empty; list_layers(model) names those there are")
    refuse_lazy(model, "the model")
    weights = weights_digest(model)
    name = with_weights(type(model).__name__, random=is_random(model, weights))
    provenance: dict[str, Any] = {
        "function": "brainrdl.layer_rdms",
        "model": f"{type(model).__module__}.{type(model).__qualname__}",
        "weights_sha256": weights.removeprefix(DIGEST),
        "versions": {name: version(name) for name in ("brainrdl", "torch")},
    }
    with warnings_given() as given, _evaluating(model, device) as place, limited(threads_for(model, n, place)):
        run = ModelOnStimuli(model, stimuli, batch_size, place)
        sizes = measure_layers(run, names)
        squares = _squares(run, sizes, metric, max_memory)
        if repeats := _repeats(stimuli, squares):
            shown = "; ".join(" = ".join(map(repr, group)) for group in repeats[:_NAMED])
            more = f" and {len(repeats) - _NAMED} more" if len(repeats) > _NAMED else ""
            warnings.warn(
                f"the same image under several ids: {shown}{more}; a network that is fitted to one of them is not to "
                "be scored on another",
                stacklevel=2,
            )
            provenance[SAME_IMAGE] = repeats
    rdms = xr.DataArray(
        squares,
        dims=DIMS,
        coords={
            "rdm": list(names),
            "stimulus": list(stimuli.ids),
            "stimulus_": list(stimuli.ids),
            "layer": ("rdm", list(names)),
            "model": ("rdm", [name] * len(names)),
        },
        name="dissimilarity",
        attrs={"metric": metric, "provenance": json.dumps(provenance)},
    )
    return with_warnings(rdms, given)


def _repeats(stimuli: StimulusSet, squares: np.ndarray) -> list[tuple[str, ...]]:
    """Group the stimuli that are one image, found among those without a distance in any layer, in RDMs (layers, n, n).

    All others differ in some layer, so that no image need be read once more for them.
    """
    some = _NO_DISTANCE * np.fmax.reduce(squares, axis=(1, 2), initial=0.0)[:, None]
    alike = []
    for row in range(len(stimuli)):
        # NaN, of a pattern without a direction, has been named; it does not tell two images apart
        distances = squares[:, row]
        near = ~(distances > some).any(axis=0) & ~np.isnan(distances).all(axis=0)
        if near.sum() > 1:  # itself
            alike.append(row)
    return find_repeats(map(stimuli.__getitem__, alike))


def _squares(run: ModelOnStimuli, layers: dict[str, Layer], metric: str, max_memory: int) -> np.ndarray:
    """The RDMs (layers, n, n), in `max_memory` bytes."""
    n = len(run.stimuli)
    width, room = _divide(max_memory, n, layers)
    needed = n * sum(layer.n_units * layer.dtype.itemsize for layer in layers.values())
    # writing and reading a number once is quicker than running a convolutional network once more for it
    on_disk = 0 if needed <= room else disk_room()
    in_memory = on_disk <= room
    passes = plan_passes(layers, n, width, room if in_memory else on_disk)
    # float64 is not to be had on every accelerator
    products = run.device if run.device.type == "cuda" else torch.device("cpu")
    squares = np.zeros((len(layers), n, n))
    with Activations(run, layers, passes, metric, in_memory=in_memory) as activations:
        for k, (name, layer) in enumerate(layers.items()):
            square = torch.from_numpy(squares[k])
            patterns = activations.patterns(name)
            without = patterns.without
            if len(without) - int(without.sum()) < 2:
                raise ValueError(
                    f"layer {name!r} has no {metric} RDM: of its patterns {int(without.sum())} of {n} are "
                    f"{_LACKING[metric]}; choose another metric, or leave the layer out"
                )

            def blocks(name: str = name) -> Iterator[Tensor]:
                return (block.to(products) for block in activations.blocks(name))

            if not fill_distances(square, blocks, metric, layer.n_units, mean=patterns.mean, without=without):
                raise ValueError(
                    f"the responses of layer {name!r} are finite, but the sum of their squares is beyond the range of "
                    "float64; look for the weights that make them so large"
                )
            mirror(square)
            if without.any():
                square[without] = square[:, without] = torch.nan
                square.fill_diagonal_(0.0)
                ids = [stimulus for stimulus, lacks in zip(run.stimuli.ids, without.tolist(), strict=True) if lacks]
                warnings.warn(
                    f"layer {name!r} returns a pattern that is {_LACKING[metric]} to stimuli {name_some(ids)}; "
                    f"their {metric} distances are NaN",
                    stacklevel=3,
                )
    return squares


_LACKING = {"correlation": "constant over units", "cosine": "zero throughout"}


def _divide(max_memory: int, n: int, layers: dict[str, Layer]) -> tuple[int, int]:
    """Units per block, and bytes in which activations may wait in memory, so that all stays below `max_memory`."""
    result = 8 * n * n * len(layers)
    # a block as it came and the one before it, in float64, and centred
    unit = n * 2 * (8 + max(layer.dtype.itemsize for layer in layers.values()))
    rest = max_memory - result - _OVERHEAD
    if rest < 2 * unit:
        raise ValueError(
            f"max_memory is {max_memory:,} bytes, but {n} stimuli and {len(layers)} layers need at least "
            f"{result + _OVERHEAD + 2 * unit:,}; raise it, or ask for fewer layers at a time"
        )
    width = min(_BLOCK_ELEMENTS // n or 1, rest // (2 * unit), max(layer.n_units for layer in layers.values()))
    return width, rest - width * unit


def _device(name: str | torch.device) -> torch.device:
    """The device, if it is there."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {name!r}, which torch does not know; expected cpu, cuda, cuda:1, …") from error
    if device.type == "cuda" and (device.index or 0) >= (there := torch.cuda.device_count()):
        raise ValueError(f"device is {str(name)!r}, but torch finds {there} CUDA devices here; take another, or cpu")
    return device


@contextmanager
def _evaluating(model: nn.Module, device: str | torch.device | None) -> Iterator[torch.device]:
    """The model in eval mode on a device, and back as it was; yields the device."""
    modes = {module: module.training for module in model.modules()}
    homes = {value.device for value in (*model.parameters(), *model.buffers())}
    home = next(iter(homes), torch.device("cpu"))
    place = home if device is None else _device(device)
    if device is not None and len(homes) > 1:
        raise ValueError(
            f"the model lies on several devices ({', '.join(sorted(map(str, homes)))}), and would be moved to {place}; "
            "leave device out to run it as it is"
        )
    model.eval()
    try:
        if place != home:
            model.to(place)
        yield place
    finally:
        if place != home:
            model.to(home)
        for module, mode in modes.items():
            module.training = mode
