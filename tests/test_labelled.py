import json
import re

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from brainrdl.labelled import average_rdms, check_rdms, concat_rdms, condense, label_rdms, select_stimuli

IDS = ["face", "body", "house"]
unicode_ids = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8),
    min_size=2,
    max_size=7,
    unique=True,
)


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def one(metric="correlation", **coords):
    return label_rdms(np.array([[0.2, 1.3, 1.1]]), IDS, ["IT"], metric, coords)


def several(n_rdms=4, n=5, *, seed=0, metric="crossnobis", **coords):
    values = np.random.default_rng(seed).normal(1, 1, (n_rdms, n * (n - 1) // 2))
    names = [f"rdm-{k}" for k in range(n_rdms)]
    return label_rdms(values, [f"stimulus-{i}" for i in range(n)], names, metric, coords)


@st.composite
def labelled(draw):
    ids = draw(unicode_ids)
    pairs = len(ids) * (len(ids) - 1) // 2
    values = draw(hnp.arrays(float, (2, pairs), elements=st.floats(0, 1e6)))
    errors = draw(hnp.arrays(float, (2, pairs), elements=st.floats(0, 1e6)))
    coords = {"roi": ["V1", "IT"], "time": [0.1, np.nan], "standard_error": errors}
    return label_rdms(values, ids, ["é", "ß/2"], "mse", coords)


# label_rdms


def test_condensed_and_square_give_the_same_array():
    condensed = np.random.default_rng(0).random((2, 6))
    squares = np.stack([squareform(values) for values in condensed])
    a = label_rdms(condensed, list("abcd"), ["x", "y"], "mse", {"roi": "IT", "standard_error": condensed})
    b = label_rdms(squares, list("abcd"), ["x", "y"], "mse", {"roi": ["IT", "IT"], "standard_error": squares})
    xr.testing.assert_identical(a, b)
    assert a.name == "dissimilarity"
    assert a.dims == ("rdm", "stimulus", "stimulus_")
    assert a.attrs == {"metric": "mse"}
    assert a["roi"].dims == ("rdm",)
    assert a["standard_error"].dims == a.dims
    np.testing.assert_array_equal(a.values, squares)


def test_pairs_are_in_scipys_order():
    x = np.random.default_rng(0).normal(size=(5, 7))
    rdms = label_rdms(pdist(x)[None], list("abcde"), ["x"], "euclidean")
    np.testing.assert_array_equal(rdms[0], squareform(pdist(x)))
    np.testing.assert_array_equal(condense(rdms)[0], pdist(x))


def test_tensors_are_detached_and_become_float64():
    values = torch.tensor([[0.25, 1.5, 1.0]], dtype=torch.bfloat16, requires_grad=True)
    rdms = label_rdms(values, IDS, ["IT"], "mse", {"time": torch.tensor([3])})
    assert rdms.dtype == np.float64
    assert rdms["time"].item() == 3
    np.testing.assert_array_equal(condense(rdms), [[0.25, 1.5, 1.0]])


@pytest.mark.parametrize("make", [np.array, torch.tensor])
@pytest.mark.parametrize("square", [False, True])
def test_the_callers_memory_is_not_shared(make, square):
    values = np.ones((1, 3, 3)) - np.eye(3) if square else np.ones((1, 3))
    values = make(values)
    rdms = label_rdms(values, IDS, ["IT"], "mse")
    values[:] = 7
    np.testing.assert_array_equal(condense(rdms), [[1, 1, 1]])


def test_dimensions_decide_where_three_stimuli_have_three_pairs():
    rdms = label_rdms(np.arange(9.0).reshape(3, 3), IDS, ["a", "b", "c"], "mse")
    np.testing.assert_array_equal(condense(rdms), np.arange(9.0).reshape(3, 3))


def test_rounding_is_made_exact():
    x = np.random.default_rng(0).normal(size=(40, 30))
    square = 1 - np.corrcoef(x)
    square[3, 7] *= 1 + 1e-9
    rdms = label_rdms(square[None], [f"{i}" for i in range(40)], ["x"], "correlation")
    np.testing.assert_array_equal(rdms, rdms.transpose("rdm", "stimulus_", "stimulus"))
    np.testing.assert_array_equal(np.diagonal(rdms[0]), 0)
    np.testing.assert_array_equal(condense(rdms)[0], square[np.triu_indices(40, 1)])


def test_unmeasured_pairs_and_negative_crossnobis_distances_are_kept():
    values = np.array([[0.2, np.nan, -1.1]])
    for metric in ("crossnobis", "undeclared"):
        np.testing.assert_array_equal(condense(label_rdms(values, IDS, ["IT"], metric)), values)


SQUARE = squareform([0.2, 1.3, 1.1])


def edited(i, j, value, *, both=True):
    square = SQUARE.copy()
    square[i, j] = value
    if both:
        square[j, i] = value
    return square[None]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            SQUARE[0],
            (
                "dissimilarities has shape (3,), expected (rdms, 3) condensed or (rdms, 3, 3) square for 3 "
                "stimuli; for a single RDM add the first axis: dissimilarities[None]"
            ),
        ),
        (
            SQUARE,
            (
                "dissimilarities holds 3 RDMs, but names holds 1; expected one name each; for a single RDM "
                "add the first axis: dissimilarities[None]"
            ),
        ),
        (
            np.ones((1, 6)),
            ("dissimilarities has shape (1, 6), expected (rdms, 3) condensed or (rdms, 3, 3) square for 3 stimuli"),
        ),
        (
            np.ones((4, 4)),
            (
                "dissimilarities has shape (4, 4), expected (rdms, 3) condensed or (rdms, 3, 3) square for 3 "
                "stimuli; for a single RDM add the first axis: dissimilarities[None]"
            ),
        ),
        (
            np.ones((1, 1, 3, 3)),
            (
                "dissimilarities has shape (1, 1, 3, 3), expected (rdms, 3) condensed or (rdms, 3, 3) square "
                "for 3 stimuli"
            ),
        ),
        (
            np.ones((2, 3)),
            "dissimilarities holds 2 RDMs, but names holds 1; expected one name each",
        ),
        (
            edited(0, 2, 1.4, both=False),
            (
                "dissimilarity is 1.4 for stimuli 'face' and 'house' in RDM 'IT', but 1.3 the other way "
                "round, the largest difference; an RDM is symmetric: average it with its transpose, or find "
                "out why the directions differ"
            ),
        ),
        (
            edited(0, 2, np.nan, both=False),
            (
                "dissimilarity is NaN for stimuli 'face' and 'house' in RDM 'IT', but 1.3 the other way "
                "round; an RDM is symmetric, so set both or neither to NaN"
            ),
        ),
        (
            edited(2, 0, np.nan, both=False),
            (
                "dissimilarity is NaN for stimuli 'house' and 'face' in RDM 'IT', but 1.3 the other way "
                "round; an RDM is symmetric, so set both or neither to NaN"
            ),
        ),
        (
            edited(1, 1, 1.0),
            (
                "dissimilarity is 1 on the diagonal, for stimulus 'body' in RDM 'IT'; expected 0, as a "
                "stimulus has no distance to itself: set the diagonal to 0, or turn similarities into "
                "distances"
            ),
        ),
        (
            edited(2, 2, np.nan),
            (
                "dissimilarity is nan on the diagonal, for stimulus 'house' in RDM 'IT'; expected 0, as a "
                "stimulus has no distance to itself: set the diagonal to 0, or turn similarities into "
                "distances"
            ),
        ),
        (
            edited(1, 2, -np.inf),
            (
                "dissimilarity is -inf for stimuli 'body' and 'house' in RDM 'IT'; expected finite values, "
                "or NaN where unmeasured"
            ),
        ),
        (
            edited(1, 2, -0.5),
            (
                "dissimilarity is -0.5 for stimuli 'body' and 'house' in RDM 'IT'; metric 'correlation' has "
                "no negative values; set rounding errors to 0, or declare the metric that it is (crossnobis "
                "may be negative, and so may undeclared)"
            ),
        ),
        (np.full((1, 3), np.nan), "no pair is measured (all are NaN) in RDM 'IT'; leave it out"),
    ],
)
def test_what_is_no_rdm(values, message):
    with raises(ValueError, message):
        label_rdms(values, IDS, ["IT"], "correlation")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.ones((1, 3), complex),
            "dissimilarities is of type complex128; expected real numbers, with NaN where unmeasured",
        ),
        (
            torch.ones(1, 3, dtype=torch.complex64),
            "dissimilarities is of type complex64; expected real numbers, with NaN where unmeasured",
        ),
        (
            np.array([["1", "2", "3"]]),
            "dissimilarities is of type <U1; expected real numbers, with NaN where unmeasured",
        ),
        (
            xr.DataArray(np.ones((1, 3))),
            (
                "dissimilarities is a DataArray, whose order may not be that of the stimuli given; select "
                "the stimuli by id and pass its .values"
            ),
        ),
    ],
)
def test_what_is_no_array_of_real_numbers(values, message):
    with raises(TypeError, message):
        label_rdms(values, IDS, ["IT"], "correlation")


@pytest.mark.parametrize(
    ("stimuli", "names", "metric", "error", "message"),
    [
        (["a"], ["IT"], "mse", ValueError, "an RDM needs at least 2 stimuli, got 1"),
        (
            ["a", "b", "a"],
            ["IT"],
            "mse",
            ValueError,
            "stimuli must be unique, but these occur more than once: 'a'",
        ),
        (
            IDS,
            ["IT", "IT"],
            "mse",
            ValueError,
            "names must be unique, but these occur more than once: 'IT'",
        ),
        (IDS, "IT", "mse", TypeError, "names is one string, 'IT'; expected a sequence of strings: ['IT']"),
        (
            IDS,
            ["IT"],
            "squared euclidean",
            ValueError,
            (
                "unknown metric 'squared euclidean'; known are mse, sqeuclidean, euclidean, correlation, "
                "cosine, mahalanobis, crossnobis, undeclared; did you mean 'sqeuclidean' or 'euclidean'?"
            ),
        ),
        (
            IDS,
            ["IT"],
            None,
            ValueError,
            (
                "unknown metric None; known are mse, sqeuclidean, euclidean, correlation, cosine, "
                "mahalanobis, crossnobis, undeclared"
            ),
        ),
    ],
)
def test_labels_and_metric_are_checked(stimuli, names, metric, error, message):
    with raises(error, message):
        label_rdms(np.ones((1, 3)), stimuli, names, metric)


def test_an_array_without_rdms():
    with raises(ValueError, "there is no RDM along 'rdm'; expected at least one"):
        label_rdms(np.ones((0, 3)), IDS, [], "mse")


@pytest.mark.parametrize(
    ("coords", "error", "message"),
    [
        (
            {"stimulus": "a"},
            ValueError,
            "coords holds 'stimulus', which a labelled RDM has already; choose another name",
        ),
        (
            {"roi": ["V1", "IT"]},
            ValueError,
            "coords['roi'] has shape (2,), expected (1,): one per RDM, or a scalar for all",
        ),
        (
            {"roi": {"IT"}},
            TypeError,
            "coords['roi'] is a set; expected a scalar, or a list of one per RDM",
        ),
        (
            {"roi": [1, "IT"]},
            TypeError,
            "coords['roi'] mixes strings with other values, [1, 'IT']; convert them to one type",
        ),
        (
            {"roi": [None]},
            TypeError,
            ("coordinate 'roi' holds None; expected strings, numbers or times throughout, which files can store"),
        ),
        (
            {"standard_error": np.ones((1, 2))},
            ValueError,
            ("standard_error has shape (1, 2), expected (rdms, 3) condensed or (rdms, 3, 3) square for 3 stimuli"),
        ),
        (
            {"standard_error": -np.ones((1, 3))},
            ValueError,
            "standard_error is -1 for stimuli 'face' and 'body' in RDM 'IT'; a standard error is at least 0",
        ),
    ],
)
def test_coords_are_checked(coords, error, message):
    with raises(error, message):
        one(**coords)


# check_rdms


def test_a_labelled_rdm_passes_unchanged():
    rdms = several(roi="IT", standard_error=np.ones((4, 10)))
    xr.testing.assert_identical(check_rdms(rdms), rdms)


def test_what_another_program_wrote_becomes_float64_without_changing_it():
    theirs = one().astype("float32")
    assert check_rdms(theirs).dtype == np.float64
    assert theirs.dtype == np.float32


def test_normalised_rdms_may_be_negative():
    rdms = one().copy(data=one().values * -1)
    assert check_rdms(rdms.assign_attrs(normalize="zscore")).attrs["normalize"] == "zscore"


def with_attrs(**attrs):
    return one().assign_attrs(attrs)


def without_metric():
    rdms = one()
    rdms.attrs = {}
    return rdms


@pytest.mark.parametrize(
    ("rdms", "error", "message"),
    [
        (
            SQUARE,
            TypeError,
            "expected a labelled RDM, an xarray.DataArray, got a ndarray; label_rdms makes one",
        ),
        (
            one().to_dataset(),
            TypeError,
            "expected a labelled RDM, an xarray.DataArray, got a Dataset; take its variable 'dissimilarity'",
        ),
        (
            one().transpose("stimulus", "stimulus_", "rdm"),
            ValueError,
            (
                "dimensions are ('stimulus', 'stimulus_', 'rdm'), expected ('rdm', 'stimulus', 'stimulus_'); "
                "reorder them: rdms.transpose('rdm', 'stimulus', 'stimulus_')"
            ),
        ),
        (
            one().sel(rdm="IT"),
            ValueError,
            (
                "dimensions are ('stimulus', 'stimulus_'), expected ('rdm', 'stimulus', 'stimulus_'); keep "
                "the axis of a single RDM by selecting with a list: rdms.sel(rdm=['IT'])"
            ),
        ),
        (
            one().isel(stimulus=0),
            ValueError,
            (
                "dimensions are ('rdm', 'stimulus_'), expected ('rdm', 'stimulus', 'stimulus_'); label_rdms "
                "makes all three"
            ),
        ),
        (
            one().drop_vars("stimulus_"),
            ValueError,
            "no coordinate 'stimulus_'; rows are known by their labels only: use label_rdms",
        ),
        (
            one().rename(None),
            ValueError,
            "the array is named None, expected 'dissimilarity': rdms.rename('dissimilarity')",
        ),
        (
            without_metric(),
            ValueError,
            "attrs has no 'metric'; say what the distances are: rdms.attrs['metric'] = 'correlation'",
        ),
        (
            with_attrs(provenance={"by": "me"}),
            TypeError,
            (
                "attrs['provenance'] is {'by': 'me'}; expected a string or a number, which every file format "
                "can store: json.dumps turns anything else into a string"
            ),
        ),
        (
            with_attrs(clean=True),
            TypeError,
            (
                "attrs['clean'] is True; expected a string or a number, which every file format can store: "
                "json.dumps turns anything else into a string"
            ),
        ),
        (
            with_attrs(provenance="me"),
            ValueError,
            "attrs['provenance'] is 'me'; expected a JSON string: json.dumps(...)",
        ),
        (
            with_attrs(normalize="max"),
            ValueError,
            "attrs['normalize'] is 'max'; known are zscore, unit, rank",
        ),
        (
            one().assign_coords(stimulus=[1, 2, 3], stimulus_=[1, 2, 3]),
            TypeError,
            (
                "coordinate 'stimulus'[0] is 1, of type int; expected a string, so convert it to the one "
                "that the other data carry"
            ),
        ),
        (
            one().assign_coords(rdm=[""]),
            ValueError,
            "coordinate 'rdm'[0] is an empty string; expected a name for each",
        ),
        (
            one().isel(stimulus=[0, 2, 1]),
            ValueError,
            (
                "coordinates 'stimulus' and 'stimulus_' differ, first at position 1: 'house' and 'body'; "
                "select stimuli on both axes with select_stimuli"
            ),
        ),
        (
            one().sel(stimulus=["face", "body"]),
            ValueError,
            (
                "there are 2 stimuli along 'stimulus', but 3 along 'stimulus_'; select stimuli on both axes "
                "with select_stimuli"
            ),
        ),
        (
            one().assign_coords(subject="sub-01"),
            ValueError,
            (
                "coordinate 'subject' has dimensions (), expected ('rdm',): "
                "rdms.assign_coords(subject=('rdm', [...])), with one value per RDM"
            ),
        ),
        (
            one().assign_coords(standard_error=("rdm", [1.0])),
            ValueError,
            "coordinate 'standard_error' has dimensions ('rdm',), expected ('rdm', 'stimulus', 'stimulus_')",
        ),
        (
            one().assign_coords(standard_error=(one().dims, edited(0, 1, 9.0, both=False))),
            ValueError,
            (
                "standard_error is 9 for stimuli 'face' and 'body' in RDM 'IT', but 0.2 the other way round, "
                "the largest difference; an RDM is symmetric: average it with its transpose, or find out why "
                "the directions differ"
            ),
        ),
        (
            one().astype(complex),
            TypeError,
            "dissimilarity is of type complex128; expected real numbers, with NaN where unmeasured",
        ),
    ],
)
def test_the_fault_is_named(rdms, error, message):
    with raises(error, message):
        check_rdms(rdms)


# condense


@settings(deadline=None)
@given(unicode_ids, st.data())
def test_condensing_undoes_labelling(ids, data):
    pairs = len(ids) * (len(ids) - 1) // 2
    finite = st.floats(allow_nan=False, allow_infinity=False)
    values = data.draw(hnp.arrays(float, (2, pairs), elements=finite))
    assert np.array_equal(condense(label_rdms(values, ids, ["a", "b"], "undeclared")), values)


# select_stimuli


def test_selecting_moves_both_axes_and_keeps_everything():
    rdms = several(roi=list("abcd"), standard_error=np.random.default_rng(1).random((4, 10)))
    rdms = rdms.assign_coords(category=("stimulus", list("xyxyx"))).assign_attrs(provenance="{}")
    chosen = select_stimuli(rdms, ["stimulus-4", "stimulus-0", "stimulus-2"])
    keep = [4, 0, 2]
    np.testing.assert_array_equal(chosen.values, rdms.values[:, keep][:, :, keep])
    np.testing.assert_array_equal(chosen["standard_error"], rdms["standard_error"].values[:, keep][:, :, keep])
    assert chosen["stimulus"].values.tolist() == ["stimulus-4", "stimulus-0", "stimulus-2"]
    assert chosen["roi"].values.tolist() == list("abcd")
    assert chosen["category"].values.tolist() == ["x", "x", "x"]
    assert chosen.attrs == rdms.attrs
    check_rdms(chosen)


def test_stimuli_can_be_selected_by_the_coordinate_of_another():
    rdms = several()
    other = select_stimuli(rdms, ["stimulus-3", "stimulus-1"])
    xr.testing.assert_identical(select_stimuli(rdms, other["stimulus"]), other)


@settings(deadline=None)
@given(labelled(), st.data())
def test_permuting_and_selecting_commute(rdms, data):
    ids = rdms["stimulus"].values.tolist()
    order = data.draw(st.permutations(ids))
    chosen = data.draw(st.lists(st.sampled_from(ids), min_size=2, unique=True))
    xr.testing.assert_identical(select_stimuli(select_stimuli(rdms, order), chosen), select_stimuli(rdms, chosen))


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (
            ["face", "hause"],
            ValueError,
            "not among the 3 stimuli of the RDMs: 'hause'; did you mean 'house'?",
        ),
        (
            ["face", "x", "y"],
            ValueError,
            "not among the 3 stimuli of the RDMs: 'x', 'y'; there are 'face', 'body', 'house'",
        ),
        (["face", "face"], ValueError, "ids must be unique, but these occur more than once: 'face'"),
        (["face"], ValueError, "an RDM needs at least 2 stimuli, got 1"),
        (
            {"face", "body"},
            TypeError,
            "ids is a set, which has no order; expected a list or tuple of strings",
        ),
    ],
)
def test_what_cannot_be_selected(ids, error, message):
    with raises(error, message):
        select_stimuli(one(), ids)


def test_selecting_only_unmeasured_pairs():
    rdms = label_rdms(np.array([[np.nan, 1.3, 1.1]]), IDS, ["IT"], "mse")
    with raises(ValueError, "no pair is measured (all are NaN) in RDM 'IT'; leave it out"):
        select_stimuli(rdms, ["face", "body"])


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
                "labels along 'rdm' must be unique, but these occur more than once: 'IT'; rename them first: "
                "rdms.assign_coords(rdm=[...])"
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
            [one(), named(with_attrs(normalize="unit"), "V1")],
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


# files


@settings(max_examples=25, deadline=None)
@given(rdms=labelled())
def test_netcdf_keeps_everything(tmp_path_factory, rdms):
    path = tmp_path_factory.mktemp("netcdf") / "rdms.nc"
    rdms = rdms.assign_attrs(provenance='{"by": "ü"}', seed=3, alpha=0.5)
    rdms.to_netcdf(path, engine="h5netcdf")
    back = check_rdms(xr.load_dataarray(path, engine="h5netcdf"))
    xr.testing.assert_identical(back, rdms)
    assert back["standard_error"].dims == back.dims
    joined = concat_rdms([back, rdms.assign_coords(rdm=["c", "d"])])
    assert joined["rdm"].values.tolist() == ["é", "ß/2", "c", "d"]
