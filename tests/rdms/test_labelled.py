import re

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import pdist, squareform

from brainrdl.rdms.combine import concat_rdms
from brainrdl.rdms.labelled import condense, label_rdms, select_stimuli
from brainrdl.rdms.layout import check_rdms
from labelled_rdms import IDS, one, several

unicode_ids = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8),
    min_size=2,
    max_size=7,
    unique=True,
)


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


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
                "cosine, mahalanobis, crossnobis, undeclared; did you mean 'sqeuclidean' or 'mse'?"
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
