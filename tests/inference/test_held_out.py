"""Scores on held-out stimuli: against direct computation, leaks, undefined cases, intervals."""

import re

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.spatial.distance import pdist

import brainrdl as rdl
from brainrdl.inference import subject_rdms
from brainrdl.inference.fold_scores import score_folds
from brainrdl.inference.folds import draw
from brainrdl.inference.held_out import HeldOut, Prediction, held_out_scores
from brainrdl.inference.splits import Split, category_splits, random_splits, stratified_splits
from brainrdl.rdms.labelled import condense

PEOPLE = [f"sub-{k:02}" for k in range(1, 9)]


ANY = "."  # the whole messages are compared below


def labels_of(n_each, n_categories=4):
    return {f"{kind}-{k:02}": kind for kind in "abcdefgh"[:n_categories] for k in range(n_each)}


def arms_of(values, ids, names, seeds=None):
    seeds = [0] * len(names) if seeds is None else seeds
    labels = [f"{name}/{seed}" for name, seed in zip(names, seeds, strict=True)]
    return rdl.label_rdms(values, ids, labels, "undeclared", {"arm": list(names), "seed": seeds})


def brains_of(values, ids):
    people = PEOPLE[: len(values)]
    return rdl.label_rdms(values, ids, people, "undeclared", {"subject": people})


class Study:
    """Two arms of two seeds each, subjects, and controls of which one is a category model."""

    def __init__(self, n_each=9, n_people=5, seed=0):
        rng = np.random.default_rng(seed)
        self.labels = labels_of(n_each)
        self.ids = list(self.labels)
        n_pairs = len(self.ids) * (len(self.ids) - 1) // 2
        category = rdl.category_rdm(self.labels, "category")
        other = rdl.label_rdms(rng.random((2, n_pairs)), self.ids, ["silhouette", "pixels"], "undeclared")
        self.controls = rdl.concat_rdms([category, other])
        controls = condense(self.controls)
        shared = rng.random(n_pairs) + controls.sum(axis=0)
        models = shared * np.array([[1.0], [1], [0.3], [0.3]]) + rng.random((4, n_pairs))
        self.models = arms_of(models, self.ids, ["rdl", "rdl", "task_only", "task_only"], [0, 1, 0, 1])
        self.brains = brains_of(shared + 2 * rng.random((n_people, n_pairs)), self.ids)
        self.split = stratified_splits(self.labels, 3)[1]

    def scored(self, split=None, **options):
        options = {"categories": self.labels, "controls": self.controls} | options
        return held_out_scores([Prediction(self.models, ())], self.brains, split or self.split, **options)

    def folds(self, **options):
        return [self.scored(split, **options) for split in stratified_splits(self.labels, 3)]


def residuals(rdms, controls, *, intercept=True):
    """Least squares, one RDM at a time."""
    rows = condense(controls)
    design = np.column_stack([*rows, *([np.ones(rows.shape[1])] if intercept else [])])
    values = [row - design @ np.linalg.lstsq(design, row, rcond=None)[0] for row in condense(rdms)]
    coords = {"subject": rdms["subject"].values} if "subject" in rdms.coords else {}
    return rdl.label_rdms(np.stack(values), rdms["stimulus"].values, rdms["rdm"].values, "undeclared", coords)


def values_of(scored: HeldOut, score, column="value"):
    return scored.table[scored.table["score"] == score][column].to_numpy()


# values


@pytest.mark.parametrize("method", ["corr", "cosine"])
def test_scores_and_ceilings_are_those_of_the_held_out_pairs_alone(method):
    study = Study()
    scored = study.scored(method=method)
    assert scored.table.columns.tolist() == [
        *("arm", "seed", "score", "value", "ceiling_lower", "ceiling_upper", "n_pairs")
    ]
    assert scored.table["score"].tolist() == ["raw"] * 4 + ["partial"] * 4 + ["within_category"] * 4
    assert scored.table["arm"].tolist() == ["rdl", "rdl", "task_only", "task_only"] * 3
    assert scored.table["seed"].tolist() == [0, 1, 0, 1] * 3
    assert set(scored.table["n_pairs"]) == {66}
    assert scored.dropped == ()
    models, brains, controls = (
        rdl.select_stimuli(rdms, study.split.held_out) for rdms in (study.models, study.brains, study.controls)
    )
    left = {rdms: rdl.remove_block_means(given, study.labels) for rdms, given in (("m", models), ("b", brains))}
    expected = {
        "raw": (rdl.compare_rdms(models, brains, method), rdl.noise_ceiling(brains, method)),
        "partial": (
            rdl.compare_rdms(models, brains, method, controls=controls),
            rdl.noise_ceiling(residuals(brains, controls, intercept=method == "corr"), method),
        ),
        "within_category": (
            rdl.compare_rdms(left["m"], left["b"], method),
            rdl.noise_ceiling(left["b"], method),
        ),
    }
    for score, (similar, ceiling) in expected.items():
        np.testing.assert_allclose(values_of(scored, score), similar.mean("rdm_b"), atol=1e-12)
        np.testing.assert_allclose(values_of(scored, score, "ceiling_lower"), ceiling.lower, atol=1e-12)
        np.testing.assert_allclose(values_of(scored, score, "ceiling_upper"), ceiling.upper, atol=1e-12)


def test_training_and_straddling_pairs_touch_nothing():
    study = Study()
    before = study.scored().table
    held = np.isin(study.ids, study.split.held_out)
    elsewhere = ~(held[:, None] & held)
    noise = np.random.default_rng(1).random(elsewhere.shape)
    for rdms in (study.models, study.brains, study.controls):
        rdms.values[:, elsewhere] += (noise + noise.T)[elsewhere] * (1 - np.eye(len(study.ids)))[elsewhere]
    assert study.scored().table.equals(before)
    study.brains.values[:, held[:, None] & held] **= 2
    assert not study.scored().table.equals(before)


def test_sessions_are_averaged_within_subjects():
    study = Study()
    people = [*PEOPLE[:3], *PEOPLE[:2]]
    sessions = rdl.label_rdms(
        condense(study.brains),
        study.ids,
        list("vwxyz"),
        "undeclared",
        {"subject": people, "session": ["1", "1", "1", "2", "2"]},
    )
    scored = held_out_scores(
        [Prediction(study.models, ())], sessions, study.split, categories=study.labels, controls=study.controls
    )
    study.brains = subject_rdms(sessions)
    assert scored.subjects == tuple(PEOPLE[:3])
    assert scored.table.equals(study.scored().table)


def test_a_pair_that_one_lacks_is_left_out_for_all():
    study = Study()
    a, b, c = sorted(study.split.held_out)[:3]
    for rdms, (x, y) in ((study.models, (a, b)), (study.brains, (a, c)), (study.controls, (b, c))):
        at, to = study.ids.index(x), study.ids.index(y)
        rdms.values[1, at, to] = rdms.values[1, to, at] = np.nan
    scored = study.scored()
    assert set(scored.table["n_pairs"]) == {63}
    gap = np.zeros((len(study.ids),) * 2)
    for x, y in ((a, b), (a, c), (b, c)):
        gap[study.ids.index(x), study.ids.index(y)] = gap[study.ids.index(y), study.ids.index(x)] = np.nan
    models, brains, controls = (
        rdl.select_stimuli(rdms.copy(data=rdms.values + gap), study.split.held_out)
        for rdms in (study.models, study.brains, study.controls)
    )
    similar = rdl.compare_rdms(models, brains, controls=controls).mean("rdm_b")
    np.testing.assert_allclose(values_of(scored, "partial"), similar, atol=1e-12)
    left = [rdl.remove_block_means(rdms, study.labels) for rdms in (models, brains)]
    np.testing.assert_allclose(values_of(scored, "within_category"), rdl.compare_rdms(*left).mean("rdm_b"), atol=1e-12)
    lower, upper = rdl.noise_ceiling(left[1])
    assert values_of(scored, "within_category", "ceiling_lower")[0] == pytest.approx(lower, abs=1e-12)
    assert values_of(scored, "within_category", "ceiling_upper")[0] == pytest.approx(upper, abs=1e-12)
    assert np.isfinite(score_folds([scored], n_resamples=20).table["se"]).all()


def test_the_order_of_stimuli_and_subjects_means_nothing():
    study = Study(n_people=8)
    folds = study.folds()
    before = score_folds(folds, contrasts=[("rdl", "task_only")], n_resamples=50)
    rng = np.random.default_rng(3)
    for name in ("models", "brains", "controls"):
        setattr(study, name, rdl.select_stimuli(getattr(study, name), rng.permutation(study.ids).tolist()))
    study.brains = study.brains.isel(rdm=rng.permutation(8))
    study.labels = {stimulus: study.labels[stimulus] for stimulus in rng.permutation(study.ids).tolist()}
    permuted = study.folds()
    for one, other in zip(folds, permuted, strict=True):
        np.testing.assert_allclose(one.table["value"], other.table["value"], atol=1e-13)
    after = score_folds(permuted[::-1], contrasts=[("rdl", "task_only")], n_resamples=50)
    assert before.over == after.over == "both"
    for name in ("table", "contrasts"):
        numbers = [getattr(scores, name).select_dtypes("number") for scores in (before, after)]
        np.testing.assert_allclose(*numbers, atol=1e-12)


# what is undefined


def test_a_control_that_is_constant_is_dropped_and_named():
    study = Study()
    split = category_splits(study.labels)[2]
    scored = study.scored(split)
    assert scored.dropped == ("category",)
    models, brains, controls = (
        rdl.select_stimuli(rdms, split.held_out)
        for rdms in (study.models, study.brains, study.controls.sel(rdm=["silhouette", "pixels"]))
    )
    similar = rdl.compare_rdms(models, brains, controls=controls).mean("rdm_b")
    np.testing.assert_allclose(values_of(scored, "partial"), similar, atol=1e-12)
    # one category has one block, so that its mean is all that is removed
    np.testing.assert_allclose(values_of(scored, "within_category"), values_of(scored, "raw"), atol=1e-12)


def test_arms_of_which_nothing_is_left_have_no_score():
    study = Study()
    mixture = 0.1 + condense(study.controls).T @ [0.3, 0.2, 0.5]
    category = 0.3 + 0.4 * condense(study.controls)[0]
    study.models = arms_of([*condense(study.models)[[0]], mixture, category], study.ids, ["rdl", "mixture", "category"])
    folds = study.folds()
    for scored in folds:
        undefined = np.isnan(scored.table["value"]).to_numpy().reshape(3, 3)
        np.testing.assert_array_equal(undefined, [[0, 0, 0], [0, 1, 1], [0, 0, 1]])
    scores = score_folds(folds, contrasts=[("rdl", "category"), ("rdl", "mixture")], n_resamples=30)
    for column in ("value", "se", "low", "high"):
        np.testing.assert_array_equal(np.isnan(scores.table[column]), undefined.ravel())
    for column in ("difference", "se", "low", "high", "p", "p_holm"):
        np.testing.assert_array_equal(np.isnan(scores.contrasts[column]), [False, False, True, True, True, False])
    # within a category a category model does not vary
    message = (
        "split 'a': no raw score by 'corr' on the held-out pairs for 'category/0', which is constant (every distance "
        "is 0.3)"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        alone = study.scored(category_splits(study.labels)[0])
    assert np.isnan(values_of(alone, "raw")[2])
    assert np.isnan(values_of(alone, "partial")[2])


def test_blocks_of_one_pair_leave_nothing():
    labels = labels_of(2, 3)
    ids = list(labels)
    rng = np.random.default_rng(0)
    models, brains = arms_of(rng.random((1, 15)), ids, ["m"]), brains_of(rng.random((3, 15)), ids)
    split = Split("by hand", "one of each", ids[1::2], ids[::2])
    scored = held_out_scores([Prediction(models, ())], brains, split, categories=labels, controls=None)
    within = scored.table[scored.table["score"] == "within_category"]
    assert np.isnan(within[["value", "ceiling_lower", "ceiling_upper"]]).all(axis=None)
    assert np.isfinite(values_of(scored, "raw")).all()


def test_a_single_subject_has_no_ceiling():
    study = Study(n_people=1)
    scored = study.scored()
    assert np.isnan(scored.table[["ceiling_lower", "ceiling_upper"]]).all(axis=None)
    assert np.isfinite(scored.table["value"]).all()
    scores = score_folds(study.folds(), n_resamples=30)
    assert scores.over == "stimuli"
    assert np.isnan(scores.table["ceiling_lower"]).all()
    assert np.isfinite(scores.table["se"]).all()


# refusals


def test_a_model_is_not_scored_on_what_it_was_fitted_to():
    study = Study()
    first, second = study.split.held_out[:2]
    fitted = Prediction(study.models.isel(rdm=[0, 1]), (*study.split.training, second, first))
    with pytest.raises(ValueError) as raised:
        held_out_scores([fitted], study.brains, study.split, categories=study.labels, controls=None)
    assert str(raised.value) == (
        f"'rdl' was fitted to 2 of the 12 stimuli that split 'fold-2' holds out: '{second}', '{first}'; a score on "
        "them would say how well it was fitted, not what it predicts: fit it to split.training"
    )
    fitted = Prediction(study.models, study.split.training)
    scored = held_out_scores([fitted], study.brains, study.split, categories=study.labels, controls=None)
    np.testing.assert_array_equal(scored.table["value"], study.scored(controls=None).table["value"])


def test_a_fit_to_another_spelling_of_what_is_held_out_is_said():
    study = Study()
    fitted = [f"{stimulus}.png" for stimulus in study.split.held_out]
    with pytest.warns(UserWarning, match=ANY) as said:
        held_out_scores(
            [Prediction(study.models, fitted)], study.brains, study.split, categories=study.labels, controls=None
        )
    held_out = study.split.held_out[0]
    assert [str(warning.message) for warning in said] == [
        f"'rdl', 'task_only' was fitted to stimuli that split {study.split.name!r} does not have; did you mean "
        f"{held_out!r}, which differs from {fitted[0]!r} in the suffix of a file?; were they those that it holds out, "
        "a score on them would say how well it was fitted: give fitted_to the split's ids"
    ]


def without(study, name):
    return rdl.select_stimuli(getattr(study, name), [s for s in study.ids if s != study.split.held_out[0]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda s: s.scored(method="spearman"),
            ValueError,
            "held-out scores are defined for corr and cosine, not 'spearman'",
        ),
        (
            lambda s: held_out_scores([], s.brains, s.split, categories=s.labels, controls=None),
            ValueError,
            "predicted is empty; give at least one arm to score",
        ),
        (
            lambda s: held_out_scores(
                [Prediction(s.models, ()), Prediction(s.models[:1], ())],
                s.brains,
                s.split,
                categories=s.labels,
                controls=None,
            ),
            ValueError,
            "an arm has one RDM per seed, but these (arm, seed) occur more than once: ('rdl', 0)",
        ),
        (
            lambda s: Prediction(s.models.assign_coords(seed=("rdm", [0, 0, 1, 1])), ()),
            ValueError,
            "an arm has one RDM per seed, but these (arm, seed) occur more than once: ('rdl', 0), ('task_only', 1)",
        ),
        (
            lambda s: Prediction(s.models.drop_vars("seed"), ()),
            ValueError,
            "predicted RDMs have no coordinate 'seed' along 'rdm'; add it: rdms.assign_coords(seed=('rdm', [...]))",
        ),
        (
            lambda s: Prediction(s.models.assign_coords(seed=("rdm", [0.5, 1, 2, 3])), ()),
            TypeError,
            "coordinate 'seed' of predicted RDMs is of type float64; expected a whole number for each RDM",
        ),
        (
            lambda s: Prediction(s.models, "abc"),
            TypeError,
            "fitted_to is one string, 'abc'; expected a sequence of strings: ['abc']",
        ),
        (
            lambda s: held_out_scores(
                [Prediction(without(s, "models"), ())], s.brains, s.split, categories=s.labels, controls=None
            ),
            ValueError,
            "predicted RDMs of 'rdl' lack 1 of 12 held-out stimuli: 'a-00'",
        ),
        (
            lambda s: held_out_scores(
                [Prediction(s.models, ())], without(s, "brains"), s.split, categories=s.labels, controls=None
            ),
            ValueError,
            "the subjects' RDMs lack 1 of 12 held-out stimuli: 'a-00'",
        ),
        (
            lambda s: s.scored(controls=without(s, "controls")),
            ValueError,
            "the controls lack 1 of 12 held-out stimuli: 'a-00'",
        ),
        (
            lambda s: s.scored(categories={k: v for k, v in s.labels.items() if k != "a-00"}),
            ValueError,
            "categories has none for 1 of 12 held-out stimuli: 'a-00'",
        ),
        (lambda s: score_folds([]), ValueError, "folds is empty; give the held-out scores of at least one split"),
        (
            lambda s: score_folds([s.scored(), s.scored()]),
            ValueError,
            "the names of the folds' splits must be unique, but these occur more than once: 'fold-2'",
        ),
        (
            lambda s: score_folds([s.scored(), s.scored(category_splits(s.labels)[0])]),
            ValueError,
            "folds 'fold-2' and 'a' cannot be averaged: they differ in scheme, 'stratified' and "
            "'leave_one_category_out'",
        ),
        (
            lambda s: score_folds([s.folds()[0], s.folds(controls=None)[1]]),
            ValueError,
            "folds 'fold-1' and 'fold-2' cannot be averaged: they differ in scores, 'partial' alone in the first and "
            "none alone in the second",
        ),
        (
            lambda s: score_folds(s.folds(), contrasts=[("rdl", "task")]),
            ValueError,
            "no model 'task' among rdl, task_only; did you mean 'task_only'?",
        ),
        (
            lambda s: score_folds(s.folds(), contrasts=[("rdl", "rdl")]),
            ValueError,
            "a contrast of 'rdl' with itself; name two models",
        ),
        (
            lambda s: score_folds(s.folds(), level=95),
            ValueError,
            "level must lie between 0 and 1, such as 0.95, but is 95",
        ),
        (
            lambda s: score_folds(s.folds(), over="both"),
            ValueError,
            "5 subjects are too few to generalise over subjects, which takes 8; take over='stimuli', "
            "which generalises over stimuli, for these subjects only",
        ),
    ],
)
def test_refusals(call, error, message):
    with pytest.raises(error) as raised:
        call(Study())
    assert str(raised.value) == message


def test_scores_need_pairs_that_all_have_measured():
    study = Study()
    values = np.full_like(study.brains.values[0], np.nan)
    a, b = (study.ids.index(stimulus) for stimulus in study.split.held_out[:2])
    values[a, b] = values[b, a] = 1
    np.fill_diagonal(values, 0)
    study.brains.values[3] = values
    with pytest.raises(ValueError) as raised:
        study.scored()
    assert str(raised.value) == (
        "split 'fold-2': 1 of 66 held-out pairs are measured in all of 5 subjects, 4 models and 3 controls; scores "
        "need at least 2: leave out the RDMs that lack most"
    )


# averages and intervals


def test_scores_are_averaged_over_folds_and_seeds():
    study = Study(n_people=8)
    folds = study.folds()
    scores = score_folds(folds, contrasts=[("rdl", "task_only"), ("task_only", "rdl")], n_resamples=60)
    assert scores.table.columns.tolist() == [
        *("arm", "score", "value", "se", "low", "high", "ceiling_lower", "ceiling_upper"),
        *("n_folds", "n_seeds", "n_subjects", "n_stimuli", "over"),
    ]
    counts = scores.table[["n_folds", "n_seeds", "n_subjects", "n_stimuli", "over"]].drop_duplicates().values.tolist()
    assert counts == [[3, 2, 8, 36, "both"]]
    for row in scores.table.itertuples():
        of_row = [
            f.table[(f.table["arm"] == row.arm) & (f.table["score"] == row.score)].mean(numeric_only=True)
            for f in folds
        ]
        for column in ("value", "ceiling_lower", "ceiling_upper"):
            assert getattr(row, column) == pytest.approx(np.mean([mean[column] for mean in of_row]), abs=1e-12)
    assert scores.contrasts.columns.tolist() == [*("a", "b", "score", "difference", "se", "low", "high", "p", "p_holm")]
    values = scores.table.set_index(["score", "arm"])["value"]
    for row in scores.contrasts.itertuples():
        assert row.difference == pytest.approx(values[row.score, row.a] - values[row.score, row.b], abs=1e-12)
        assert row.p_holm == pytest.approx(min(1, 2 * row.p))
        assert (row.low + row.high) / 2 == pytest.approx(row.difference)
    assert (scores.contrasts[scores.contrasts["a"] == "rdl"]["difference"] > 0).all()


@pytest.mark.parametrize("alone", [True, False])
def test_a_resample_is_scored_as_if_its_stimuli_had_been_measured(alone):
    """Each draw laid out stimulus by stimulus, without self-pairs, regressed and compared by numpy."""
    study = Study(n_people=8)
    splits = stratified_splits(study.labels, 3) if alone else random_splits(study.labels, 3, held_out=0.35)
    folds = [study.scored(split) for split in splits]
    found = score_folds(folds, n_resamples=4, seed=5).resamples
    names = [fold.pairs["raw"].stimuli for fold in folds]
    draws = draw(names, 8, n_resamples=4, seed=5)
    assert draws.n_parts == (3 if alone else 1)
    if not alone:  # a stimulus is drawn as often in every fold that holds it
        often = [dict(zip(fold, counts[0], strict=True)) for fold, counts in zip(names, draws.stimuli, strict=True)]
        shared = set(names[0]) & set(names[1])
        assert shared
        assert [often[0][s] for s in shared] == [often[1][s] for s in shared]
    expected = {score: np.zeros((4, 2)) for score in found}
    with_subjects = {score: np.zeros((4, 2)) for score in found}
    for fold, counts in zip(names, draws.stimuli, strict=True):
        at = np.array([study.ids.index(stimulus) for stimulus in fold])
        for k in range(4):
            drawn = np.repeat(at, counts[k].astype(int))
            i, j = np.triu_indices(len(drawn), 1)
            i, j = (drawn[which][drawn[i] != drawn[j]] for which in (i, j))
            kind = np.array([study.labels[stimulus] for stimulus in study.ids])
            blocks = [f"{min(a, b)}{max(a, b)}" for a, b in zip(kind[i], kind[j], strict=True)]
            ones = np.ones((len(i), 1))
            designs = {
                "raw": ones,
                "partial": np.column_stack((ones, *study.controls.values[:, i, j])),
                "within_category": np.array(blocks)[:, None] == np.unique(blocks),
            }
            for score, design in designs.items():
                rows = np.concatenate((study.models.values[:, i, j], study.brains.values[:, i, j])).T
                left = rows - design @ np.linalg.lstsq(design.astype(float), rows, rcond=None)[0]
                similar = np.corrcoef(left.T)[:4, 4:].reshape(2, 2, 8).mean(axis=1)
                expected[score][k] += similar.mean(axis=1) / 3
                with_subjects[score][k] += similar @ draws.subjects[k] / 8 / 3
    for score, resamples in found.items():
        np.testing.assert_allclose(resamples.stimuli[:, :2], expected[score], atol=1e-10)
        np.testing.assert_allclose(resamples.both[:, :2], with_subjects[score], atol=1e-10)


def test_ceilings_of_resampled_subjects_leave_out_all_copies():
    study = Study(n_people=8)
    resamples = score_folds([study.scored()], over="subjects", n_resamples=3).resamples["within_category"]
    counts = draw([study.split.held_out], 8, n_resamples=3, seed=0).subjects
    left = rdl.remove_block_means(rdl.select_stimuli(study.brains, study.split.held_out), study.labels)
    z = condense(left) / condense(left).std(axis=1, keepdims=True)
    for k, times in enumerate(counts.astype(int)):
        lower = [
            np.corrcoef(z[s], np.delete(z, s, 0).T @ np.delete(times, s))[0, 1] for s in np.repeat(range(8), times)
        ]
        upper = [np.corrcoef(z[s], z.T @ times)[0, 1] for s in np.repeat(range(8), times)]
        np.testing.assert_allclose(resamples.subjects[k, -2:], [np.mean(lower), np.mean(upper)], atol=1e-12)


def test_draws_of_fewer_than_three_stimuli_are_left_out():
    labels = labels_of(3, 2)
    ids = list(labels)
    rng = np.random.default_rng(0)
    models, brains = arms_of(rng.random((1, 15)), ids, ["m"]), brains_of(rng.random((2, 15)), ids)
    split = Split("by hand", "one", ids[3:], ids[:3])
    fold = held_out_scores([Prediction(models, ())], brains, split, categories=labels, controls=None)
    drawn = score_folds([fold], n_resamples=200).resamples["raw"].stimuli
    counts = draw([split.held_out], 2, n_resamples=200, seed=0).stimuli[0]
    np.testing.assert_array_equal(np.isnan(drawn[:, 0]), (counts > 0).sum(axis=1) < 3)
    assert 0.6 < np.isnan(drawn[:, 0]).mean() < 0.9  # 3!/3³ = .22 have all three


def test_intervals_cover_differences():
    """Arms see some of the features that brains see; the truth is the mean over data sets."""
    labels = labels_of(10, 3)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        features = rng.normal(size=(30, 12)) + np.repeat(rng.normal(size=(3, 12)), 10, axis=0) * 0.5
        models = np.stack([pdist(features[:, :8]), pdist(features[:, :3])])
        brains = pdist(features) + rng.normal(size=(8, 435)) + 0.5 * rng.normal(size=(8, 1)) * pdist(features[:, 8:])
        predicted, people = Prediction(arms_of(models, list(labels), "ab"), ()), brains_of(brains, list(labels))
        folds = [
            held_out_scores([predicted], people, split, categories=labels, controls=None)
            for split in stratified_splits(labels, 2)
        ]
        found.append(score_folds(folds, contrasts=[("a", "b")], n_resamples=100).contrasts.set_index("score"))
    for score in ("raw", "within_category"):
        low, high, difference = (
            np.array([f.loc[score, name] for f in found]) for name in ("low", "high", "difference")
        )
        truth = difference.mean()
        assert np.mean((low <= truth) & (truth <= high)) >= 0.85
        assert (high - low).mean() < 2 * 2.5 * 1.96 * difference.std()  # and not for being endless


# leaks, and what category structure fakes


def fitted_weights(features, target, pairs):
    """Non-negative weights of squared differences per feature, least squares on some pairs."""
    i, j = np.triu_indices(len(features), 1)
    design = np.square(features[i] - features[j])[pairs]
    solution = nnls(np.column_stack((design, np.ones(pairs.sum()))), target[pairs])[0]
    return solution[:-1]


def weighted(features, weights):
    return pdist(features * np.sqrt(weights), "sqeuclidean")


def test_scoring_on_training_or_straddling_pairs_would_have_read_higher():
    labels = labels_of(12)
    ids = list(labels)
    rng = np.random.default_rng(0)
    brain = pdist(rng.normal(size=(48, 30)) * rng.gamma(2, size=(48, 1)), "sqeuclidean")
    features = rng.normal(size=(48, 60))  # which have nothing to do with the brain
    i, j = np.triu_indices(48, 1)
    means: dict[str, list[float]] = {"training": [], "straddling": [], "held out": []}
    folds = []
    for split in stratified_splits(labels, 4):
        held = np.isin(ids, split.held_out)
        kinds = {"training": ~held[i] & ~held[j], "straddling": held[i] != held[j], "held out": held[i] & held[j]}
        model = weighted(features, fitted_weights(features, brain, kinds["training"]))
        for kind, pairs in kinds.items():
            means[kind].append(np.corrcoef(model[pairs], brain[pairs])[0, 1])
        predicted = Prediction(arms_of(model[None], ids, ["fitted"]), split.training)
        folds.append(held_out_scores([predicted], brains_of(brain[None], ids), split, categories=labels, controls=None))
    training, straddling, held_out = (np.mean(means[kind]) for kind in ("training", "straddling", "held out"))
    assert training > held_out + 0.3
    assert straddling > held_out + 0.1
    table = score_folds(folds, n_resamples=50).table.set_index("score")
    assert table.loc["raw", "value"] == pytest.approx(held_out, abs=1e-12)
    assert abs(held_out) < 0.1
    for split in stratified_splits(labels, 4)[1:]:  # which hold out what the first split's model was fitted to
        with pytest.raises(ValueError, match="was fitted to 12 of the 12 stimuli"):
            held_out_scores(
                [Prediction(arms_of(model[None], ids, ["fitted"]), ids)],
                brains_of(brain[None], ids),
                split,
                categories=labels,
                controls=None,
            )


def test_category_structure_gives_no_gain_beyond_categories():
    """40 data sets: an arm fitted to brains that know categories only, against the same features unfitted."""
    labels = labels_of(12)
    ids, kind = list(labels), np.repeat(range(4), 12)
    animacy = {stimulus: label in "ab" for stimulus, label in labels.items()}
    controls = rdl.concat_rdms([rdl.category_rdm(animacy, "animacy"), rdl.category_rdm(labels, "four_category")])
    rng = np.random.default_rng(0)
    above, gains = {"raw": 0, "partial": 0, "within_category": 0}, []
    for _ in range(40):
        centres = np.column_stack((kind < 2, np.eye(4)[kind]))
        brains = np.stack(
            [pdist(np.column_stack((4 * centres, rng.normal(size=(48, 20)))), "sqeuclidean") for _ in range(8)]
        )
        features = rng.normal(size=(48, 40)) + 3 * np.column_stack((centres, np.zeros((48, 35))))
        i, j = np.triu_indices(48, 1)
        folds = []
        for split in stratified_splits(labels, 4):
            held = np.isin(ids, split.held_out)
            weights = fitted_weights(features, brains.mean(axis=0), ~held[i] & ~held[j])
            arms = [
                Prediction(arms_of(weighted(features, weights)[None], ids, ["fitted"]), split.training),
                Prediction(arms_of(weighted(features, np.ones(40))[None], ids, ["unfitted"]), ()),
            ]
            folds.append(held_out_scores(arms, brains_of(brains, ids), split, categories=labels, controls=controls))
        tested = score_folds(folds, contrasts=[("fitted", "unfitted")], n_resamples=100).contrasts
        gains.append(tested.set_index("score")["difference"])
        for row in tested.itertuples():
            above[row.score] += row.low > 0
    assert above["raw"] >= 15  # a gain that is category structure
    assert above["partial"] <= 5
    assert above["within_category"] <= 5
    for score in ("partial", "within_category"):
        values = np.array([gain[score] for gain in gains])
        assert abs(values.mean()) < 3 * values.std() / np.sqrt(40)
