"""The scores of a card: layers as they are, control RDMs, and cheap heads, in stratified splits."""

import json
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from brainrdl.arguments import did_you_mean, name_some, whole_number
from brainrdl.ids import check_ids, spelling
from brainrdl.inference.ceiling import subject_rdms
from brainrdl.inference.fold_scores import score_folds
from brainrdl.inference.held_out import Predicted
from brainrdl.inference.repeats import check_apart, same_features
from brainrdl.inference.reweighting.fit_heads import HeadSettings, fit_head
from brainrdl.inference.splits import Split, inner_splits, stratified_splits
from brainrdl.known import CARD_HEADS, HEADS, check_metric
from brainrdl.progress import track
from brainrdl.rdms.distances import rdm
from brainrdl.rdms.float64 import undefined
from brainrdl.rdms.labelled import condense, select_stimuli
from brainrdl.rdms.layout import check_rdms
from brainrdl.studies.reports.words import interval, number, span_of
from brainrdl.studies.scores import fit_mixture, predict, score_splits

MIXTURE = "mixture"
"""The non-negative mixture of the controls, fitted to the training stimuli."""


@final
@dataclass(frozen=True)
class CardOptions:
    """Settings of a card.

    Attributes
    ----------
    method : {"corr", "cosine"}
        Comparison of RDMs, in fits and scores.
    metric : str
        Distance between a layer's patterns, see `rdm`.
    heads : tuple of str
        Kinds of heads that are fitted, of `brainrdl.known.HEADS`.
    n_folds, n_inner : int
        Number of splits to score in, and of splits of their training stimuli to choose in.
    n_resamples : int
        Number of resamples of the bootstrap behind the intervals.
    seed : int
        Seed of the splits and the bootstrap.

    Raises
    ------
    TypeError, ValueError
        If a value is out of range, or a head or metric unknown.

    Examples
    --------
    >>> from brainrdl.studies import CardOptions
    >>> CardOptions(heads=("gain",))
    Traceback (most recent call last):
    ValueError: unknown head 'gain'; known are: frrsa, gains, low_rank, readout; did you mean 'gains'?
    """

    method: str = "corr"
    metric: str = "correlation"
    heads: tuple[str, ...] = CARD_HEADS
    n_folds: int = 5
    n_inner: int = 3
    n_resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("corr", "cosine"):
            raise ValueError(f"unknown method {self.method!r}; a card is made with corr or cosine")
        check_metric(self.metric)
        for head in self.heads:
            if head not in HEADS:
                raise ValueError(f"unknown head {head!r}; known are: {', '.join(HEADS)}{did_you_mean(head, HEADS)}")
        for name, least in (("n_folds", 2), ("n_inner", 2), ("n_resamples", 2), ("seed", 0)):
            object.__setattr__(self, name, whole_number(getattr(self, name), name, at_least=least))


@final
@dataclass(frozen=True, eq=False)
class Card:
    """A network's scores against measured RDMs, beside controls and heads.

    Attributes
    ----------
    scores : DataFrame
        Scores, a row per arm, fold and score: ``arm, scheme, split, fold, seed, layer, score, method, value,
        ceiling_lower, ceiling_upper, n_pairs``; `layer` is that of a head in this fold.
    summary : DataFrame
        Means, a row per arm and score, over folds: what `score_folds` gives.
    choices : DataFrame
        Settings that were tried for the heads in inner splits: ``split, arm, layer, setting, steps, inner_split,
        value, chosen``.
    dropped : dict of str
        Split → controls that are constant on its held-out pairs and so left out of its partial score.
    groups : dict of str
        Arm → ``layers``, ``controls`` or ``heads``.
    options : CardOptions
        Settings that it was made with.

    Examples
    --------
    See `make_card`.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    choices: pd.DataFrame
    dropped: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, str]
    options: CardOptions

    def __str__(self) -> str:
        """The summary as a table: a row per arm, a column per score, and the noise ceilings."""
        lines: dict[str, dict[str, str]] = {arm: {} for arm in (*self.groups, "noise ceiling")}
        for row in self.summary.to_dict("records"):
            low, high = row["low"], row["high"]
            lines[row["arm"]][row["score"]] = (
                "–" if np.isnan(row["value"]) else f"{number(row['value'], 3)} {interval(low, high, digits=3)}".strip()
            )
            lines["noise ceiling"][row["score"]] = (
                "none of a single subject"
                if np.isnan(row["ceiling_lower"])
                else span_of(row["ceiling_lower"], row["ceiling_upper"], 3)
            )
        return pd.DataFrame(lines).T.to_string()


def make_card(
    features: Mapping[str, Tensor],
    ids: Sequence[str],
    subjects: xr.DataArray,
    *,
    categories: Mapping[str, Hashable] | None = None,
    controls: xr.DataArray | None = None,
    options: CardOptions | None = None,
) -> Card:
    """Score a network's layers against measured RDMs on held-out stimuli, beside controls and cheap heads.

    Three scores, each with its own noise ceiling on the same pairs and subjects: raw, partial (given the controls) and
    within-category. Nothing is fitted but the heads and the mixture of the controls, each to the training stimuli of a
    split alone; what heads choose, they choose in inner splits of these.

    Parameters
    ----------
    features : dict of Tensor (n, C, ...)
        Layer → features of all `ids`, such as `capture` returns with ``flatten=False``.
    ids : sequence of str
        Stimulus ids, in the order of the features.
    subjects : DataArray (rdm, stimulus, stimulus_)
        Measured RDMs of these stimuli, of one region; without a coordinate ``subject``, each RDM is a subject's.
    categories : mapping of str, optional
        Stimulus id → category: folds are stratified by it, and without it there is no within-category score.
    controls : DataArray (rdm, stimulus, stimulus_), optional
        RDMs that are rivals, and that the partial score holds constant; without them there is none.
    options : CardOptions, optional
        Settings of the card, `CardOptions()` where none are given.

    Returns
    -------
    Card
        Scores, their means with intervals, and the hyperparameters selected for the heads.

    Raises
    ------
    TypeError, ValueError
        If RDMs, features and categories are not of the same stimuli, two stimuli on both sides of a split have the same
        features and heads are fitted, a control bears the name of another row, there is
        no layer, or as `fit_head` and `held_out_scores`.

    Examples
    --------
    >>> import numpy as np, torch, brainrdl as rdl
    >>> from brainrdl.studies import CardOptions, make_card
    >>> ids = [f"s{k:02}" for k in range(20)]
    >>> features = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    >>> brain = rdl.label_rdms(rdl.rdm(features, "correlation")[None], ids, ["IT"], "correlation")
    >>> card = make_card({"fc": features}, ids, brain, options=CardOptions(heads=(), n_folds=2, n_resamples=50))
    >>> card.summary[["arm", "score", "value"]].round(3)
            arm score  value
    0  layer fc   raw    1.0
    """
    options = options or CardOptions()
    known = check_ids(ids, "ids")
    people = _people(subjects, known)
    if not features:
        raise ValueError("features holds no layer; name at least one")
    # without categories all stimuli are of one, so that folds are dealt at random
    labels = dict.fromkeys(known, "all") if categories is None else dict(categories)
    if lacking := [stimulus for stimulus in known if stimulus not in labels]:
        raise ValueError(
            f"categories has none for {len(lacking)} of {len(known)} stimuli: {name_some(lacking)}"
            f"{spelling(lacking, labels)}"
        )
    labels = {stimulus: labels[stimulus] for stimulus in known}
    rivals = None if controls is None else _alike(controls, known, "the controls")
    # each head would make a copy of its own
    features = {layer: values.detach().cpu().double() for layer, values in features.items()}
    repeats = same_features(features, known) if options.heads else []
    fixed, groups = _as_they_are(features, known, rivals, options)
    predicted: dict[Split, list[Predicted]] = {}
    choices = []
    layer_of: dict[tuple[str, str], str] = {}
    splits = stratified_splits(labels, options.n_folds, seed=options.seed)
    for split in track(splits, "card", total=len(splits)):
        target = select_stimuli(people, split.training)
        predicted[split] = [fixed]
        if rivals is not None and rivals.sizes["rdm"] > 1:  # one control is its own mixture
            _, mixed = fit_mixture(rivals, target, method=options.method)
            predicted[split].append(predict(mixed[None], known, [MIXTURE], fitted_to=split.training))
        for kind in options.heads:
            check_apart(repeats, split.training, split.held_out, f"the head {kind!r}", f"split {split.name!r}")
        inner = inner_splits(split, labels, options.n_inner, seed=options.seed) if options.heads else []
        for kind in options.heads:
            settings = HeadSettings(compare=options.method, metric=options.metric)
            head = fit_head(kind, features, known, target, inner, settings=settings)
            rdm_of_head = np.asarray(head.rdm(features, known))[None]
            predicted[split].append(predict(rdm_of_head, known, [kind], fitted_to=head.fitted_to, metric=head.metric))
            choices.append(head.tries.assign(split=split.name, arm=kind))
            layer_of[split.name, kind] = head.layer
    folds, table = score_splits(predicted, people, categories=labels, controls=rivals, method=options.method)
    scored = score_folds(folds, n_resamples=options.n_resamples, seed=options.seed)
    # a head's layer is chosen in each split; a row of a layer is that layer in all of them
    groups |= {MIXTURE: "controls"} | dict.fromkeys(options.heads, "heads")
    table["layer"] = [
        layer_of.get((split, arm), arm.removeprefix("layer ") if groups[arm] == "layers" else "")
        for split, arm in zip(table["split"], table["arm"], strict=True)
    ]
    columns = ["arm", "scheme", "split", "fold", "seed", "layer", "score", "method", "value"]
    columns += ["ceiling_lower", "ceiling_upper", "n_pairs"]
    undefined = () if categories is not None else ("within_category",)  # of one category it is the raw one
    scores, summary = (_listed(rows[~rows["score"].isin(undefined)], groups) for rows in (table[columns], scored.table))
    tried = pd.concat(choices, ignore_index=True) if choices else pd.DataFrame()
    dropped = {fold.split.name: fold.dropped for fold in folds if fold.dropped}
    return Card(scores, summary, tried, dropped, {arm: groups[arm] for arm in dict.fromkeys(scores["arm"])}, options)


def _as_they_are(
    features: Mapping[str, Tensor], ids: tuple[str, ...], controls: xr.DataArray | None, options: CardOptions
) -> tuple[Predicted, dict[str, str]]:
    """Predict by layers and controls, to which nothing was fitted; also the group of each."""
    names = [f"layer {layer}" for layer in features]
    groups = dict.fromkeys(names, "layers")
    for layer, values in features.items():
        odd = [ids[k] for k in torch.nonzero(undefined(values.detach().flatten(1), options.metric)).flatten().tolist()]
        if odd:
            warnings.warn(
                f"layer {layer!r}: {options.metric} distances of {name_some(odd)} are not defined, as the patterns are "
                f"{'constant over units' if options.metric == 'correlation' else 'zero throughout'}; they count as 1",
                UserWarning,
                stacklevel=3,
            )
    # in float64, as RDMs from files are
    rows = [rdm(values.detach().cpu().double().flatten(1), options.metric).numpy() for values in features.values()]
    if controls is not None:
        rivals = [str(name) for name in controls["rdm"].values]
        if taken := [name for name in rivals if name in (*names, *options.heads, MIXTURE)]:
            raise ValueError(f"a control is called {taken[0]!r}, as another row of the card is; give it another name")
        names, rows = names + rivals, rows + list(condense(controls))
        groups |= dict.fromkeys(rivals, "controls")
    return predict(np.array(rows), ids, names), groups


def _people(subjects: xr.DataArray, ids: tuple[str, ...]) -> xr.DataArray:
    """Average each subject's RDMs, in the order of the ids."""
    rdms = check_rdms(subjects)
    if "subject" not in rdms.coords:
        rdms = rdms.assign_coords(subject=("rdm", [str(name) for name in rdms["rdm"].values]))
    return _alike(subject_rdms(rdms), ids, "the measured RDMs")


def _alike(rdms: xr.DataArray, ids: tuple[str, ...], what: str) -> xr.DataArray:
    """Select the RDMs of just these stimuli, in their order."""
    there = set(check_rdms(rdms)["stimulus"].values.tolist())
    for found, message in (
        ([stimulus for stimulus in ids if stimulus not in there], f"{what} lack {{}} of {len(ids)} stimuli: {{}}{{}}"),
        (
            sorted(there - set(ids)),
            f"{what} have {{}} stimuli that have no features: {{}}{{}}; select those of the card",
        ),
    ):
        if found:
            raise ValueError(message.format(len(found), name_some(found), spelling(found, there ^ set(ids))))
    return select_stimuli(rdms, ids)


def _listed(table: pd.DataFrame, groups: Mapping[str, str]) -> pd.DataFrame:
    """Sort rows: layers first, then controls, then heads."""
    order = ("layers", "controls", "heads")
    places = table["arm"].map(lambda arm: order.index(groups[arm]))
    return table.loc[places.sort_values(kind="stable").index].reset_index(drop=True)


def chosen_setting(line: Mapping[str, Any]) -> str:
    """Format what a head chose, a row of `Card.choices`, as ``strength 0.1, 20 steps``."""
    parts = [f"{name} {value}" for name, value in json.loads(line["setting"]).items()]
    return ", ".join([*parts, *([f"{line['steps']} steps"] if line["steps"] else [])])
