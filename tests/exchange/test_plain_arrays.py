"""Plain arrays of distances, in .npy files and among the variables of others, with ids and metric given."""

import re

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr
from scipy.spatial.distance import squareform

import brainrdl as rdl
from brainrdl import cli
from brainrdl.exchange import describe
from labelled_rdms import several
from real_data import data_dir

N = 4
VECTORS = np.random.default_rng(0).random((3, 6))
SQUARES = np.stack([squareform(vector) for vector in VECTORS])
ASKED = {"stimuli": list("abcd"), "metric": "undeclared"}


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def structs(values=SQUARES[:1]):
    made = np.empty((1, len(values)), dtype=[("RDM", object), ("name", object)])
    for row, square in enumerate(values):
        made[0, row] = (square, f"r{row}")
    return made


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (SQUARES[0], SQUARES[:1]),
        (SQUARES, SQUARES),
        (np.moveaxis(SQUARES, 0, -1), SQUARES),
        (VECTORS[0], SQUARES[:1]),
        (VECTORS[:1], SQUARES[:1]),
        (VECTORS[:1].T, SQUARES[:1]),
        (VECTORS[:2], SQUARES[:2]),
        (VECTORS[:2].T, SQUARES[:2]),
        (SQUARES[[0, 1, 2, 0]], SQUARES[[0, 1, 2, 0]]),  # four of four stimuli, either way round
        (np.moveaxis(SQUARES[[0, 1, 2, 0]], 0, -1), SQUARES[[0, 1, 2, 0]]),
    ],
)
def test_every_common_shape_is_read(tmp_path, array, expected):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", note=np.arange(2), IT=array)
    scipy.io.savemat(tmp_path / "a.mat", {"IT": array, "note": "text"})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["region/IT"] = array
    for name, variable in (("a.npy", None), ("a.npz", "IT"), ("a.mat", "IT"), ("a.h5", "region/IT")):
        rdms = rdl.read_rdms(tmp_path / name, order="row-major", variable=variable, **ASKED)
        np.testing.assert_array_equal(rdms.values, expected)
        assert rdms["stimulus"].values.tolist() == list("abcd")


def test_a_single_rdm_has_the_name_of_its_variable_and_several_are_numbered(tmp_path):
    np.savez(tmp_path / "a.npz", IT=SQUARES[0], both=SQUARES)
    np.save(tmp_path / "IT.npy", SQUARES[0])
    for path, variable, names in (
        ("a.npz", "IT", ["IT"]),
        ("IT.npy", None, ["IT"]),
        ("a.npz", "both", ["both-1", "both-2", "both-3"]),
    ):
        assert rdl.read_rdms(tmp_path / path, variable=variable, **ASKED)["rdm"].values.tolist() == names
    named = rdl.read_rdms(tmp_path / "a.npz", variable="both", names=["ann", "bob", "cem"], **ASKED)
    assert named["rdm"].values.tolist() == ["ann", "bob", "cem"]


def test_several_axes_are_read_with_the_last_the_fastest(tmp_path):
    people = several(6, n=N).values.reshape(2, 3, N, N)
    np.save(tmp_path / "first.npy", people)
    np.save(tmp_path / "last.npy", np.moveaxis(people, (0, 1), (2, 3)))
    for name in ("first", "last"):
        rdms = rdl.read_rdms(tmp_path / f"{name}.npy", **ASKED)
        np.testing.assert_array_equal(rdms.values.reshape(2, 3, N, N), people)
        assert rdms["axis_0"].values.tolist() == [0, 0, 0, 1, 1, 1]
        assert rdms["axis_1"].values.tolist() == [0, 1, 2, 0, 1, 2]


def test_a_diagonal_that_was_not_measured_is_0(tmp_path):
    values = SQUARES.copy()
    values[1][np.diag_indices(N)] = np.nan
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(rdl.read_rdms(tmp_path / "a.npy", **ASKED).values, SQUARES)


def test_what_an_array_does_not_say_is_asked_for(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, VECTORS)
    with raises(ValueError, f"{path}: does not hold the stimulus ids; give stimuli=, 4 strings in the file's order"):
        rdl.read_rdms(path, metric="undeclared", order="row-major")
    with raises(
        ValueError,
        f"{path}: holds vectors of 6 pairs, but not their order; give order=: 'row-major' for SciPy's and MATLAB's "
        "squareform, 'column-major' for MATLAB's rdm(triu(true(n), 1)) and nilearn's lower triangles",
    ):
        rdl.read_rdms(path, **ASKED)
    by_column = SQUARES[0].T[np.tril_indices(N, -1)]
    np.save(path, by_column)
    np.testing.assert_array_equal(rdl.read_rdms(path, order="column-major", **ASKED).values, SQUARES[:1])


def test_arrays_that_hold_no_rdms(tmp_path):
    path = tmp_path / "a.npy"
    expected = (
        "in which there are no RDMs; expected (n, n), (rdms, n, n), (n, n, rdms), or vectors of n(n-1)/2 pairs: "
        "(pairs,), (rdms, pairs)"
    )
    for shape in ((7,), (2, 5), (2, 3, 4), ()):
        np.save(path, np.ones(shape))
        with raises(ValueError, f"{path} has shape {shape}, {expected}"):
            rdl.read_rdms(path, **ASKED)
    np.save(path, np.array(["a", "b"]))
    with raises(ValueError, f"{path} is an array of <U1; expected an array of real numbers, the distances"):
        rdl.read_rdms(path, **ASKED)


def test_damaged_npy_files(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with raises(
        ValueError,
        f"{path} is an array of Python objects, which only pickle can read, and pickle can run any code; save it again "
        "as numbers where you trust it",
    ):
        rdl.read_rdms(path, **ASKED)
    np.save(path, SQUARES)
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    with raises(
        ValueError,
        f"{path} claims 384 bytes (shape (3, 4, 4)), more than the 376 stored; it is cut off or damaged: fetch or "
        "write it again",
    ):
        rdl.read_rdms(path, **ASKED)
    for broken in (content[:40], b"", b"text"):
        path.write_bytes(broken)
        with raises(ValueError, f"{path} is not an .npy file, or is cut off or damaged; fetch or write it again"):
            rdl.read_rdms(path, **ASKED)


# a file of several variables


def test_a_plain_rdm_beside_a_struct_of_others_is_not_passed_over(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"RDMs": structs(), "behaviour": SQUARES[1], "colours": np.ones((3, 3)), "ages": [20, 30]})
    with raises(
        ValueError,
        f"{path} holds several variables that could be the RDMs: 'RDMs' (struct arrays with a field 'RDM'), "
        "'behaviour' (4 × 4); choose one by variable=",
    ):
        rdl.read_rdms(path, **ASKED)
    for variable, name, expected in (("RDMs", "r0", SQUARES[0]), ("behaviour", "behaviour", SQUARES[1])):
        rdms = rdl.read_rdms(path, variable=variable, **ASKED)
        assert rdms["rdm"].values.tolist() == [name]
        np.testing.assert_array_equal(rdms.values[0], expected)
    scipy.io.savemat(path, {"RDMs": structs(), "colours": np.ones((3, 3)), "ages": [20, 30]})
    assert rdl.read_rdms(path, **ASKED)["rdm"].values.tolist() == ["r0"]


def test_one_of_several_struct_arrays_can_be_named(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"A": structs(), "B": structs(SQUARES[1:])})
    np.testing.assert_array_equal(rdl.read_rdms(path, variable="B", **ASKED).values, SQUARES[1:])


def test_fields_and_cells_of_matlab(tmp_path):
    path = tmp_path / "a.mat"
    cells = np.empty((1, 3), dtype=object)
    cells[0, :] = list(SQUARES)
    scipy.io.savemat(path, {"data": {"regions": {"IT": SQUARES[0]}}, "cells": cells})
    np.testing.assert_array_equal(rdl.read_rdms(path, variable="data.regions.IT", **ASKED).values, SQUARES[:1])
    np.testing.assert_array_equal(rdl.read_rdms(path, variable="cells", **ASKED).values, SQUARES)


def test_the_only_array_of_a_file_needs_no_name(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"IT": SQUARES})
    np.savez(tmp_path / "a.npz", IT=SQUARES)
    for name in ("a.mat", "a.npz"):
        assert rdl.read_rdms(tmp_path / name, **ASKED)["rdm"].values.tolist() == ["IT-1", "IT-2", "IT-3"]


def test_of_several_arrays_one_is_asked_for(tmp_path):
    for name, said in (
        (
            "a.mat",
            "holds no struct array with a field 'RDM', as the RSA toolbox writes them; its variables are 'EVC', 'IT'; "
            "choose a plain array by variable=, of 'EVC' (3 × 6), 'IT' (3 × 4 × 4)",
        ),
        (
            "a.npz",
            "holds neither 'rdm' (Net2Brain's model form) nor 'arr_0' (its brain form); choose an array by variable=, "
            "of 'EVC' (3 × 6), 'IT' (3 × 4 × 4)",
        ),
        (
            "a.h5",
            "holds no 'dissimilarities', as files of RDMs that rsatoolbox wrote do; there are: 'EVC', 'IT'; choose a "
            "plain array by variable=, of 'EVC' (3 × 6), 'IT' (3 × 4 × 4)",
        ),
        (
            "a.nc",
            "holds no variable 'dissimilarity', and no patterns with dimensions presentation and neuroid; its "
            "variables are 'EVC', 'IT'; choose a plain array by variable=, of 'EVC' (3 × 6), 'IT' (3 × 4 × 4)",
        ),
    ):
        path, arrays = tmp_path / name, {"EVC": VECTORS, "IT": SQUARES}
        if name == "a.mat":
            scipy.io.savemat(path, arrays)
        elif name == "a.npz":
            np.savez(path, **arrays)
        elif name == "a.h5":
            with h5py.File(path, "w") as file:
                file.update(arrays)
        else:
            dims = {"EVC": ("rdm", "pair"), "IT": ("rdm", "a", "b")}
            xr.Dataset({key: (dims[key], array) for key, array in arrays.items()}).to_netcdf(path, engine="h5netcdf")
        with raises(ValueError, f"{path} {said}"):
            rdl.read_rdms(path, **ASKED)
        with raises(
            ValueError,
            f"{path} has no variable 'it'; there are 'EVC', 'IT'; did you mean 'IT', which differs from 'it' in upper "
            "and lower case?",
        ):
            rdl.read_rdms(path, variable="it", **ASKED)
        np.testing.assert_array_equal(rdl.read_rdms(path, variable="IT", **ASKED).values, SQUARES)


def test_arrays_behind_the_first_of_an_npz_are_not_passed_over(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, SQUARES, SQUARES[:2])
    with raises(
        ValueError,
        f"{path} holds several arrays that could be the RDMs: 'arr_0' and 'arr_1' (2 × 4 × 4); choose one by variable=",
    ):
        rdl.read_rdms(path, names=list("xyz"), **ASKED)
    assert rdl.read_rdms(path, variable="arr_1", **ASKED).sizes["rdm"] == 2


def test_what_a_netcdf_variable_says_of_its_axes_is_read(tmp_path):
    path = tmp_path / "a.nc"
    array = xr.DataArray(SQUARES, dims=("subject", "image", "image_"), name="brains")
    array = array.assign_coords(subject=["s1", "s2", "s3"], image=list("dcba"))
    for laid in (array, array.transpose("image", "image_", "subject")):
        laid.to_netcdf(path, engine="h5netcdf")
        rdms = rdl.read_rdms(path, variable="brains", metric="undeclared")
        assert rdms["stimulus"].values.tolist() == list("dcba")
        assert rdms["rdm"].values.tolist() == rdms["subject"].values.tolist() == ["s1", "s2", "s3"]
        np.testing.assert_array_equal(rdms.values, SQUARES)
    with raises(
        ValueError,
        f"{path}: stimuli contradicts the file, first at position 0: 'a' was given, the file has 'd'; leave stimuli "
        "out, and rename afterwards",
    ):
        rdl.read_rdms(path, variable="brains", **ASKED)
    array.assign_coords(image_=list("abcd")).to_netcdf(path, engine="h5netcdf")
    with raises(
        ValueError,
        f"{path}: coordinates 'image' and 'image_' of 'brains' differ; an RDM has one order for both axes",
    ):
        rdl.read_rdms(path, variable="brains", metric="undeclared")


def test_formats_without_variables(tmp_path):
    for suffix in ("npy", "csv", "json"):
        path = tmp_path / f"a.{suffix}"
        path.write_text("nothing")
        with raises(ValueError, f"{path}: a file of this format has no variables to choose from; leave variable out"):
            rdl.read_rdms(path, variable="IT", **ASKED)
    with raises(
        ValueError,
        f"{tmp_path / 'b.npy'}: an .npy file has no place for ids, names and metric; write .npz or netCDF",
    ):
        rdl.write_rdms(several(2), tmp_path / "b.npy")


def test_a_plain_array_is_described(tmp_path):
    np.savez(tmp_path / "a.npz", EVC=SQUARES, IT=SQUARES)
    found = describe(tmp_path / "a.npz", variable="IT")
    assert (found["n_rdms"], found["n_stimuli"], found["stimuli"], found["metric"]) == (3, 4, None, None)


# on the command line


def test_commands_take_the_variable(tmp_path, capsys):
    ids = tmp_path / "ids.txt"
    ids.write_text("a\nb\nc\nd\n")
    source, target = tmp_path / "a.mat", tmp_path / "b.nc"
    scipy.io.savemat(source, {"EVC": SQUARES, "IT": 2 * SQUARES})
    given = ("--variable", "IT", "--stimuli", str(ids), "--metric", "undeclared")
    assert cli.main(["convert", str(source), str(target), *given]) == 0
    np.testing.assert_array_equal(rdl.read_rdms(target).values, 2 * SQUARES)
    assert cli.main(["info", str(source), "--variable", "EVC"]) == 0
    assert "3 RDMs of 4 stimuli (no ids in the file)" in capsys.readouterr().out
    assert cli.main(["plot", str(source), "-o", str(tmp_path / "a.png"), *given]) == 0
    brains = rdl.label_rdms(VECTORS, list("abcd"), list("xyz"), "undeclared", {"subject": ["s1", "s2", "s3"]})
    rdl.write_rdms(brains, tmp_path / "brains.nc")
    assert cli.main(["compare", str(source), str(tmp_path / "brains.nc"), "--resamples", "20", *given]) == 0
    assert "IT-3" in capsys.readouterr().out
    assert cli.main(["convert", str(source), str(tmp_path / "c.nc"), *given[2:]]) == 2
    assert capsys.readouterr().err == (
        f"brainrdl: {source} holds no struct array with a field 'RDM', as the RSA toolbox writes them; its variables "
        "are 'EVC', 'IT'; choose a plain array by --variable, of 'EVC' (3 × 4 × 4), 'IT' (3 × 4 × 4)\n"
    )
    assert cli.main(["compare", str(source), str(tmp_path / "brains.nc"), "--variable", "V4", *given[2:]]) == 2
    assert capsys.readouterr().err == (f"brainrdl: {source} has no variable 'V4'; there are 'EVC', 'IT'\n")


# real files


def test_the_118_photographs():
    name = "algonauts2019_118/target_fmri.mat"
    path = data_dir(name) / name
    stimuli = [f"image_{i:03d}" for i in range(1, 119)]
    rdms = rdl.read_rdms(path, variable="IT_RDMs", stimuli=stimuli, metric="undeclared")
    assert rdms.shape == (15, 118, 118)
    with h5py.File(path) as file:
        np.testing.assert_allclose(rdms.values[3, 5, 7], file["IT_RDMs"][7, 5, 3], rtol=1e-15)


def test_the_92_objects_of_another_study():
    name = "cichy92/cichy92_fmri_rdms.npz"
    path = data_dir(name) / name
    stimuli = [f"object_{i:02d}" for i in range(1, 93)]
    rdms = rdl.read_rdms(path, variable="IT_RDMs", stimuli=stimuli, metric="undeclared", order="row-major")
    np.testing.assert_array_equal(rdms.values[4], squareform(np.load(path)["IT_RDMs"][4]))


def test_variables_that_are_none(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"data": {"IT": SQUARES[0]}, "note": "text"})
    for variable, kind in (("data", "a struct or cell array"), ("note", "text")):
        with raises(
            ValueError,
            f"the variable {variable!r} of {path} is {kind}; expected an array of real numbers, the distances",
        ):
            rdl.read_rdms(path, variable=variable, **ASKED)
    with raises(ValueError, f"'data' of {path} has no variable 'V1'; there are 'IT'"):
        rdl.read_rdms(path, variable="data.V1", **ASKED)
    with raises(TypeError, "variable is 3; expected the name of one, a string"):
        rdl.read_rdms(path, variable=3, **ASKED)
