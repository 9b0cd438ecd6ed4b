"""Distances that a metric cannot have are refused wherever RDMs come in, and the cause is named."""

import re

import numpy as np
import pytest
import torch
import xarray as xr

import brainrdl as rdl
from brainrdl.exchange import netcdf
from brainrdl.rdms.labelled import label_rdms
from brainrdl.rdms.plausible import check_people, check_possible, check_varied
from labelled_rdms import IDS, one


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def warns(message):
    return pytest.warns(UserWarning, match=f"^{re.escape(message)}$")


def too_far(metric, said):
    return (
        f"dissimilarity is 150 for stimuli 'face' and 'body' in RDM 'IT', and a {metric} distance, {said}, lies "
        "between 0 and 2; divide by 100 what is in percent, or declare the metric that it is ('undeclared' where it is "
        "not known)"
    )


@pytest.mark.parametrize(("metric", "said"), [("correlation", "1 − r"), ("cosine", "1 − cosine")])
def test_a_distance_above_2_is_no_correlation_distance(metric, said):
    values = np.array([[150.0, 80, 30]])
    with raises(ValueError, too_far(metric, said)):
        label_rdms(values, IDS, ["IT"], metric)
    assert label_rdms(values, IDS, ["IT"], "euclidean").values.max() == 150
    relabelled = label_rdms(values, IDS, ["IT"], "undeclared").assign_attrs(metric=metric)
    with raises(ValueError, too_far(metric, said)):
        rdl.MeasuredTeacher(relabelled)
    with raises(ValueError, too_far(metric, said)):
        rdl.compare_rdms(relabelled, one())


def test_two_and_what_rounding_makes_of_it_are_possible():
    assert label_rdms(np.array([[2.0, 2 + 1e-7, 0.5]]), IDS, ["IT"], "correlation").values.max() > 2


def test_ranks_of_correlation_distances_are_no_distances():
    people = {"subject": ["a", "b"]}
    rdms = label_rdms(np.array([[0.2, 1.3, 1.1], [0.3, 1.2, 1.1]]), IDS, ["a", "b"], "correlation", people)
    ranked = rdl.average_rdms(rdms, normalize="rank")
    assert ranked.values.max() == 3
    check_possible(ranked)


def similarities(n=12):
    rng = np.random.default_rng(0)
    groups = np.repeat(rng.normal(size=(n // 4, 60)), 4, axis=0)
    return np.corrcoef(0.7 * rng.normal(size=(n, 60)) + groups + rng.normal(size=60))


def test_similarities_are_not_taken_for_distances():
    ids, square = [f"s{i}" for i in range(12)], similarities()
    with raises(
        ValueError,
        "dissimilarity is 1 on the diagonal, for stimulus 's0' in RDM 'IT'; expected 0, as a stimulus has no distance "
        "to itself: set the diagonal to 0, or turn similarities into distances",
    ):
        label_rdms(square[None], ids, ["IT"], "correlation")
    assert square.min() > 0
    hidden = square.copy()
    np.fill_diagonal(hidden, 0)
    with raises(
        ValueError,
        "RDM 'IT' holds no correlation distances: no patterns have these, and as similarities, with 1 on the diagonal, "
        "they would be possible; turn similarities into distances, 1 − r, or declare the metric that it is "
        "('undeclared' where it is not known)",
    ):
        label_rdms(hidden[None], ids, ["IT"], "correlation")
    label_rdms(1 - square[None], ids, ["IT"], "correlation")
    label_rdms(hidden[None], ids, ["IT"], "undeclared")


def test_negative_similarities_are_told_apart_from_rounding():
    with raises(
        ValueError,
        "dissimilarity is -0.4 for stimuli 'face' and 'house' in RDM 'IT'; metric 'correlation' has no negative "
        "values; set rounding errors to 0, or declare the metric that it is (crossnobis may be negative, and so may "
        "undeclared); if these are similarities, the distance is 1 − r",
    ):
        label_rdms(np.array([[0.3, -0.4, 0.2]]), IDS, ["IT"], "correlation")


@pytest.mark.parametrize("noise", [0, 0.03])
@pytest.mark.parametrize("n", [5, 8, 20, 40])
def test_measured_correlation_distances_are_possible(n, noise):
    rng = np.random.default_rng(n)
    for strength in (0, 1, 4):
        patterns = rng.normal(size=(n, 3)) @ rng.normal(size=(3, 50)) + strength * rng.normal(size=50)
        errors = np.triu(rng.normal(0, noise, (n, n)), 1)
        square = np.clip(1 - np.corrcoef(patterns) + errors + errors.T, 0, 2)
        np.fill_diagonal(square, 0)
        label_rdms(square[None], [f"s{i}" for i in range(n)], ["IT"], "correlation")


def test_an_rdm_of_zeros_teaches_nothing():
    cause = (
        "which has no geometry: an array that was never filled, a layer that responds identically to all stimuli, or "
        "another variable than was meant"
    )
    zero = label_rdms(np.zeros((1, 3)), IDS, ["IT"], "correlation")
    with raises(ValueError, f"every measured distance is 0 in RDM 'IT', {cause}"):
        rdl.MeasuredTeacher(zero)
    values = np.array([[0, np.nan, 0], [0.2, 1.3, 1.1]])
    with warns(f"every measured distance is 0 in RDM 'V1', {cause}"):
        check_varied(label_rdms(values, IDS, ["V1", "IT"], "correlation"))


# one triangle


def triangle(other, upper=True):
    square = np.triu(50 + np.arange(9.0).reshape(3, 3), 1) + np.tril(np.full((3, 3), other), -1)
    return square if upper else square.T


@pytest.mark.parametrize("upper", [True, False])
def test_one_triangle_with_zeros_is_to_be_mirrored(upper):
    square = triangle(0.0, upper)
    first, other = ("55", "0") if upper else ("0", "55")
    with raises(
        ValueError,
        f"dissimilarity is {first} for stimuli 'body' and 'house' in RDM 'IT', but {other} the other way round, the "
        "largest difference; only one triangle is filled: mirror it, values + values.swapaxes(-1, -2)",
    ):
        label_rdms(square[None], IDS, ["IT"], "undeclared")
    with raises(
        ValueError,
        "the RDM is not symmetric (largest difference 55); only one triangle is filled: mirror it, square + square.mT",
    ):
        rdl.to_condensed(torch.from_numpy(square))
    mirrored = label_rdms((square + square.swapaxes(-1, -2))[None], IDS, ["IT"], "undeclared")
    assert mirrored.values[0, 1, 2] == mirrored.values[0, 2, 1] == 55


@pytest.mark.parametrize("upper", [True, False])
def test_one_triangle_with_nan_is_to_be_mirrored(upper):
    square = triangle(np.nan, upper)
    where, distance = ("'body' and 'face'", "51") if upper else ("'face' and 'body'", "51")
    with raises(
        ValueError,
        f"dissimilarity is NaN for stimuli {where} in RDM 'IT', but {distance} the other way round; only one triangle "
        "is filled: mirror it, np.fmax(values, values.swapaxes(-1, -2))",
    ):
        label_rdms(square[None], IDS, ["IT"], "undeclared")
    with raises(
        ValueError,
        "the RDM is not symmetric (largest difference inf); only one triangle is filled: mirror it, "
        "torch.fmax(square, square.mT)",
    ):
        rdl.to_condensed(torch.from_numpy(square))
    values = np.fmax(square, square.swapaxes(-1, -2))[None]
    assert label_rdms(values, IDS, ["IT"], "undeclared").values[0, 1, 0] == 51


# one person twice


def of_people(values, subjects):
    names = [f"{subject}/{k}" for k, subject in enumerate(subjects)]
    return label_rdms(values, list("abcd"), names, "correlation", {"subject": subjects})


def test_one_persons_rdm_under_two_names():
    values = np.random.default_rng(0).random((2, 6))[[0, 1, 0]]
    message = (
        "RDMs 'ann/0' and 'cem/2', of subjects 'ann' and 'cem', are the same in all 6 measured pairs; they are one "
        "person's under two names, so leave one out"
    )
    with raises(ValueError, message):
        check_people(of_people(values, ["ann", "bob", "cem"]))
    check_people(of_people(values, ["ann", "bob", "ann"]))  # two sessions, or regions, of one person
    check_people(of_people(values[:2], ["ann", "bob"]))
    check_people(of_people(values.round(0), ["ann", "bob", "cem"]))  # of few values, as those of a category RDM
    first, again = of_people(values[:2], ["ann", "bob"]), of_people(values[2:], ["cem"]).assign_coords(rdm=["cem/2"])
    with raises(ValueError, message):
        rdl.concat_rdms([first, again])


def test_a_file_with_one_person_twice_is_read_and_says_so(tmp_path):
    rdms = of_people(np.random.default_rng(0).random((2, 6))[[0, 1, 0]], ["ann", "bob", "cem"])
    path = tmp_path / "a.nc"
    netcdf.write(rdms, path)
    with warns(
        f"{path}: RDMs 'ann/0' and 'cem/2', of subjects 'ann' and 'cem', are the same in all 6 measured pairs; they "
        "are one person's under two names, so leave one out"
    ):
        xr.testing.assert_identical(rdl.read_rdms(path), rdms)
