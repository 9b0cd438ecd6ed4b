"""What a table or a labelled array says of its axes is compared with the labels given for them."""

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import brainrdl as rdl
from brainrdl.fmri import make_patterns
from labelled_rdms import IDS, one

SQUARE = one().values[0]
REVERSED = IDS[::-1]


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def contradicts(field, place, own, given, remedy):
    return raises(
        ValueError,
        f"{field} contradicts the labels given for it: at position 0 of its {place} stands {own!r}, where {given!r} "
        f"was given; {remedy}",
    )


ORDER = "bring it into this order by its labels (loc, reindex, sel)"
OTHERS = "give the labels that it has, or, if these are none of the labels meant, its numbers alone: .to_numpy()"


def label(given, names=("IT",), coords=None):
    return rdl.label_rdms(given, IDS, list(names), "correlation", coords)


@pytest.mark.parametrize(
    ("table", "place", "own", "given", "remedy"),
    [
        (pd.DataFrame(SQUARE, REVERSED, REVERSED), "index", "house", "face", ORDER),
        (pd.DataFrame(SQUARE, IDS, REVERSED), "columns", "house", "face", ORDER),
        (pd.DataFrame(SQUARE, columns=REVERSED), "columns", "house", "face", ORDER),
        (pd.DataFrame(SQUARE, ["x", "y", "z"]), "index", "x", "face", OTHERS),
        (
            pd.DataFrame(SQUARE, ["Face", "body", "house"]),
            "index",
            "Face",
            "face",
            "they differ in upper and lower case, so rename one of them",
        ),
        (
            xr.DataArray(SQUARE, dims=("a", "b"), coords={"b": REVERSED}),
            "coordinate 'b'",
            "house",
            "face",
            ORDER,
        ),
    ],
)
def test_a_list_of_tables_in_another_order(table, place, own, given, remedy):
    with contradicts("dissimilarities[0]", place, own, given, remedy):
        label([table])


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame(SQUARE, IDS, IDS),
        pd.DataFrame(SQUARE),
        pd.DataFrame(SQUARE, index=[2, 5, 9]),  # the numbers of rows that were kept
        xr.DataArray(SQUARE, dims=("a", "b"), coords={"a": IDS}),
    ],
)
def test_tables_that_agree_or_do_not_say(table):
    xr.testing.assert_identical(label([table]), one())


def test_condensed_tables():
    pairs = pd.MultiIndex.from_tuples([("face", "body"), ("house", "face"), ("body", "house")])
    table = pd.DataFrame([[0.2, 1.3, 1.1]], index=["IT"], columns=pairs)
    xr.testing.assert_identical(label(table), one())
    with contradicts("dissimilarities", "index", "IT", "V1", OTHERS):
        label(table, ["V1"])
    with contradicts("dissimilarities", "columns", ("body", "house"), ("face", "body"), ORDER):
        label(table[table.columns[[2, 1, 0]]])
    with contradicts("dissimilarities[0]", "index", ("body", "house"), ("face", "body"), ORDER):
        label([table.iloc[0][table.columns[[2, 1, 0]]]])


def test_the_name_of_an_axis():
    table = pd.DataFrame(np.ones((3, 3)), index=pd.Index(range(3), name="pair"))
    with raises(
        ValueError,
        "dissimilarities has an axis named 'pair' where the RDMs are expected, in (RDMs, pairs); bring its axes into "
        "this order",
    ):
        label(table, ["a", "b", "c"])
    with raises(
        ValueError,
        "dissimilarities[0] has an axis named 'subject' where the stimuli are expected, in (stimuli, stimuli); bring "
        "its axes into this order",
    ):
        label([xr.DataArray(SQUARE, dims=("subject", "stimulus"))])


def test_coordinates_weights_and_patterns():
    subjects = pd.Series(["s1", "s2"], index=["b", "a"])
    with contradicts("coords['subject']", "index", "b", "a", ORDER):
        label(np.ones((2, 3)), ["a", "b"], {"subject": subjects})
    kept = label(np.ones((2, 3)), ["a", "b"], {"subject": subjects.loc[["a", "b"]]})
    assert kept["subject"].values.tolist() == ["s2", "s1"]
    variances = pd.Series([1.0, 2.0, 3.0], index=REVERSED)
    with contradicts("sigma_k", "index", "house", "face", ORDER):
        rdl.compare_rdms(one(), one(), "corr_cov", sigma_k=variances)
    ordered = rdl.compare_rdms(one(), one(), "corr_cov", sigma_k=variances.loc[IDS]).item()
    assert ordered == pytest.approx(1)
    with contradicts("values", "index", "house", "face", ORDER):
        make_patterns(pd.DataFrame(np.eye(3), index=REVERSED), IDS, [1, 1, 1])


def test_tables_and_lists_of_another_shape():
    expected = "expected (rdms, 3) condensed or (rdms, 3, 3) square for 3 stimuli; for a single RDM add the first axis"
    with raises(
        ValueError,
        "dissimilarities holds 3 RDMs, but names holds 1; expected one name each; for a single RDM add the first axis: "
        "[dissimilarities]",
    ):
        label(pd.DataFrame(SQUARE))
    with raises(ValueError, f"dissimilarities has shape (3,), {expected}: [dissimilarities]"):
        label(pd.Series([0.2, 1.3, 1.1]))
    with raises(ValueError, "dissimilarities holds arrays or lists of different lengths; expected one shape for all"):
        label([SQUARE, SQUARE[:2, :2]], ["a", "b"])
    with raises(TypeError, "expected a labelled RDM, an xarray.DataArray, got a ndarray; label_rdms makes one"):
        rdl.to_rsatoolbox(SQUARE)
