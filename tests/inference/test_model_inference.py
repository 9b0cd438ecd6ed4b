"""Noise ceilings, bootstraps and tests of models against subjects."""

import numpy as np
import pytest
import xarray as xr
from rsatoolbox.inference import boot_noise_ceiling, eval_bootstrap_pattern, eval_dual_bootstrap
from rsatoolbox.model import ModelFixed
from rsatoolbox.rdm import RDMs, compare as rsa_compare
from rsatoolbox.util.inference_util import extract_variances
from scipy import stats

import brainrdl as rdl
from brainrdl.data.objects92 import CATEGORIES, IDS
from brainrdl.inference import (
    bootstrap,
    fdr,
    permutation_test,
    resample_scores,
    score_models,
    subject_rdms,
)
from brainrdl.rdms.labelled import condense
from objects92 import ANIMACY, cichy, human_it

# noise ceilings


@pytest.mark.parametrize("method", ["corr", "cosine", "spearman", "cosine_cov", "corr_cov", "rho-a"])
def test_ceilings_on_real_data_equal_rsatoolbox(method):
    for rdms in (subject_rdms(human_it()), cichy("IT"), cichy("EVC").isel(rdm=slice(5))):
        theirs = boot_noise_ceiling(RDMs(condense(rdms)), method)
        np.testing.assert_allclose(rdl.noise_ceiling(rdms, method), theirs, rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore:Noise ceiling for tau:UserWarning")
@pytest.mark.parametrize("method", ["tau-a", "tau-b"])
def test_ceilings_by_kendall_equal_rsatoolbox(method):
    rdms = subject_rdms(human_it())
    theirs = boot_noise_ceiling(RDMs(condense(rdms)), method)
    np.testing.assert_allclose(rdl.noise_ceiling(rdms, method), theirs, rtol=0, atol=1e-12)


def test_known_ceilings():
    # sessions averaged within subjects; without z-scoring the figures known for these data
    np.testing.assert_allclose(rdl.noise_ceiling(human_it(), normalize=False), (0.395, 0.680), atol=5e-4)
    np.testing.assert_allclose(rdl.noise_ceiling(cichy("IT"), normalize=False), (0.457, 0.544), atol=5e-4)
    np.testing.assert_allclose(rdl.noise_ceiling(human_it()), (0.394, 0.680), atol=5e-4)
    np.testing.assert_allclose(rdl.noise_ceiling(cichy("IT")), (0.459, 0.549), atol=5e-4)


def subjects_of(n_subjects=10, n=12, noise=1.0, seed=0, **coords):
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, 1.0, n * (n - 1) // 2) + noise * rng.gamma(2.0, 1.0, (n_subjects, n * (n - 1) // 2))
    names = [f"sub-{k:02}" for k in range(n_subjects)]
    return rdl.label_rdms(values, [f"s{i:02}" for i in range(n)], names, "crossnobis", {"subject": names, **coords})


def models_of(subjects, seed=1):
    rng = np.random.default_rng(seed)
    values = np.stack(
        [condense(subjects).mean(0) + k * rng.gamma(2.0, 1.0, condense(subjects).shape[1]) for k in (1, 2)]
    )
    return rdl.label_rdms(values, subjects["stimulus"].values.tolist(), ["near", "far"], "mse")


def fixed(models):
    """The models as rsatoolbox takes them."""
    return [ModelFixed(str(k), RDMs(rdm[None])) for k, rdm in enumerate(condense(models))]


def test_score_and_ceiling_are_on_one_scale():
    """A model that is the mean of all scores the upper ceiling, one made of the others the lower."""
    rdms = subjects_of(4)
    values = condense(rdms)
    z = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
    ids = rdms["stimulus"].values.tolist()
    lower, upper = rdl.noise_ceiling(rdms)
    everyone = rdl.label_rdms(z.mean(0)[None], ids, ["m"], "undeclared")
    assert score_models(everyone, rdms, n_resamples=10).table["score"].item() == pytest.approx(upper, abs=1e-12)
    scores = [
        rdl.compare_rdms(
            rdl.label_rdms(np.delete(z, k, 0).mean(0)[None], ids, ["m"], "undeclared"), rdms.isel(rdm=[k])
        ).item()
        for k in range(4)
    ]
    assert np.mean(scores) == pytest.approx(lower, abs=1e-12)


def test_missing_pairs_take_no_part_in_the_means():
    rdms = subjects_of(4)
    values = condense(rdms)
    values[0, 3] = values[2, 7:9] = np.nan
    gappy = rdms.copy(data=rdl.label_rdms(values, IDS[:12], list("abcd"), "crossnobis").values)
    z = (values - np.nanmean(values, 1, keepdims=True)) / np.nanstd(values, 1, keepdims=True)

    def r(a, b):
        both = ~np.isnan(a) & ~np.isnan(b)
        return np.corrcoef(a[both], b[both])[0, 1]

    lower = np.mean([r(np.nanmean(np.delete(z, k, 0), 0), values[k]) for k in range(4)])
    upper = np.mean([r(np.nanmean(z, 0), values[k]) for k in range(4)])
    np.testing.assert_allclose(rdl.noise_ceiling(gappy), (lower, upper), atol=1e-12)


def test_the_ceiling_over_rdms_is_that_over_subjects_of_one_rdm_each():
    rdms = subjects_of(4)
    unnamed = rdms.drop_vars("subject")
    assert rdl.noise_ceiling(unnamed, over="rdm") == rdl.noise_ceiling(rdms)
    with pytest.raises(ValueError) as error:
        rdl.noise_ceiling(unnamed.isel(rdm=[0]), over="rdm")
    assert str(error.value) == "there is a single RDM; a noise ceiling needs at least two, to compare them"


def test_ceiling_refusals():
    rdms = subjects_of(3)
    for wrong, message in (
        (
            rdms.drop_vars("subject"),
            "no coordinate 'subject' along 'rdm' to tell subjects apart; there are: 'rdm'; add it: "
            "rdms.assign_coords(subject=('rdm', [...])), or give over='rdm' where each RDM is a subject's, or a "
            "repetition",
        ),
        (rdms.isel(rdm=[0]), "there is a single subject; a noise ceiling needs at least two, to compare them"),
        (
            rdms.assign_coords(subject=("rdm", ["a", "a", "b"])),
            "there are 2 RDMs of subject 'a', expected one each; they differ in nothing but their labels: select one "
            "of these first, such as rdms.isel(rdm=rdms['roi'] == 'IT'), or average over it with average_rdms",
        ),
        (
            rdms.assign_coords(subject=("rdm", ["a", "a", "b"]), roi=("rdm", ["IT", "V1", "IT"])),
            "there are 2 RDMs of subject 'a', expected one each; they differ in 'roi': select one of these first, such "
            "as rdms.isel(rdm=rdms['roi'] == 'IT'), or average over it with average_rdms",
        ),
    ):
        with pytest.raises(ValueError) as error:
            rdl.noise_ceiling(wrong)
        assert str(error.value) == message


# bootstraps


@pytest.mark.parametrize("method", ["corr", "cosine"])
def test_moments_give_what_direct_comparison_gives(method):
    subjects = subjects_of(5, n=8)
    models, data = condense(models_of(subjects)), condense(subjects)
    draws = np.random.default_rng(0).integers(0, 8, (6, 8))
    draws[4] = [0, 0, 0, 0, 0, 1, 1, 1]  # two stimuli
    counts = np.array([2.0, 0, 1, 1, 1])
    quick = [s.row(counts) for s in bootstrap._Moments(models, data, method).resampled(draws)]
    direct = [s.row(counts) for s in bootstrap._Direct(models, data, method).resampled(draws)]
    np.testing.assert_allclose(quick, direct, atol=1e-11)
    assert np.isnan(quick[4]).all()
    assert np.isfinite(np.delete(quick, 4, 0)).all()


def test_copies_of_a_stimulus_make_no_pair():
    subjects = subjects_of(3, n=6)
    models, data = condense(models_of(subjects)), condense(subjects)
    draw = np.array([0, 0, 1, 2, 3, 5])
    (sample,) = bootstrap._Direct(models, data, "corr").resampled(draw[None])
    theirs = RDMs(data).subsample_pattern("index", draw)
    expected = rsa_compare(RDMs(models).subsample_pattern("index", draw), theirs, "corr")
    np.testing.assert_allclose(sample.scores, expected, atol=1e-12)
    np.testing.assert_allclose(sample.row(np.ones(3))[2:], boot_noise_ceiling(theirs, "corr"), atol=1e-12)


def test_the_bootstrap_over_stimuli_equals_rsatoolbox_within_monte_carlo_error():
    subjects = subjects_of(6)
    models = models_of(subjects)
    ours = score_models(models, subjects, over="stimuli", n_resamples=2000)
    np.random.seed(0)  # noqa: NPY002
    theirs = eval_bootstrap_pattern(
        [ModelFixed(str(k), RDMs(condense(models)[[k]])) for k in range(2)],
        RDMs(condense(subjects)),
        method="corr",
        N=250,
    )
    se = np.sqrt(theirs.model_var)
    np.testing.assert_allclose(ours.table["se"], se, rtol=0.15)  # √(1/2N) is 4.5 %, three of them
    half = stats.t.ppf(0.975, theirs.dof) * se
    np.testing.assert_allclose(ours.table["high"] - ours.table["low"], 2 * half, rtol=0.15)
    contrast = ours.contrasts()
    assert contrast["se"].item() == pytest.approx(np.sqrt(theirs.diff_var.item()), rel=0.15)


def test_the_two_factor_correction_equals_rsatoolbox_within_monte_carlo_error():
    subjects = subjects_of(9)
    models = models_of(subjects)
    ours = score_models(models, subjects, n_resamples=2000)
    assert ours.over == "both"
    np.random.seed(0)  # noqa: NPY002
    theirs = eval_dual_bootstrap(
        [ModelFixed(str(k), RDMs(condense(models)[[k]])) for k in range(2)],
        RDMs(condense(subjects)),
        method="corr",
        N=200,
    )
    np.testing.assert_allclose(ours.table["se"], np.sqrt(theirs.model_var), rtol=0.2)


def test_the_two_factor_correction_is_the_published_formula():
    rng = np.random.default_rng(0)
    draws = {factor: rng.normal(size=(400, 4)) * size for factor, size in (("a", 1.0), ("b", 0.7), ("c", 1.3))}
    resamples = bootstrap.Resamples(np.zeros(4), np.zeros((2, 9)), draws["a"], draws["b"], draws["c"], 30, 9)
    variances = np.stack([np.cov(draws[k].T) for k in ("c", "b", "a")])
    model, difference, ceiling = extract_variances(variances, n_rdm=9, n_pattern=30)
    for contrast, expected in (
        ([1, 0, 0, 0], model[0]),
        ([0, 1, 0, 0], model[1]),
        ([1, -1, 0, 0], difference[0]),
        ([1, 0, -1, 0], ceiling[0, 0]),
    ):
        assert resamples.standard_error(np.array(contrast)) == pytest.approx(np.sqrt(expected), rel=1e-10)


def test_the_interval_over_subjects_is_close_to_students():
    subjects = subjects_of(20)
    scores = score_models(models_of(subjects), subjects, over="subjects", n_resamples=4000)
    for model, row in scores.table.iterrows():
        each = scores.subjects.loc[model]
        expected = stats.t.interval(0.95, 19, each.mean(), each.std() / np.sqrt(20))
        np.testing.assert_allclose((row["low"], row["high"]), expected, atol=0.1 * each.std() / np.sqrt(20))
    assert scores.resamples.degrees_of_freedom == 19


@pytest.mark.parametrize("method", ["spearman", "cosine_cov", "tau-a"])
def test_other_methods_and_missing_pairs_are_resampled_too(method):
    subjects = subjects_of(8, n=7)
    values = condense(subjects)
    values[0, 3] = np.nan
    gappy = subjects.copy(data=rdl.label_rdms(values, IDS[:7], [str(k) for k in range(8)], "crossnobis").values)
    scores = score_models(models_of(subjects), gappy, method, n_resamples=20)
    np.testing.assert_allclose(
        scores.table["score"], rdl.compare_rdms(models_of(subjects), gappy, method).mean("rdm_b"), atol=1e-12
    )
    np.testing.assert_allclose(scores.ceiling, rdl.noise_ceiling(gappy, method), atol=1e-12)
    assert np.isfinite(scores.table.to_numpy()).all()


def test_few_subjects_speak_of_stimuli_only_and_it_says_so():
    subjects = subjects_of(4)
    models = models_of(subjects)
    scores = score_models(models, subjects, n_resamples=20)
    assert scores.over == "stimuli"
    assert scores.note == (
        "4 subjects are too few to generalise over subjects, which takes 8: intervals and tests generalise over "
        "stimuli, for these subjects only"
    )
    with pytest.raises(ValueError) as error:
        score_models(models, subjects, over="both")
    assert str(error.value) == (
        "4 subjects are too few to generalise over subjects, which takes 8; take over='stimuli', "
        "which generalises over stimuli, for these subjects only"
    )


def test_a_single_rdm_has_no_ceiling():
    subjects = subjects_of(1).drop_vars("subject")
    scores = score_models(models_of(subjects), subjects, n_resamples=20)
    assert np.isnan(scores.ceiling).all()
    assert scores.table["p_ceiling"].isna().all()
    assert scores.table["p"].notna().all()
    assert scores.note.startswith("1 subject is too few")


def test_contrasts_are_corrected_over_those_declared():
    subjects = subjects_of(9)
    near = models_of(subjects)
    other = models_of(subjects, seed=5).assign_coords(rdm=["near2", "far2"])
    scores = score_models(rdl.concat_rdms([near, other]), subjects, n_resamples=100)
    every = scores.contrasts()
    assert every[["a", "b"]].to_numpy().tolist()[:3] == [["near", "far"], ["near", "near2"], ["near", "far2"]]
    assert len(every) == 6
    one = scores.contrasts([("near", "far")])
    assert one["p_holm"].item() == one["p"].item() == every["p"].iloc[0]
    assert every["p_holm"].min() == pytest.approx(min(1, 6 * every["p"].min()))
    assert one["difference"].item() == pytest.approx(scores.table["score"]["near"] - scores.table["score"]["far"])
    with pytest.raises(ValueError) as error:
        scores.contrasts([("near", "for")])
    assert str(error.value) == "no model 'for' among near, far, near2, far2; did you mean 'far' or 'far2'?"


def test_fdr_is_benjamini_and_hochbergs():
    p = np.array([[0.001, 0.02], [0.03, 0.8]])
    np.testing.assert_allclose(fdr(p), [[0.004, 0.04], [0.04, 0.8]])
    assert np.isnan(fdr([np.nan])).all()


def test_resampling_is_repeatable_and_checks_its_options():
    subjects = condense(subjects_of(3, n=5))
    first = resample_scores(subjects[:1], subjects, "corr", "both", n_resamples=5, seed=3)
    again = resample_scores(subjects[:1], subjects, "corr", "both", n_resamples=5, seed=3)
    np.testing.assert_array_equal(first.both, again.both)
    for options, message in (
        ({"over": "voxels"}, "unknown over 'voxels'; known are: stimuli, subjects, both"),
        ({"over": "both", "n_resamples": 1}, "n_resamples must be at least 2, but is 1"),
    ):
        with pytest.raises(ValueError) as error:
            resample_scores(subjects[:1], subjects, "corr", **options)
        assert str(error.value) == message


# the table of known models


def test_known_scores_of_animacy_on_real_data():
    animacy = rdl.category_rdm(dict(zip(IDS, ANIMACY, strict=True)), "animacy")
    for rdms, group, single in ((human_it(), 0.577, 0.387), (cichy("IT"), 0.464, 0.248)):
        assert rdl.compare_rdms(animacy, rdl.average_rdms(rdms)).item() == pytest.approx(group, abs=5e-4)
        assert score_models(animacy, rdms, n_resamples=2).table["score"].item() == pytest.approx(single, abs=5e-4)


def test_known_agreement_of_the_two_studies():
    first, second = rdl.average_rdms(human_it()), rdl.average_rdms(cichy("IT"))
    assert rdl.compare_rdms(first, second).item() == pytest.approx(0.588, abs=5e-4)
    categories = dict(zip(IDS, CATEGORIES, strict=True))
    within = [rdl.remove_block_means(rdms, categories) for rdms in (first, second)]
    test = permutation_test(*within, within=categories, n_permutations=500)
    assert test.similarity.item() == pytest.approx(0.310, abs=5e-4)
    assert test.null.mean().item() == pytest.approx(0, abs=0.005)
    assert test.null.std().item() == pytest.approx(0.04, abs=0.005)
    assert test.p.item() == 1 / 501


# permutations


def test_permutations_move_rows_and_columns_together():
    subjects = subjects_of(2, n=5)
    a, b = subjects.isel(rdm=[0]), subjects.isel(rdm=[1])
    test = permutation_test(a, b, n_permutations=400)
    order = np.random.default_rng(0).permutation(5)  # the first draw of the default seed
    ids = a["stimulus"].values[order].tolist()
    moved = rdl.select_stimuli(a, ids)
    moved = moved.assign_coords(stimulus=a["stimulus"].values, stimulus_=a["stimulus"].values)
    assert test.null.values[0, 0, 0] == pytest.approx(rdl.compare_rdms(moved, b).item(), abs=1e-12)
    assert test.p.item() == pytest.approx((1 + (test.null >= test.similarity - 1e-12).sum().item()) / 401)


@pytest.mark.parametrize("method", ["spearman", "tau-a", "cosine_cov"])
def test_an_rdm_is_related_to_itself_by_every_method(method):
    subjects = subjects_of(2, n=8)
    test = permutation_test(subjects, subjects, method, n_permutations=99)
    assert test.p.values[0, 0] == test.p.values[1, 1] == 0.01
    xr.testing.assert_allclose(test.similarity, rdl.compare_rdms(subjects, subjects, method))


def test_permutations_within_categories_keep_what_categories_explain():
    rdms = rdl.category_rdm(dict.fromkeys(IDS[:5], "a") | dict.fromkeys(IDS[5:12], "b"))
    labels = {stimulus: int(k >= 5) for k, stimulus in enumerate(IDS[:12])}
    assert (permutation_test(rdms, rdms, within=labels, n_permutations=20).null > 1 - 1e-12).all()
    assert permutation_test(rdms, rdms, n_permutations=20).null.min() < 0.5


def test_permutation_refusals():
    rdms = subjects_of(2, n=5)
    ids = rdms["stimulus"].values.tolist()
    gap = rdms.copy(data=np.where(rdms.values == rdms.values[0, 0, 1], np.nan, rdms.values))
    for a, options, message in (
        (gap, {}, "pairs are missing; permuting would compare other pairs: take the stimuli measured throughout"),
        (rdms, {"n_permutations": 0}, "n_permutations must be at least 1, but is 0"),
        (rdms, {"within": {"s00": 1}}, "within has no category for 4 of 5 stimuli: 's01', 's02', 's03', 's04'"),
        (
            rdms,
            {"within": {s: s for s in ids}},
            "every category of within holds a single stimulus, so that nothing can change places",
        ),
    ):
        with pytest.raises(ValueError) as error:
            permutation_test(a, rdms, **options)
        assert str(error.value) == message


def test_three_stimuli_measure_no_uncertainty():
    rng = np.random.default_rng(0)
    models = rdl.label_rdms(rng.random((2, 3)), list("abc"), ["x", "y"], "undeclared")
    data = rdl.label_rdms(rng.random((1, 3)), list("abc"), ["IT"], "undeclared")
    scores = score_models(models, data, n_resamples=50)
    assert scores.table["score"].notna().all()
    assert scores.table.drop(columns="score").isna().all(axis=None)
    assert scores.contrasts()[["se", "low", "high", "p"]].isna().all(axis=None)
    assert scores.note == (
        "1 subject is too few to generalise over subjects, which takes 8: intervals and tests generalise over stimuli, "
        "for these subjects only; all usable resamples give one score to 'x', 'y', which says nothing of its "
        "uncertainty: intervals and tests are NaN, and take more stimuli"
    )


def test_draws_do_not_depend_on_the_order_of_the_stimuli():
    rng = np.random.default_rng(0)
    ids = [f"s{k}" for k in range(11)]
    a = rdl.label_rdms(rng.random((2, 55)), ids, ["x", "y"], "undeclared")
    b = rdl.label_rdms(rng.random((1, 55)), ids, ["IT"], "undeclared")
    moved = [rdl.select_stimuli(rdms, list(rng.permutation(ids))) for rdms in (a, b)]
    first, second = (score_models(*rdms, n_resamples=50).table for rdms in ((a, b), moved))
    np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-12)
    tests = (permutation_test(*rdms, n_permutations=20) for rdms in ((a, b), moved))
    np.testing.assert_allclose(*(test.null for test in tests), rtol=1e-9, atol=1e-12)


def test_what_permutations_stay_within():
    rng = np.random.default_rng(0)
    a = rdl.label_rdms(rng.random((1, 15)), list("abcdef"), ["x"], "undeclared")
    labels = dict(zip("abcdef", "uuvvww", strict=True))
    array = xr.DataArray(list("uuvvww"), dims=("stimulus",), coords={"stimulus": list("abcdef")})
    given, expected = (permutation_test(a, a, within=within, n_permutations=20) for within in (array, labels))
    np.testing.assert_array_equal(given.null, expected.null)
    for within, error, message in (
        (
            list("uuvvww"),
            TypeError,
            "within is a list, which has no stimulus ids; give a mapping: dict(zip(ids, labels))",
        ),
        (
            {**labels, "a": None},
            ValueError,
            "within has a missing label (None or NaN) for 1 of 6 stimuli: 'a'; leave these stimuli out, or give them "
            "a category",
        ),
    ):
        with pytest.raises(error) as raised:
            permutation_test(a, a, within=within)
        assert str(raised.value) == message
    for options, error, message in (
        ({"n_permutations": 9.5}, TypeError, "n_permutations is 9.5; expected a whole number"),
        ({"seed": -1}, ValueError, "seed must be at least 0, but is -1"),
    ):
        with pytest.raises(error) as raised:
            permutation_test(a, a, **options)
        assert str(raised.value) == message


def test_a_subjects_own_rdm_among_the_models_is_said():
    subjects = subjects_of()
    own = subjects.isel(rdm=[3]).drop_vars("subject")
    own = own.copy(data=2 * own.values).assign_coords(rdm=["mine"])
    name = subjects["subject"].values[3]
    assert score_models(own, subjects, n_resamples=10).note.endswith(
        f"model 'mine' holds the same distances as subject '{name}', so that a measurement is scored against itself; "
        "leave one of the two out"
    )
    assert "itself" not in score_models(models_of(subjects), subjects, n_resamples=10).note
