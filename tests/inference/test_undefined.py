"""What has no geometry has no score: constant RDMs, copies of an RDM, in every comparison of models with people."""

import re

import numpy as np
import pytest
import torch
from scipy.spatial.distance import squareform

import brainrdl as rdl
from brainrdl.inference import (
    HeadSettings,
    Prediction,
    category_rdm,
    fit_frrsa,
    fit_head,
    held_out_scores,
    inner_splits,
    partition_variance,
    permutation_test,
    remove_block_means,
    resample_scores,
    score_models,
    stratified_splits,
    subject_rdms,
)
from brainrdl.inference.bootstrap import _Direct, _Moments
from brainrdl.inference.model_comparison import compare_models
from brainrdl.inference.reweighting.mixtures import mixture_weights
from brainrdl.rdms.labelled import condense

RNG = np.random.default_rng(0)
IDS = [f"s{i:02}" for i in range(12)]
PEOPLE = RNG.random((3, 66)) + RNG.random(66)
FLAT = np.full(66, 0.3)


def rdms_of(values, names=None, ids=IDS, **coords):
    names = [f"m{k}" for k in range(len(values))] if names is None else names
    return rdl.label_rdms(np.array(values), ids, names, "undeclared", coords)


def people(values=PEOPLE, **coords):
    names = [f"sub-{k}" for k in range(len(values))]
    return rdms_of(values, names, **{"subject": names, **coords})


def refused(message, call):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


def warned(message, call):
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        return call()


FLAT_SAID = "'sub-1', which is constant (every distance is 0.3)"
WITH_FLAT = people([PEOPLE[0], FLAT, PEOPLE[2]])


# people


@pytest.mark.parametrize("method", ["corr", "corr_cov", "spearman", "rho-a", "tau-a", "tau-b"])
def test_a_person_with_a_constant_rdm_is_named(method):
    said = f"subjects without a geometry to compare by '{method}': {FLAT_SAID}; leave these out"
    refused(said, lambda: rdl.noise_ceiling(WITH_FLAT, method))
    refused(said, lambda: score_models(rdms_of(PEOPLE[:2]), WITH_FLAT, method, n_resamples=2))


@pytest.mark.parametrize("method", ["cosine", "mse"])
def test_a_constant_rdm_has_a_length_and_a_difference(method):
    assert np.isfinite(rdl.noise_ceiling(WITH_FLAT, method)).all()


def test_a_zero_rdm_has_no_cosine():
    refused(
        "subjects without a geometry to compare by 'cosine': 'sub-1', which is zero for every pair; leave these out",
        lambda: rdl.noise_ceiling(people([PEOPLE[0], 0 * FLAT, PEOPLE[2]]), "cosine"),
    )


@pytest.mark.parametrize(
    "copy", [PEOPLE[0], PEOPLE[0].astype(np.float32), 100 * PEOPLE[0], np.where(np.arange(66) < 5, np.nan, PEOPLE[0])]
)
def test_one_person_under_two_names_is_found_by_content(copy):
    both = people([PEOPLE[0], PEOPLE[1], copy])
    said = (
        "RDMs 'sub-0' and 'sub-2' hold the same distances, so that one person (or session) would count as two; leave "
        "one of them out, or find out which file was given twice"
    )
    refused(said, lambda: rdl.noise_ceiling(both))
    refused(said, lambda: score_models(rdms_of(PEOPLE[1:2]), both, n_resamples=2))
    refused(said, lambda: compare_models(rdms_of(PEOPLE[1:2]), both, n_resamples=2))
    refused(said, lambda: subject_rdms(both))


def test_a_session_given_twice_is_found_by_content():
    given = rdms_of([PEOPLE[0], PEOPLE[0]], ["a", "b"], subject=["sub-0", "sub-0"], session=["1", "2"])
    refused(
        "RDMs 'a' and 'b' hold the same distances, so that one person (or session) would count as two; leave one of "
        "them out, or find out which file was given twice",
        lambda: subject_rdms(given),
    )


def test_two_people_may_judge_alike_where_there_is_little_to_judge():
    judged = np.tile(np.repeat([1.0, 2.0, 3.0], 22), (2, 1))
    assert subject_rdms(people(judged)).sizes["rdm"] == 2


def test_people_who_cancel_each_other_have_no_mean_to_compare_with():
    signed = PEOPLE[0] - PEOPLE[0].mean()
    found = warned(
        "the noise ceiling is NaN: the mean of the others, or of all, has nothing to compare 'sub-2' with, as it does "
        "not vary or shares fewer than 2 measured pairs",
        lambda: rdl.noise_ceiling(people([signed, -0.5 * signed, PEOPLE[1]])),
    )
    assert np.isnan(found.lower)
    assert np.isfinite(found.upper)


# models


@pytest.mark.parametrize("method", ["corr", "spearman", "tau-a"])
def test_a_constant_model_among_others_has_no_score(method):
    models = rdms_of([PEOPLE[0] + 0.1 * RNG.random(66), FLAT], ["good", "flat"])
    note = (
        f"models that have nothing to compare by '{method}', so that their scores are NaN: 'flat', which is constant "
        "(every distance is 0.3)"
    )
    scored = warned(note, lambda: score_models(models, people(), method, n_resamples=20))
    assert scored.note.endswith(note)
    assert scored.table.loc["flat"].isna().all()
    assert scored.subjects.loc["flat"].isna().all()
    alone = score_models(models[:1], people(), method, n_resamples=20)
    np.testing.assert_allclose(scored.table.loc["good"].to_numpy(), alone.table.loc["good"].to_numpy(), rtol=1e-9)
    assert scored.ceiling == pytest.approx(alone.ceiling, rel=1e-9)
    assert scored.contrasts()[["difference", "se", "low", "high", "p", "p_holm"]].isna().all(axis=None)


def test_models_that_are_all_constant_are_an_error():
    refused(
        "models without a geometry to compare by 'corr': 'm0', which is constant (every distance is 0.3); leave these "
        "out",
        lambda: score_models(rdms_of([FLAT]), people(), n_resamples=2),
    )


def test_a_draw_in_which_a_model_does_not_vary_is_left_out_and_not_0():
    categories = category_rdm({stimulus: "a" if k < 2 else "b" for k, stimulus in enumerate(IDS[:6])})
    model, data = condense(categories), np.random.default_rng(1).random((2, 15))
    drawn = resample_scores(model, data, "corr", "stimuli", n_resamples=300)
    draws = np.random.default_rng(0).integers(0, 6, (300, 6))
    expected = np.full(300, np.nan)
    i, j = np.triu_indices(6, 1)
    for k, draw in enumerate(draws):
        a, b = draw[i], draw[j]
        pairs = squareform(model[0])[a, b][a != b]
        if len(set(draw.tolist())) > 2 and np.ptp(pairs) > 0:
            expected[k] = np.mean([np.corrcoef(pairs, squareform(rdm)[a, b][a != b])[0, 1] for rdm in data])
    assert 5 < np.isnan(expected).sum() < 60
    np.testing.assert_allclose(drawn.stimuli[:, 0], expected, atol=1e-10)


@pytest.mark.parametrize("method", ["corr", "cosine"])
def test_moments_are_undefined_where_direct_comparison_is(method):
    rng = np.random.default_rng(2)
    model = (condense(category_rdm(dict(zip(IDS[:5], "aabbb", strict=True)))) * 0.7 + 0.1)[:, :10]
    zero = np.where(np.arange(10) == 3, 1.0, 0.0)[None]
    models, data = np.concatenate((model, zero)), rng.random((3, 10))
    draws = rng.integers(0, 5, (200, 5))
    by_moments, directly = (
        np.array([sample.row(np.ones(3)) for sample in kind(models, data, method).resampled(draws)])
        for kind in (_Moments, _Direct)
    )
    assert np.isnan(directly).any()
    np.testing.assert_allclose(by_moments, directly, atol=1e-9)


def test_a_permutation_test_of_a_constant_rdm_has_no_p():
    a = rdms_of([PEOPLE[0], FLAT])
    test = warned(
        "nothing to compare by 'corr': a holds 'm1', which is constant (every distance is 0.3); the similarities are "
        "NaN",
        lambda: permutation_test(a, rdms_of(PEOPLE[:1], ["IT"]), n_permutations=19),
    )
    assert test.p.values[0, 0] == 0.05
    assert np.isnan(test.p.values[1, 0])
    assert np.isnan(test.null.values[:, 1]).all()


# averages, controls, mixtures


def test_ranks_of_a_constant_rdm_are_not_averaged():
    refused(
        "RDM 'sub-1' is constant, so it cannot be ranked; leave it out",
        lambda: rdl.average_rdms(WITH_FLAT, normalize="rank"),
    )


@pytest.mark.parametrize("normalize", ["zscore", "rank"])
def test_an_rdm_constant_but_for_single_precision_is_constant(normalize):
    noise = (0.3 * (1 + 1e-7 * RNG.integers(-3, 4, 66))).astype(np.float32)
    with pytest.raises(ValueError, match=r"^RDM 'sub-1' is constant"):
        rdl.average_rdms(people([PEOPLE[0], noise, PEOPLE[2]]), normalize=normalize)


def test_block_means_leave_nothing_of_a_category_rdm():
    labels = {stimulus: "abc"[k % 3] for k, stimulus in enumerate(IDS)}
    model = 0.1 + 0.7 * category_rdm(labels)
    model = model.where(model["stimulus"] != model["stimulus_"], 0.0).assign_attrs(metric="undeclared")
    left = remove_block_means(model.rename("dissimilarity"), labels)
    assert not left.values.any()
    refused(
        "nothing to compare by 'corr': a holds 'category', which is zero for every pair; leave these out",
        lambda: rdl.compare_rdms(left, rdms_of(PEOPLE)),
    )


def test_the_variance_of_a_constant_target_is_not_split():
    model = {"a": rdms_of(PEOPLE[:1])}
    said = "without a geometry to compare by 'corr': 'm0', which is constant (every distance is 0.3); leave these out"
    refused(f"target {said}", lambda: partition_variance(rdms_of([FLAT]), model))
    refused(f"families['b'] {said}", lambda: partition_variance(rdms_of(PEOPLE), {**model, "b": rdms_of([FLAT])}))
    parts = warned(
        "the variance of targets is NaN where there is none: 'm1', which is constant (every distance is 0.3)",
        lambda: partition_variance(rdms_of([PEOPLE[1], FLAT]), model),
    )
    np.testing.assert_array_equal(parts.isna().to_numpy(), [[False, False], [True, True]])


def test_a_mixture_is_not_fitted_to_a_constant_target():
    folds = {stimulus: "first" if k < 6 else "second" for k, stimulus in enumerate(IDS)}
    i, j = np.triu_indices(12, 1)
    dead = np.where((i > 5) & (j > 5), 0.3, PEOPLE[0])  # constant among the second six
    refused(
        "the pairs outside fold 'first' leave targets without a geometry to compare by 'corr': 'IT', which is constant "
        "(every distance is 0.3); leave these out",
        lambda: rdl.fit_rdms(rdms_of(PEOPLE[1:]), rdms_of([dead], ["IT"]), folds),
    )
    refused(
        "targets without a geometry to compare by 'corr': 'm0', which is constant (every distance is 0.3); leave these "
        "out",
        lambda: mixture_weights(rdms_of(PEOPLE), rdms_of([FLAT])),
    )
    alike = np.where((i < 6) & (j < 6), 0.3, PEOPLE[1])  # constant among the first six
    mixed = warned(
        "scores are NaN where nothing can be compared on a fold's pairs: \"mixture in fold 'first'\", which is "
        f"constant (every distance is {0.3 * mixture_weights_of(alike, folds):.6g})",
        lambda: rdl.fit_rdms(rdms_of([alike]), rdms_of([PEOPLE[1]], ["IT"]), folds),
    )
    # the second fold is fitted on the first six: no weight, and no mixture
    assert mixed.weights["m0"].tolist() == [pytest.approx(mixture_weights_of(alike, folds)), 0.0]
    assert mixed.scores.isna().all(axis=None)


def mixture_weights_of(model, folds):
    """The weight of a model RDM, fitted outside the first fold to the person that it was made of."""
    seen = [stimulus for stimulus, fold in folds.items() if fold == "second"]
    model, target = (rdl.select_stimuli(rdms_of([rdm]), seen) for rdm in (model, PEOPLE[1]))
    return mixture_weights(model, target).item()


def test_frrsa_is_not_fitted_to_a_constant_target():
    features = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    refused(
        "target is constant, up to rounding; there is nothing to predict",
        lambda: fit_frrsa(features, torch.full((66,), 0.1), 0.1),
    )


# held-out stimuli


LABELS = {f"{kind}-{k}": kind for kind in ("face", "house") for k in range(8)}
NAMES = list(LABELS)


def held(values, names, **coords):
    return rdl.label_rdms(values, NAMES, names, "undeclared", coords)


def test_a_person_constant_on_held_out_pairs_is_named():
    split = stratified_splits(LABELS, 2)[0]
    values = np.random.default_rng(0).random((3, 120))
    brains = held(values, ["a", "b", "c"], subject=["ann", "bob", "eve"])
    inside = np.ix_([1], brains["stimulus"].isin(split.held_out), brains["stimulus"].isin(split.held_out))
    brains.values[inside] = 0.5 * (1 - np.eye(len(split.held_out)))
    model = held(values[:1] + 0.1, ["m/0"], arm="m", seed=0)
    refused(
        f"split {split.name!r}: subjects without a geometry to compare by 'corr': 'bob', which is constant (every "
        "distance is 0.5); leave these out",
        lambda: held_out_scores([Prediction(model, ())], brains, split, categories=LABELS, controls=None),
    )


def test_heads_are_not_fitted_to_a_constant_target_and_a_collapsed_one_is_never_chosen():
    features = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    brain = held(rdl.rdm(features, "correlation")[None].numpy(), ["IT"])
    split = stratified_splits(LABELS, 2)[0]
    inner = inner_splits(split, LABELS, 2)
    target = rdl.select_stimuli(brain, split.training)
    flat = target.copy(data=0.3 * (1 - np.eye(len(split.training)))[None])
    with pytest.raises(ValueError) as error:
        fit_head("gains", {"fc": features}, NAMES, flat, inner)
    assert re.fullmatch(
        r"among \d+ stimuli to fit to, targets without a geometry to compare by 'corr': 'IT', which is constant "
        r"\(every distance is 0\.3\); leave these out",
        str(error.value),
    )
    dead = torch.eye(16, 20)  # every two patterns are equally far apart
    settings = HeadSettings(strengths=(0.1,), steps=(0, 5))
    fitted = fit_head("gains", {"dead": dead, "fc": features}, NAMES, target, inner, settings=settings)
    assert fitted.layer == "fc"
    at_start = fitted.tries[(fitted.tries["steps"] == 0) & (fitted.tries["layer"] == "dead")]
    assert at_start["value"].isna().all()


def test_impossible_distances_are_refused_wherever_rdms_come_in():
    split = stratified_splits(LABELS, 2)[0]
    values = np.random.default_rng(0).random((3, 120))
    brains = held(values, ["a", "b", "c"], subject=["ann", "bob", "eve"])
    percent = (100 * brains).assign_attrs(metric="correlation").assign_coords(brains.coords)
    model = held(values[:1] + 0.1, ["m/0"], arm="m", seed=0)
    features = {"fc": torch.randn(16, 3)}
    target = rdl.select_stimuli(percent, split.training)
    largest = "dissimilarity is \\d+\\.\\d+ for stimuli '.*' and '.*' in RDM '.', and a correlation distance, 1 − r"
    for call in (
        lambda: rdl.compare_rdms(model, percent),
        lambda: rdl.noise_ceiling(percent),
        lambda: subject_rdms(percent),
        lambda: score_models(model, percent, n_resamples=2),
        lambda: permutation_test(model, percent, n_permutations=2),
        lambda: partition_variance(percent, {"m": model}),
        lambda: remove_block_means(percent, LABELS),
        lambda: rdl.fit_rdms(model, percent, 2),
        lambda: held_out_scores([Prediction(model, ())], percent, split, categories=LABELS, controls=None),
        lambda: held_out_scores([Prediction(model, ())], brains, split, categories=LABELS, controls=percent),
        lambda: fit_head("frrsa", features, NAMES, target.drop_vars("subject"), inner_splits(split, LABELS, 2)),
    ):
        with pytest.raises(ValueError, match=f"^{largest}"):
            call()
