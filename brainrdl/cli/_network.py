"""A named network's layers: their shapes, and their RDMs over a folder of images."""

import json
import os
from collections.abc import Iterable

import xarray as xr
from PIL import Image

from brainrdl.features.networks import with_weights
from brainrdl.features.recorder import layer_shapes
from brainrdl.named_models import load_named_model
from brainrdl.rdms.layers import MAX_MEMORY, layer_rdms
from brainrdl.stimuli.stimulus_set import StimulusSet
from brainrdl.terminal import one_line
from brainrdl.warned import warnings_given, with_warnings


def list_named_layers(
    name: str,
    stimuli: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    follow_links: bool = False,
) -> str:
    """Write out a named network's layers and their shapes: what ``brainrdl rdms network --list-layers`` prints.

    The first image in the folder `stimuli` is shown to it; needed where no transform makes one of its size.
    """
    named = load_named_model(name, weights, untrained=True)  # the command says so
    if stimuli is not None:
        image = StimulusSet.from_folder(stimuli, named.transform, follow_links=follow_links)[0][0]
    elif named.transform is not None:
        image = named.transform(Image.new("RGB", (256, 256)))
    else:
        raise ValueError(f"{name} does not say how large its images are; name a folder of stimuli, to show it one")
    shapes = layer_shapes(named.model, image[None])
    wide = max(map(len, shapes), default=0)
    lines = []
    for layer, shape in shapes.items():
        size = "cannot be asked for" if shape is None else " × ".join(map(str, shape)) or "1"
        lines.append(f"{layer:{wide}}  {size}")
    return "\n".join(map(one_line, lines))


def network_rdms(
    name: str,
    stimuli: str | os.PathLike[str],
    layers: Iterable[str],
    metric: str = "mse",
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str | None = None,
    max_memory: int = MAX_MEMORY,
    follow_links: bool = False,
) -> xr.DataArray:
    """Compute a named network's RDMs over a folder of images, as `layer_rdms`: what ``brainrdl rdms network`` does.

    `name` is their coordinate ``model``, with ``(random weights)`` where torchvision's are random; name, weights and
    preprocessing are in the provenance.
    """
    with warnings_given() as given:
        named = load_named_model(name, weights, untrained=True)  # the command says so
        images = StimulusSet.from_folder(stimuli, named.transform, follow_links=follow_links)
        rdms = layer_rdms(named.model, images, layers, metric, device=device, max_memory=max_memory)
    preprocessing = "floats in [0, 1]" if named.transform is None else " ".join(repr(named.transform).split())
    facts = {"name": name, "weights": named.weights, "preprocessing": preprocessing}
    provenance = json.dumps({**json.loads(rdms.attrs["provenance"]), **facts})
    model = with_weights(name, random=named.is_random)
    rdms = rdms.assign_coords(model=("rdm", [model] * rdms.sizes["rdm"])).assign_attrs(provenance=provenance)
    return with_warnings(rdms, given)
