"""The inputs of a study, read and joined by stimulus id: images, categories, measured RDMs, controls, task images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torchvision.transforms.v2.functional import resize, rgb_to_grayscale

from brainrdl.data.batches import Batches
from brainrdl.data.cifar import load_cifar
from brainrdl.data.digits import load_digits
from brainrdl.data.images import LabelledImages, to_float
from brainrdl.data.mnist import load_mnist
from brainrdl.data.objects92 import load_objects92
from brainrdl.data.transforms import flip_half
from brainrdl.exchange.listed import read_ids, read_subjects
from brainrdl.exchange.parts import Given
from brainrdl.inference.ceiling import subject_rdms
from brainrdl.named_models import load_named_model
from brainrdl.rdms.combine import concat_rdms
from brainrdl.rdms.labelled import condense, label_rdms
from brainrdl.stimuli.stimulus_set import StimulusSet
from brainrdl.studies.brain.configuration import Configuration, Measured
from brainrdl.studies.inputs import (
    COMPUTED_CONTROLS92,
    OBJECTS92,
    Folder,
    as_floats,
    controls92,
    in_order,
    of_region,
    read_categories,
    read_images,
    read_measured,
    single,
)

_THUMBNAIL = 32  # pixels
_CLASSES = {"cifar10": 10, "cifar100": 100}
_FEWEST = 2  # pairs that can be correlated


@dataclass(frozen=True, eq=False)
class TaskImages:
    """Images of the task: to train on, to see how the task fares while settings are chosen, and to report."""

    training: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    batches: Batches  # how they become batches


@dataclass(frozen=True, eq=False)
class Inputs:
    """All that a study reads, on the same stimuli in the same order."""

    images: StimulusSet  # as they are in their files
    stimuli: StimulusSet  # the same as the network sees them
    categories: dict[str, str]  # by stimulus id
    studies: dict[str, xr.DataArray]  # RDMs of a region by name of the study, one per subject (and session)
    early_visual: xr.DataArray | None  # those of an early visual region, for a control
    controls: xr.DataArray | None
    models: xr.DataArray | None  # further RDMs to be scored as they are
    thumbnails: np.ndarray  # (n, 32, 32, 3), uint8: the images, for figures
    task: TaskImages | None
    computed: tuple[str, ...] = ()  # controls that were not read, but computed from the images


def load_inputs(configuration: Configuration, data_dir: Folder | None = None) -> Inputs:
    """Read everything that a study names.

    Parameters
    ----------
    configuration : Configuration
        Configuration of the study, from `read_configuration`.
    data_dir : path, optional
        Folder with the data sets known by name; the environment variable BRAINRDL_DATA where it is not given.

    Returns
    -------
    Inputs
        Images (``stimuli``, as the network sees them), categories, measured and control RDMs, images of the task.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file does not have the stimuli of the others, or lacks a region, or as its reader says.

    Examples
    --------
    >>> from brainrdl.studies import load_inputs, read_configuration
    >>> load_inputs(read_configuration("examples/human_it.yaml")).stimuli.ids[0]  # doctest: +SKIP
    'human-body-01'
    """
    task = None if configuration.task is None else _task_images(configuration, data_dir)
    images = read_images(configuration.stimuli, data_dir, None, follow_links=configuration.follow_links)
    ids = images.ids
    studies = {name: _of_subjects(name, study, ids, data_dir) for name, study in configuration.studies.items()}
    controls, models = _controls(configuration, ids, data_dir)
    categories = read_categories(configuration.categories, ids, configuration.stimuli)
    if categories is None:  # the configuration asks for a table of stimuli that are not the 92
        raise ValueError("categories is missing: a table (.csv) of stimulus,category, which the splits follow")
    thumbnails = (_resized(images, _THUMBNAIL).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    early_visual = configuration.early_visual
    return Inputs(
        images=images,
        stimuli=_as_seen(images, configuration, task, data_dir),
        categories=categories,
        studies=studies,
        early_visual=None if early_visual is None else _measured(early_visual, ids, data_dir),
        controls=controls,
        models=models,
        thumbnails=thumbnails,
        task=task,
        computed=COMPUTED_CONTROLS92 if configuration.controls == OBJECTS92 else (),
    )


def _task_images(configuration: Configuration, data_dir: Folder | None) -> TaskImages:
    task = configuration.task
    if task is None:
        raise ValueError("the study has no task")
    if task.data == "digits":
        train, _, test = load_digits()
    elif task.data == "mnist":
        train, test = load_mnist(data_dir)
    else:
        train, test = load_cifar(_CLASSES[task.data], data_dir)
    # the last images are set aside, so that a limit leaves the validation images as they are
    n_train = min(len(train) - task.validation, task.limit or len(train))
    batch = max(task.batch_size, configuration.fit.task_batch)
    if n_train < batch:
        limited = "" if task.limit is None else f", and task.limit takes {task.limit} of the rest"
        raise ValueError(
            f"task.validation sets {task.validation} of {len(train)} images of {task.data} aside{limited}: fewer are "
            f"left to train on than a batch of {batch} (task.batch_size, fit.task_batch); change one of them"
        )
    training = train.take(range(n_train))
    validation = train.take(range(len(train) - task.validation, len(train)))
    augment = flip_half if task.data.startswith("cifar") else None
    batches = Batches(normalise=_normalisation(training), augment=augment, drop_last=True)
    return TaskImages(training, validation, test, batches)


def fetch_task_images(configuration: Configuration, data_dir: Folder | None = None) -> None:
    """Fetch the data set of a study's task where it is missing, as its loader does."""
    data = None if configuration.task is None else configuration.task.data
    if data == "mnist":
        load_mnist(data_dir, download=True)
    elif data in _CLASSES:
        load_cifar(_CLASSES[data], data_dir, download=True)


def _normalisation(training: LabelledImages) -> Callable[[Tensor], Tensor]:
    """Make each channel's mean over the training images 0, and its standard deviation 1."""
    top = training.top
    # 10,000 images are enough for a mean and a standard deviation, and few enough for memory
    sample = to_float(training.images[:10_000], top)
    mean, sd = (moment(sample, dim=(0, 2, 3), keepdim=True) for moment in (torch.mean, torch.std))

    def normalise(pixels: Tensor) -> Tensor:
        return (to_float(pixels, top) - mean.to(pixels.device)) / sd.to(pixels.device)

    return normalise


def _as_seen(
    images: StimulusSet, configuration: Configuration, task: TaskImages | None, data_dir: Folder | None
) -> StimulusSet:
    """Bring the images to the size, channels and normalisation in which the network sees them."""
    student = configuration.student
    if student.image_size is None:
        transform = load_named_model(student.model, student.weights, untrained=True).transform
        if transform is None:
            raise ValueError(
                f"{student.model} has no transform of its own; say how large its images are: student.image_size"
            )
        return read_images(configuration.stimuli, data_dir, transform, follow_links=configuration.follow_links)
    if task is None and load_named_model(student.model, student.weights, untrained=True).transform is not None:
        # resized alone, images would lack the normalisation that its weights were trained with
        raise ValueError(
            f"student.image_size is {student.image_size}, and {student.model} has a transform of its own, with a size "
            "and a normalisation; write image_size: null to use it, or name a function of yours that returns the "
            "network and the transform that you want"
        )
    batch = _resized(images, student.image_size)
    if task is not None:
        if task.training.images.shape[1] == 1:  # a network of grey images sees grey stimuli
            batch = rgb_to_grayscale(batch)
        # rounded as the task's images are, then normalised by the same function
        n, top = len(batch), task.training.top
        pixels, ids = (batch * top).round().to(torch.uint8), tuple(map(str, range(n)))
        shown = LabelledImages(pixels, torch.zeros(n, dtype=torch.int64), ids, ("stimulus",), top)
        batch = task.batches.tensor(shown)
    return StimulusSet.from_arrays(batch, images.ids)


def _resized(images: StimulusSet, size: int) -> Tensor:
    sized = [resize(as_floats(images[place][0])[None], [size, size], antialias=True) for place in range(len(images))]
    return torch.cat(sized)


def _measured(study: Measured, ids: tuple[str, ...], data_dir: Folder | None) -> xr.DataArray:
    given = Given(
        stimuli=read_ids(study.stimuli),
        metric=study.metric,
        order=study.order,
        variable=study.variable,
        subjects=read_subjects(study.subjects),
    )
    rdms = of_region(read_measured(study.rdms, data_dir, given), study.roi, study.rdms)
    return _by_subject(in_order(rdms, ids, study.rdms))


def _of_subjects(name: str, study: Measured, ids: tuple[str, ...], data_dir: Folder | None) -> xr.DataArray:
    """Read RDMs that can be scored: scores are means over subjects, of each of whom something varies."""
    rdms = _measured(study, ids, data_dir)
    try:
        people = subject_rdms(rdms)
    except (TypeError, ValueError) as error:
        raise ValueError(f"studies.{name}, {study.rdms}: {error}") from error
    for label, values in zip(people["subject"].values.tolist(), condense(people), strict=True):
        measured = values[~np.isnan(values)]
        if len(measured) < _FEWEST or measured.min() == measured.max():
            raise ValueError(
                f"studies.{name}, {study.rdms}: the {len(measured)} measured distances of subject {str(label)!r} do "
                "not vary, so that nothing can be compared with them; leave the subject out"
            )
    return rdms


def _by_subject(rdms: xr.DataArray) -> xr.DataArray:
    """Sort by subject and session: sums, and draws, must not depend on the order in a file."""
    labels = [rdms[name].values.astype(str).tolist() for name in ("subject", "session", "rdm") if name in rdms.coords]
    keys = list(zip(*labels, strict=True))
    return rdms.isel(rdm=sorted(range(len(keys)), key=keys.__getitem__)) if "subject" in rdms.coords else rdms


def _controls(
    configuration: Configuration, ids: tuple[str, ...], data_dir: Folder | None
) -> tuple[xr.DataArray | None, xr.DataArray | None]:
    """Read control RDMs, and further RDMs to be scored."""
    if isinstance(configuration.controls, dict):
        found = [
            single(in_order(read_measured(path, data_dir), ids, path), name, path)
            for name, path in configuration.controls.items()
        ]
        return (concat_rdms(found) if found else None), None
    primates = load_objects92("primates", data_dir).isel(rdm=[0])
    judged = load_objects92("judgements", data_dir).mean("rdm", keepdims=True)
    further = [single(primates, "monkey_it", "monkey IT"), label_rdms(judged.values, ids, ["behaviour"], "undeclared")]
    return controls92(data_dir), concat_rdms(further)
