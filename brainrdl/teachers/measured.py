"""Measured RDMs as teachers: brains, behaviour, exported layers."""

from collections.abc import Sequence
from math import nan
from typing import Any, final

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from brainrdl.files.store import sha256
from brainrdl.identity import DIGEST
from brainrdl.rdms.combine import average_rdms, scale_for
from brainrdl.rdms.layout import check_rdms
from brainrdl.rdms.plausible import check_possible, check_varied
from brainrdl.teachers.base import RDMTeacher, rows_by_id


@final
class MeasuredTeacher(RDMTeacher):
    """Stored RDMs as a teacher: brain measurements, behaviour, a model's exported layers. Joined on stimulus ids.

    Parameters
    ----------
    rdms : DataArray ("rdm", "stimulus", "stimulus_")
        Labelled RDMs, see `label_rdms`. It answers by the ``roi`` coordinate where there is one, else by the ``rdm``
        labels, which averaging over subjects makes (see Notes). No loss counts an unmeasured pair (NaN).
    subjects : "mean", "draw" or str
        Subjects to teach, by the ``subject`` coordinate: ``"mean"`` teaches their average (sessions averaged within a
        subject first; each RDM z-scored before where the comparison is ``corr``, unit-normed where it is ``cosine``);
        ``"draw"`` one subject drawn for every update; an id that subject alone.
    weights : None, "standard_error" or DataArray
        Weights of the pairs: equal, ``1/SE²`` from the ``standard_error`` coordinate, or labelled RDMs of weights
        with the same labels and stimuli as what is taught.

    Raises
    ------
    TypeError
        If weights are neither None, ``"standard_error"`` nor labelled RDMs.
    ValueError
        For RDMs that `check_rdms` refuses, that are 0 for every pair or beyond what their metric can be; unknown
        subjects, several RDMs under one name without a ``subject`` coordinate, weights that are missing, negative or
        of other labels.

    Notes
    -----
    The names with a ``subject`` coordinate but no ``roi``: a single subject's RDMs answer by their ``rdm`` labels;
    subjects' averages by the other coordinates along ``rdm`` (``layer``, ``time``, …) joined with ``/``, or by
    ``mean`` where there is none (see `average_rdms`); ``subjects="draw"`` needs a ``roi``. ``names`` lists them.

    The comparison it asks for follows from the metric: ``cosine`` where zero distance means something
    (``crossnobis``, ``mse``, ``sqeuclidean``, ``euclidean``, ``mahalanobis``), ``corr`` for everything else
    (``correlation``, ``cosine``, ``undeclared``). `RDLTerm` has the table, the student's metric included.

    Examples
    --------
    >>> import brainrdl as rdl
    >>> rdms = rdl.label_rdms([[0.2, 1.3, 1.1]], ["cat", "dog", "cup"], ["IT"], "correlation")
    >>> teacher = rdl.MeasuredTeacher(rdms)
    >>> teacher(None, ["cup", "cat"])["IT"]
    tensor([1.3000], dtype=torch.float64)
    """

    def __init__(
        self, rdms: xr.DataArray, *, subjects: str = "mean", weights: str | xr.DataArray | None = None
    ) -> None:
        super().__init__()
        rdms = check_rdms(rdms)
        check_possible(rdms)
        check_varied(rdms)
        self._metric = str(rdms.attrs["metric"])
        self._stimuli = [str(stimulus) for stimulus in rdms["stimulus"].values]
        self._row = {stimulus: row for row, stimulus in enumerate(self._stimuli)}
        taught = _by_subject(rdms, subjects, self.compare)
        answer_by = "roi" if "roi" in taught.coords else "rdm"
        labels = [str(label) for label in taught[answer_by].values]
        self._names = tuple(dict.fromkeys(labels))
        self._choices = {name: [i for i, label in enumerate(labels) if label == name] for name in self._names}
        several = [name for name, rows in self._choices.items() if len(rows) > 1]
        if several and subjects != "draw":
            raise ValueError(
                f"{len(self._choices[several[0]])} RDMs are named {several[0]!r} and no subject coordinate tells them "
                "apart; add one, average them (average_rdms) or select one"
            )
        self._drawn = [str(subject) for subject in dict.fromkeys(taught["subject"].values)] if several else []
        self._subject_of = [str(s) for s in taught["subject"].values] if several else []
        for name, rows in self._choices.items():
            if several and sorted(self._subject_of[i] for i in rows) != sorted(self._drawn):
                raise ValueError(
                    f"{name!r} was not measured exactly once in every subject ({', '.join(self._drawn)}), so that no "
                    "subject can be drawn for all regions; average the sessions and drop incomplete subjects first"
                )
        # on these scales 0 is the mean or no rank at all
        self._has_zero = taught.attrs.get("normalize") not in ("zscore", "rank")
        self._now = 0
        self._square: Tensor
        self._weight: Tensor | None
        self.register_buffer("_square", torch.from_numpy(taught.values.copy()), persistent=False)
        weight = _pair_weights(taught, weights)
        self.register_buffer("_weight", None if weight is None else torch.from_numpy(weight), persistent=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The regions (``roi``) or RDM labels it answers by."""
        return self._names

    @property
    def metric(self) -> str:
        """The metric of the RDMs."""
        return self._metric

    def describe(self) -> dict[str, Any]:
        """Name what identifies the teacher: distances, weights and the names and stimuli they belong to."""
        described = super().describe()
        return {
            "name": described["name"],
            "metric": self.metric,
            "names": list(self._names),
            "subjects": self._drawn,
            "rows": [*self._choices.values(), self._subject_of],
            "stimuli": DIGEST + sha256("\0".join(self._stimuli).encode()),
            "distances": described["parameters"],
        }

    def draw(self, generator: torch.Generator) -> None:
        """Draw the subject of this update, where ``subjects="draw"``."""
        if self._drawn:
            self._now = int(torch.randint(len(self._drawn), (), generator=generator))

    def forward(self, images: Tensor | None, ids: Sequence[str] | None) -> dict[str, Tensor]:
        """Look up the distances of a batch by its ids; images are ignored.

        The same id twice has distance 0, but in z-scored or ranked RDMs, whose 0 is no distance, it is unmeasured.
        """
        return self._look_up(self._square, ids, same=0.0 if self._has_zero else nan)

    def weights(self, ids: Sequence[str] | None) -> dict[str, Tensor] | None:
        """The weights of a batch's pairs, None where they are equal."""
        return None if self._weight is None else self._look_up(self._weight, ids, same=0.0)

    def _look_up(self, squares: Tensor, ids: Sequence[str] | None, *, same: float) -> dict[str, Tensor]:
        found = rows_by_id(ids, self._row, teacher="MeasuredTeacher", what="RDM row")
        rows = torch.tensor(found, device=squares.device)
        i, j = torch.triu_indices(len(rows), len(rows), 1, device=squares.device)
        i, j = rows[i], rows[j]
        return {name: torch.where(i == j, same, squares[self._rdm_of(name), i, j]) for name in self._names}

    def _rdm_of(self, name: str) -> int:
        choices = self._choices[name]
        if not self._drawn:
            return choices[0]
        return next(i for i in choices if self._subject_of[i] == self._drawn[self._now])


def _by_subject(rdms: xr.DataArray, subjects: str, compare: str) -> xr.DataArray:
    if "subject" not in rdms.coords:
        if subjects != "mean":
            raise ValueError(
                f"subjects={subjects!r} needs a subject coordinate along rdm, and the RDMs have only: "
                f"{', '.join(sorted(str(c) for c in rdms.coords))}"
            )
        return rdms
    labels = rdms["subject"].values.astype(str)
    known = list(dict.fromkeys(labels.tolist()))
    if subjects == "draw" and len(known) > 1 and "roi" not in rdms.coords:
        raise ValueError(
            "subjects='draw' needs a roi coordinate along rdm, under which the subjects' RDMs share a name: "
            "rdms.assign_coords(roi=('rdm', [...]))"
        )
    normalize = scale_for(compare)
    if subjects == "mean":
        return average_rdms(rdms, over="subject", normalize=normalize)
    if subjects != "draw":
        if subjects not in known:
            raise ValueError(f"no subject {subjects!r}; the RDMs have: {', '.join(known)}, or take 'mean' or 'draw'")
        rdms = rdms.isel(rdm=np.flatnonzero(labels == subjects))
    if "session" in rdms.coords:  # else a subject measured more often would count more often
        rdms = average_rdms(rdms, over="session", normalize=normalize)
    return rdms


def _pair_weights(rdms: xr.DataArray, weights: str | xr.DataArray | None) -> np.ndarray | None:
    if weights is None:
        return None
    if isinstance(weights, xr.DataArray):
        for dim in rdms.dims:
            if weights.dims != rdms.dims or list(weights[dim].values) != list(rdms[dim].values):
                raise ValueError(
                    f"the weights' {dim} labels differ from those of what is taught; label and order them like it"
                )
        values = np.asarray(weights.values, dtype=float)
    elif not isinstance(weights, str):
        raise TypeError(
            f"weights is a {type(weights).__name__}; give None, 'standard_error' or labelled RDMs of weights: "
            "label_rdms(weights, stimuli, names, 'undeclared')"
        )
    elif weights == "standard_error":
        if "standard_error" not in rdms.coords:
            raise ValueError(
                "weights='standard_error' needs a standard_error coordinate, and the RDMs have none; "
                "give it to label_rdms in coords, or leave weights out"
            )
        error = np.asarray(rdms["standard_error"].values, dtype=float)
        zero = (error <= 0) & ~np.isnan(rdms.values) & ~np.eye(error.shape[-1], dtype=bool)
        if zero.any():
            r, i, j = (int(k) for k in np.argwhere(zero)[0])
            pair = (str(rdms["stimulus"].values[i]), str(rdms["stimulus"].values[j]))
            raise ValueError(
                f"the standard error of pair {pair} in {str(rdms['rdm'].values[r])!r} is {error[r, i, j]:g}; "
                "1/SE² needs it above 0"
            )
        with np.errstate(divide="ignore"):  # 1/0 of unmeasured pairs, whose weight is 0 in the end
            values = np.where(np.eye(error.shape[-1], dtype=bool), 0.0, 1 / error**2)
    else:
        raise ValueError(f"unknown weights {weights!r}; give None, 'standard_error' or labelled RDMs of weights")
    measured = ~np.isnan(rdms.values) & ~np.eye(values.shape[-1], dtype=bool)
    usable = np.isfinite(values) & (values >= 0) & (values == values.swapaxes(1, 2))
    if (measured & ~usable).any():
        raise ValueError("weights must be symmetric, finite and 0 or larger for every measured pair")
    return np.where(measured, values, 0.0)
