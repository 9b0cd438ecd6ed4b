"""Category RDMs, block means, partitioned variance, mixtures."""

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import nnls
from scipy.stats import rankdata

import brainrdl as rdl
from brainrdl.data.objects92 import CATEGORIES, IDS
from brainrdl.inference.controls import partition_variance
from brainrdl.inference.reweighting.mixtures import mixture_weights
from brainrdl.rdms.labelled import condense
from objects92 import ANIMACY, human_it

LABELS = {"a": "face", "b": "house", "c": "face", "d": "tool", "e": "house"}


def rdms_of(n_rdms=2, n=12, seed=0, names=None, metric="undeclared"):
    values = np.random.default_rng(seed).gamma(2.0, 1.0, (n_rdms, n * (n - 1) // 2))
    return rdl.label_rdms(values, IDS[:n], names or [f"rdm-{k}" for k in range(n_rdms)], metric)


def test_category_rdm():
    rdm = rdl.category_rdm(LABELS, "category")
    assert rdm["rdm"].values.tolist() == ["category"]
    assert rdm["stimulus"].values.tolist() == list(LABELS)
    names = np.array(list(LABELS.values()))
    np.testing.assert_array_equal(rdm.values[0], names[:, None] != names)
    labels = xr.DataArray(names, dims="stimulus", coords={"stimulus": list(LABELS)})
    xr.testing.assert_identical(rdl.category_rdm(labels), rdm)


def test_block_means_are_removed():
    rdms = rdms_of(n=5)
    rdms = rdms.assign_coords(stimulus=list(LABELS), stimulus_=list(LABELS))
    gap = rdms.copy(data=np.where(rdms.values == rdms.values[0, 0, 1], np.nan, rdms.values))
    left = rdl.remove_block_means(gap, LABELS)
    assert left.attrs["metric"] == "undeclared"
    assert left.attrs["metric_before"] == "undeclared"
    face_house = [("a", "b"), ("a", "e"), ("b", "c"), ("c", "e")]
    for rdm in range(2):
        before = np.array([gap.isel(rdm=rdm).sel(stimulus=x, stimulus_=y).item() for x, y in face_house])
        after = np.array([left.isel(rdm=rdm).sel(stimulus=x, stimulus_=y).item() for x, y in face_house])
        np.testing.assert_allclose(after, before - np.nanmean(before), atol=1e-14)
        assert left.isel(rdm=rdm).sel(stimulus="a", stimulus_="c").item() == 0  # alone in its block
    assert np.isnan(left.values[0, 0, 1])


def test_labels_are_found_by_id():
    rdms = rdms_of(n=5).assign_coords(stimulus=list(LABELS), stimulus_=list(LABELS))
    backwards = dict(reversed(LABELS.items()))
    xr.testing.assert_identical(rdl.remove_block_means(rdms, backwards), rdl.remove_block_means(rdms, LABELS))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: rdl.category_rdm(["a", "b"]),
            TypeError,
            "labels is a list, which has no stimulus ids; give a mapping: dict(zip(ids, labels))",
        ),
        (
            lambda: rdl.category_rdm({"a": "face", "b": "face"}),
            ValueError,
            "all 2 stimuli are in one category, 'face'; give at least two",
        ),
        (
            lambda: rdl.category_rdm(xr.DataArray(["x", "y"], dims="stimulus")),
            ValueError,
            "labels has dimensions ('stimulus',), expected ('stimulus',) with the ids as coordinate",
        ),
        (
            lambda: rdl.remove_block_means(rdms_of(n=3), {IDS[0]: "a", IDS[2]: "b"}),
            ValueError,
            "labels has no category for 1 of 3 stimuli: 'human-body-02'",
        ),
        (
            lambda: partition_variance(rdms_of(), {"a": rdms_of()}, "cosine"),
            ValueError,
            "unknown method 'cosine'; known are: corr, spearman",
        ),
        (
            lambda: partition_variance(rdms_of(), {}),
            ValueError,
            "families holds 0; variance is partitioned among one to three",
        ),
        (
            lambda: rdl.fit_rdms(rdms_of(), rdms_of(), 6),
            ValueError,
            "fold 0 holds out 2 of 12 stimuli; at least 3 must be held out and 3 left to fit",
        ),
        (lambda: rdl.fit_rdms(rdms_of(), rdms_of(), 1), ValueError, "folds is 1; at least 2 are needed"),
        (
            lambda: rdl.fit_rdms(rdms_of(), rdms_of(), [0, 1]),
            TypeError,
            "folds is a list; expected a number, or a mapping of stimulus id → fold",
        ),
        (
            lambda: rdl.fit_rdms(rdms_of(), rdms_of(), dict.fromkeys(IDS[:11], 0)),
            ValueError,
            "folds has no fold for 1 of 12 stimuli: 'human-body-12'",
        ),
        (
            lambda: rdl.fit_rdms(rdms_of(), rdms_of(), 2, method="mse"),
            ValueError,
            "a mixture is scored by a method that ignores the scale, not 'mse'; take corr or cosine",
        ),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message


def test_standard_errors_do_not_survive_the_removal_of_means():
    values = np.ones((1, 3))
    rdms = rdl.label_rdms(values, ["a", "b", "c"], ["IT"], "crossnobis", {"standard_error": values})
    with pytest.raises(ValueError) as error:
        rdl.remove_block_means(rdms, LABELS)
    assert str(error.value) == (
        "standard errors do not say how sure a difference from a block's mean is; leave them out: "
        "rdms.drop_vars('standard_error')"
    )


# variance partitioning


def r_squared(y, models):
    design = np.column_stack([*models, np.ones(len(y))])
    fitted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return 1 - ((y - fitted) ** 2).sum() / ((y - y.mean()) ** 2).sum()


@pytest.mark.parametrize("method", ["corr", "spearman"])
def test_parts_of_three_families(method):
    a, b, c = (rdms_of(k, seed=k, names=[f"{f}{i}" for i in range(k)]) for k, f in ((1, "a"), (2, "b"), (1, "c")))
    target = rdms_of(2, seed=9) + 0.5 * a.values + 0.5 * b.values[:1] + 0.2 * c.values
    parts = partition_variance(target, {"a": a, "b": b, "c": c}, method)
    rank = rankdata if method == "spearman" else np.array
    for k in range(2):
        y = rank(condense(target)[k])
        x = {name: [rank(row) for row in condense(rdms)] for name, rdms in (("a", a), ("b", b), ("c", c))}
        r = {u: r_squared(y, [v for name in u for v in x[name]]) for u in ("a", "b", "c", "ab", "ac", "bc", "abc")}
        row = parts.iloc[k]
        expected = {
            "a": r["abc"] - r["bc"],
            "b": r["abc"] - r["ac"],
            "c": r["abc"] - r["ab"],
            "a & b": r["ac"] + r["bc"] - r["c"] - r["abc"],
            "a & c": r["ab"] + r["bc"] - r["b"] - r["abc"],
            "b & c": r["ab"] + r["ac"] - r["a"] - r["abc"],
            "a & b & c": r["a"] + r["b"] + r["c"] - r["ab"] - r["ac"] - r["bc"] + r["abc"],
            "total": r["abc"],
        }
        assert row.index.tolist() == list(expected)
        np.testing.assert_allclose(row, list(expected.values()), atol=1e-12)
        assert row.drop("total").sum() == pytest.approx(row["total"], abs=1e-12)


# mixtures


def test_a_mixture_is_fitted_on_training_pairs_and_scored_on_held_out_ones():
    models, target = rdms_of(3, seed=1), rdms_of(2, seed=2)
    folds = {stimulus: "even" if k % 2 == 0 else "odd" for k, stimulus in enumerate(IDS[:12])}
    fit = rdl.fit_rdms(models, target + models.values[:1], folds)
    t = condense(target + models.values[:1])
    m = condense(models)
    i, j = np.triu_indices(12, 1)
    for fold, parity in (("even", 0), ("odd", 1)):
        train, test = (i % 2 != parity) & (j % 2 != parity), (i % 2 == parity) & (j % 2 == parity)
        centred = m[:, train] - m[:, train].mean(1, keepdims=True)
        seen = t[:, train] - t[:, train].mean(1, keepdims=True)
        weights = nnls(centred.T, np.mean(seen / seen.std(1, keepdims=True), axis=0))[0]
        np.testing.assert_allclose(fit.weights.loc[fold], weights, atol=1e-12)
        mixture = weights @ m[:, test]
        expected = [np.corrcoef(mixture, row[test])[0, 1] for row in t]
        np.testing.assert_allclose(fit.scores.loc[fold], expected, atol=1e-12)
        assert fit.pairs.loc[fold].tolist() == [15, 15, 36]


@pytest.mark.parametrize("method", ["cosine", "corr", "cosine_cov", "corr_cov", "spearman", "tau-a"])
def test_what_is_held_out_does_not_touch_the_fit(method):
    """Changing straddling pairs changes nothing; changing held-out ones only the score."""
    models = rdms_of(3, seed=1)
    target = rdms_of(2, seed=2) + models.values[:1]
    folds = dict.fromkeys(IDS[:6], "a") | dict.fromkeys(IDS[6:12], "b")
    before = rdl.fit_rdms(models, target, folds, method=method)
    changed = target.copy(deep=True)
    changed.values[:, :6, 6:] *= 3
    changed.values[:, 6:, :6] *= 3
    after = rdl.fit_rdms(models, changed, folds, method=method)
    np.testing.assert_allclose(after.scores, before.scores, atol=1e-12)
    np.testing.assert_allclose(after.weights, before.weights, atol=1e-12)
    changed = target.copy(deep=True)
    noise = np.random.default_rng(3).random((6, 6))
    changed.values[:, :6, :6] += noise + noise.T - np.diag(2 * np.diag(noise))
    after = rdl.fit_rdms(models, changed, folds, method=method)
    assert (after.scores.loc["a"] != before.scores.loc["a"]).all()
    np.testing.assert_allclose(after.weights.loc["a"], before.weights.loc["a"], atol=1e-12)


def test_missing_target_pairs_are_neither_fitted_nor_scored():
    models = rdms_of(2, seed=1)
    target = (models.isel(rdm=[0]) * 2 + models.values[1:]).assign_coords(rdm=["IT"])
    target.values[0, 0, 1] = target.values[0, 1, 0] = np.nan
    fit = rdl.fit_rdms(models, target, 3, seed=4)
    np.testing.assert_allclose(fit.scores, 1, atol=1e-12)
    np.testing.assert_allclose(fit.weights["rdm-0"] / fit.weights["rdm-1"], 2)
    with pytest.raises(ValueError) as error:
        rdl.fit_rdms(target, models, 3)
    assert str(error.value) == "model RDMs must be complete, but pairs are missing in 'IT'"


def test_a_mixture_of_categories_predicts_held_out_pairs_of_human_it():
    animacy = rdl.category_rdm(dict(zip(IDS, ANIMACY, strict=True)), "animacy")
    six = rdl.category_rdm(dict(zip(IDS, CATEGORIES, strict=True)), "six")
    fit = rdl.fit_rdms(rdl.concat_rdms([animacy, six]), rdl.average_rdms(human_it()), 2)
    assert 0.5 < fit.scores.mean().item() < 0.7
    assert (fit.weights > 0).all(axis=None)


def test_weights_without_folds_are_those_of_the_mixture():
    models = rdms_of(2, 6, names=["x", "y"])
    target = (models[:1] + 3 * models[1:].values).assign_coords(rdm=["IT"])
    weights = mixture_weights(models, target)
    assert weights.index.tolist() == ["x", "y"]
    assert weights["y"] / weights["x"] == pytest.approx(3)


def two_by_name():
    ids = list("abcdef")
    return rdl.label_rdms(np.random.default_rng(0).random((2, 15)), ids, ["x", "y"], "undeclared")


def refused(error, message, function, *arguments, **options):
    with pytest.raises(error) as raised:
        function(*arguments, **options)
    assert str(raised.value) == message


def test_labels_that_say_nothing_are_refused():
    twice = xr.DataArray(list("xyz"), dims=("stimulus",), coords={"stimulus": list("aba")})
    message = "coordinate 'stimulus' of labels must be unique, but these occur more than once: 'a'"
    refused(ValueError, message, rdl.category_rdm, twice)
    for missing in (None, float("nan"), np.float64("nan")):
        refused(
            ValueError,
            "labels has a missing label (None or NaN) for 1 of 3 stimuli: 'b'; leave these stimuli out, or give them "
            "a category",
            rdl.category_rdm,
            {"a": "x", "b": missing, "c": "y"},
        )
    message = "labels has ['x'] for 'a', of type list; expected a string or a number"
    refused(TypeError, message, rdl.category_rdm, {"a": ["x"], "b": ["y"]})
    message = "labels names no stimuli; give a category for each of at least two"
    refused(ValueError, message, rdl.category_rdm, {})


def test_dealt_folds_do_not_depend_on_the_order_of_the_stimuli():
    rng = np.random.default_rng(0)
    ids = [f"s{k}" for k in range(14)]
    models = rdl.label_rdms(rng.random((2, 91)), ids, ["x", "y"], "undeclared")
    target = rdl.label_rdms(rng.random((1, 91)), ids, ["IT"], "undeclared")
    first = rdl.fit_rdms(models, target, 3)
    shuffled = [rdl.select_stimuli(rdms, list(rng.permutation(ids))) for rdms in (models, target)]
    for a, b in zip(first, rdl.fit_rdms(*shuffled, np.int64(3)), strict=True):
        assert a.equals(b)
    assert first.scores.index.tolist() == [0, 1, 2]


def test_seeds_are_not_negative():
    rdms = two_by_name()
    refused(ValueError, "seed must be at least 0, but is -1", rdl.fit_rdms, rdms, rdms, 2, seed=-1)
