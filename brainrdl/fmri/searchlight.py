"""RDMs of the sphere around every voxel, or maps of their likeness to model RDMs.

Where distances are not defined, or are all alike and are to be correlated, there is NaN, and such spheres are counted
in a warning: 0 would be a finding.

Centres are computed in blocks: the patterns of all spheres of a block are gathered into one array, padded with zeros,
and their Gram matrices are one batched product. A block takes a bounded share of memory, whatever the brain's size.
"""

import warnings
from collections.abc import Iterator
from typing import Any, Literal

import nibabel
import numpy as np
import xarray as xr
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.stats import rankdata

from brainrdl.arguments import name_some
from brainrdl.fmri.distances import check_two_runs, over_runs
from brainrdl.fmri.images import Image, image_name, is_surface, open_image
from brainrdl.fmri.masks import Voxels, check_grid, mask_voxels
from brainrdl.ids import spelling
from brainrdl.progress import track
from brainrdl.rdms.labelled import condense, select_stimuli
from brainrdl.rdms.layout import DIMS, check_rdms
from brainrdl.rdms.patterns import Array, check_folds, run_means
from brainrdl.rdms.triangles import to_squares

SearchlightMetric = Literal["crossnobis", "correlation"]
_BLOCK_BYTES = 2 << 20  # of gathered patterns, per thread: what a cache holds
_MAX_RDM_BYTES = 2 << 30
_ROUNDING = 1e-13


def searchlight_rdms(
    patterns: xr.DataArray | xr.Dataset,
    mask: Image,
    *,
    radius: float = 9.0,
    metric: SearchlightMetric = "crossnobis",
    min_voxels: int = 2,
    n_jobs: int = 1,
) -> xr.DataArray:
    """Compute an RDM of the sphere around each voxel.

    Parameters
    ----------
    patterns : DataArray (observation, voxel) or Dataset
        With coordinates ``stimulus`` and ``run``, and ``voxel``, the position in the flattened volume, as
        `fit_patterns` returns. Its whole Dataset has the voxels divided by the SD of their residuals first
        (univariate noise normalisation).
    mask : path or image
        Mask of a volume, whose grid `patterns` have; centres are its voxels that have patterns.
    radius : float
        Radius of a sphere, in mm; voxels whose centres lie within it belong to it.
    metric : {"crossnobis", "correlation"}
        ``crossnobis`` over runs; ``correlation`` of the mean over runs, which is biased by noise (see `pattern_rdm`).
    min_voxels : int
        Spheres of fewer voxels are left out.
    n_jobs : int
        Threads.

    Returns
    -------
    DataArray (rdm, stimulus, stimulus_)
        An RDM per centre, labelled ``voxel-<position>``, with the coordinates ``voxel``, ``n_voxels`` and ``x``, ``y``,
        ``z`` (mm) along ``rdm``. Distances that are not defined (a correlation with a constant pattern) are NaN, and
        spheres without any are left out.

    Raises
    ------
    TypeError, ValueError
        If patterns or mask are malformed, no sphere is large enough, a stimulus lacks in a run (crossnobis), or the
        RDMs would take more than 2 GB (`searchlight_map` keeps only their comparison with models), or no sphere has a
        distance that is defined.

    Warns
    -----
    UserWarning
        With the number of spheres that lack some distances, and of those that lack all, where there are any.

    Examples
    --------
    >>> from brainrdl.fmri import make_patterns
    >>> mask = nibabel.Nifti1Image(np.ones((3, 3, 3), dtype=np.uint8), np.eye(4))
    >>> values = np.random.default_rng(0).normal(size=(6, 27))
    >>> patterns = make_patterns(values, list("abc") * 2, [1, 1, 1, 2, 2, 2], voxels=range(27))
    >>> searchlight_rdms(patterns, mask, radius=1.0)["n_voxels"].values[[0, 13]]
    array([4, 7])
    """
    spheres = _Spheres(patterns, mask, radius, metric, min_voxels)
    n = len(spheres.stimuli)
    size = 8 * n * n * len(spheres.centres)
    if size > _MAX_RDM_BYTES:
        raise ValueError(
            f"{len(spheres.centres)} RDMs of {n} stimuli would take {size / 1e9:.1f} GB; searchlight_map keeps only "
            "their comparison with model RDMs"
        )
    distances = np.concatenate(list(spheres.blocks(n_jobs)))
    missing = np.isnan(distances)
    # an RDM without any distance is none
    defined = ~missing.all(axis=1)
    _warn_of(~defined, spheres.centres, "no distance that is defined (constant patterns)", "left out")
    _warn_of(missing.any(axis=1) & defined, spheres.centres, "distances that are not defined", "NaN")
    distances, places, n_voxels = distances[defined], spheres.centres[defined], spheres.n_voxels[defined]
    ids = list(spheres.stimuli)
    # symmetric as made here, so that tens of thousands of RDMs need no check
    return xr.DataArray(
        to_squares(distances, n),
        dims=DIMS,
        coords={
            "rdm": [f"voxel-{place}" for place in places],
            "stimulus": ids,
            "stimulus_": ids,
            "voxel": ("rdm", places),
            "n_voxels": ("rdm", n_voxels),
            **{axis: ("rdm", values) for axis, values in zip("xyz", spheres.millimetres[defined].T, strict=True)},
        },
        name="dissimilarity",
        attrs={"metric": metric},
    )


def searchlight_map(
    patterns: xr.DataArray | xr.Dataset,
    mask: Image,
    models: xr.DataArray,
    *,
    radius: float = 9.0,
    metric: SearchlightMetric = "crossnobis",
    compare: Literal["corr", "cosine", "spearman"] | None = None,
    n_jobs: int = 1,
) -> dict[str, Any]:
    """Compare the RDM of the sphere around each voxel with model RDMs; memory does not grow with the brain.

    Parameters
    ----------
    patterns, mask, radius, metric, n_jobs
        Patterns, spheres, distance and processes, as in `searchlight_rdms`.
    models : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs of the same stimuli, without NaN.
    compare : {"corr", "cosine", "spearman"}, optional
        Comparison with the models; by default ``cosine`` for crossnobis, whose zero means something, ``corr`` for
        correlation.

    Returns
    -------
    dict of str to Nifti1Image
        A map of each model, by its label; NaN outside, and where a sphere's RDM cannot be compared.

    Raises
    ------
    TypeError, ValueError
        As `searchlight_rdms`; if the models have other stimuli, unmeasured pairs or no variance.

    Warns
    -----
    UserWarning
        With the number of spheres whose RDM cannot be compared, as a distance is not defined or they are all alike.

    Examples
    --------
    >>> from brainrdl.fmri import make_patterns
    >>> mask = nibabel.Nifti1Image(np.ones((3, 3, 3), dtype=np.uint8), np.eye(4))
    >>> values = np.random.default_rng(0).normal(size=(6, 27))
    >>> patterns = make_patterns(values, list("abc") * 2, [1, 1, 1, 2, 2, 2], voxels=range(27))
    >>> from brainrdl.rdms import label_rdms
    >>> model = label_rdms(np.array([[1.0, 2, 3]]), list("abc"), ["model"], "mse")
    >>> searchlight_map(patterns, mask, model, radius=1.0)["model"].shape
    (3, 3, 3)
    """
    spheres = _Spheres(patterns, mask, radius, metric, 2)
    compare = compare or ("cosine" if metric == "crossnobis" else "corr")
    if compare not in ("corr", "cosine", "spearman"):
        raise ValueError(f"unknown compare {compare!r}; known are corr, cosine, spearman")
    models = check_rdms(models)
    modelled, shown = set(models["stimulus"].values.tolist()), set(spheres.stimuli)
    if others := modelled ^ shown:
        raise ValueError(
            f"models and patterns have different stimuli: only one of them has {name_some(sorted(others))}"
            f"{spelling(sorted(modelled - shown), sorted(shown - modelled))}; take the common ones"
        )
    targets = condense(select_stimuli(models, spheres.stimuli))
    if np.isnan(targets).any():
        raise ValueError("a model RDM has unmeasured pairs (NaN), so it cannot be compared; leave such stimuli out")
    unit_targets = _unit(targets, compare)
    if np.isnan(unit_targets).any():
        raise ValueError("a model RDM has no variance, so it cannot be compared; leave it out")
    likeness = np.concatenate([_unit(block, compare) @ unit_targets.T for block in spheres.blocks(n_jobs)])
    _warn_of(np.isnan(likeness).any(axis=1), spheres.centres, "an RDM that cannot be compared", "NaN")
    opened = open_image(mask)
    maps = {}
    for label, values in zip(models["rdm"].values.tolist(), likeness.T, strict=True):
        volume = np.full(int(np.prod(opened.shape[:3])), np.nan, dtype=np.float32)
        volume[spheres.centres] = values
        maps[label] = nibabel.Nifti1Image(volume.reshape(opened.shape[:3]), opened.affine)
    return maps


class _Spheres:
    """Patterns, and the spheres to compute on."""

    def __init__(
        self, patterns: xr.DataArray | xr.Dataset, mask: Image, radius: float, metric: str, min_voxels: int
    ) -> None:
        if metric not in ("crossnobis", "correlation"):
            raise ValueError(f"unknown metric {metric!r}; a searchlight knows crossnobis, correlation")
        if not (np.isfinite(radius) and radius > 0):
            raise ValueError(f"radius is {radius}; expected millimetres, more than 0")
        if min_voxels < 1:
            raise ValueError(f"min_voxels is {min_voxels}; expected at least 1")
        scale: Array | None = None
        if isinstance(patterns, xr.Dataset):
            scale = np.sqrt(np.square(patterns["residuals"].values).sum(axis=0) / int(patterns["dof"].sum()))
            patterns = patterns["patterns"]
        means = run_means(patterns)
        if "voxel" not in patterns.coords:
            raise ValueError("the patterns have no coordinate 'voxel', the position in the flattened volume")
        if metric == "crossnobis":
            check_two_runs(means)
            check_folds(patterns, means)
            if not means.balanced:
                run, stimulus = np.argwhere(means.counts == 0)[0]
                raise ValueError(
                    f"stimulus {means.stimuli[stimulus]!r} is missing in run {means.runs[run]!r}; a searchlight takes "
                    "stimuli that every run has"
                )
            values = means.values
        else:
            values = over_runs(means)[None]
        # voxels first, so that a sphere's gather copies whole rows; a row of zeros stands for no voxel
        rows = np.moveaxis(values if scale is None else values / scale, 2, 0)
        self.rows: Array = np.concatenate([rows, np.zeros((1, *rows.shape[1:]))])
        self.metric = metric
        self.stimuli = means.stimuli
        opened = open_image(mask)
        if is_surface(opened):
            raise ValueError("the mask is of a surface; a searchlight takes volumes")
        places = _places(patterns, opened, mask)
        inside: Voxels = np.intersect1d(mask_voxels(mask, opened), places)
        if len(np.unique(places)) < len(places) or not inside.size:
            raise ValueError(
                f"the patterns' voxels do not lie in mask {image_name(mask)}, each once; fit them in this mask"
            )
        self._grid = _Grid(opened, places, radius)
        centres = self._grid.positions[np.isin(places, inside)]
        sizes = np.concatenate(
            [self._grid.rows_around(part)[1] for part in np.array_split(centres, len(centres) // 10_000 + 1)]
        )
        kept = sizes >= min_voxels
        if not kept.any():
            raise ValueError(f"no sphere of radius {radius:g} mm holds {min_voxels} voxels; choose a larger radius")
        self.n_voxels = sizes[kept]
        self.centres: Voxels = places[np.isin(places, inside)][kept]
        self._positions = centres[kept]
        self.millimetres: Array = nibabel.affines.apply_affine(
            opened.affine, np.stack(np.unravel_index(self.centres, opened.shape[:3]), axis=1)
        )

    def blocks(self, n_jobs: int) -> Iterator[Array]:
        """Yield distances (centres, pairs) of one block after the other."""
        per_centre = 8 * len(self._grid.offsets) * int(np.prod(self.rows.shape[1:]))
        size = max(1, int(_BLOCK_BYTES // per_centre))
        starts = range(0, len(self.centres), size)
        done = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
            delayed(self._block)(slice(start, start + size)) for start in starts
        )
        yield from track(done, "searchlight", total=len(starts))

    def _block(self, which: slice) -> Array:
        index, sizes = self._grid.rows_around(self._positions[which])
        X = np.take(self.rows, index, axis=0)  # (centres, voxels, runs, stimuli), zero where there is no voxel
        i, j = np.triu_indices(X.shape[3], 1)
        if self.metric == "correlation":
            X = X[:, :, 0]
            total = np.ones(X.shape[1]) @ X
            covariance = X.swapaxes(1, 2) @ X - total[:, :, None] * (total / sizes[:, None])[:, None, :]
            squares, variance = np.square(X).sum(axis=1), np.einsum("cii->ci", covariance)
            # what rounding leaves of a constant pattern is no variance
            length = np.sqrt(np.where(variance > _ROUNDING * squares, variance, np.nan))
            with np.errstate(invalid="ignore", divide="ignore"):
                r = covariance[:, i, j] / (length[:, i] * length[:, j])
            unlike: Array = np.clip(1 - r, 0.0, 2.0)
            # what rounding leaves of the distance of proportional patterns is none
            return np.where(unlike < _ROUNDING, 0.0, unlike)
        R = X.shape[2]
        total = X.sum(axis=2)
        flat = X.reshape(len(X), -1, X.shape[3])
        # Σ_{r≠s} b_rᵀb_s, as in crossnobis' closed form
        gram = total.swapaxes(1, 2) @ total - flat.swapaxes(1, 2) @ flat
        diagonal = np.einsum("cii->ci", gram)
        distances: Array = (diagonal[:, i] + diagonal[:, j] - 2 * gram[:, i, j]) / (R * (R - 1) * sizes[:, None])
        return distances


def _places(patterns: xr.DataArray, opened: Any, mask: Image) -> Voxels:
    """Positions of the patterns' voxels in the flattened volume, after checking that they lie on the mask's grid."""
    check_grid(patterns.attrs, mask)
    places: Voxels = patterns["voxel"].values
    size = int(np.prod(opened.shape[:3]))
    outside = [] if places.dtype.kind not in "iu" else places[(places < 0) | (places >= size)].tolist()
    if places.dtype.kind not in "iu" or outside:
        found = f"{outside[0]}" if outside else f"{places[0]!r}"
        raise ValueError(
            f"the coordinate 'voxel' holds {found}, which is no position in the flattened volume of mask "
            f"{image_name(mask)}: 0 to {size - 1}"
        )
    return places


class _Grid:
    """Lookup of the patterns around a voxel: the same displacements everywhere, in a padded volume."""

    def __init__(self, image: Any, places: Voxels, radius: float) -> None:
        shape = np.array(image.shape[:3])
        # voxels that a sphere can reach along each axis, however the axes are turned
        reach = np.minimum(np.floor(radius * np.linalg.norm(np.linalg.inv(image.affine[:3, :3]), axis=1) + 1e-6), shape)
        reach = reach.astype(np.int64)
        along = [np.arange(-steps_out, steps_out + 1) for steps_out in reach]
        steps = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1).reshape(-1, 3)
        near = np.linalg.norm(steps @ image.affine[:3, :3].T, axis=1) <= radius + 1e-6
        padded = tuple(shape + 2 * reach)
        strides = np.array([padded[1] * padded[2], padded[2], 1])
        self.offsets: Voxels = steps[near] @ strides
        index = np.stack(np.unravel_index(places, tuple(shape)), axis=1)
        self.positions: Voxels = (index + reach) @ strides
        self._nowhere = len(places)
        self._row_at = np.full(int(np.prod(padded)), self._nowhere)
        self._row_at[self.positions] = np.arange(len(places))

    def rows_around(self, positions: Voxels) -> tuple[Voxels, Voxels]:
        """Rows of the patterns (centres, offsets), the last row where there is none; and how many there are."""
        rows = self._row_at[positions[:, None] + self.offsets]
        return rows, (rows != self._nowhere).sum(axis=1)


def _warn_of(undefined: NDArray[np.bool_], centres: Voxels, what: str, so: str) -> None:
    """Warn of the number of spheres that lack something, and what becomes of them; ValueError where all do."""
    if undefined.all():
        raise ValueError(f"all {len(undefined)} spheres have {what}; look at the patterns")
    if undefined.any():
        warnings.warn(
            f"{undefined.sum()} of {len(undefined)} spheres have {what}, such as that around voxel "
            f"{centres[int(np.argmax(undefined))]}; they are {so}",
            UserWarning,
            stacklevel=3,
        )


def _unit(rdms: Array, compare: str) -> Array:
    """Rows whose inner products are the comparison; NaN where it is not defined."""
    spread = rdms if compare == "cosine" else rdms - rdms.mean(axis=1, keepdims=True)
    # what rounding leaves of distances that are all alike is no geometry
    alike = np.linalg.norm(spread, axis=1) <= _ROUNDING * np.linalg.norm(rdms, axis=1)
    if compare == "spearman":
        ranks = rankdata(rdms, axis=1)
        spread = ranks - ranks.mean(axis=1, keepdims=True)
    length = np.linalg.norm(spread, axis=1)
    defined = ~(alike | np.isnan(length))
    units: Array = np.full_like(spread, np.nan)
    units[defined] = spread[defined] / length[defined, None]
    return units
