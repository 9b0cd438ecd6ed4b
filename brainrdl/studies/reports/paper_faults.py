"""Networks that came to nothing: at chance, or with layers in which all images look alike."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from brainrdl.studies.reports.paper_figures import FIXED_LAYERS, format_model
from brainrdl.studies.reports.paper_files import StudyFiles
from brainrdl.studies.reports.words import number


def faults(study: StudyFiles, networks: pd.DataFrame) -> list[str]:
    """Name the networks at chance, and those with constant RDMs.

    Parameters
    ----------
    study : StudyFiles
        The study.
    networks : DataFrame
        Its runs, as `distinct_networks` leaves them.

    Returns
    -------
    list of str
        A sentence each; empty where there are none.
    """
    told = []
    n_classes = len(study.manifest.get("classes", ()))
    guessing = at_chance(study.on_the_test_set(networks), n_classes, study.n_images)
    if guessing:
        told.append(
            f"At chance, that is at about the {number(100 * (1 - 1 / n_classes), 0)} % error of a guess among "
            f"{n_classes} classes: {', '.join(guessing)}. They count in every mean."
        )
    collapsed = constant_layers(study.rdms, study.mds)
    if collapsed:
        told.append(
            f"Collapsed, all images being equally far apart in a layer: {format_layers(collapsed)}. A constant RDM "
            "correlates with nothing, so the maps leave it out."
        )
    return told


def at_chance(networks: pd.DataFrame, n_classes: int, n_images: int) -> list[str]:
    """Find the networks that are no better than a guess.

    Parameters
    ----------
    networks : DataFrame
        ``row, test_error`` (percent).
    n_classes : int
        Of the test images, about equally many of each.
    n_images : int
        Test images.

    Returns
    -------
    list of str
        Rows of those that get right no more than 1/n_classes of the images and three binomial standard errors, or a
        quarter more than 1/n_classes, as a network may that always names the commonest class.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainrdl.studies.reports.paper_faults import at_chance
    >>> at_chance(pd.DataFrame({"row": ["a", "b"], "test_error": [88.65, 0.6]}), 10, 10_000)
    ['a']
    """
    if n_classes < 2:
        return []
    chance = 1 / n_classes
    most = max(chance + 3 * np.sqrt(chance * (1 - chance) / n_images), 1.25 * chance)
    right = 1 - networks["test_error"] / 100
    return [str(row) for row in networks.loc[right <= most, "row"]]


def constant_layers(rdms: xr.DataArray | None, distances: xr.DataArray | None) -> list[tuple[str, str]]:
    """Find the layers whose RDM is constant.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_) or None
        As in ``rdms.nc``.
    distances : DataArray (point, point_) or None
        As in ``mds.nc``, which lacks the layers whose RDM was constant for some sample of images.

    Returns
    -------
    list of (str, str)
        Name of the network and layer, in the order of `rdms`.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> from brainrdl.studies.reports.paper_faults import constant_layers
    >>> coords = {"model": "plain", "layer": ["pool1", "fc"]}
    >>> values = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    >>> constant_layers(rdl.label_rdms(values, ["a", "b", "c"], ["pool1", "fc"], "euclidean", coords), None)
    [('plain', 'fc')]
    """
    if rdms is None:
        return []
    here = _layers(rdms)
    squares = rdms.to_numpy()
    off = squares[:, ~np.eye(squares.shape[1], dtype=bool)]
    flat = np.ptp(off, axis=1) <= 1e-6 * np.abs(off).max(axis=1)
    mapped = here if distances is None else _layers(distances)
    return [
        pair
        for pair, constant in zip(here, flat, strict=True)
        if pair[1] not in FIXED_LAYERS and (constant or pair not in mapped)
    ]


def format_layers(layers: Sequence[tuple[str, str]]) -> str:
    """Name layers by network.

    Parameters
    ----------
    layers : sequence of (str, str)
        Name of the network and layer.

    Returns
    -------
    str

    Examples
    --------
    >>> from brainrdl.studies.reports.paper_faults import spell_layers
    >>> spell_layers([("plain", "fc"), ("rdl (clean)", "pool2"), ("rdl (clean)", "fc")])
    'plain (fc), RDL (clean) (pool2, fc)'
    """
    of_model: dict[str, list[str]] = {}
    for model, layer in layers:
        of_model.setdefault(format_model(model), []).append(layer)
    return ", ".join(f"{model} ({', '.join(names)})" for model, names in of_model.items())


def _layers(array: xr.DataArray) -> list[tuple[str, str]]:
    return [(str(m), str(layer)) for m, layer in zip(array["model"].values, array["layer"].values, strict=True)]
