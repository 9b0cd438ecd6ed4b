"""Whatever is labelled as RDMs is refused by a documented error, or has every property of RDMs."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays

import brainrdl as rdl
from brainrdl.rdms.layout import METRICS, check_rdms

NUMBERS = st.one_of(
    st.floats(width=64),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-320, 1e308, np.inf, -np.inf, np.nan]),
)
LABELS = st.one_of(st.text(max_size=4), st.sampled_from(["", "a", "a ", "A", "é", "é", "\0", "\ud800", "nan"]))
VALUES = arrays.arrays(
    np.float64,
    st.one_of(
        st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2, 3, 6])),
        st.integers(0, 4).flatmap(lambda n: st.tuples(st.integers(0, 2), st.just(n), st.just(n))),
        arrays.array_shapes(min_dims=0, max_dims=4, max_side=3),
    ),
    elements=NUMBERS,
)
METRIC = st.one_of(st.sampled_from(METRICS), st.text(max_size=5))


def check_properties(rdms, metric):
    values = rdms.values
    n = rdms.sizes["stimulus"]
    assert rdms.dims == ("rdm", "stimulus", "stimulus_")
    assert rdms.attrs["metric"] == metric
    assert values.dtype == np.float64
    assert np.array_equal(values, values.swapaxes(1, 2), equal_nan=True)
    assert (np.diagonal(values, axis1=1, axis2=2) == 0).all()
    assert not np.isinf(values).any()
    assert rdms["stimulus"].values.tolist() == rdms["stimulus_"].values.tolist()
    assert len(set(rdms["stimulus"].values.tolist())) == n >= 2
    assert len(set(rdms["rdm"].values.tolist())) == rdms.sizes["rdm"] >= 1
    assert check_rdms(rdms).identical(rdms)
    if metric not in ("crossnobis", "undeclared"):
        assert not (values < 0).any()


@settings(max_examples=200, deadline=None)
@given(VALUES, st.lists(LABELS, max_size=5), st.lists(LABELS, max_size=4), METRIC)
def test_anything_labelled_as_rdms(values, ids, names, metric):
    try:
        rdms = rdl.label_rdms(values, ids, names, metric)
    except (TypeError, ValueError):
        return
    check_properties(rdms, metric)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(2, 4), st.integers(1, 2), METRIC)
def test_right_sizes_with_anything_in_them(data, n, n_rdms, metric):
    values = data.draw(arrays.arrays(np.float64, (n_rdms, n * (n - 1) // 2), elements=NUMBERS))
    ids = data.draw(st.lists(LABELS, min_size=n, max_size=n))
    try:
        rdms = rdl.label_rdms(values, ids, ["a", "b"][:n_rdms], metric)
    except (TypeError, ValueError):
        return
    check_properties(rdms, metric)


@pytest.mark.parametrize("suffix", ["nc", "h5", "npz", "mat", "json", "csv"])
@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.text(min_size=1, max_size=4), min_size=3, max_size=3),
    arrays.arrays(np.float64, (1, 3), elements=st.floats(0, 2)),
    st.text(max_size=9),
)
def test_what_can_be_labelled_is_read_back_or_refused(suffix, ids, values, note):
    try:
        rdms = rdl.label_rdms(values, ids, ["IT"], "undeclared").assign_attrs(note=note)
    except ValueError:
        return
    with tempfile.TemporaryDirectory() as folder:
        path, refused = Path(folder, f"a.{suffix}"), None
        try:
            rdl.write_rdms(rdms, path)
        except (TypeError, ValueError) as error:
            refused = str(error)
        if refused is None:
            xr.testing.assert_identical(rdl.read_rdms(path), rdms)
        else:
            assert refused.startswith(str(path))
            assert not path.exists()
