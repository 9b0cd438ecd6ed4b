import json
import re

import numpy as np
import pytest
import xarray as xr
from scipy.stats import rankdata

from brainrdl.rdms.combine import average_rdms, concat_rdms, mean_of_measured, scale_for, to_scale
from brainrdl.rdms.labelled import condense, label_rdms, select_stimuli
from brainrdl.rdms.layout import check_rdms
from labelled_rdms import IDS, one, several


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


# concat_rdms


def test_rdms_are_joined_on_ids():
    rdms = several(6, roi=["V1", "IT"] * 3, standard_error=np.random.default_rng(1).random((6, 10)))
    shuffled = select_stimuli(rdms.isel(rdm=[2, 3]), rdms["stimulus"].values[::-1])
    joined = concat_rdms([rdms.isel(rdm=[0, 1]), shuffled, rdms.isel(rdm=[4, 5])])
    xr.testing.assert_identical(joined, rdms)


def test_strings_from_files_join_strings_from_python():
    theirs = one(roi=["IT"])
    theirs = theirs.assign_coords(rdm=["V1"], roi=("rdm", np.array(["V1"], dtype=object)))
    assert concat_rdms([one(roi=["IT"]), theirs])["roi"].values.tolist() == ["IT", "V1"]


def named(rdms, *labels):
    return rdms.assign_coords(rdm=list(labels))


def test_provenances_that_differ_are_all_kept():
    a, b, c, d = (named(one(), name) for name in "abcd")
    a.attrs["provenance"] = b.attrs["provenance"] = '{"file": 1}'
    c.attrs["provenance"] = '{"file": 2}'
    assert concat_rdms([a, b]).attrs["provenance"] == '{"file": 1}'
    assert json.loads(concat_rdms([concat_rdms([a, c]), d]).attrs["provenance"]) == {
        "concatenated": [
            {"rdm": ["a"], "provenance": {"file": 1}},
            {"rdm": ["c"], "provenance": {"file": 2}},
            {"rdm": ["d"], "provenance": None},
        ]
    }
    assert "provenance" not in d.attrs


@pytest.mark.parametrize(
    ("rdms", "error", "message"),
    [
        (
            one(),
            TypeError,
            "rdms is a single DataArray; expected a list of labelled RDMs: concat_rdms([a, b])",
        ),
        ([], ValueError, "rdms is empty; expected at least one labelled RDM"),
        (
            [one(), one()],
            ValueError,
            (
                "labels along 'rdm' must be unique, but these occur more than once: 'IT'; give the "
                "arrays by name, as in {'first': rdms, 'second': others}, and the name comes before each label"
            ),
        ),
        (
            [one(), named(one("cosine"), "V1")],
            ValueError,
            (
                "metrics differ: 'correlation' in rdms[0], 'cosine' in rdms[1]; RDMs of different metrics "
                "have different scales, so keep them in separate arrays"
            ),
        ),
        (
            [one(), label_rdms(np.ones((1, 3)), ["face", "house", "shoe"], ["V1"], "correlation")],
            ValueError,
            (
                "rdms[1] has other stimuli than rdms[0]: it lacks 'body' and adds 'shoe'; take the common "
                "ones of both with select_stimuli"
            ),
        ),
        (
            [one(), select_stimuli(named(one(), "V1"), ["face", "house"])],
            ValueError,
            (
                "rdms[1] has other stimuli than rdms[0]: it lacks 'body'; take the common ones of both with "
                "select_stimuli"
            ),
        ),
        (
            [one(roi="IT", subject="a"), named(one(), "V1")],
            ValueError,
            (
                "rdms[1] lacks the coordinates of rdms[0] 'roi', 'subject'; add them to the one or remove "
                "them from the other with drop_vars, as nothing is filled in"
            ),
        ),
        (
            [one(), named(one(standard_error=np.ones((1, 3))), "V1")],
            ValueError,
            (
                "rdms[0] lacks the coordinates of rdms[1] 'standard_error'; add them to the one or remove "
                "them from the other with drop_vars, as nothing is filled in"
            ),
        ),
        (
            [one(subject=1), named(one(subject="a"), "V1")],
            ValueError,
            (
                "coordinate 'subject' holds int64 in rdms[0], but <U1 in rdms[1]; convert one of them, as "
                "strings and numbers do not mix"
            ),
        ),
        (
            [one(kind="a"), named(one().assign_coords(kind=("stimulus", list("aba"))), "V1")],
            ValueError,
            ("coordinate 'kind' lies along ('rdm',) in rdms[0], but along ('stimulus',) in rdms[1]; make them agree"),
        ),
        (
            [
                one().assign_coords(kind=("stimulus", list("aba"))),
                named(one().assign_coords(kind=("stimulus", list("abb"))), "V1"),
            ],
            ValueError,
            (
                "coordinate 'kind' differs between rdms[0] and rdms[1], though it describes their common "
                "stimuli; make them agree or remove it with drop_vars"
            ),
        ),
        (
            [one(), named(one().assign_attrs(normalize="unit"), "V1")],
            ValueError,
            (
                "attribute 'normalize' is absent in rdms[0] and is 'unit' in rdms[1]; an attribute holds for "
                "all RDMs of an array, so make it agree, or make it a coordinate along 'rdm'"
            ),
        ),
    ],
)
def test_what_cannot_be_concatenated(rdms, error, message):
    with raises(error, message):
        concat_rdms(rdms)


# average_rdms


def test_the_mean_is_over_the_subjects_who_measured_a_pair():
    nan = np.nan
    values = np.array([[1, 2, 3], [3, nan, nan], [10, 20, nan], [30, 40, nan]])
    coords = {"subject": ["a", "b", "a", "b"], "roi": ["V1", "V1", "IT", "IT"], "model": "brain"}
    rdms = label_rdms(values, IDS, ["a/V1", "b/V1", "a/IT", "b/IT"], "mse", coords)
    mean = average_rdms(rdms.assign_attrs(provenance="{}"))
    np.testing.assert_array_equal(condense(mean), [[2, 2, 3], [20, 30, nan]])
    assert mean["rdm"].values.tolist() == ["V1/brain", "IT/brain"]
    assert mean["roi"].values.tolist() == ["V1", "IT"]
    assert set(mean.coords) == {"rdm", "stimulus", "stimulus_", "roi", "model"}
    assert mean.attrs == {"metric": "mse", "provenance": "{}"}


def test_without_other_coordinates_the_label_is_mean():
    assert average_rdms(several(subject=list("abcd")))["rdm"].values.tolist() == ["mean"]
    assert average_rdms(several(), over="rdm")["rdm"].values.tolist() == ["mean"]


def test_groups_with_an_unknown_time_are_one_group():
    mean = average_rdms(several(subject=list("abab"), time=[0.5, 0.5, np.nan, np.nan]))
    assert mean["rdm"].values.tolist() == ["0.5", "nan"]


def test_sessions_are_averaged_within_a_subject_first():
    values = np.array([[1.0, 2, 3], [3, 4, 5], [10, 20, 30]])
    coords = {"subject": ["a", "a", "b"], "session": ["1", "2", "1"]}
    mean = average_rdms(label_rdms(values, IDS, ["x", "y", "z"], "mse", coords))
    np.testing.assert_array_equal(condense(mean), [[6, 11.5, 17]])
    assert "session" not in mean.coords


def test_subjects_with_one_session_each_keep_their_rdms():
    rdms = several(subject=list("abcd"), session=["1", "2", "3", "4"])
    means = average_rdms(rdms, over="session")
    assert means["rdm"].values.tolist() == list("abcd")
    np.testing.assert_array_equal(condense(means), condense(rdms))


def zscored(x):
    return (x - x.mean()) / x.std()


def unit(x):
    return x / np.sqrt(np.mean(x**2))


@pytest.mark.parametrize(("normalize", "function"), [("zscore", zscored), ("unit", unit), ("rank", rankdata)])
def test_normalised_before_each_mean(normalize, function):
    rdms = several(subject=["a", "a", "b", "c"], session=["1", "2", "1", "1"])
    x = [function(values) for values in condense(rdms)]
    expected = np.mean([function((x[0] + x[1]) / 2), x[2], x[3]], axis=0)
    mean = average_rdms(rdms, normalize=normalize)
    np.testing.assert_allclose(condense(mean)[0], expected, rtol=1e-12)
    assert mean.attrs == {"metric": "crossnobis", "normalize": normalize}
    stepwise = average_rdms(average_rdms(rdms, "session", normalize=normalize), normalize=normalize)
    np.testing.assert_allclose(condense(stepwise), condense(mean), rtol=1e-12)


def test_zscored_distances_are_still_labelled_rdms():
    mean = average_rdms(several(subject=list("abcd")), normalize="zscore")
    positive = mean.assign_attrs(metric="mse")
    assert condense(check_rdms(positive)).min() < 0
    np.testing.assert_array_equal(np.diagonal(mean[0]), 0)


@pytest.mark.parametrize("normalize", ["zscore", "unit", "rank"])
def test_unmeasured_pairs_do_not_enter_the_normalisation(normalize):
    values = np.array([[5.0, 1, np.nan, 2, np.nan, 4]])
    rdms = label_rdms(values, list("abcd"), ["x"], "mse", {"subject": "a"})
    got = condense(average_rdms(rdms, normalize=normalize))[0]
    kept = values[0, [0, 1, 3, 5]]
    expected = {"zscore": zscored(kept), "unit": unit(kept), "rank": rankdata(kept) * 7 / 5}[normalize]
    np.testing.assert_allclose(got[[0, 1, 3, 5]], expected, rtol=1e-12)
    assert np.isnan(got[[2, 4]]).all()


@pytest.mark.parametrize(("normalize", "scale"), [(None, lambda x: 1.0), ("zscore", np.std), ("unit", None)])
def test_standard_errors_are_those_of_the_mean(normalize, scale):
    scale = scale or (lambda x: np.sqrt(np.mean(x**2)))
    errors = np.array([[0.3, 0.4, np.nan], [0.4, 0.3, 0.1]])
    coords = {"subject": ["a", "b"], "roi": "IT", "standard_error": errors}
    rdms = label_rdms(np.array([[1.0, 2, 4], [2, 5, 3]]), IDS, ["x", "y"], "mse", coords)
    mean = average_rdms(rdms, normalize=normalize)
    factors = np.array([[scale(values)] for values in condense(rdms)])
    expected = np.sqrt(((errors / factors) ** 2).sum(axis=0)) / 2
    np.testing.assert_allclose(mean["standard_error"].values[0][np.triu_indices(3, 1)], expected, rtol=1e-12)


def test_standard_errors_of_unmeasured_pairs_do_not_count():
    errors = np.array([[0.3, 7, 0.1], [0.4, 0.5, 0.1]])
    coords = {"subject": ["a", "b"], "standard_error": errors}
    rdms = label_rdms(np.array([[1.0, np.nan, np.nan], [2, 5, np.nan]]), IDS, ["x", "y"], "mse", coords)
    mean = average_rdms(rdms)["standard_error"].values[0][np.triu_indices(3, 1)]
    np.testing.assert_allclose(mean, [0.25, 0.5, np.nan], rtol=1e-12)


@pytest.mark.parametrize(
    ("rdms", "options", "message"),
    [
        (
            one(roi="IT"),
            {},
            "no coordinate 'subject' along 'rdm' to average over; there are: 'rdm', 'roi'",
        ),
        (
            several(subject=list("abcd"), age=[20, 30, 40, 50]),
            {},
            (
                "no two RDMs that differ in 'subject' agree in all of 'age', so there is nothing to average; "
                "remove the coordinate that sets them apart: rdms.drop_vars(name)"
            ),
        ),
        (
            several(subject=list("abca"), roi="IT"),
            {},
            (
                "RDMs 'rdm-0' and 'rdm-3' agree in every coordinate along 'rdm' ('subject', 'roi'); add the "
                "one that sets them apart, such as 'session', or leave one of them out"
            ),
        ),
        (
            several(subject=list("abcd")),
            {"normalize": "z-score"},
            "unknown normalize 'z-score'; known are zscore, unit, rank and None; did you mean 'zscore'?",
        ),
        (
            several(subject=list("abcd")).assign_attrs(normalize="zscore"),
            {"normalize": "unit"},
            "normalize='unit', but these RDMs are already normalised as 'zscore'; start from the RDMs before",
        ),
        (
            several(subject=list("abcd"), standard_error=np.ones((4, 10))),
            {"normalize": "rank"},
            (
                "ranks have no standard errors that follow from those of the distances; leave them out: "
                "rdms.drop_vars('standard_error')"
            ),
        ),
        (
            label_rdms(np.full((1, 3), 0.1), IDS, ["IT"], "mse", {"subject": "a"}),
            {"normalize": "zscore"},
            "RDM 'IT' is constant, so it cannot be z-scored; leave it out",
        ),
        (
            label_rdms(np.zeros((1, 3)), IDS, ["IT"], "mse", {"subject": "a"}),
            {"normalize": "unit"},
            "RDM 'IT' is zero for every pair, so it has no unit norm; leave it out",
        ),
        (
            label_rdms(
                np.array([[1.0, 2], [2, 1]])[:, [0, 1, 0]] * [1, 1, 1],
                IDS,
                ["x", "y"],
                "crossnobis",
                {"subject": "a", "session": ["1", "2"]},
            ),
            {"normalize": "zscore"},
            "the mean over the sessions of subject 'a' is constant, so it cannot be z-scored; leave it out",
        ),
    ],
)
def test_what_cannot_be_averaged(rdms, options, message):
    with raises(ValueError, message):
        average_rdms(rdms, **options)


# scales


@pytest.mark.parametrize("method", ["corr", "corr_cov", "cosine", "cosine_cov", "spearman", "tau-a", "mse"])
@pytest.mark.parametrize("holes", [0, 7])
def test_each_rdm_is_brought_to_the_scale_of_the_comparison_over_its_measured_pairs(method, holes):
    rng = np.random.default_rng(0)
    rdms = rng.random((3, 21)).round(1)
    rdms[1, rng.permutation(21)[:holes]] = np.nan
    scaled, sizes = to_scale(rdms, scale_for(method))
    for before, after, size in zip(rdms, scaled, sizes, strict=True):
        measured = ~np.isnan(before)
        values = before[measured]
        if method.startswith("corr"):
            expected = (values - values.mean()) / values.std()
        elif method.startswith("cosine"):
            expected = values / np.sqrt(np.mean(values**2))
        else:
            expected = values if method == "mse" else rankdata(values) * 22 / (len(values) + 1)
        np.testing.assert_allclose(after[measured], expected, rtol=1e-13)
        if method.startswith("co"):
            np.testing.assert_allclose(np.ptp(after[measured]) * size, np.ptp(values), rtol=1e-12)
        else:
            assert size == 1
        assert np.isnan(after[~measured]).all()


def test_an_rdm_without_variation_is_left_undivided():
    scaled, sizes = to_scale(np.array([[2.0, 2, 2], [0, 1, 2]]), "zscore")
    np.testing.assert_array_equal(scaled[0], 0)
    np.testing.assert_allclose(sizes, [1, np.sqrt(2 / 3)])
    np.testing.assert_array_equal(to_scale(np.zeros((1, 3)), "unit")[0], 0)


def test_a_pairs_mean_is_over_the_rdms_that_measured_it():
    rdms = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    np.testing.assert_array_equal(mean_of_measured(rdms), [2, 5, np.nan])


# people who saw other stimuli


def test_rdms_of_other_stimuli_on_all_of_them():
    a = label_rdms(np.array([[1.0, 2, 3]]), list("abc"), ["s1"], "mse", {"subject": "s1"})
    b = label_rdms(np.array([[4.0, 5, 6]]), list("dcb"), ["s2"], "mse", {"subject": "s2"})
    joined = concat_rdms([a, b], join="union")
    assert joined["stimulus"].values.tolist() == list("abcd")
    assert joined["subject"].values.tolist() == ["s1", "s2"]
    nan = np.nan
    np.testing.assert_array_equal(condense(joined), [[1, 2, nan, 3, nan, nan], [nan, nan, nan, 6, 5, 4]])
    mean = average_rdms(joined)
    np.testing.assert_array_equal(condense(mean), [[1, 2, nan, 4.5, 5, 4]])
    same = label_rdms(np.array([[4.0, 5, 6]]), list("cab"), ["s2"], "mse", {"subject": "s2"})
    xr.testing.assert_identical(concat_rdms([a, same], join="union"), concat_rdms([a, same]))


def test_unions_that_would_lose_or_guess():
    a = label_rdms(np.array([[1.0, 2, 3]]), list("abc"), ["s1"], "mse")
    with raises(ValueError, "unknown join 'outer'; known are: exact, union"):
        concat_rdms([a], join="outer")
    b = label_rdms(np.array([[1.0, 2, 3]]), ["a", "b", "c "], ["s2"], "mse")
    with raises(
        ValueError,
        "rdms have the stimuli 'c' and 'c ', which differ in blanks alone; give each one spelling",
    ):
        concat_rdms([a, b], join="union")
    b = label_rdms(np.array([[1.0, 2, 3]]), list("abd"), ["s2"], "mse").assign_coords(kind=("stimulus", list("xyz")))
    with raises(
        ValueError,
        "rdms[1] has the coordinate 'kind' along its stimuli, which the other stimuli may not have; leave it out of a "
        "union: rdms.drop_vars('kind')",
    ):
        concat_rdms([a, b], join="union")
