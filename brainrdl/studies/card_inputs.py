"""What a card is made of, from names and files: a network's features, measured RDMs, categories, controls."""

import os
from dataclasses import dataclass
from typing import final

import torch
import xarray as xr
from PIL import Image
from torch import Tensor

from brainrdl.arguments import name_some
from brainrdl.data.objects92 import CATEGORIES, IDS, load_objects92, load_objects92_images
from brainrdl.features import capture
from brainrdl.named_models import NamedModel, load_named_model
from brainrdl.rdms.labelled import select_stimuli
from brainrdl.stimuli import StimulusSet
from brainrdl.studies.brain.inputs import check_distinct
from brainrdl.studies.brain.sources import OBJECTS92, of_region, read_categories, read_measured

_CONTROLS92 = ("animacy", "FaceBodyManmadeNatobj", "HMAX", "V1", "Silhouette")
_BATCH = 32


@final
@dataclass(frozen=True)
class CardRequest:
    """What a card is asked of, as the command line names it.

    Attributes
    ----------
    model : str
        As `load_named_model`.
    layers : tuple of str
        Named modules, see `list_layers`.
    stimuli : str or path
        A folder of images (an id is a path without the suffix), or ``objects92``.
    rdms : str or path
        A file of measured RDMs, or ``objects92:SET`` with a set of `load_objects92`.
    categories : path, optional
        A CSV file with the columns ``stimulus`` and ``category``; those of the 92 images are known.
    controls : str or path, optional
        A file of RDMs, or ``objects92:SET``; for the 92 images by default animacy, four categories, HMAX, V1 and
        silhouette.
    roi : str, optional
        Which region, where `rdms` holds several.
    weights : str or path, optional
        As `load_named_model`.
    data_dir : path, optional
        Where the 92 images are.
    device : str
        Where the network runs.
    """

    model: str
    layers: tuple[str, ...]
    stimuli: str | os.PathLike[str]
    rdms: str | os.PathLike[str]
    categories: str | os.PathLike[str] | None = None
    controls: str | os.PathLike[str] | None = None
    roi: str | None = None
    weights: str | os.PathLike[str] | None = None
    data_dir: str | os.PathLike[str] | None = None
    device: str = "cpu"


@final
@dataclass(frozen=True, eq=False)
class CardInputs:
    """What `make_card` takes.

    Attributes
    ----------
    features : dict of Tensor (n, C, ...)
        By layer.
    ids : tuple of str
        The stimuli.
    subjects : DataArray (rdm, stimulus, stimulus_)
        Measured RDMs of one region.
    categories : dict of str, or None
        By stimulus.
    controls : DataArray (rdm, stimulus, stimulus_) or None
    notes : tuple of str
        What a reader has to know.
    """

    features: dict[str, Tensor]
    ids: tuple[str, ...]
    subjects: xr.DataArray
    categories: dict[str, str] | None
    controls: xr.DataArray | None
    notes: tuple[str, ...] = ()


def read_inputs(request: CardRequest) -> CardInputs:
    """Read and compute what a card is made of.

    Parameters
    ----------
    request : CardRequest
        What is asked for.

    Returns
    -------
    CardInputs
        Of the stimuli that have measured RDMs; images without are named in the notes.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, NotADirectoryError
        If a file is missing or of another form, two stimuli are one image, measured stimuli have no image, category or
        control, there are several regions and none is chosen, or as `load_named_model` and `capture`.
    """
    subjects = of_region(read_measured(request.rdms, request.data_dir), request.roi, request.rdms)
    named = load_named_model(request.model, request.weights)
    images = _images(request, named)
    ids = tuple(str(stimulus) for stimulus in subjects["stimulus"].values)
    if lacking := [stimulus for stimulus in ids if stimulus not in set(images.ids)]:
        raise ValueError(
            f"{request.stimuli} has no image of {len(lacking)} of {len(ids)} measured stimuli: {name_some(lacking)}; "
            "an image's id is its path without the suffix"
        )
    extra = sorted(set(images.ids) - set(ids))
    notes = (
        [f"Not used, since nothing was measured of them: {len(extra)} images ({name_some(extra)})."] if extra else []
    )
    notes += [f"The network: {request.model}, weights: {named.weights}."]
    controls = _controls(request)
    if controls is not None:
        there = set(controls["stimulus"].values.tolist())
        if lacking := [stimulus for stimulus in ids if stimulus not in there]:
            raise ValueError(
                f"the controls lack {len(lacking)} of {len(ids)} measured stimuli: {name_some(lacking)}; give RDMs of "
                "the same stimuli"
            )
        controls = select_stimuli(controls, ids)
    categories = dict(zip(IDS, CATEGORIES, strict=True)) if str(request.stimuli) == OBJECTS92 else None
    if request.categories is not None:
        categories = read_categories(request.categories, ids)
    check_distinct(images.select(ids), "leave one out of the images and the RDMs")
    features = _features(named, images.select(ids), request)
    return CardInputs(features, ids, subjects, categories, controls, tuple(notes))


def _images(request: CardRequest, named: NamedModel) -> StimulusSet:
    if str(request.stimuli) != OBJECTS92:
        return StimulusSet.from_folder(request.stimuli, named.transform)
    raw = load_objects92_images(request.data_dir)
    if named.transform is None:
        return StimulusSet.from_arrays(torch.stack([raw[k][0] for k in range(len(raw))]).float() / 255, IDS)
    pictures = [Image.fromarray(raw[k][0].permute(1, 2, 0).contiguous().numpy()) for k in range(len(raw))]
    return StimulusSet.from_arrays(torch.stack([named.transform(picture) for picture in pictures]), IDS)


def _features(named: NamedModel, images: StimulusSet, request: CardRequest) -> dict[str, Tensor]:
    """Features of all images, each layer in its own shape, in eval mode."""
    model = named.model.eval().to(request.device)
    parts: dict[str, list[Tensor]] = {layer: [] for layer in request.layers}
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            batch, _ = images.batch(range(start, min(start + _BATCH, len(images))))
            try:
                _, features = capture(model, request.layers, batch.to(request.device), flatten=False)
            except RuntimeError as error:
                raise ValueError(
                    f"{request.model} cannot be run on images of shape {tuple(batch.shape[1:])}: {error}; if they are "
                    "of the wrong size, let package.module:factory return the network and its transform"
                ) from error
            for layer, values in features.items():
                parts[layer].append(values.cpu())
    return {layer: torch.cat(values) for layer, values in parts.items()}


def _controls(request: CardRequest) -> xr.DataArray | None:
    if request.controls is not None:
        return read_measured(request.controls, request.data_dir)
    if str(request.stimuli) != OBJECTS92:
        return None
    models = load_objects92("models", request.data_dir)
    return models.isel(rdm=[models["rdm"].values.tolist().index(name) for name in _CONTROLS92])
