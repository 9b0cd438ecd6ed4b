"""A named network's layers: their shapes, and their RDMs over a folder of images."""

import json
import os
from collections.abc import Iterable

import torch
import xarray as xr
from PIL import Image

from brainrdl.features.networks import with_weights
from brainrdl.features.recorder import layer_shapes
from brainrdl.named_models import NamedModel, load_named_model
from brainrdl.rdms.layers import MAX_MEMORY, layer_rdms
from brainrdl.stimuli.stimulus_set import StimulusSet
from brainrdl.studies.inputs import as_floats, read_images
from brainrdl.terminal import one_line
from brainrdl.warned import warnings_given, with_warnings


def list_named_layers(
    name: str,
    stimuli: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    follow_links: bool = False,
) -> str:
    """Write out a named network's layers and their shapes: what ``brainrdl rdms network --list-layers`` prints.

    The first image of `stimuli` is shown to it, as `network_rdms` has them; needed where no transform makes one of its
    size.
    """
    named = load_named_model(name, weights, untrained=True)  # the command says so
    if stimuli is not None:
        image = _images(stimuli, data_dir, named, follow_links)[0][0]
    elif named.transform is not None:
        image = named.transform(Image.new("RGB", (256, 256)))
    else:
        raise ValueError(f"{name} does not say how large its images are; name stimuli=, to show it one")
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
    data_dir: str | os.PathLike[str] | None = None,
    follow_links: bool = False,
) -> xr.DataArray:
    """Compute a named network's RDMs over images, as `layer_rdms`: what ``brainrdl rdms network`` does.

    `stimuli` is a folder, or ``objects92`` for the 92 object images, below `data_dir`.

    `name` is their coordinate ``model``, with ``(random weights)`` where torchvision's are random; name, weights and
    preprocessing are in the provenance.
    """
    with warnings_given() as given:
        named = load_named_model(name, weights, untrained=True)  # the command says so
        images = _images(stimuli, data_dir, named, follow_links)
        rdms = layer_rdms(named.model, images, layers, metric, device=device, max_memory=max_memory)
    preprocessing = "floats in [0, 1]" if named.transform is None else " ".join(repr(named.transform).split())
    facts = {"name": name, "weights": named.weights, "preprocessing": preprocessing}
    provenance = json.dumps({**json.loads(rdms.attrs["provenance"]), **facts})
    model = with_weights(name, random=named.is_random)
    rdms = rdms.assign_coords(model=("rdm", [model] * rdms.sizes["rdm"])).assign_attrs(provenance=provenance)
    return with_warnings(rdms, given)


def _images(
    stimuli: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None, named: NamedModel, follow_links: bool
) -> StimulusSet:
    images = read_images(stimuli, data_dir, named.transform, follow_links=follow_links)
    if named.transform is not None or images[0][0].is_floating_point():
        return images
    # the 92 images as a folder's are without a transform
    return StimulusSet.from_arrays(
        torch.stack([as_floats(images[place][0]) for place in range(len(images))]), images.ids
    )
