"""Labelled RDMs: give RDMs their labels, and select stimuli. Their layout is that of `brainrdl.rdms.layout`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from brainrdl.arguments import is_tensor
from brainrdl.ids import check_ids, find_ids
from brainrdl.rdms.axes import check_axis, check_rdm_axes
from brainrdl.rdms.layout import DIMS, check_declared_metric, check_measured, check_rdms, check_stimuli, real_numbers
from brainrdl.rdms.plausible import check_possible
from brainrdl.rdms.triangles import to_squares, upper_triangles

if TYPE_CHECKING:
    from torch import Tensor


def label_rdms(
    dissimilarities: "np.ndarray | Tensor",
    stimuli: Iterable[str],
    names: Iterable[str],
    metric: str,
    coords: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Give RDMs their labels, after checking that they are RDMs.

    Parameters
    ----------
    dissimilarities : ndarray or Tensor (rdms, n(n-1)/2) or (rdms, n, n)
        Condensed RDMs (row-major upper triangles as in SciPy) or square ones; NaN is an unmeasured pair.
    stimuli : sequence of str (n,)
        The id of each stimulus, in the order of the rows.
    names : sequence of str (rdms,)
        A unique label for each RDM: a layer, ``IT``, ``sub-01/IT``.
    metric : str
        ``mse`` (mean over units of squared differences), ``sqeuclidean`` (their sum), ``euclidean`` (the root
        of the sum), ``correlation`` (1 − Pearson r), ``cosine`` (1 − cosine), ``mahalanobis``, ``crossnobis``
        or ``undeclared``. Only ``crossnobis`` and ``undeclared`` may be negative.
    coords : mapping of str to sequence (rdms,) or scalar, optional
        Coordinates along ``rdm``, such as ``{"roi": ["EVC", "IT"], "subject": "sub-01"}``; a scalar holds for all RDMs.
        ``standard_error``, of either shape that `dissimilarities` may have, becomes a coordinate over all dimensions.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        float64, in memory of its own. Square RDMs come out exactly symmetric and with an exact zero on the diagonal:
        departures of up to 1e-6 of an RDM's largest value count as rounding, and the upper triangle is kept.

    Raises
    ------
    TypeError
        If the distances are not real numbers, ids or names are not strings, or a coordinate cannot be stored.
    ValueError
        If an RDM is not symmetric, not zero on the diagonal, infinite, negative, entirely NaN or beyond what its metric
        can be (a correlation distance above 2); for fewer than two stimuli, repeated labels, lengths that disagree or
        an unknown metric.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> rdms = rdl.label_rdms(
    ...     np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["IT"], "correlation", {"subject": "s1"}
    ... )
    >>> rdms.dims, rdms.sel(rdm="IT", stimulus="face", stimulus_="house").item()
    (('rdm', 'stimulus', 'stimulus_'), 1.3)
    """
    check_declared_metric(metric)
    ids = check_stimuli(stimuli, "stimuli")
    labels = check_ids(names, "names")
    values = _squares(dissimilarities, "dissimilarities", ids, labels)
    along: dict[str, tuple[Any, Any]] = {}
    for name, given in (coords or {}).items():
        if name in (*DIMS, "dissimilarity"):
            raise ValueError(f"coords holds {name!r}, which a labelled RDM has already; choose another name")
        if name == "standard_error":
            along[name] = (DIMS, _squares(given, name, ids, labels))
        else:
            along[name] = ("rdm", _along_rdm(given, name, labels))
    labelled = check_rdms(
        xr.DataArray(
            values,
            dims=DIMS,
            coords={"rdm": list(labels), "stimulus": list(ids), "stimulus_": list(ids), **along},
            name="dissimilarity",
            attrs={"metric": metric},
        )
    )
    check_possible(labelled)
    return labelled


def condense(rdms: xr.DataArray) -> np.ndarray:
    """Read the upper triangles of labelled RDMs.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs.

    Returns
    -------
    ndarray (rdms, n(n-1)/2)
        Row-major upper triangles, as SciPy, torch and rsatoolbox order them (nilearn's are lower triangles).

    Raises
    ------
    TypeError, ValueError
        If `rdms` is not labelled RDMs; see `check_rdms`.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> rdms = rdl.label_rdms(np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["IT"], "correlation")
    >>> rdl.rdms.condense(rdms)
    array([[0.2, 1.3, 1.1]])
    """
    return upper_triangles(check_rdms(rdms).values)


def select_stimuli(rdms: xr.DataArray, ids: Iterable[str]) -> xr.DataArray:
    """Take some of the stimuli, on both axes, in the order given.

    Parameters
    ----------
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs.
    ids : sequence of str
        Ids of the stimuli.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        Those RDMs, with all coordinates, standard errors and attributes.

    Raises
    ------
    TypeError, ValueError
        For unknown, repeated or fewer than two ids, an RDM without a measured pair of theirs, or no labelled RDMs.

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> rdms = rdl.label_rdms(np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["IT"], "correlation")
    >>> rdl.select_stimuli(rdms, ["house", "face"]).values
    array([[[0. , 1.3],
            [1.3, 0. ]]])
    """
    checked = check_rdms(rdms)
    chosen = check_stimuli(ids, "ids")
    positions = find_ids(chosen, checked["stimulus"].values.tolist(), "the RDMs")
    selected = checked.isel(stimulus=positions, stimulus_=positions)
    check_measured(selected.values, selected["rdm"].values.tolist())
    return selected


def _squares(given: Any, field: str, ids: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    if isinstance(given, xr.DataArray):
        raise TypeError(
            f"{field} is a DataArray, whose order may not be that of the stimuli given; select the stimuli "
            "by id and pass its .values"
        )
    check_rdm_axes(given, field, ids, labels)
    if is_tensor(given):
        given = given.detach().cpu()
        given = (given.double() if given.is_floating_point() else given).numpy()
    values = real_numbers(given, field)
    n, pairs = len(ids), len(ids) * (len(ids) - 1) // 2
    expected = f"(rdms, {pairs}) condensed or (rdms, {n}, {n}) square for {n} stimuli"
    is_table = hasattr(given, "index") and not isinstance(given, list | tuple)
    add_axis = f"; for a single RDM add the first axis: {f'[{field}]' if is_table else f'{field}[None]'}"
    if values.ndim not in (2, 3):
        raise ValueError(f"{field} has shape {values.shape}, expected {expected}{add_axis * (values.ndim == 1)}")
    is_one_square = values.ndim == 2 and values.shape[0] == values.shape[1]
    if values.shape[1:] not in ((pairs,), (n, n)):
        raise ValueError(f"{field} has shape {values.shape}, expected {expected}{add_axis * is_one_square}")
    if len(values) != len(labels):
        raise ValueError(
            f"{field} holds {len(values)} RDMs, but names holds {len(labels)}; expected one name each"
            f"{add_axis * is_one_square}"
        )
    return to_squares(values, n) if values.ndim == 2 else np.array(values)


def _along_rdm(given: Any, name: str, labels: Sequence[str]) -> np.ndarray:
    if isinstance(given, set | frozenset | Mapping):
        raise TypeError(f"coords[{name!r}] is a {type(given).__name__}; expected a scalar, or a list of one per RDM")
    if isinstance(given, list | tuple) and len({isinstance(value, str) for value in given}) > 1:
        raise TypeError(f"coords[{name!r}] mixes strings with other values, {given!r}; convert them to one type")
    values = np.asarray(given.detach().cpu() if is_tensor(given) else given)
    if values.ndim == 0:
        return np.full(len(labels), values)
    check_axis(given, f"coords[{name!r}]", labels)
    n_rdms = len(labels)
    if values.shape != (n_rdms,):
        raise ValueError(
            f"coords[{name!r}] has shape {values.shape}, expected ({n_rdms},): one per RDM, or a scalar for all"
        )
    return values
