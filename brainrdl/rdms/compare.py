"""Labelled RDMs against labelled RDMs."""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from brainrdl.arguments import name_some
from brainrdl.ids import check_ids, find_ids, spelling
from brainrdl.rdms.axes import check_axis
from brainrdl.rdms.layout import check_rdms
from brainrdl.rdms.plausible import check_possible
from brainrdl.rdms.rounding import describe_lacking, lacking_geometry
from brainrdl.rdms.similarities import PARTIAL, Comparison, Options, check_method
from brainrdl.rdms.triangles import upper_triangles
from brainrdl.rdms.whitening import WHITENED

Join = Literal["exact", "intersect"]

_NUMBERS_AT_ONCE = 4_000_000


def compare_rdms(
    a: xr.DataArray,
    b: xr.DataArray,
    method: str = "corr",
    *,
    controls: xr.DataArray | None = None,
    partial: Literal["both", "a", "b"] = "both",
    sigma_k: np.ndarray | xr.DataArray | None = None,
    join: Join = "exact",
) -> xr.DataArray:
    """Compare each RDM of one array with each of another, joined on the stimulus ids.

    Two RDMs are compared on the pairs of stimuli that both (and all controls) have measured, which may differ.

    Parameters
    ----------
    a, b : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs of the same stimuli in any order.
    method : str
        ``cosine``; ``corr`` (Pearson); ``cosine_cov`` and ``corr_cov``, the same after whitening by the covariance of
        distances that share stimuli; ``spearman`` (tied distances share their rank); ``rho-a``, the mean of Spearman's
        correlation over random orders of tied distances; Kendall's ``tau-a`` and ``tau-b``, counted on the CPU;
        ``mse``, minus the mean squared difference, of RDMs of one metric. Larger is more alike in all of them.
    controls : DataArray (rdm, stimulus, stimulus_), optional
        RDMs to hold constant, for the cosines, ``corr``, ``corr_cov`` and ``spearman``: what the controls explain by
        least squares (of ranks for ``spearman``, of whitened RDMs for the whitened methods; with an intercept for all
        but the cosines) is taken out before comparing.
    partial : {"both", "a", "b"}
        Side that it is taken out of: both (partial correlation) or only one (semi-partial).
    sigma_k : ndarray or DataArray (n,) or (n, n), optional
        Variances or covariance of the pattern estimates over stimuli, up to a factor, for the whitened methods; joined
        by ids if a DataArray, in the order of `a` otherwise. Absent: independent errors of one size.
    join : {"exact", "intersect"}
        Whether `a`, `b` and `controls` must have the same stimuli, or are compared on those that all have.

    Returns
    -------
    DataArray (rdm_a, rdm_b)
        float64, named by the method (``neg_mse`` for ``mse``). Coordinates along ``rdm`` are kept, with ``_a`` or
        ``_b`` behind their names. ``attrs``: ``method``, ``metric_a``, ``metric_b``, ``n_stimuli`` compared, and the
        counts ``n_left_out_a`` and ``n_left_out_b``, 0 for an exact join. NaN, with a warning that names them, where
        one of several RDMs has nothing to compare: it does not vary (for the cosines: is zero) but for rounding, two
        share fewer than two measured pairs, or the controls explain all of it.

    Raises
    ------
    TypeError, ValueError
        If the stimuli differ (or fewer than three are shared); for an unknown method, for controls or `sigma_k` with a
        method that cannot take them, for ``mse`` between different metrics; if an array is not labelled RDMs; if no
        RDM of `a`, or none of `b`, has anything to compare.

    Notes
    -----
    Distances that are equal but for the rounding of their computation are tied in the rank correlations: those up to
    1e-12 of the larger one apart, or up to 2e-6 in an RDM that holds nothing but float32 numbers, unless distances as
    close as that are there by chance (`brainrdl.rdms.rounding` has the reasons). Whole numbers are exact.

    Every RDM counts for itself: sessions of a subject are not averaged. A score to stand beside `noise_ceiling` is the
    mean over `brainrdl.inference.subject_rdms` of the measured RDMs; `compare_models` does all of it.

    The work is done on torch's default device: ``with torch.device("cuda"): rdl.compare_rdms(a, b)``.

    References
    ----------
    Diedrichsen et al. (2020), arXiv:2007.02789 (whitened). Schütt et al. (2023), Statistical inference on
    representational geometries, eLife 12:e82566 (rho-a).

    Examples
    --------
    >>> import numpy as np, brainrdl as rdl
    >>> brain = rdl.label_rdms(np.array([[0.2, 1.3, 1.1]]), ["face", "body", "house"], ["IT"], "correlation")
    >>> model = rdl.label_rdms(np.array([[8.0, 9.0, 1.0]]), ["house", "face", "body"], ["fc"], "mse")
    >>> rdl.compare_rdms(model, brain, "spearman").to_series()
    rdm_a  rdm_b
    fc     IT       0.5
    Name: spearman, dtype: float64
    """
    check_method(method)
    if sigma_k is not None and method not in WHITENED:
        raise ValueError(f"sigma_k is for {' and '.join(WHITENED)}, not {method!r}; leave it out")
    if partial not in ("both", "a", "b"):
        raise ValueError(f"unknown partial {partial!r}; known are: both, a, b")
    if controls is None and partial != "both":
        raise ValueError(f"partial={partial!r} says what controls are taken out of, but there are no controls")
    if controls is not None and method not in PARTIAL:
        raise ValueError(f"controls are not defined for {method!r}; choose one of: {', '.join(PARTIAL)}")
    given = {"a": a, "b": b} | ({} if controls is None else {"controls": controls})
    joined = join_rdms(given, join=join)
    metrics = [str(joined.rdms[name].attrs["metric"]) for name in ("a", "b")]
    if method == "mse" and metrics[0] != metrics[1]:
        raise ValueError(
            f"mse between RDMs of different metrics ({metrics[0]!r} and {metrics[1]!r}) compares units, not geometry; "
            "use corr or cosine, which ignore the scale"
        )
    options = Options(
        method,
        covariance=None if sigma_k is None else _covariance(sigma_k, a, joined.ids),
        controls=None if controls is None else joined.on_device("controls"),
        projected=(partial != "b", partial != "a"),
    )
    against = Comparison(joined.on_device("b"), options)
    values = torch.cat([against(block) for block in joined.blocks("a")]).cpu().numpy()
    if np.isnan(values).any():
        _explain(values, joined, method, given_controls=controls is not None)
    return xr.DataArray(
        values,
        dims=("rdm_a", "rdm_b"),
        coords=_coords(joined.rdms["a"], "a") | _coords(joined.rdms["b"], "b"),
        name="neg_mse" if method == "mse" else method,
        attrs={
            "method": method,
            "metric_a": metrics[0],
            "metric_b": metrics[1],
            "n_stimuli": len(joined.ids),
            "n_left_out_a": joined.left_out["a"],
            "n_left_out_b": joined.left_out["b"],
        },
    )


class Joined(NamedTuple):
    """Arrays of labelled RDMs, the `ids` on which they are compared, and how many of each array's are `left_out`."""

    rdms: dict[str, xr.DataArray]
    ids: tuple[str, ...]
    left_out: dict[str, int]

    def by_name(self) -> "Joined":
        """The same with `ids` in alphabetical order, for draws that do not depend on the order of the stimuli."""
        return self._replace(ids=tuple(sorted(self.ids)))

    def condensed(self, name: str, rdms: slice = slice(None), out: np.ndarray | None = None) -> np.ndarray:
        """The upper triangles (rdms, pairs) of one of the arrays, or some of its RDMs, in the order of `ids`."""
        values = self.rdms[name].values[rdms]
        known = self.rdms[name]["stimulus"].values.tolist()
        if known == list(self.ids):
            return upper_triangles(values, out)
        rows = np.array(find_ids(self.ids, known, name))
        return upper_triangles(values[:, rows[:, None], rows], out)

    def on_device(self, name: str) -> Tensor:
        """`condensed` as a tensor on torch's default device."""
        return torch.from_numpy(self.condensed(name)).to(torch.get_default_device())

    def blocks(self, name: str) -> Iterator[Tensor]:
        """`on_device`, some RDMs at a time; each block is overwritten by the next."""
        n_rdms, n_pairs = self.rdms[name].sizes["rdm"], len(self.ids) * (len(self.ids) - 1) // 2
        at_once = min(n_rdms, max(1, _NUMBERS_AT_ONCE // n_pairs))
        # one buffer for all: memory that the system hands out anew costs more than what is written to it
        buffer = np.empty((at_once, n_pairs))
        for start in range(0, n_rdms, at_once):
            out = buffer[: min(at_once, n_rdms - start)]
            self.condensed(name, slice(start, start + at_once), out)
            yield torch.from_numpy(out).to(torch.get_default_device())


def join_rdms(rdms: Mapping[str, xr.DataArray], *, join: Join = "exact") -> Joined:
    """Find the stimuli on which arrays, by their names in an error, are compared, in the order of the first."""
    if join not in ("exact", "intersect"):
        raise ValueError(f"unknown join {join!r}; known are: exact, intersect")
    checked = {name: check_rdms(array) for name, array in rdms.items()}
    for array in checked.values():
        check_possible(array)
    stimuli_of = {name: array["stimulus"].values.tolist() for name, array in checked.items()}
    first = next(iter(stimuli_of))
    shared = set(stimuli_of[first]).intersection(*stimuli_of.values())
    ids = tuple(stimulus for stimulus in stimuli_of[first] if stimulus in shared)
    left_out = {name: len(stimuli) - len(ids) for name, stimuli in stimuli_of.items()}
    if join == "exact" and any(left_out.values()):
        alone = {name: [s for s in stimuli if s not in shared] for name, stimuli in stimuli_of.items()}
        faults = [f"{name} alone has {name_some(stimuli)}" for name, stimuli in alone.items() if stimuli]
        raise ValueError(
            f"the stimuli of {' and '.join(stimuli_of)} differ: {len(ids)} are shared, {'; '.join(faults)}"
            f"{_other_spelling(stimuli_of, shared)}; join='intersect', or select_stimuli first, leaves the others out"
        )
    if any(left_out.values()) and (hint := _other_spelling(stimuli_of, shared)):
        warnings.warn(
            f"{sum(left_out.values())} stimuli of {' and '.join(stimuli_of)} are left out, and may be the same{hint}",
            UserWarning,
            stacklevel=3,
        )
    if len(ids) < 3:
        raise ValueError(f"{' and '.join(stimuli_of)} share {len(ids)} stimuli; a comparison needs at least 3")
    return Joined(checked, ids, left_out)


def _explain(values: np.ndarray, joined: Joined, method: str, *, given_controls: bool) -> None:
    """Say which similarities (rdms_a, rdms_b) are NaN, and why: an error where it is all of them, else a warning."""
    names = [joined.rdms[side]["rdm"].values.tolist() for side in ("a", "b")]
    parts = []
    for axis, side in enumerate(("a", "b")):
        lacking = lacking_geometry(joined.condensed(side), names[axis], method)
        if lacking:
            parts.append(f"{side} holds {describe_lacking(lacking)}")
            values = np.delete(values, [names[axis].index(name) for name in lacking], axis=axis)
            names[axis] = [name for name in names[axis] if name not in lacking]
    undefined = np.argwhere(np.isnan(values))
    if len(undefined):
        k, m = undefined[0]
        why = "or what the controls leave of one is nothing" if given_controls else "or one does not vary on these"
        parts.append(
            f"in {len(undefined)} of {values.size} comparisons, {names[0][k]!r} with {names[1][m]!r} first, the RDMs "
            f"share fewer than 2 measured pairs, {why}"
        )
    message = f"nothing to compare by {method!r}: {'; '.join(parts)}"
    if np.isnan(values).all():
        raise ValueError(f"{message}; leave these out")
    warnings.warn(f"{message}; the similarities are NaN", UserWarning, stacklevel=3)


def _other_spelling(stimuli_of: Mapping[str, Sequence[str]], shared: Collection[str]) -> str:
    """The end of a message with a stimulus that one array, and in another spelling another, has."""
    alone = [[stimulus for stimulus in stimuli if stimulus not in shared] for stimuli in stimuli_of.values()]
    return next(filter(None, (spelling(mine, others) for mine, others in permutations(alone, 2))), "")


def _covariance(sigma_k: np.ndarray | xr.DataArray, a: xr.DataArray, ids: Sequence[str]) -> Tensor:
    if isinstance(sigma_k, xr.DataArray):
        missing = [str(dim) for dim in sigma_k.dims if dim not in sigma_k.coords]
        if set(sigma_k.dims) not in ({"stimulus"}, {"stimulus", "stimulus_"}) or missing:
            raise ValueError(
                f"sigma_k has dimensions {sigma_k.dims}{' without ids' * bool(missing)}, expected ('stimulus',) or "
                "('stimulus', 'stimulus_') with the ids as coordinates"
            )
        values = sigma_k.transpose(*sorted(str(dim) for dim in sigma_k.dims)).values
        axes = [check_ids(sigma_k[dim], f"coordinate {dim!r} of sigma_k") for dim in sorted(map(str, sigma_k.dims))]
    else:
        known = a["stimulus"].values.tolist()
        check_axis(sigma_k, "sigma_k", known, known)
        values = np.asarray(sigma_k)
        n = a.sizes["stimulus"]
        if values.shape not in ((n,), (n, n)):
            raise ValueError(
                f"sigma_k has shape {values.shape}, expected ({n},) variances or a ({n}, {n}) covariance, in the "
                "order of the stimuli of a"
            )
        axes = [known] * values.ndim
    chosen = values[np.ix_(*(find_ids(ids, axis, "sigma_k") for axis in axes))]
    return torch.from_numpy(chosen.astype(np.float64)).to(torch.get_default_device())


def _coords(rdms: xr.DataArray, side: str) -> dict[str, Any]:
    along = {str(name): coord.values for name, coord in rdms.coords.items() if coord.dims == ("rdm",)}
    return {f"{name}_{side}": (f"rdm_{side}", values) for name, values in along.items()}
