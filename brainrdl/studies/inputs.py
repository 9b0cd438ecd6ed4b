"""Images, measured RDMs, categories and controls, read and joined by stimulus id, for fits and cards alike."""

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, final

import torch
import xarray as xr
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from brainrdl.arguments import name_some
from brainrdl.data.objects92 import CATEGORIES, IDS, RDMSet, load_objects92, load_objects92_images
from brainrdl.exchange.files import read_given
from brainrdl.exchange.parts import Given
from brainrdl.features.recorder import capture
from brainrdl.features.work import threads_for
from brainrdl.files.present import check_categories_file, check_measured
from brainrdl.ids import read_labels, spelling
from brainrdl.known import RANDOM_WEIGHTS
from brainrdl.named_models import NamedModel, load_named_model
from brainrdl.rdms.combine import concat_rdms
from brainrdl.rdms.distances import rdm
from brainrdl.rdms.labelled import label_rdms, select_stimuli
from brainrdl.stimuli.repeats import find_repeats
from brainrdl.stimuli.stimulus_set import StimulusSet
from brainrdl.threads import limited

OBJECTS92 = "objects92"
"""Name of the 92 object images; ``objects92:SET`` is a set of their RDMs, see `load_objects92`."""

COMPUTED_CONTROLS92 = ("pixels",)
"""Controls of the 92 object images that are not read from a file, but computed from the images."""

# the five of the method, in the order in which pages list them; what each is called in the file of model RDMs
_CONTROLS92 = {
    "pixels": None,
    "animacy": "animacy",
    "four_category": "FaceBodyManmadeNatobj",
    "silhouette": "Silhouette",
    "hmax": "HMAX",
}
_COLUMNS = ("stimulus", "category")
_BATCH = 32  # images that a network sees at a time

Folder = str | os.PathLike[str]


def read_images(
    stimuli: Folder,
    data_dir: Folder | None,
    transform: Callable[[Any], Tensor] | None,
    *,
    follow_links: bool = False,
) -> StimulusSet:
    """Read a folder's images, or the 92 object images, as a network's own transform makes them.

    Without a transform the 92 images stay as they are (uint8, 3 × 175 × 175), and a folder's become floats in 0 … 1.
    """
    if str(stimuli) != OBJECTS92:
        return StimulusSet.from_folder(stimuli, transform, follow_links=follow_links)
    # torchvision's transforms take pictures, and the file holds arrays
    images = load_objects92_images(data_dir)
    if transform is None:
        return images
    seen = [transform(to_pil_image(images[place][0])) for place in range(len(images))]
    return StimulusSet.from_arrays(torch.stack(seen), images.ids)


def as_floats(image: Tensor) -> Tensor:
    """Bring pixels of 0 … 255 to 0 … 1."""
    return image.float() / 255 if image.dtype == torch.uint8 else image


def check_distinct(stimuli: StimulusSet, remedy: str) -> None:
    """Refuse the same image under two ids, of which one would be fitted and the other scored."""
    for same, stimulus, *_ in find_repeats(map(stimuli.__getitem__, range(len(stimuli)))):
        raise ValueError(
            f"stimuli {same!r} and {stimulus!r} are the same image to the network: fitted to one, it would be "
            f"scored on the other; {remedy}"
        )


def read_measured(name: Folder, data_dir: Folder | None = None, given: Given | None = None) -> xr.DataArray:
    """Read RDMs from a file, or a set of RDMs of the 92 object images by name (``objects92:human``).

    `given` holds the words that a file lacks: ids, metric, subjects, the variable of a plain array.
    """
    given = Given() if given is None else given
    source, separator, which = str(name).partition(":")
    if separator and source == OBJECTS92:
        if said := [field.name for field in fields(Given) if getattr(given, field.name) is not None]:
            raise ValueError(f"{name} says of itself what {' and '.join(said)} would; leave {' and '.join(said)} out")
        known: RDMSet = which  # type: ignore[assignment] # load_objects92 refuses others, and lists those there are
        return load_objects92(known, data_dir)
    check_measured(name)
    return read_given(Path(name), given)


def of_region(rdms: xr.DataArray, roi: str | None, place: Folder) -> xr.DataArray:
    """Select the RDMs of one region; ValueError, which calls them `place`, if there are several and none is named."""
    rois = [str(name) for name in rdms["roi"].values.tolist()] if "roi" in rdms.coords else []
    there = ", ".join(dict.fromkeys(rois))
    if roi is None:
        if len(set(rois)) > 1:
            raise ValueError(f"{place} holds several regions, {there}; name one: roi=")
        return rdms
    if not rois:
        raise ValueError(f"{place} names no regions, and {roi!r} is asked for; leave roi out")
    if roi not in rois:
        raise ValueError(f"{place} has no region {roi!r}; it has {there}")
    return rdms.isel(rdm=[number for number, name in enumerate(rois) if name == roi])


def in_order(rdms: xr.DataArray, ids: tuple[str, ...], place: str) -> xr.DataArray:
    """Bring RDMs into the order of the stimuli; ValueError names those that only one side has."""
    there = rdms["stimulus"].values.tolist()
    without_row = [stimulus for stimulus in ids if stimulus not in set(there)]
    without_image = [stimulus for stimulus in there if stimulus not in set(ids)]
    if without_row or without_image:
        faults = [f"no row for {name_some(without_row)}"] if without_row else []
        faults += [f"no image for {name_some(without_image)}"] if without_image else []
        raise ValueError(
            f"{place} and the stimuli differ: {'; '.join(faults)}{spelling(without_row, without_image)}; "
            "nothing is left out unasked: take the same stimuli in both (brainrdl.select_stimuli)"
        )
    return select_stimuli(rdms, ids)


def read_categories(path: Folder | None, ids: Sequence[str], stimuli: Folder) -> dict[str, str] | None:
    """Read the category of each stimulus from a table (.csv) of ``stimulus,category``.

    Without a table those of the 92 object images are known, and of other stimuli there are none. In the order of `ids`.
    FileNotFoundError or ValueError if it is not such a table, lacks a stimulus or names one twice.
    """
    if path is None:
        return dict(zip(IDS, CATEGORIES, strict=True)) if str(stimuli) == OBJECTS92 else None
    path = Path(path)
    check_categories_file(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a table of stimulus,category: {error}") from error
    if not set(_COLUMNS) <= set(columns):
        raise ValueError(f"{path} has the columns {', '.join(columns) or 'none'}; expected stimulus and category")
    # line 1 holds the names of the columns
    category_of: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        stimulus, category = (row[column] for column in _COLUMNS)
        if not stimulus or not category:
            raise ValueError(f"{path}: line {number} lacks a stimulus or its category")
        if stimulus in category_of:
            raise ValueError(f"{path}: line {number} names {stimulus!r} a second time; keep one of them")
        category_of[stimulus] = category
    if lacking := [stimulus for stimulus in ids if stimulus not in category_of]:
        raise ValueError(
            f"{path} has no category for {len(lacking)} of {len(ids)} stimuli: {name_some(lacking)}"
            f"{spelling(lacking, category_of)}"
        )
    read_labels(category_of, str(path))  # which refuses one category in two spellings
    return {stimulus: category_of[stimulus] for stimulus in ids}


def controls92(data_dir: Folder | None) -> xr.DataArray:
    """Read and compute the five control RDMs of the 92 images: pixels, animacy, four categories, silhouette, HMAX."""
    models = load_objects92("models", data_dir)
    labels = models["rdm"].values.tolist()
    images = load_objects92_images(data_dir)
    pixels = torch.stack([images[place][0] for place in range(len(images))]).double().flatten(1)
    computed = label_rdms(rdm(pixels, "correlation").numpy()[None], images.ids, ["pixels"], "undeclared")
    return concat_rdms(
        [
            computed if label is None else single(models.isel(rdm=[labels.index(label)]), name, label)
            for name, label in _CONTROLS92.items()
        ]
    )


def single(rdms: xr.DataArray, name: str, place: str) -> xr.DataArray:
    """Rename a single RDM, its metric left behind: beside others it is not comparable in units."""
    if rdms.sizes["rdm"] != 1:
        raise ValueError(f"{place} holds {rdms.sizes['rdm']} RDMs, expected one: the control {name!r}")
    return label_rdms(rdms.values, rdms["stimulus"].values.tolist(), [name], "undeclared")


@final
@dataclass(frozen=True)
class CardRequest:
    """The request of a card, by names and files.

    Attributes
    ----------
    model : str
        Network, as `load_named_model` takes it.
    layers : tuple of str
        Named modules, see `list_layers`.
    stimuli : str or path
        Folder of images (an id is a path without the suffix), or ``objects92``.
    rdms : str or path
        File of measured RDMs, or ``objects92:SET`` with a set of `load_objects92`.
    categories : path, optional
        CSV file with the columns ``stimulus`` and ``category``; those of the 92 images are known.
    controls : str or path, optional
        File of RDMs, or ``objects92:SET``; for the 92 images by default pixels, animacy, four categories, silhouette
        and HMAX.
    roi : str, optional
        Region, where `rdms` holds several.
    weights : str or path, optional
        Weights, as `load_named_model` takes them.
    data_dir : path, optional
        Folder of the 92 images.
    device : str
        Device that the network runs on.
    follow_links : bool
        Permission to read what links lead to outside of the folder of images.
    given : Given, optional
        Words on what the file of measured RDMs does not say, see `brainrdl.exchange.parts.Given`.

    Examples
    --------
    >>> from brainrdl.studies import CardRequest
    >>> CardRequest("torchvision:resnet18", ("layer4",), "images", "brain.nc").device
    'cpu'
    """

    model: str
    layers: tuple[str, ...]
    stimuli: Folder
    rdms: Folder
    categories: Folder | None = None
    controls: Folder | None = None
    roi: str | None = None
    weights: Folder | None = None
    data_dir: Folder | None = None
    device: str = "cpu"
    follow_links: bool = False
    given: Given | None = None


@final
@dataclass(frozen=True, eq=False)
class CardInputs:
    """The inputs of `make_card`, as `read_inputs` returns them.

    Attributes
    ----------
    features : dict of Tensor (n, C, ...)
        Features by layer.
    ids : tuple of str
        Stimulus ids.
    subjects : DataArray (rdm, stimulus, stimulus_)
        Measured RDMs of one region.
    categories : dict of str, or None
        Categories by stimulus.
    controls : DataArray (rdm, stimulus, stimulus_) or None
        Control RDMs.
    notes : tuple of str
        Sentences that a reader needs.
    weights : str
        Words for titles and first lines where the weights are random: ``random weights``.

    Examples
    --------
    See `read_inputs`.
    """

    features: dict[str, Tensor]
    ids: tuple[str, ...]
    subjects: xr.DataArray
    categories: dict[str, str] | None
    controls: xr.DataArray | None
    notes: tuple[str, ...] = ()
    weights: str = ""


def read_inputs(request: CardRequest) -> CardInputs:
    """Read and compute the inputs of a card.

    Parameters
    ----------
    request : CardRequest
        Names of network, stimuli, RDMs and what else is asked for.

    Returns
    -------
    CardInputs
        Inputs of the stimuli that have measured RDMs; images without are named in the notes.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, NotADirectoryError
        If a file is missing or of another form, two stimuli are one image, measured stimuli have no image, category or
        control, there are several regions and none is chosen, or as `load_named_model` and `capture`.

    Examples
    --------
    >>> from brainrdl.studies import CardRequest, read_inputs
    >>> read_inputs(CardRequest("torchvision:resnet18", ("layer4",), "images", "brain.nc"))  # doctest: +SKIP
    """
    measured = read_measured(request.rdms, request.data_dir, request.given)
    subjects = of_region(measured, request.roi, request.rdms)
    named = load_named_model(request.model, request.weights)
    images = read_images(request.stimuli, request.data_dir, named.transform, follow_links=request.follow_links)
    ids = tuple(str(stimulus) for stimulus in subjects["stimulus"].values)
    if lacking := [stimulus for stimulus in ids if stimulus not in set(images.ids)]:
        raise ValueError(
            f"{request.stimuli} has no image of {len(lacking)} of {len(ids)} measured stimuli: {name_some(lacking)}"
            f"{spelling(lacking, images.ids)}; an image's id is its path without the suffix"
        )
    # of images there may be more than were shown; of measured stimuli every one needs its image
    extra = sorted(set(images.ids) - set(ids))
    notes = (
        [f"Not used, since nothing was measured of them: {len(extra)} images ({name_some(extra)})."] if extra else []
    )
    notes += [f"The network: {request.model}, weights: {'random' if named.is_random else named.weights}."]
    controls = _controls(request)
    if controls is not None:
        there = set(controls["stimulus"].values.tolist())
        if lacking := [stimulus for stimulus in ids if stimulus not in there]:
            raise ValueError(
                f"the controls lack {len(lacking)} of {len(ids)} measured stimuli: {name_some(lacking)}"
                f"{spelling(lacking, there)}; give RDMs of the same stimuli"
            )
        controls = select_stimuli(controls, ids)
    categories = read_categories(request.categories, ids, request.stimuli)
    check_distinct(images.select(ids), "leave one out of the images and the RDMs")
    features = _features(named, images.select(ids), request)
    weights = RANDOM_WEIGHTS if named.is_random else ""
    return CardInputs(features, ids, subjects, categories, controls, tuple(notes), weights)


def _features(named: NamedModel, images: StimulusSet, request: CardRequest) -> dict[str, Tensor]:
    """Features of all images, each layer in its own shape, in eval mode."""
    model = named.model.eval().to(request.device)
    parts: dict[str, list[Tensor]] = {layer: [] for layer in request.layers}
    with torch.no_grad(), limited(threads_for(model, len(images), request.device)):
        for start in range(0, len(images), _BATCH):
            batch, _ = images.batch(range(start, min(start + _BATCH, len(images))))
            try:
                _, features = capture(model, request.layers, as_floats(batch).to(request.device), flatten=False)
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
    return controls92(request.data_dir) if str(request.stimuli) == OBJECTS92 else None
