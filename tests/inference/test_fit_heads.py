"""Heads fitted to few stimuli: paths against the heads they make, choices, leaks, and a planted truth."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import brainrdl as rdl
from brainrdl.data import load_digits
from brainrdl.inference import noise_ceiling
from brainrdl.inference.held_out import held_out_scores
from brainrdl.inference.reweighting import head_paths
from brainrdl.inference.reweighting.fit_heads import HeadSettings, fit_head
from brainrdl.inference.reweighting.frrsa import moments_of
from brainrdl.inference.reweighting.head_paths import (
    Problem,
    comparison_of,
    frrsa_path,
    gains_path,
    readout_path,
)
from brainrdl.inference.reweighting.heads import Headed
from brainrdl.inference.splits import Split, inner_splits, stratified_splits
from brainrdl.known import HEADS, METRICS
from brainrdl.rdms.differentiable import dissimilarity
from small_network import raises

IDS = [f"image-{k:02}" for k in range(30)]
LABELS = {stimulus: "abc"[k % 3] for k, stimulus in enumerate(IDS)}
SPLIT = stratified_splits(LABELS)[0]
INNER = inner_splits(SPLIT, LABELS)
QUICK = HeadSettings(ridges=(10.0, 0.1), strengths=(0.1, 0.0), ranks=(1, 2), steps=(0, 5, 40), learning_rate=0.05)


def features(seed=0, n=30):
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(n, 6, generator=generator)
    conv = base @ torch.randn(6, 40, generator=generator) + torch.randn(n, 40, generator=generator)
    fc = base @ torch.randn(6, 7, generator=generator) + torch.randn(n, 7, generator=generator)
    return {"conv": conv.relu().reshape(n, 10, 2, 2), "fc": fc}


def brain(seed=0, n_subjects=3, noise=0.3, ids=IDS):
    """Subjects who see the layer ``conv`` under hidden gains."""
    generator = torch.Generator().manual_seed(seed + 100)
    gains = torch.randn(10, generator=generator).exp()[:, None, None]
    distances = rdl.rdm(features()["conv"] * gains, "correlation").numpy()
    values = distances + noise * np.random.default_rng(seed).normal(size=(n_subjects, len(distances)))
    subjects = [f"sub-{k}" for k in range(n_subjects)]
    return rdl.label_rdms(values, ids, subjects, "undeclared", {"subject": subjects})


def target(**options):
    return rdl.select_stimuli(brain(**options), SPLIT.training)


def fit(kind, *, ids=IDS, values=None, rdms=None, inner=INNER, settings=QUICK, **options):
    values = features() if values is None else values
    settings = replace(settings, **options)
    return fit_head(kind, values, ids, target() if rdms is None else rdms, inner, settings=settings)


def paths(problem):
    yield from frrsa_path(problem, [({"positions": "shared", "standardize": True}, [0.1])])
    if problem.training.ndim > 2:
        yield from frrsa_path(problem, [({"positions": "mean", "standardize": False}, [0.1])])
    yield from gains_path(problem, [0.1, 0.0], [0, 10], 0.05)
    yield from readout_path(problem, None, [0.1, 0.0], [0, 10], 0.05)
    yield from readout_path(problem, 2, [0.1, 0.0], [0, 10], 0.05)


@pytest.mark.parametrize("compare", ["corr", "cosine", "corr_cov"])
@pytest.mark.parametrize("missing", [0, 40])
def test_settings_are_compared_at_once_as_one_by_one(compare, missing):
    rng = torch.Generator().manual_seed(0)
    rows, target = torch.rand(3, 190, generator=rng).double(), torch.rand(190, generator=rng).double()
    rows[1] = 0.3  # constant: nothing compares, and there is no gradient
    target[:missing] = torch.nan
    problem = Problem(torch.zeros(20, 2), torch.zeros(0, 2), target, "correlation", compare)
    at_once, singly = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    found = comparison_of(problem)(at_once)
    measured = ~target.isnan()
    weights, filled = measured.double(), target.nan_to_num()
    expected = torch.stack([dissimilarity(row, filled, compare, weights) for row in singly])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    (found.sum() + expected.sum()).backward()
    torch.testing.assert_close(at_once.grad, singly.grad, rtol=1e-9, atol=1e-14)


def test_ways_of_the_same_positions_share_what_is_made_of_the_features(monkeypatch):
    made = []
    monkeypatch.setattr(head_paths, "moments_of", lambda *given: made.append(1) or moments_of(*given))
    fit("frrsa", inner=INNER[:1])
    # conv shared and averaged, fc; then the chosen one on all training stimuli
    assert len(made) == 4


@pytest.mark.parametrize("layer", ["conv", "fc"])
@pytest.mark.parametrize("metric", METRICS)
def test_paths_predict_what_their_heads_do(metric, layer):
    values = features()[layer].double() + 0.5
    problem = Problem(
        values[:18], values[18:], torch.from_numpy(brain().values[0][np.triu_indices(18, 1)]), metric, "corr"
    )
    n_moved = 0
    for candidate in paths(problem):
        head = candidate.head().double()
        predicted = rdl.rdm(head(problem.predicted).detach(), candidate.metric)
        torch.testing.assert_close(candidate.distances, predicted, rtol=1e-4, atol=1e-5 * predicted.max().item())
        if "ridge" not in candidate.setting:
            before = rdl.rdm(problem.predicted, metric)
            unmoved = torch.allclose(candidate.distances, before, rtol=1e-6)
            assert unmoved == (candidate.steps == 0)
            n_moved += not unmoved
    assert n_moved >= 6


@pytest.mark.parametrize("metric", METRICS)
def test_a_readout_never_leaves_the_span_of_the_training_patterns(metric):
    """Gradient descent on all units × units entries of the map does what the same in the span does."""
    values = features()["conv"].double().flatten(1)[:8]
    wanted = torch.from_numpy(brain().values[0][np.triu_indices(8, 1)])
    span = values if metric != "correlation" else torch.cat((values, torch.ones_like(values[:1])))
    basis = torch.linalg.svd(span, full_matrices=False)[2].T

    def descend(basis):
        change = torch.zeros(basis.shape[1], basis.shape[1], dtype=torch.float64, requires_grad=True)
        for _ in range(5):
            mapped = values + values @ basis @ change @ basis.T
            loss = rdl.rdl_loss(mapped, wanted, metric=metric, compare="corr") + 0.01 * change.square().sum()
            (gradient,) = torch.autograd.grad(loss, change)
            change = (change - 0.5 * gradient).detach().requires_grad_()
        return (basis @ change @ basis.T).detach()

    everything = descend(torch.eye(40, dtype=torch.float64))
    assert everything.abs().max() > 1e-3
    torch.testing.assert_close(everything, descend(basis), rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("kind", HEADS)
def test_the_best_of_the_inner_splits_is_fitted_to_all_training_stimuli(kind):
    fitted = fit(kind)
    tries = fitted.tries
    assert tries.columns.tolist() == ["layer", "setting", "steps", "inner_split", "value", "chosen"]
    n_settings = {"frrsa": 2 * 2 * (2 + 1), "gains": 2 * 2 * 3, "low_rank": 2 * 4 * 3, "readout": 2 * 2 * 3}[kind]
    assert len(tries) == n_settings * len(INNER)
    means = tries.groupby(["layer", "setting", "steps"])["value"].mean()
    best = tries[tries["chosen"]]
    assert len(best) == len(INNER)
    assert best["value"].mean() == pytest.approx(means.max(), rel=1e-12)
    layer, setting, steps = best[["layer", "setting", "steps"]].iloc[0]
    assert (fitted.kind, fitted.layer) == (kind, layer)
    assert fitted.setting == json.loads(setting) | ({} if kind == "frrsa" else {"steps": steps})
    assert fitted.fitted_to == tuple(sorted(SPLIT.training))
    assert fitted.metric == ("sqeuclidean" if kind == "frrsa" else "correlation")
    # it knows its training stimuli better than the network itself does, or has been left as that is
    rows = [IDS.index(stimulus) for stimulus in SPLIT.training]
    assert score(fitted, SPLIT.training) - (1e-6 if fitted.setting.get("steps") else -1e-6) > pearson(
        rdl.rdm(features()["conv"][rows], "correlation"), target()
    )


def pearson(distances, rdms):
    model = rdl.label_rdms(distances[None], rdms["stimulus"].values, ["model"], "undeclared")
    return rdl.compare_rdms(model, rdms).values.mean()


def score(fitted, ids):
    rows = [IDS.index(stimulus) for stimulus in ids]
    distances = fitted.rdm({layer: values[rows] for layer, values in features().items()}, ids)
    return pearson(distances, rdl.select_stimuli(brain(), ids))


@pytest.mark.parametrize("kind", HEADS)
def test_nothing_depends_on_the_order_of_stimuli_or_on_those_that_are_not_fitted(kind):
    fitted = fit(kind)
    order = np.random.default_rng(0).permutation(30)
    values = {layer: given.clone() for layer, given in features().items()}
    for given in values.values():
        given[[IDS.index(stimulus) for stimulus in SPLIT.held_out]] *= -7
    again = fit(
        kind,
        values={layer: given[order] for layer, given in values.items()},
        ids=[IDS[k] for k in order],
        rdms=rdl.select_stimuli(target(), SPLIT.training[::-1]),
        inner=[Split(one.scheme, one.name, one.training[::-1], one.held_out[::-1]) for one in INNER],
    )
    assert again.setting == fitted.setting
    np.testing.assert_allclose(again.tries["value"], fitted.tries["value"], rtol=1e-9)
    for name, value in fitted.head.state_dict().items():
        torch.testing.assert_close(again.head.state_dict()[name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", HEADS)
def test_inner_held_out_and_straddling_pairs_are_not_fitted(kind):
    """With inner held-out distances negated, scores are negated: what is fitted to the rest is the same."""
    split = INNER[0]
    rdms = target()
    inside = rdms["stimulus"].isin(split.held_out).values
    both, straddling = np.outer(inside, inside), inside[:, None] != inside
    changed = rdms.copy(data=np.where(both, -rdms.values, np.where(straddling, 5.0, rdms.values)))
    a, b = (fit(kind, rdms=one, inner=[split]).tries for one in (rdms, changed))
    np.testing.assert_allclose(b["value"], -a["value"], rtol=1e-9)


def test_sessions_count_as_one_subject_and_unmeasured_pairs_not_at_all():
    rdms = brain()
    two = rdl.concat_rdms(
        [
            one.assign_coords(rdm=[f"{k}-{name}" for name in one["rdm"].values], session=("rdm", [str(k)] * 3))
            for k, one in enumerate((rdms + 0.1 * rdms**2, rdms - 0.1 * rdms**2))
        ]
    )
    twice = fit("gains", rdms=rdl.select_stimuli(two, SPLIT.training))
    np.testing.assert_allclose(twice.tries["value"], fit("gains").tries["value"], rtol=1e-9)

    gap = target()
    values = gap.values.copy()
    values[:, 3, 5] = values[:, 5, 3] = np.nan
    values[0, 1, 8] = values[0, 8, 1] = np.nan
    for kind in ("frrsa", "gains"):
        tries = fit(kind, rdms=gap.copy(data=values)).tries
        assert tries["value"].notna().all()
        assert not np.allclose(tries["value"], fit(kind).tries["value"], rtol=1e-9)


@pytest.mark.parametrize("compare", ["cosine", "corr_cov", "soft-spearman"])
def test_other_comparisons(compare):
    fitted = fit("gains", compare=compare)
    method = "spearman" if compare == "soft-spearman" else compare
    before = fitted.tries[fitted.tries["steps"] == 0].query("layer == 'conv' and inner_split == 'inner-1'")
    ids = sorted(INNER[0].held_out)
    rows = [IDS.index(stimulus) for stimulus in ids]
    model = rdl.label_rdms(rdl.rdm(features()["conv"][rows], "correlation")[None], ids, ["m"], "undeclared")
    expected = rdl.compare_rdms(model, rdl.select_stimuli(brain(), ids), method).values.mean()
    np.testing.assert_allclose(before["value"], expected, rtol=1e-6)
    assert fitted.tries["value"].max() > expected


def test_the_whole_network_has_the_fitted_rdm():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(45, 6))
    images = torch.randn(30, 1, 5, 5)
    _, values = rdl.capture(model, ["1", "3"], images, flatten=False)
    for kind in HEADS:
        fitted = fit(kind, values=values)
        stimuli = rdl.StimulusSet.from_arrays(images, IDS)
        rdms = rdl.layer_rdms(Headed(model, fitted.layer, fitted.head), stimuli, ["head"], fitted.metric)
        predicted = fitted.predicted(values, IDS, kind, seed=2)
        np.testing.assert_allclose(rdms.values, predicted.rdms.values, atol=1e-4 * rdms.values.max())
        assert predicted.fitted_to == fitted.fitted_to
        assert predicted.arms == ((kind, 2),)
        assert predicted.rdms["rdm"].values.tolist() == [f"{kind}/2"]


def test_a_fitted_head_is_scored_on_what_it_has_not_seen_alone():
    fitted = fit("gains")
    predicted = fitted.predicted(features(), IDS, "gains", 0)
    scored = held_out_scores([predicted], brain(), SPLIT, categories=LABELS, controls=None)
    raw = scored.table.set_index("score").loc["raw", "value"]
    assert raw == pytest.approx(score(fitted, SPLIT.held_out), rel=1e-9)
    seen = Split("by hand", "seen", SPLIT.held_out, SPLIT.training)
    with pytest.raises(ValueError, match="'gains'"):
        held_out_scores([predicted], brain(), seen, categories=LABELS, controls=None)


def test_a_free_readout_fits_what_it_has_seen_and_nothing_else():
    """Targets that have nothing to do with the features: memorised without restraint, left alone by the choice."""
    values = np.random.default_rng(5).normal(size=(1, 30 * 29 // 2))
    rdms = rdl.label_rdms(values, IDS, ["noise"], "undeclared")
    free = HeadSettings(strengths=(0.0,), steps=(600,))
    conv = {"conv": features()["conv"]}
    fitted = fit("readout", values=conv, rdms=rdl.select_stimuli(rdms, SPLIT.training), settings=free)
    rows = {ids: [IDS.index(stimulus) for stimulus in ids] for ids in (SPLIT.training, SPLIT.held_out)}
    scores = [
        pearson(
            fitted.rdm({layer: given[which] for layer, given in features().items()}, ids),
            rdl.select_stimuli(rdms, ids),
        )
        for ids, which in rows.items()
    ]
    assert scores[0] > 0.9
    assert abs(scores[1]) < 0.5
    assert fitted.tries["value"].mean() < 0.2


def test_the_step_of_a_descent_is_adams():
    start = [torch.randn(4, 7, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)]

    def objective(values):
        return (values[0] - 1).square().sum(dim=1) + values[1].abs().sum(dim=1) ** 2

    found = dict(head_paths._descend(start, objective, [0, 1, 30], 0.05))
    parameters = [value.clone().requires_grad_() for value in start]
    optimizer = torch.optim.Adam(parameters, lr=0.05)
    for step in range(31):
        for mine, theirs in zip(found.get(step, ()), parameters, strict=False):
            torch.testing.assert_close(mine, theirs.detach(), rtol=1e-12, atol=1e-14)
        optimizer.zero_grad()
        objective(parameters).sum().backward()
        optimizer.step()
    assert list(found) == [0, 1, 30]


@pytest.fixture(scope="module")
def digits_network():
    """A small network trained on digits, and 100 images that it has not seen, as the stimuli."""
    training, _, test = load_digits()
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(10):
        for batch in torch.randperm(len(training)).split(100):
            optimizer.zero_grad()
            images = training.images[batch].float() / training.top
            nn.functional.cross_entropy(model(images), training.labels[batch]).backward()
            optimizer.step()
    model.eval()
    rows = torch.cat([torch.nonzero(test.labels == digit)[:10, 0] for digit in range(10)])
    with torch.no_grad():
        output, values = rdl.capture(model, ["1", "4"], test.images[rows].float() / test.top, flatten=False)
    assert (output.argmax(dim=1) == test.labels[rows]).float().mean() > 0.9
    ids = [test.ids[row] for row in rows]
    return values, ids, dict(zip(ids, test.labels[rows].tolist(), strict=True))


def test_planted_gains_are_recovered_at_human_reliability(digits_network):
    """15 subjects whose single RDMs correlate .25 (human IT: .2 to .45), with noise that shares stimuli as theirs."""
    values, ids, labels = digits_network
    generator = torch.Generator().manual_seed(0)
    # of 60 draws the gains under which the layer looks least like itself: its channels say much the same
    as_it_is = zscored(rdl.rdm(values["4"], "correlation"))
    hidden = [(3.5 * torch.randn(32, 1, 1, generator=generator)).exp() for _ in range(60)]
    truths = [zscored(rdl.rdm(values["4"].double() * gains, "correlation")) for gains in hidden]
    truth = min(truths, key=lambda one: (one * as_it_is).mean())
    noise = torch.stack([zscored(rdl.rdm(torch.randn(100, 8, generator=generator))) for _ in range(15)])
    subjects = [f"sub-{k:02}" for k in range(15)]
    rdms = rdl.label_rdms(truth + 3**0.5 * noise, ids, subjects, "undeclared", {"subject": subjects})
    network = rdl.label_rdms(rdl.rdm(values["4"], "correlation")[None], ids, ["network"], "correlation")
    settings = HeadSettings(ridges=(1.0, 0.1, 0.01), strengths=(0.1, 0.01), steps=(0, 20, 60, 150))
    folds = []
    for split in stratified_splits(labels, 3):
        held_out = rdl.select_stimuli(rdms, split.held_out)
        ceiling = noise_ceiling(held_out).lower
        scores = [rdl.compare_rdms(rdl.select_stimuli(network, split.held_out), held_out).values.mean()]
        rows = [ids.index(stimulus) for stimulus in split.held_out]
        for kind in ("gains", "frrsa"):
            to = rdl.select_stimuli(rdms, split.training)
            fitted = fit_head(kind, values, ids, to, inner_splits(split, labels), settings=settings)
            assert fitted.layer == "4"
            shown = {layer: given[rows] for layer, given in values.items()}
            scores.append(pearson(fitted.rdm(shown, split.held_out), held_out))
        folds.append([*scores, ceiling])
    task_only, gains_score, frrsa_score, ceiling = np.mean(folds, axis=0)
    assert task_only <= 0.8 * ceiling  # the premise
    assert gains_score >= 0.9 * ceiling
    assert frrsa_score >= 0.9 * ceiling


def zscored(distances):
    return (distances - distances.mean()) / distances.std(correction=0)


def holed(values, row):
    values["fc"][row, 2] = torch.nan
    return values


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: fit("gain"),
            ValueError,
            "unknown kind 'gain'; known are: frrsa, gains, low_rank, readout; did you mean 'gains'?",
        ),
        (
            lambda: fit("gains", compare="mse"),
            ValueError,
            "compare='mse' would fit the unit of measured RDMs, which have none; take corr or cosine",
        ),
        (
            lambda: fit("gains", values=features(n=29)),
            ValueError,
            "features['conv'] has shape (29, 10, 2, 2), expected (30, channels, …): a row for each of the ids",
        ),
        (
            lambda: fit("gains", values=list(features().values())),
            TypeError,
            "features is a list, expected a dict of layer → features of all stimuli",
        ),
        (
            lambda: fit("gains", values={}),
            ValueError,
            "features holds no layer; capture(model, layers, images, flatten=False) makes them",
        ),
        (
            lambda: fit("gains", values=holed(features(), 4)),
            ValueError,
            "features['fc'] are not finite for stimuli 'image-04'",
        ),
        (
            lambda: fit("gains", rdms=brain(ids=[*IDS[:29], "zebra"])),
            ValueError,
            "not among the 30 stimuli of features: 'zebra'; there are 'image-00', 'image-01', 'image-02', 'image-03', "
            "'image-04' and 25 more",
        ),
        (
            lambda: fit("gains", inner=[SPLIT]),
            ValueError,
            f"inner split 'fold-1' has 6 stimuli that the target has not: "
            f"{', '.join(map(repr, SPLIT.held_out[:5]))} and 1 more; split the training stimuli alone: "
            "inner_splits(split, labels)",
        ),
        (
            lambda: fit("gains", inner=[]),
            ValueError,
            "inner holds no split to choose by; inner_splits(split, labels) makes them",
        ),
        (
            lambda: fit("gains", settings=HeadSettings(steps=(0,))).rdm({"1": torch.ones(3, 2)}, IDS[:3]),
            ValueError,
            "the head is on layer 'conv', of which there are no features; there are ['1']",
        ),
        (
            lambda: HeadSettings(ridges=(0.0,)),
            ValueError,
            "ridges holds 0.0; expected a finite number above 0",
        ),
        (
            lambda: HeadSettings(strengths=(0, -1)),
            ValueError,
            "strengths holds -1; expected a finite number from 0",
        ),
        (lambda: HeadSettings(strengths=("1",)), TypeError, "strengths holds '1'; expected a number"),
        (lambda: HeadSettings(learning_rate=0), ValueError, "learning_rate holds 0; expected a finite number above 0"),
        (lambda: HeadSettings(ranks=(0,)), ValueError, "ranks must be at least 1, but is 0"),
        (
            lambda: HeadSettings(steps=100),
            TypeError,
            "steps is 100; expected a list of what to try, such as [100]",
        ),
        (
            lambda: HeadSettings(steps=(5, 5)),
            ValueError,
            "steps is (5, 5); expected at least one value to try, none twice",
        ),
        (lambda: HeadSettings(positions=("all",)), ValueError, "positions holds 'all'; known are: shared, mean"),
        (
            lambda: HeadSettings(standardize=(1,)),
            TypeError,
            "standardize holds 1; expected True or False",
        ),
    ],
)
def test_refusals(call, error, message):
    with raises(error, message):
        call()
