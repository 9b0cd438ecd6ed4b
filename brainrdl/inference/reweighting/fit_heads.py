"""Heads fitted to measured RDMs of few stimuli, with everything chosen within the training stimuli."""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from typing import Any, final

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor, nn

from brainrdl.arguments import check_tensor, did_you_mean, name_some, whole_number
from brainrdl.ids import check_ids, find_ids
from brainrdl.inference.ceiling import subject_rdms
from brainrdl.inference.held_out import Prediction
from brainrdl.inference.repeats import check_apart, name_repeats, same_features
from brainrdl.inference.reweighting.choice import means_to_choose_by, score_head
from brainrdl.inference.reweighting.head_paths import Candidate, Problem, frrsa_path, gains_path, readout_path
from brainrdl.inference.splits import Split
from brainrdl.known import HEADS, check_metric
from brainrdl.rdms.combine import mean_of_measured, scale_for, to_scale
from brainrdl.rdms.differentiable import check_compare
from brainrdl.rdms.distances import rdm
from brainrdl.rdms.labelled import label_rdms, select_stimuli
from brainrdl.rdms.layout import check_rdms
from brainrdl.rdms.plausible import check_possible
from brainrdl.rdms.rounding import check_geometry
from brainrdl.rdms.triangles import upper_triangles
from brainrdl.threads import one_unless_said

_TRIED = {
    "frrsa": ("ridges", "standardize", "positions"),
    "gains": ("strengths", "steps"),
    "low_rank": ("ranks", "strengths", "steps"),
    "readout": ("strengths", "steps"),
}


@final
@dataclass(frozen=True)
class HeadSettings:
    """Settings to try in the inner splits, and the comparison to fit by.

    Attributes
    ----------
    ridges : tuple of float
        Strengths of the penalty of ``frrsa``, see `fit_frrsa`.
    standardize : tuple of bool
        Units of that penalty, see `fit_frrsa`.
    positions : tuple of str
        Treatment of positions by ``frrsa``, on layers with positions: ``shared`` gives one weight to all units of a
        channel, ``mean`` averages them before.
    strengths : tuple of float
        Strengths of the pull toward the task network, times the mean of (gain − 1)² over channels, or ``‖W − I‖²`` over
        the number of training stimuli for readouts; added to the loss, 1 − correlation.
    ranks : tuple of int
        Ranks of ``low_rank``.
    steps : tuple of int
        Numbers of steps after which to stop; 0 is the task network itself.
    learning_rate : float
        Learning rate of Adam: about how far a gain can move in one step.
    seed : int
        Seed of the factor that ``low_rank`` starts from.
    compare : {"corr", "cosine", "corr_cov", "cosine_cov", "soft-spearman"}
        Comparison to train with and to score by (Spearman's for ``soft-spearman``). ``frrsa`` is always fitted
        by least squares with an intercept, which its RDMs leave out.
    metric : str
        Distance between the head's patterns, see `rdm`. ``frrsa`` predicts by squared differences: for ``correlation``
        and ``cosine`` between patterns of unit length, as equal weights would have it.

    Raises
    ------
    TypeError, ValueError
        If nothing is left to try, values are out of range, or comparison or metric are unknown; ``mse``, since measured
        RDMs have no unit.

    Examples
    --------
    >>> from brainrdl.inference import HeadSettings
    >>> HeadSettings(strengths=(0.1,), steps=(0, 10)).strengths
    (0.1,)
    """

    ridges: tuple[float, ...] = (1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-3)
    standardize: tuple[bool, ...] = (True, False)
    positions: tuple[str, ...] = ("shared", "mean")
    strengths: tuple[float, ...] = (1.0, 0.1, 0.01, 0.0)
    ranks: tuple[int, ...] = (1, 4, 16)
    steps: tuple[int, ...] = (0, 5, 10, 20, 50, 100, 200)
    learning_rate: float = 0.02
    seed: int = 0
    compare: str = "corr"
    metric: str = "correlation"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, tuple):
                if isinstance(value, str) or not isinstance(value, Sequence):
                    raise TypeError(f"{field.name} is {value!r}; expected a list of what to try, such as [{value!r}]")
                if not value or len(set(value)) < len(value):
                    raise ValueError(f"{field.name} is {value!r}; expected at least one value to try, none twice")
                object.__setattr__(self, field.name, tuple(value))
        for name, least in (("ranks", 1), ("steps", 0)):
            object.__setattr__(self, name, tuple(whole_number(n, name, at_least=least) for n in getattr(self, name)))
        object.__setattr__(self, "seed", whole_number(self.seed, "seed"))
        _check_numbers("learning_rate", (self.learning_rate,), may_be_0=False)
        _check_numbers("ridges", self.ridges, may_be_0=False)
        _check_numbers("strengths", self.strengths, may_be_0=True)
        for where in self.positions:
            if where not in ("shared", "mean"):
                raise ValueError(f"positions holds {where!r}; known are: shared, mean")
        for how in self.standardize:
            if not isinstance(how, bool):
                raise TypeError(f"standardize holds {how!r}; expected True or False")
        check_metric(self.metric)
        check_compare(self.compare)
        if self.compare == "mse":
            raise ValueError("compare='mse' would fit the unit of measured RDMs, which have none; take corr or cosine")


@final
@dataclass(frozen=True, eq=False)
class FittedHead:
    """A head, the way it was chosen, and the stimuli that its fit has seen, as `fit_head` returns them.

    Attributes
    ----------
    kind : str
        One of `HEADS`.
    layer : str
        Name of the layer that the head is on.
    metric : str
        Distance of the head's RDMs: ``sqeuclidean`` for ``frrsa``, otherwise that of the fit.
    head : nn.Module
        Module that maps the layer's features, in their own shape, to the patterns of the RDM; ``Headed(model,
        fitted.layer, fitted.head)`` is the whole network.
    fitted_to : tuple of str
        All stimuli whose targets were used.
    setting : dict
        Setting that was chosen, ``steps`` among it unless there are none to take.
    tries : DataFrame
        A row for each layer × setting × steps × inner split: ``layer``, ``setting`` (JSON), ``steps`` (0 for
        ``frrsa``), ``inner_split``, ``value`` (mean similarity to the subjects on the inner held-out pairs; NaN
        where the head predicts a constant RDM, which counts as 0 in the choice), ``chosen``.
    """

    kind: str
    layer: str
    metric: str
    head: nn.Module
    fitted_to: tuple[str, ...]
    setting: dict[str, Any]
    tries: pd.DataFrame

    def rdm(self, features: Mapping[str, Tensor], ids: Sequence[str]) -> Tensor:
        """Predict the RDM of any stimuli.

        Parameters
        ----------
        features : dict of Tensor (n, ...)
            Features of these stimuli by layer; the head's own layer must be there.
        ids : sequence of str
            The stimuli, in the order of the features.

        Returns
        -------
        Tensor (n(n-1)/2,)
            Condensed, float64.

        Raises
        ------
        TypeError, ValueError
            If the layer is not there, or its features are not of these stimuli.
        """
        if self.layer not in features:
            raise ValueError(
                f"the head is on layer {self.layer!r}, of which there are no features; there are {list(features)}"
            )
        checked = _checked_features({self.layer: features[self.layer]}, check_ids(ids, "ids"))
        with torch.no_grad():
            return rdm(deepcopy(self.head).double()(checked[self.layer]), self.metric)

    def predicted(self, features: Mapping[str, Tensor], ids: Sequence[str], arm: str, seed: int) -> Prediction:
        """Predict the RDM of any stimuli, in the form in which it is scored: with the stimuli that the fit has seen.

        Parameters
        ----------
        features, ids
            Features and stimuli, as for `rdm`.
        arm : str
            Name of the arm.
        seed : int
            Seed of the network's training.

        Returns
        -------
        Prediction

        Raises
        ------
        TypeError, ValueError
            As `rdm`.
        """
        seed = whole_number(seed, "seed")
        distances = self.rdm(features, ids)[None]
        rdms = label_rdms(distances, ids, [f"{arm}/{seed}"], self.metric, {"arm": arm, "seed": seed})
        return Prediction(name_repeats(rdms, same_features(features, ids)), self.fitted_to)


def fit_head(
    kind: str,
    features: Mapping[str, Tensor],
    ids: Sequence[str],
    target: xr.DataArray,
    inner: Sequence[Split],
    *,
    settings: HeadSettings | None = None,
) -> FittedHead:
    """Fit a head on a frozen network's features to the RDMs of few stimuli.

    Layer, strength of the regularisation, rank and number of steps are chosen by what the heads score on the inner
    splits' held-out pairs; then the chosen one is fitted to all training stimuli. Only the target's stimuli are fitted
    to; the features of others, for which it will predict, may be among those given.

    Parameters
    ----------
    kind : {"frrsa", "gains", "low_rank", "readout"}
        Feature-reweighted RSA (`fit_frrsa`); non-negative gains per channel (`Gains`); the identity plus a linear map
        of the flattened features, of low rank or of any (`Readout`).
    features : dict of Tensor (n, C, ...)
        Features of all `ids` by layer, such as `capture` returns with ``flatten=False``.
    ids : sequence of str
        The stimuli, in the order of the features.
    target : DataArray (rdm, stimulus, stimulus_)
        RDMs of the training stimuli and no others, one or more for each subject: sessions are averaged where there
        is a coordinate ``subject``; otherwise each RDM counts as a subject. What is fitted is their mean, each z-scored
        before (for the cosines: divided by its root mean square; for ``soft-spearman``: ranked).
    inner : sequence of Split
        Splits of the training stimuli, as `inner_splits` makes them.
    settings : HeadSettings, optional
        Settings to try, with the comparison and the distance to fit by.

    Returns
    -------
    FittedHead

    Raises
    ------
    TypeError, ValueError
        For an unknown kind; features that are not those of the ids, or not finite; a target that is no labelled RDM or
        whose stimuli have no features; inner splits with stimuli outside the target.

    Examples
    --------
    >>> from brainrdl.inference import fit_head, inner_splits, stratified_splits
    >>> from brainrdl.rdms import label_rdms, rdm, select_stimuli
    >>> features = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    >>> labels = {f"image-{k:02}": "cat" if k % 2 else "dog" for k in range(30)}
    >>> hidden = rdm(features * torch.tensor([9.0, 1, 1, 1, 1, 1, 1, 1]), "correlation")
    >>> brain = label_rdms(hidden[None], list(labels), ["IT"], "correlation")
    >>> split = stratified_splits(labels)[0]
    >>> target = select_stimuli(brain, split.training)
    >>> fitted = fit_head("gains", {"conv": features}, list(labels), target, inner_splits(split, labels))
    >>> set(fitted.fitted_to) == set(split.training)
    True
    >>> fitted.head.gains.argmax().item()
    0
    """
    if kind not in HEADS:
        raise ValueError(f"unknown kind {kind!r}; known are: {', '.join(HEADS)}{did_you_mean(str(kind), HEADS)}")
    settings = settings or HeadSettings()
    compare, metric = settings.compare, settings.metric
    known = check_ids(ids, "ids")
    patterns = _checked_features(features, known)
    subjects = check_rdms(target)
    check_possible(subjects)
    if "subject" in subjects.coords:
        subjects = subject_rdms(subjects)
    # alphabetically, so that nothing depends on the order in which stimuli are given
    training = tuple(sorted(subjects["stimulus"].values.tolist()))
    rows = dict(zip(training, find_ids(training, known, "features"), strict=True))
    _check_inner(inner, training)
    # of all stimuli, as a copy of the training ones may be large
    groups = (sorted(set(group).intersection(training)) for group in same_features(patterns, known))
    repeats = sorted(group for group in groups if len(group) > 1)
    for split in inner:
        check_apart(repeats, split.training, split.held_out, f"the head {kind!r}", f"inner split {split.name!r}")

    def problem(layer: str, fit_to: Sequence[str], predict: Sequence[str]) -> Problem:
        fitted, predicted = (patterns[layer][[rows[stimulus] for stimulus in part]] for part in (fit_to, predict))
        return Problem(fitted, predicted, _mean_target(subjects, fit_to, compare), metric, compare)

    tries = []
    for layer in patterns:
        for split in inner:
            fit_to, predict = sorted(split.training), sorted(split.held_out)
            against = torch.from_numpy(upper_triangles(select_stimuli(subjects, predict).values))
            # thousands of small operations
            with torch.no_grad(), one_unless_said():
                for tried in _candidates(kind, problem(layer, fit_to, predict), settings):
                    value = score_head(tried.distances, against, compare)
                    tries.append((layer, json.dumps(tried.setting), tried.steps, split.name, value))
    table = pd.DataFrame(tries, columns=["layer", "setting", "steps", "inner_split", "value"])
    keys = ["layer", "setting", "steps"]
    means = means_to_choose_by(table, keys)
    # the first of equals: candidates come with the more cautious first
    layer, setting, steps = means.index[int(np.nanargmax(means.to_numpy()))]
    table["chosen"] = (table[keys] == [layer, setting, steps]).all(axis=1)
    chosen = _only(kind, settings, json.loads(setting), steps)
    with torch.no_grad(), one_unless_said():
        # fitted to all training stimuli; there is nothing to predict here
        *_, final = (head for head in _candidates(kind, problem(layer, training, ()), chosen) if head.steps == steps)
    how = final.setting if kind == "frrsa" else {**final.setting, "steps": final.steps}
    return FittedHead(kind, layer, final.metric, final.head(), training, how, table)


def _candidates(kind: str, problem: Problem, settings: HeadSettings) -> Iterator[Candidate]:
    """Fit everything that is to be tried, the more cautious first."""
    if kind == "frrsa":
        # a layer without positions has one way only
        positions = settings.positions if problem.training[0, 0].numel() > 1 else ("shared",)
        ways = [{"positions": where, "standardize": how} for where in positions for how in settings.standardize]
        yield from frrsa_path(problem, [(way, settings.ridges) for way in ways])
    elif kind == "gains":
        yield from gains_path(problem, settings.strengths, settings.steps, settings.learning_rate)
    else:
        for rank in settings.ranks if kind == "low_rank" else (None,):
            yield from readout_path(
                problem, rank, settings.strengths, settings.steps, settings.learning_rate, settings.seed
            )


def _only(kind: str, settings: HeadSettings, setting: dict[str, Any], steps: int) -> HeadSettings:
    """Make the settings that try one thing."""
    singular = {"ridges": "ridge", "strengths": "strength", "ranks": "rank"}
    single = {name: (setting[singular.get(name, name)],) for name in _TRIED[kind] if name != "steps"}
    return HeadSettings(**{**asdict(settings), **single, "steps": (steps,)})


def _mean_target(subjects: xr.DataArray, ids: Sequence[str], compare: str) -> Tensor:
    """Average the subjects' RDMs of some stimuli, on the scale of the comparison; nothing of other stimuli enters."""
    values = upper_triangles(select_stimuli(subjects, ids).values)
    check_geometry(values, subjects["rdm"].values.tolist(), compare, f"among {len(ids)} stimuli to fit to, targets")
    return torch.from_numpy(mean_of_measured(to_scale(values, scale_for(compare))[0]))


def _check_numbers(name: str, values: Sequence[object], *, may_be_0: bool) -> None:
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"{name} holds {value!r}; expected a number")
        if not (0 < value < np.inf or (may_be_0 and value == 0)):
            raise ValueError(f"{name} holds {value!r}; expected a finite number {'from' if may_be_0 else 'above'} 0")


def _checked_features(features: Mapping[str, Tensor], ids: Sequence[str]) -> dict[str, Tensor]:
    """Check features by layer; in float64 on the CPU, without gradient."""
    if not isinstance(features, Mapping):
        raise TypeError(f"features is a {type(features).__name__}, expected a dict of layer → features of all stimuli")
    if not features:
        raise ValueError("features holds no layer; capture(model, layers, images, flatten=False) makes them")
    checked = {}
    for layer, values in features.items():
        check_tensor(values, f"features[{layer!r}]")
        if values.ndim < 2 or len(values) != len(ids) or not values.numel():
            raise ValueError(
                f"features[{layer!r}] has shape {tuple(values.shape)}, expected ({len(ids)}, channels, …): a row for "
                "each of the ids"
            )
        checked[layer] = values.detach().cpu().double()
        # a sum takes a twelfth of the time of looking at each number; one that overflows decides nothing
        if not checked[layer].sum().isfinite():
            finite = checked[layer].flatten(1).isfinite().all(dim=1).tolist()
            if odd := [stimulus for stimulus, well in zip(ids, finite, strict=True) if not well]:
                raise ValueError(f"features[{layer!r}] are not finite for stimuli {name_some(odd)}")
    return checked


def _check_inner(inner: Sequence[Split], training: Sequence[str]) -> None:
    if not inner:
        raise ValueError("inner holds no split to choose by; inner_splits(split, labels) makes them")
    check_ids([split.name for split in inner], "the names of the inner splits")
    for split in inner:
        outside = sorted({*split.training, *split.held_out} - set(training))
        if outside:
            raise ValueError(
                f"inner split {split.name!r} has {len(outside)} stimuli that the target has not: {name_some(outside)}; "
                "split the training stimuli alone: inner_splits(split, labels)"
            )
