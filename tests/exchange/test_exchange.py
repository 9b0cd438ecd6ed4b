"""What goes out to a format comes back as it was, and what other tools wrote is read as they meant it."""

import json
import re
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import rsatoolbox.rdm
import scipy.io
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings, strategies as st
from scipy.spatial.distance import squareform

import brainrdl as rdl
from brainrdl.exchange import describe, describe_as_text, netcdf
from brainrdl.rdms.labelled import condense
from labelled_rdms import IDS, one, several
from real_data import data_dir

SUFFIXES = ("nc", "h5", "npz", "mat", "json", "csv")


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


# everything that a writer accepts comes back

# letters of every plane, spaces, quotes, separators and line breaks; no NUL and no lone surrogates, which ids refuse
labels = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6)


@st.composite
def labelled(draw, holes=True):
    n = draw(st.integers(2, 50))
    n_rdms = draw(st.integers(1, 3))
    special = draw(st.lists(labels, min_size=0, max_size=4, unique=True))
    ids = list(dict.fromkeys([*special, *(f"stimulus-{i}" for i in range(n))]))[:n]
    names = draw(st.lists(labels, min_size=n_rdms, max_size=n_rdms, unique=True))
    metric = draw(st.sampled_from(["crossnobis", "undeclared", "mse", "euclidean", "sqeuclidean", "mahalanobis"]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = random.normal(size=(n_rdms, n * (n - 1) // 2)) * 10.0 ** draw(st.integers(-200, 200))
    if metric not in ("crossnobis", "undeclared"):
        values = np.abs(values)
    if holes:
        values[:, 1:][random.random((n_rdms, values.shape[1] - 1)) < draw(st.sampled_from([0, 0.3]))] = np.nan
    coords = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "subject": st.lists(
                    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4),
                    min_size=n_rdms,
                    max_size=n_rdms,
                ),
                "session": st.lists(st.integers(-(2**63), 2**63 - 1), min_size=n_rdms, max_size=n_rdms),
                "time": st.lists(st.floats(), min_size=n_rdms, max_size=n_rdms),
                "good": st.lists(st.booleans(), min_size=n_rdms, max_size=n_rdms),
            },
        )
    )
    rdms = rdl.label_rdms(values, ids, names, metric, coords)
    attrs = draw(
        st.dictionaries(
            st.sampled_from(["provenance", "note", "version", "share"]),
            st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), labels),
        )
    )
    if "provenance" in attrs:
        attrs["provenance"] = json.dumps({"made": attrs["provenance"]})
    rdms.attrs.update(attrs)
    if draw(st.booleans()):
        rdms = rdms.assign_coords(category=("stimulus", draw(st.lists(labels, min_size=n, max_size=n))))
    return rdms


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_what_is_written_is_read(tmp_path, suffix, data):
    rdms = data.draw(labelled(holes=suffix != "json"))
    rdl.write_rdms(rdms, tmp_path / f"rdms.{suffix}")
    back = rdl.read_rdms(tmp_path / f"rdms.{suffix}")
    xr.testing.assert_identical(back, rdms)
    assert back.dtype == np.float64
    assert back.values.tobytes() == rdms.values.tobytes()


@pytest.mark.parametrize("source", SUFFIXES)
def test_every_format_becomes_every_other(tmp_path, source):
    rdms = several(2, n=4, subject=["ä", "b"], session=[2, 1], time=[0.1, np.nan]).assign_attrs(note="日本", share=0.5)
    rdms = rdms.assign_coords(stimulus=[*"zä", "a b", "😀"], stimulus_=[*"zä", "a b", "😀"])
    rdl.write_rdms(rdms, tmp_path / f"from.{source}")
    for target in SUFFIXES:
        rdl.write_rdms(rdl.read_rdms(tmp_path / f"from.{source}"), tmp_path / f"to.{target}")
        xr.testing.assert_identical(rdl.read_rdms(tmp_path / f"to.{target}"), rdms)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rdms=labelled(holes=False), source=st.sampled_from(SUFFIXES), target=st.sampled_from(SUFFIXES))
def test_any_rdms_survive_two_formats(tmp_path, rdms, source, target):
    rdl.write_rdms(rdms, tmp_path / f"from.{source}")
    rdl.write_rdms(rdl.read_rdms(tmp_path / f"from.{source}"), tmp_path / f"to.{target}")
    xr.testing.assert_identical(rdl.read_rdms(tmp_path / f"to.{target}"), rdms)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_times_small_numbers_and_the_other_axis_come_back(tmp_path, suffix):
    rdms = several(
        3,
        when=np.array(["2020-01-01", "2021-06-01T12:00", "NaT"], dtype="datetime64[ns]"),
        narrow=np.array([0.1, 0.2, np.nan], dtype=np.float32),
        count=np.array([1, 2, 255], dtype=np.uint8),
    )
    rdms = rdms.assign_coords(index=("rdm", [0, 1, 2]), partner=("stimulus_", [1.5, 2, 3, 4, 5]))
    rdms.attrs["normalize"] = "zscore"
    rdl.write_rdms(rdms, tmp_path / f"rdms.{suffix}")
    back = rdl.read_rdms(tmp_path / f"rdms.{suffix}")
    xr.testing.assert_identical(back, rdms)
    assert back["narrow"].dtype == np.float32
    assert back["count"].dtype == np.uint8


def test_standard_errors_go_to_netcdf_only(tmp_path):
    rdms = several(2, standard_error=np.random.default_rng(1).random((2, 10)))
    rdl.write_rdms(rdms, tmp_path / "rdms.nc")
    xr.testing.assert_identical(rdl.read_rdms(tmp_path / "rdms.nc"), rdms)
    for suffix, name in (
        ("h5", "rsatoolbox"),
        ("npz", "net2brain"),
        ("mat", "matlab"),
        ("json", "meadows"),
        ("csv", "csv"),
    ):
        path = tmp_path / f"rdms.{suffix}"
        with raises(
            ValueError,
            f"{path}: {name} files have no place for standard errors; write netCDF (.nc), which keeps them, or "
            "leave them out in Python: rdms.drop_vars('standard_error')",
        ):
            rdl.write_rdms(rdms, path)
        assert not path.exists()


def test_netcdf_is_deflated_and_may_hold_float32(tmp_path):
    square = np.round(np.random.default_rng(0).random((1, 60, 60)), 3)
    rdms = rdl.label_rdms(np.triu(square, 1) + np.triu(square, 1).mT, [f"s{k}" for k in range(60)], ["IT"], "mse")
    rdl.write_rdms(rdms, tmp_path / "a.nc")
    netcdf.write(rdms, tmp_path / "b.nc", dtype="float32")
    with h5py.File(tmp_path / "a.nc") as a, h5py.File(tmp_path / "b.nc") as b:
        assert (a["dissimilarity"].dtype, b["dissimilarity"].dtype) == (np.float64, np.float32)
        sizes = [file["dissimilarity"].id.get_storage_size() for file in (a, b)]
    assert sizes[1] < sizes[0] < 0.9 * rdms.nbytes
    assert rdl.read_rdms(tmp_path / "b.nc").identical(rdms.astype("float32").astype("float64"))


def test_what_a_writer_refuses_is_named(tmp_path):
    holes = several()
    holes.values[0, 0, 1] = holes.values[0, 1, 0] = np.nan
    units = one().assign_attrs(units="days since 2000-01-01")
    slash = one().assign_attrs({"a/b": 1})
    metric = one(**{"metric_": 1}).rename({"metric_": "metric"})
    for rdms, name, reason in (
        (
            holes,
            "rdms.json",
            "Meadows' JSON cannot hold unmeasured pairs (NaN); write netCDF, or select stimuli without them",
        ),
        (
            units,
            "rdms.nc",
            "attribute 'units' has a meaning of its own in netCDF, which would change the values or be lost; rename it",
        ),
        (slash, "rdms.h5", "HDF5 cannot hold the name 'a/b', in which a slash means a group; rename it"),
        (
            one().assign_attrs(brainrdl="mine"),
            "rdms.h5",
            "rsatoolbox files do not give back the attribute 'brainrdl'; rename or leave it out, or write netCDF",
        ),
        (metric, "rdms.csv", "a tidy table has a column 'metric' of its own; rename the coordinate: rdms.rename(...)"),
        (
            one(),
            "rdms.txt",
            "no format goes with the suffix '.txt'; known are .nc, .nc4, .netcdf, .h5, .hdf5, .npz, .npy, .mat, .json, "
            ".csv, or in Python give format=",
        ),
    ):
        with raises(ValueError, f"{tmp_path / name}: {reason}"):
            rdl.write_rdms(rdms, tmp_path / name)
        assert list(tmp_path.iterdir()) == []
    with raises(
        ValueError,
        "unknown format 'netcfd'; known are netcdf, rsatoolbox, net2brain, matlab, meadows, csv; did "
        "you mean 'netcdf'?",
    ):
        rdl.write_rdms(one(), tmp_path / "a", format="netcfd")
    path = tmp_path / "rdms.mat"
    with raises(
        ValueError,
        f"{path}: Meadows' .mat has no place for names and metric; write its JSON (.json), or a MATLAB struct array "
        "(in Python format='matlab')",
    ):
        rdl.write_rdms(one(), path, format="meadows")


def test_the_format_can_be_said(tmp_path):
    rdl.write_rdms(one(), tmp_path / "rdms", format="rsatoolbox")
    xr.testing.assert_identical(rdl.read_rdms(tmp_path / "rdms", format="rsatoolbox"), one())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    rdl.write_rdms(one(), tmp_path / "rdms.h5")
    with pytest.raises(ValueError):
        rdl.write_rdms(one().assign_attrs(brainrdl="mine"), tmp_path / "rdms.h5")
    xr.testing.assert_identical(rdl.read_rdms(tmp_path / "rdms.h5"), one())


# what a file lacks is asked for, what contradicts it is refused


def matlab(path, rdms, names=None, **others):
    structs = np.empty((1, len(rdms)), dtype=[("RDM", object), ("name", object), ("color", object)])
    for at, values in enumerate(rdms):
        structs[0, at] = (values, (names or [f"r{i}" for i in range(len(rdms))])[at], np.zeros((1, 3)))
    scipy.io.savemat(path, {"RDMs": structs, **others})
    return path


def test_what_is_missing_is_asked_for(tmp_path):
    path = matlab(tmp_path / "a.mat", [np.arange(1.0, 7)])
    wanted = {"stimuli": list("abcd"), "metric": "mse", "order": "row-major"}
    metrics = "mse, sqeuclidean, euclidean, correlation, cosine, mahalanobis, crossnobis, undeclared"
    for missing, reason in (
        ("stimuli", "does not hold the stimulus ids; give stimuli=, 4 strings in the file's order"),
        (
            "metric",
            "does not say by a known name what the distances are; give metric=, one of "
            f"{metrics} ('undeclared' where it is not known)",
        ),
        (
            "order",
            "holds vectors of 6 pairs, but not their order; give order=: 'row-major' for "
            "SciPy's and MATLAB's squareform, 'column-major' for MATLAB's rdm(triu(true(n), 1)) and nilearn's lower "
            "triangles",
        ),
    ):
        with raises(ValueError, f"{path}: {reason}"):
            rdl.read_rdms(path, **{name: value for name, value in wanted.items() if name != missing})
    np.testing.assert_array_equal(rdl.read_rdms(path, **wanted).values[0], squareform(np.arange(1.0, 7)))


def test_both_orders_of_pairs(tmp_path):
    square = squareform(np.arange(1.0, 11))
    upper_by_column = square.T[np.tril_indices(5, -1)]  # what MATLAB's rdm(triu(true(5), 1)) lists
    by_column = matlab(tmp_path / "a.mat", [upper_by_column])
    by_row = matlab(tmp_path / "b.mat", [squareform(square)])
    asked = {"stimuli": list("abcde"), "metric": "mse"}
    for path, order in ((by_column, "column-major"), (by_row, "row-major")):
        np.testing.assert_array_equal(rdl.read_rdms(path, order=order, **asked).values[0], square)
    with raises(ValueError, "unknown order 'columns'; known are row-major, column-major"):
        rdl.read_rdms(by_row, order="columns", **asked)


def test_what_contradicts_the_file_is_refused(tmp_path):
    path = tmp_path / "rdms.h5"
    rdl.write_rdms(one(), path)
    for given_, reason in (
        (
            {"stimuli": ["face", "house", "body"]},
            "stimuli contradicts the file, first at position 1: 'house' was given, the file has 'body'; leave "
            "stimuli out, "
            "and rename afterwards",
        ),
        ({"stimuli": ["face"]}, "holds 3 stimuli, but stimuli names 1; give one for each, in the file's order"),
        (
            {"names": ["V1"]},
            "names contradicts the file, first at position 0: 'V1' was given, the file has 'IT'; leave names out, and "
            "rename afterwards",
        ),
        ({"metric": "mse"}, "the metric 'mse' contradicts the file, which says 'correlation'; leave the metric out"),
        (
            {"order": "column-major"},
            "lists pairs in row-major order, but the order 'column-major' was given; leave it out",
        ),
        (
            {"stimuli": "conds"},
            "has no field 'conds' that could hold the stimulus ids, and has none to choose from",
        ),
    ):
        with raises(ValueError, f"{path}: {reason}"):
            rdl.read_rdms(path, **given_)
    same = rdl.read_rdms(path, stimuli=IDS, names=["IT"], metric="correlation", order="row-major")
    xr.testing.assert_identical(same, one())
    with raises(
        ValueError,
        "unknown metric 'correlaton'; known are mse, sqeuclidean, euclidean, correlation, cosine, mahalanobis, "
        "crossnobis, "
        "undeclared; did you mean 'correlation'?",
    ):
        rdl.read_rdms(path, metric="correlaton")


# rsatoolbox


def theirs(measure="squared euclidean", **pattern):
    return rsatoolbox.rdm.RDMs(
        np.array([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0]]),
        dissimilarity_measure=measure,
        descriptors={"study": "pilot", "year": 2020, "nothing": None},
        rdm_descriptors={"subj": ["s1", "s2"], "age": [30, 40]},
        pattern_descriptors=pattern or {"conds": ["z", "a", "m"]},
    )


def test_files_of_rsatoolbox_are_read(tmp_path):
    theirs().save(str(tmp_path / "theirs.h5"))
    rdms = rdl.read_rdms(tmp_path / "theirs.h5", names="subj")
    assert rdms["stimulus"].values.tolist() == ["z", "a", "m"]  # not sorted
    assert rdms["rdm"].values.tolist() == rdms["subj"].values.tolist() == ["s1", "s2"]
    assert rdms["age"].values.tolist() == [30, 40]
    assert rdms.attrs == {"metric": "mse", "study": "pilot", "year": 2020}
    np.testing.assert_array_equal(rdms.sel(stimulus="z", stimulus_=["a", "m"]).values, [[1, 2], [4, 5]])
    xr.testing.assert_identical(rdl.from_rsatoolbox(theirs(), names="subj"), rdms)


@pytest.mark.parametrize(
    ("method", "metric"), [("euclidean", "mse"), ("correlation", "correlation"), ("mahalanobis", "mahalanobis")]
)
def test_rsatoolbox_calls_metrics_otherwise(method, metric):
    patterns = np.random.default_rng(0).normal(size=(5, 7))
    data = rsatoolbox.data.Dataset(patterns, obs_descriptors={"stimulus": list("edcba")})
    computed = rsatoolbox.rdm.calc_rdm(data, method=method, noise=np.eye(7))
    rdms = rdl.from_rsatoolbox(computed, names=["r"])
    assert rdms.attrs["metric"] == metric
    assert rdms["stimulus"].values.tolist() == list("edcba")
    if metric != "mahalanobis":
        np.testing.assert_allclose(condense(rdms)[0], rdl.rdm(torch.from_numpy(patterns), metric), rtol=1e-12)


def test_several_descriptors_are_not_chosen_from(tmp_path):
    rdms = theirs(conds=["z", "a", "m"], image=["1", "2", "3"])
    place = "rsatoolbox's RDMs"
    with raises(
        ValueError,
        f"{place}: does not say which of its fields holds the stimulus ids: 'conds', 'image'; choose one by "
        "stimuli=, such as 'conds'",
    ):
        rdl.from_rsatoolbox(rdms, names="subj")
    with raises(
        ValueError, f"{place}: has no field 'cond' that could hold the stimulus ids; there are 'conds', 'image'"
    ):
        rdl.from_rsatoolbox(rdms, stimuli="cond", names="subj")
    chosen = rdl.from_rsatoolbox(rdms, stimuli="image", names="subj")
    assert chosen["stimulus"].values.tolist() == ["1", "2", "3"]
    assert chosen["conds"].values.tolist() == ["z", "a", "m"]


def test_numbers_are_no_ids():
    rdms = theirs(stimulus=[3, 1, 2])
    with raises(
        ValueError,
        "rsatoolbox's RDMs: does not hold the stimulus ids; give stimuli=, 3 strings in the file's order",
    ):
        rdl.from_rsatoolbox(rdms, names="subj")
    labelled_ = rdl.from_rsatoolbox(rdms, stimuli=["c", "a", "b"], names="subj")
    assert labelled_["pattern_stimulus"].values.tolist() == [3, 1, 2]


def test_a_measure_that_is_none_of_ours_is_kept_and_asked_for():
    with raises(
        ValueError,
        "rsatoolbox's RDMs: does not say by a known name what the distances are, and calls it 'poisson', which is "
        "none of them; give metric=, one of mse, sqeuclidean, euclidean, correlation, "
        "cosine, mahalanobis, crossnobis, undeclared ('undeclared' where it is not known)",
    ):
        rdl.from_rsatoolbox(theirs("poisson"), names="subj")
    rdms = rdl.from_rsatoolbox(theirs("poisson"), names="subj", metric="undeclared")
    assert rdms.attrs["dissimilarity_measure"] == "poisson"


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rdms=labelled())
def test_rsatoolbox_reads_what_is_written(tmp_path, rdms):
    path = tmp_path / "ours.h5"
    rdl.write_rdms(rdms, path)
    loaded = rsatoolbox.rdm.load_rdm(str(path))
    np.testing.assert_array_equal(loaded.get_matrices(), rdms.values)
    assert list(loaded.pattern_descriptors["stimulus"]) == rdms["stimulus"].values.tolist()
    assert list(loaded.rdm_descriptors["rdm"]) == rdms["rdm"].values.tolist()
    for name in set(rdms.coords) & {"subject", "session", "time", "good"}:
        np.testing.assert_array_equal(loaded.rdm_descriptors[name], rdms[name].values)
    if "category" in rdms.coords:
        assert list(loaded.pattern_descriptors["category"]) == rdms["category"].values.tolist()
    xr.testing.assert_identical(rdl.from_rsatoolbox(loaded), rdms)
    xr.testing.assert_identical(rdl.from_rsatoolbox(rdl.to_rsatoolbox(rdms)), rdms)


def test_what_rsatoolbox_changes_stays_aligned():
    rdms = several(3, session=[1, 2, 3], metric="crossnobis").assign_coords(category=("stimulus", list("abcab")))
    changed = rdl.to_rsatoolbox(rdms).subset("session", [3, 1]).subset_pattern("category", ["a", "c"])
    back = rdl.from_rsatoolbox(changed)
    expected = rdl.select_stimuli(rdms.sel(rdm=back["rdm"].values), [f"stimulus-{i}" for i in (0, 2, 3)]).assign_coords(
        session=("rdm", back["session"].values)
    )
    np.testing.assert_array_equal(back.values, expected.values)
    assert back["stimulus"].values.tolist() == expected["stimulus"].values.tolist()
    assert back["category"].values.tolist() == ["a", "c", "a"]


def test_only_asking_for_its_objects_needs_rsatoolbox(monkeypatch, tmp_path):
    rdl.write_rdms(one(), tmp_path / "rdms.h5")
    monkeypatch.setitem(sys.modules, "rsatoolbox", None)
    monkeypatch.setitem(sys.modules, "rsatoolbox.rdm", None)
    xr.testing.assert_identical(rdl.read_rdms(tmp_path / "rdms.h5"), one())
    with raises(
        ImportError, "to_rsatoolbox makes objects of rsatoolbox, which is not installed: pip install rsatoolbox"
    ):
        rdl.to_rsatoolbox(one())
    with raises(TypeError, "expected rsatoolbox.rdm.RDMs, got a DataArray"):
        rdl.from_rsatoolbox(one())


# MATLAB


def test_structs_of_roi_subject_and_session(tmp_path):
    shape = (2, 3, 2)
    structs = np.empty(shape, dtype=[("RDM", object), ("name", object), ("color", object), ("n", object)])
    for at in np.ndindex(shape):
        square = squareform(np.full(3, 100.0 * at[0] + 10 * at[1] + at[2] + 1))
        name = f"{['V1', 'IT'][at[0]]} | {'abc'[at[1]]} | Session: {at[2] + 1}"
        structs[at] = (square, name, np.zeros((1, 3)), at[2])
    scipy.io.savemat(tmp_path / "a.mat", {"RDMs": structs})
    rdms = rdl.read_rdms(tmp_path / "a.mat", stimuli=IDS, metric="mse")
    for at in np.ndindex(shape):
        chosen = rdms.sel(
            rdm=(rdms["roi"] == ["V1", "IT"][at[0]])
            & (rdms["subject"] == "abc"[at[1]])
            & (rdms["session"] == at[2] + 1)
        )
        assert chosen.sizes["rdm"] == 1
        assert chosen.values[0, 0, 1] == 100 * at[0] + 10 * at[1] + at[2] + 1
        assert chosen["n"].item() == at[2]


def test_matlab_sees_a_struct_array(tmp_path):
    rdms = several(2)
    rdl.write_rdms(rdms, tmp_path / "a.mat")
    structs = scipy.io.loadmat(tmp_path / "a.mat")["RDMs"]
    assert structs.shape == (1, 2)
    assert [entry["name"].item() for entry in structs.flat] == ["rdm-0", "rdm-1"]
    np.testing.assert_array_equal(structs[0, 1]["RDM"], rdms.values[1])
    # reordered there, and one left out
    scipy.io.savemat(
        tmp_path / "b.mat", {"RDMs": structs[:, [1]], "brainrdl": scipy.io.loadmat(tmp_path / "a.mat")["brainrdl"]}
    )
    xr.testing.assert_identical(rdl.read_rdms(tmp_path / "b.mat"), rdms.isel(rdm=[1]))


def test_a_renamed_rdm_is_not_given_the_labels_of_another(tmp_path):
    rdl.write_rdms(one(), tmp_path / "a.mat")
    content = scipy.io.loadmat(tmp_path / "a.mat")
    path = matlab(tmp_path / "b.mat", [one().values[0]], ["V1"], brainrdl=content["brainrdl"])
    with raises(
        ValueError,
        f"RDM 'V1' is not among those that the variable 'brainrdl' of {path} describes; remove it after renaming or "
        "adding "
        "RDMs, and give the labels when reading",
    ):
        rdl.read_rdms(path)


def test_matlabs_version_73(tmp_path):
    """A file as MATLAB lays one out: struct fields as references, characters as numbers, all transposed."""
    path = tmp_path / "a.mat"
    rdms = several(2, n=4, metric="crossnobis")
    with h5py.File(path, "w", userblock_size=512) as file:
        refs, structs = file.create_group("#refs#"), file.create_group("RDMs")
        columns = {"RDM": [], "name": []}
        for at, name in enumerate(["é1", "IT"]):
            data = refs.create_dataset(f"d{at}", data=rdms.values[at].T)
            data.attrs["MATLAB_class"] = np.bytes_("double")
            text = refs.create_dataset(f"n{at}", data=np.frombuffer(name.encode("utf-16-le"), "<u2")[:, None])
            text.attrs["MATLAB_class"] = np.bytes_("char")
            columns["RDM"].append(data.ref)
            columns["name"].append(text.ref)
        for name, references in columns.items():
            structs.create_dataset(name, data=np.array([references], dtype=object).T, dtype=h5py.ref_dtype)
        structs.attrs["MATLAB_class"] = np.bytes_("struct")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    back = rdl.read_rdms(path, stimuli=list("abcd"), metric="crossnobis")
    assert back["rdm"].values.tolist() == ["é1", "IT"]
    np.testing.assert_array_equal(back.values, rdms.values)


def test_names_that_occur_twice_can_be_replaced(tmp_path):
    path = matlab(tmp_path / "a.mat", [squareform([1.0, 2, 3])] * 2, ["IT", "IT"])
    asked = {"stimuli": IDS, "metric": "mse"}
    with raises(
        ValueError,
        f"{path}: the names of the RDMs must be unique, but the file has these more than once: 'IT'; give others in "
        "their place by names=, in the file's order",
    ):
        rdl.read_rdms(path, **asked)
    rdms = rdl.read_rdms(path, names=["a", "b"], **asked)
    assert rdms["rdm"].values.tolist() == ["a", "b"]
    assert rdms["name_in_file"].values.tolist() == ["IT", "IT"]


def test_one_struct_array_of_rdms_is_expected(tmp_path):
    path = matlab(tmp_path / "a.mat", [np.zeros((3, 3))], more=np.ones(2))
    scipy.io.savemat(path, {"x": np.ones(2), "y": "text"})
    with raises(
        ValueError,
        f"{path} holds no struct array with a field 'RDM', as the RSA toolbox writes them; its variables are 'x', 'y'",
    ):
        rdl.read_rdms(path)
    structs = np.empty((1, 1), dtype=[("RDM", object)])
    structs[0, 0] = (np.zeros((3, 3)),)
    scipy.io.savemat(path, {"A": structs, "B": structs})
    with raises(
        ValueError,
        f"{path} holds several struct arrays with a field 'RDM': 'A', 'B'; expected one: in MATLAB, save('one.mat', "
        "'A') "
        "keeps a single variable",
    ):
        rdl.read_rdms(path)


# Meadows


def test_meadows_of_several_people(tmp_path):
    padded = np.array(["face  ", "bodies", "house "])
    scipy.io.savemat(
        tmp_path / "a.mat",
        {
            "rdmutv_proud_wren": np.array([[1.0, 2, 3]]),
            "stimuli_proud_wren": padded,
            "rdmutv_calm_ant": np.array([[4.0, 5, 6]]),
            "stimuli_calm_ant": padded,
        },
    )
    rdms = rdl.read_rdms(tmp_path / "a.mat", metric="undeclared")
    assert rdms["stimulus"].values.tolist() == ["face", "bodies", "house"]
    assert rdms["subject"].values.tolist() == ["proud-wren", "calm-ant"]
    np.testing.assert_array_equal(rdms.sel(rdm="calm-ant").values, squareform([4.0, 5, 6]))


def test_meadows_of_one_person(tmp_path):
    scipy.io.savemat(
        tmp_path / "a.mat", {"rdmutv": np.array([[1.0, 2, 3]]), "stimuli": np.array(["a.png", "bb.png", "c.png"])}
    )
    rdms = rdl.read_rdms(tmp_path / "a.mat", metric="undeclared", names=["proud-wren"])
    assert rdms["stimulus"].values.tolist() == ["a.png", "bb.png", "c.png"]


def test_meadows_json_and_rsatoolboxs_reader(tmp_path):
    rdms = rdl.label_rdms(np.array([[1.0, 2, 3], [4, 5, 6]]), IDS, ["first", "second"], "undeclared")
    path = tmp_path / "Meadows_study_v1_proud-wren_tree.json"
    rdl.write_rdms(rdms, path)
    from rsatoolbox.io.meadows import load_rdms

    loaded = load_rdms(str(path), sort=False)
    np.testing.assert_array_equal(loaded.get_matrices(), rdms.values)
    assert loaded.pattern_descriptors["conds"] == IDS
    assert loaded.rdm_descriptors["task"] == ["first", "second"]
    content = json.loads(path.read_text())
    del content["brainrdl"]
    content["tasks"].append({"task": {"task_type": "questionnaire", "name": "q"}})
    path.write_text(json.dumps(content))
    xr.testing.assert_identical(rdl.read_rdms(path, metric="undeclared"), rdms)


# Net2Brain


def test_net2brains_model_form(tmp_path):
    """As its LayerRDM saves it, with the metric in a pickled dictionary."""
    path = tmp_path / "RDM_layer1.npz"
    np.savez(path, rdm=np.float32([0.5, 1, 1.5]), stimuli_name=IDS, layer_name="layer1", meta={"distance": "cosine"})
    with pytest.warns(
        UserWarning, match=re.escape(f"{path}: 'meta' is pickled and was not opened, so that the metric it")
    ):
        rdms = rdl.read_rdms(path, metric="cosine")
    assert rdms["rdm"].values.tolist() == ["layer1"]
    assert rdms["stimulus"].values.tolist() == IDS
    np.testing.assert_array_equal(rdms.values[0], squareform([0.5, 1, 1.5]))


def test_net2brain_reads_the_members_it_knows(tmp_path):
    rdl.write_rdms(one(), tmp_path / "one.npz")
    members = np.load(tmp_path / "one.npz")
    assert sorted(members) == ["layer_name", "meta", "rdm", "stimuli_name"]  # its reader takes no others
    assert members["stimuli_name"].tolist() == IDS
    assert members["layer_name"].item() == "IT"
    np.testing.assert_array_equal(members["rdm"], [0.2, 1.3, 1.1])
    rdl.write_rdms(several(3), tmp_path / "several.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "several.npz")["arr_0"], several(3).values)


def test_net2brains_brain_forms(tmp_path):
    values = several(6).values
    np.savez(tmp_path / "meg.npz", values.reshape(2, 3, 5, 5))
    names = [f"r{i}" for i in range(6)]
    rdms = rdl.read_rdms(tmp_path / "meg.npz", stimuli=list("abcde"), names=names, metric="crossnobis")
    np.testing.assert_array_equal(rdms.values, values)
    assert rdms["subject_index"].values.tolist() == [0, 0, 0, 1, 1, 1]
    assert rdms["time_index"].values.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("roi", ["EVC", "IT"])
def test_the_78_photographs(roi):
    path = data_dir(f"cichy_algonauts78/fmri_{roi}_RDMs.npz") / f"cichy_algonauts78/fmri_{roi}_RDMs.npz"
    stimuli = [f"image_{i:02d}" for i in range(1, 79)]
    names = [f"sub-{i:02d}" for i in range(1, 16)]
    rdms = rdl.read_rdms(path, stimuli=stimuli, names=names, metric="undeclared")
    assert rdms.shape == (15, 78, 78)
    np.testing.assert_allclose(rdms.values, np.load(path)["arr_0"], rtol=0, atol=1e-15)


# CSV


def test_any_tools_tidy_table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("subj,stimulus,stimulus_,dissimilarity\ns1,NA,007,1\ns1,house,NA,\ns1,007,house,-.25\n", "utf-8")
    rdms = rdl.read_rdms(path, names=["IT"], metric="crossnobis")
    assert rdms["stimulus"].values.tolist() == ["NA", "007", "house"]
    np.testing.assert_array_equal(condense(rdms)[0], [1, np.nan, -0.25])
    assert rdms["subj"].values.tolist() == ["s1"]


def test_pandas_reads_the_table(tmp_path):
    rdms = several(2, subject=["a", "b"], session=[1, 2])
    rdl.write_rdms(rdms, tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv")
    assert list(table) == ["rdm", "stimulus", "stimulus_", "dissimilarity", "metric", "subject", "session", "brainrdl"]
    assert table["session"].dtype == np.int64
    assert len(table) == 20


def csv_of(path, rows):
    path.write_text("rdm,stimulus,stimulus_,dissimilarity\n" + "\n".join(rows) + "\n", "utf-8")
    return path


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (["IT,a,b,1", "IT,a,c,2"], "stimuli 'b' and 'c' of RDM 'IT' have no row; add one, with NaN where unmeasured"),
        (["IT,a,b,1", "IT,a,b,1"], "stimuli 'a' and 'b' of RDM 'IT' have several rows; expected one"),
        (
            ["IT,a,b,1", "IT,b,a,2"],
            "dissimilarity is 1 for stimuli 'a' and 'b' in RDM 'IT', but 2 the other way round, the largest "
            "difference; an RDM "
            "is symmetric: average it with its transpose, or find out why the directions differ",
        ),
        (["IT,a,b,far"], "dissimilarity is 'far'; expected a number, or nothing where unmeasured"),
    ],
)
def test_faulty_tables(tmp_path, rows, reason):
    path = csv_of(tmp_path / "a.csv", rows)
    with raises(ValueError, f"{path}: {reason}"):
        rdl.read_rdms(path, metric="mse")


def test_an_edited_table_is_noticed(tmp_path):
    path = tmp_path / "a.csv"
    rdl.write_rdms(several(2, subject=["ann", "bob"]), path)
    path.write_text(path.read_text("utf-8").replace(',"ann",', ',"zoe",'), "utf-8")
    with raises(
        ValueError, f"{path}: column 'subject' is not as it was written; remove the column 'brainrdl' after editing"
    ):
        rdl.read_rdms(path)


# assemblies of patterns


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
@pytest.mark.parametrize("field", ["stimulus_id", "image_id"])
def test_assemblies_become_rdms(tmp_path, engine, field):
    random = np.random.default_rng(0)
    patterns = random.normal(size=(6, 4))
    assembly = xr.DataArray(
        patterns,
        dims=("presentation", "neuroid"),
        coords={field: ("presentation", ["z", "a", "z", "m", "a", "m"]), "neuroid_id": ("neuroid", [1, 2, 3, 4])},
    )
    assembly.to_dataset(name="data").to_netcdf(tmp_path / "assembly.nc", engine=engine)
    rdms = rdl.read_rdms(tmp_path / "assembly.nc", metric="sqeuclidean", names=["IT"])
    means = np.stack([patterns[[0, 2]].mean(0), patterns[[1, 4]].mean(0), patterns[[3, 5]].mean(0)])
    expected = ((means[:, None] - means) ** 2).sum(-1)
    assert rdms["stimulus"].values.tolist() == ["z", "a", "m"]
    np.testing.assert_allclose(rdms.values[0], expected, rtol=1e-12)
    assert json.loads(rdms.attrs["provenance"]) == {"patterns": "assembly.nc", "neuroids": 4, "presentations": 6}


def test_each_time_bin_is_an_rdm(tmp_path):
    patterns = np.random.default_rng(0).normal(size=(3, 4, 2))
    assembly = xr.DataArray(
        patterns,
        dims=("presentation", "neuroid", "time_bin"),
        coords={"stimulus_id": ("presentation", IDS), "time_bin_start": ("time_bin", [70, 170])},
    )
    assembly.to_dataset(name="data").to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    rdms = rdl.read_rdms(tmp_path / "a.nc", metric="mse", names=["early", "late"])
    assert rdms["time_bin_start"].values.tolist() == [70, 170]
    np.testing.assert_allclose(rdms.values[1, 0, 1], ((patterns[0] - patterns[1]) ** 2).mean(0)[1], rtol=1e-12)


def test_faulty_assemblies(tmp_path):
    path = tmp_path / "a.nc"
    patterns = np.ones((2, 3))
    patterns[1, 0] = np.nan
    assembly = xr.DataArray(patterns, dims=("presentation", "neuroid"))
    known = "mse, sqeuclidean, euclidean, correlation, cosine"
    assembly.to_dataset(name="data").to_netcdf(path, engine="h5netcdf")
    reason = "holds patterns, which a metric turns into RDMs; give metric=, one of"
    with raises(ValueError, f"{path} {reason} {known}"):
        rdl.read_rdms(path)
    with raises(
        ValueError, f"{path}: presentations have no coordinate 'stimulus_id' (or 'image_id'), so stimuli are not known"
    ):
        rdl.read_rdms(path, metric="mse")
    assembly.assign_coords(stimulus_id=("presentation", ["a", "b"])).to_dataset(name="data").to_netcdf(
        path, engine="h5netcdf"
    )
    with raises(
        ValueError,
        f"{path}: patterns hold NaN or infinite values, for stimulus 'b'; leave these presentations or neuroids out",
    ):
        rdl.read_rdms(path, metric="mse")


# describing


def test_a_file_is_described_as_it_is(tmp_path):
    square = squareform([1.0, -2, 3])
    square[0, 1], square[2, 2] = 1.5, 0.25
    path = matlab(tmp_path / "a.mat", [square], ["IT"])
    found = describe(path)
    assert found == {
        "names": ["IT"],
        "stimuli": None,
        "metric": None,
        "n_rdms": 1,
        "n_stimuli": 3,
        "coords": [],
        "attrs": {},
        "missing_pairs": [0],
        "negative_pairs": [1],
        "asymmetry": [0.5],
        "diagonal": [0.25],
        "range": [(-2.0, 3.0)],
    }
    assert describe_as_text(path) == "\n".join(
        (
            str(path),
            "1 RDM of 3 stimuli (no ids in the file)",
            "metric: not in the file",
            "coordinates: none",
            "'IT': -2 to 3, 0 missing and 1 negative pairs, asymmetric by up to 0.5, diagonal up to 0.25",
        )
    )


def test_long_provenance_is_cut_and_comes_last(tmp_path):
    rdl.write_rdms(one().assign_attrs(provenance=json.dumps("x" * 298)), tmp_path / "a.nc")
    assert describe_as_text(tmp_path / "a.nc").splitlines()[-1] == f'provenance: "{"x" * 199} … (300 characters)'


def test_warnings_of_readers_do_not_escape(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for suffix in SUFFIXES:
            rdl.write_rdms(one(), Path(tmp_path) / f"a.{suffix}")
            assert describe(tmp_path / f"a.{suffix}")["stimuli"] == IDS
