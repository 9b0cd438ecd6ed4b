"""Files made to exhaust their reader are refused, for a stated reason, before they do."""

import io
import os
import re
import struct
import time
import warnings
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr

import brainrdl as rdl
from brainrdl.cli import main
from brainrdl.exchange import guarded as module
from brainrdl.exchange.guarded import guarded
from labelled_rdms import one

MOST = 10**6
BEYOND = f"more than the {MOST} that one file may take; if it is what you expect, give a larger max_bytes="


def raises(message):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


# what is claimed, before it is allocated


def npz_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1, 1000, 1000)})
        archive.writestr("arr_0.npy", header.getvalue() + bytes(8 * 1000**2))
    return f"{path}: 'arr_0.npy' claims 8000128 bytes, {BEYOND}"


def npz_of_many(path):
    np.savez_compressed(path, **{f"arr_{k}": np.zeros(10_000) for k in range(20)})
    return f"{path}: its content claims 1053664 bytes, {BEYOND}"


def hdf5_bomb(path, name="dissimilarities"):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=np.zeros((1, 499_500)), chunks=(1, 499_500), compression="gzip")
    return f"{path}: /{name} claims 3996000 bytes (shape (1, 499500)), {BEYOND}"


def hdf5_chunk(path):
    with h5py.File(path, "w") as file:
        made = file.create_dataset(
            "dissimilarities", (1, 3), "<f8", maxshape=(1, None), chunks=(1, 499_500), compression=9
        )
        made[:] = 1
    return f"{path}: /dissimilarities claims 3996000 bytes (shape (1, 3)), {BEYOND}"


def hdf5_of_many(path):
    with h5py.File(path, "w") as file:
        for k in range(20):
            file.create_dataset(f"descriptors/{k}", data=np.zeros(10_000), compression="gzip")
    return f"{path}: its content claims 1610500 bytes, {BEYOND}"


def matlab_bomb(path):
    scipy.io.savemat(path, {"RDMs": np.zeros((1000, 1000))}, do_compression=True)
    return f"{path}: its content claims {10**6 + 2} bytes, {BEYOND}"


def matlab_of_empty_cells(path):
    empty = np.empty((1, 3000), dtype=object)
    for k in range(3000):
        empty[0, k] = np.zeros((0, 0))
    scipy.io.savemat(path, {"cells": empty}, do_compression=True)
    return f"{path}: its content claims 1000"


def table(path):
    path.write_text("rdm,stimulus,stimulus_,dissimilarity\n" + "\n" + "a,b,c,1\n" * 9999, "utf-8")
    return f"{path}: its content claims 1000"


def json_of_lists(path):
    path.write_text('{"tasks": [' + "[]," * 10_000 + "0]}", "utf-8")
    return f"{path}: its JSON, as objects, claims 1230234 bytes, {BEYOND}"


@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        ("npz", npz_bomb),
        ("npz", npz_of_many),
        ("h5", hdf5_bomb),
        ("nc", hdf5_bomb),
        ("mat", hdf5_bomb),
        ("h5", hdf5_chunk),
        ("h5", hdf5_of_many),
        ("mat", matlab_bomb),
        ("mat", matlab_of_empty_cells),
        ("csv", table),
        ("json", json_of_lists),
    ],
)
def test_more_than_the_budget(tmp_path, suffix, make):
    path = tmp_path / f"a.{suffix}"
    message = make(path)
    whole = message.endswith("max_bytes=")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}{'' if whole else '.*'}{'$' if whole else ''}"):
        rdl.read_rdms(path, max_bytes=MOST)


def test_condensed_rdms_are_counted_as_the_squares_they_become(tmp_path):
    rdms = rdl.label_rdms(np.ones((1, 300 * 299 // 2)), [str(k) for k in range(300)], ["IT"], "mse")
    rdl.write_rdms(rdms, tmp_path / "a.h5")
    message = f"{tmp_path / 'a.h5'}: its RDMs, as squares, claims 720000 bytes, more than the 600000 that one file may "
    with raises(f"{message}take; if it is what you expect, give a larger max_bytes="):
        rdl.read_rdms(tmp_path / "a.h5", max_bytes=600_000)
    xr.testing.assert_identical(rdl.read_rdms(tmp_path / "a.h5", max_bytes=800_000), rdms)


def test_a_few_rows_that_name_many_stimuli(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f"r,a{k},b{k},1,mse\n" for k in range(10_000))
    path.write_text(f"rdm,stimulus,stimulus_,dissimilarity,metric\n{rows}", "utf-8")
    with raises(f"{path}: stimuli 'a0' and 'a1' of RDM 'r' have no row; add one, with NaN where unmeasured"):
        rdl.read_rdms(path, max_bytes=2**29)


def test_json_within_json_within_json(tmp_path):
    path = tmp_path / "a.json"
    for content in ("[" * 100_000 + "]" * 100_000, "9" * 100_000):
        path.write_text(f'{{"tasks": {content}}}', "utf-8")
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))} "):
            rdl.read_rdms(path)


@pytest.mark.parametrize("suffix", ["nc", "h5", "mat"])
def test_groups_that_go_by_two_names_each_eighteen_deep(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with h5py.File(path, "w") as file:
        file["dissimilarities"], group = np.ones((1, 3)), file.create_group("descriptors")
        for k in range(18):
            below = file.create_group(f"group-{k}")
            group["a"] = group["b"] = below
            group = below
    with pytest.raises(ValueError, match=rf"^{path}: \d+ paths lead to its 20 groups and data sets; expected a tree "):
        rdl.read_rdms(path)


def test_cells_that_multiply(tmp_path):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        last = file.create_dataset("#refs#/0", data=np.ones((3, 3)))
        for k in range(4):
            cells = file.create_dataset(f"#refs#/cells-{k}" if k < 3 else "RDMs", (20, 1), dtype=h5py.ref_dtype)
            cells[:, 0] = [last.ref] * 20
            last = cells
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: its content claims 1000"):
        rdl.read_rdms(path, max_bytes=MOST)


def test_an_attribute_that_claims_more_than_the_file_holds(tmp_path):
    path = tmp_path / "a.h5"
    rdl.write_rdms(one(), path)
    with h5py.File(path, "a") as file:
        file.attrs["long"] = np.arange(777, dtype=np.int16)
    content = path.read_bytes()
    at = content.index(struct.pack("<Q", 777))
    path.write_bytes(content[:at] + struct.pack("<Q", 2**40) + content[at + 8 :])
    with pytest.raises(
        ValueError, match=f"^{re.escape(str(path))}(: the attribute 'long' of / claims|: its HDF5 data)"
    ):
        rdl.read_rdms(path)


def test_only_netcdf_has_dimensions_longer_than_the_file(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("dissimilarities", (1, 10**12), "<f8", chunks=(1, 1000))
        made.attrs["NAME"] = np.bytes_(b"This is a netCDF dimension but not a netCDF variable")
    with raises(
        f"{path}: /dissimilarities claims 8000000000000 bytes (shape (1, 1000000000000)), more than the 0 stored for "
        "it can hold; the file is damaged: write it again"
    ):
        rdl.read_rdms(path)


def test_a_deep_npz_header(tmp_path):
    path = tmp_path / "a.npz"
    header = (b"(" * 5000).ljust(9999) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with raises(f"{path} is not an .npz file, or is cut off or damaged; fetch or write it again"):
        rdl.read_rdms(path)


def test_text_of_characters_that_there_are_not(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, arr_0=np.ones((1, 3, 3)) - np.eye(3), brainrdl=np.array([0x7FFFFFFF], dtype="<u4").view("<U1"))
    with raises(f"{path} is not an .npz file, or is cut off or damaged; fetch or write it again"):
        rdl.read_rdms(path)


def test_whatever_a_reader_stumbles_over_names_the_file(tmp_path):
    path = tmp_path / "a.nc"
    patterns = xr.DataArray(
        np.array([[1e200, 1], [2, 3], [3, 3]]),
        dims=("presentation", "neuroid"),
        coords={"stimulus_id": ("presentation", list("abc"))},
        name="data",
    )
    patterns.to_netcdf(path, engine="h5netcdf")
    message = f"{path}: features reach 1e+200, whose square is beyond the range of float64; scale all of them down"
    with raises(message):
        rdl.read_rdms(path, metric="mse", names=["IT"])


# the process of its own


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    return path


def test_what_is_read_comes_back(file):
    here = os.getpid()
    values, child = guarded(lambda: (np.arange(3), os.getpid()), file, None)
    assert values.tolist() == [0, 1, 2]
    assert child != here


def test_errors_and_warnings_come_back(file):
    def read():
        warnings.warn("odd", UserWarning, stacklevel=1)
        return 1

    with pytest.warns(UserWarning, match="^odd$"):
        assert guarded(read, file, None) == 1

    def fail(error):
        raise error

    for error, kind, message in (
        (ValueError("bad"), ValueError, "bad"),
        (TypeError("worse"), TypeError, "worse"),
        (zlib.error("x"), ValueError, f"{file} cannot be read (error); it is damaged: fetch or write it again"),
    ):
        with pytest.raises(kind, match=f"^{re.escape(message)}$"):
            guarded(lambda error=error: fail(error), file, None)


def test_a_reader_that_never_ends(file, monkeypatch):
    monkeypatch.setattr(module, "_BYTES_PER_SECOND", 10**9)

    def loop():
        while True:
            pass

    message = (
        f"{file}: reading it took more than 1 s of computing, which a file of 5 bytes does not need; it is damaged, or "
        "was made to do harm: fetch or write it again"
    )
    start = time.process_time()
    with raises(message):
        guarded(loop, file, None)
    assert time.process_time() - start < 1  # the time was the child's


def test_a_reader_that_asks_for_too_much(file):
    message = (
        f"{file}: reading it takes more memory than the 1000 bytes that one file may take allow; it is damaged, or "
        "give a larger max_bytes="
    )
    with raises(message):
        guarded(lambda: np.ones(2**32), file, 1000)


def test_a_reader_that_crashes(file):
    message = (
        f"{file}: the library that reads it crashed (SIGABRT); it is damaged, or was made to do harm: fetch or write "
        "it again"
    )
    with raises(message):
        guarded(os.abort, file, None)


def test_without_fork_the_file_is_read_here(file, monkeypatch):
    monkeypatch.delattr(os, "fork")
    assert guarded(os.getpid, file, None) == os.getpid()


def test_no_child_is_left(file):
    guarded(lambda: 1, file, None)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


# what is replaced


def test_only_files_of_rdms_are_replaced(tmp_path):
    for suffix in ("nc", "h5", "npz", "mat", "json", "csv"):
        path = tmp_path / f"a.{suffix}"
        path.write_text("years of work", "utf-8")
        with raises(
            f"{path} exists and is not a file of RDMs, so it is not replaced; name another file, or remove it first"
        ):
            rdl.write_rdms(one(), path)
        assert path.read_text("utf-8") == "years of work"
        path.write_bytes(b"")  # as tempfile leaves one
        rdl.write_rdms(one(), path)
        rdl.write_rdms(one("cosine"), path)
        assert rdl.read_rdms(path).attrs["metric"] == "cosine"


def test_patterns_are_not_replaced_by_rdms(tmp_path):
    path = tmp_path / "a.nc"
    patterns = xr.DataArray(np.ones((2, 3)), dims=("presentation", "neuroid"), name="data")
    patterns.to_netcdf(path, engine="h5netcdf")
    content = path.read_bytes()
    with pytest.raises(ValueError, match="is not a file of RDMs, so it is not replaced"):
        rdl.write_rdms(one(), path)
    assert path.read_bytes() == content


def test_a_plain_array_is_not_replaced_by_rdms(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, features=np.random.default_rng(0).random((6, 6)))
    with pytest.raises(ValueError, match="is not a file of RDMs, so it is not replaced"):
        rdl.write_rdms(one(), path)


def test_a_command_takes_the_budget(tmp_path, capsys):
    path = tmp_path / "a.h5"
    message = hdf5_bomb(path).replace("max_bytes=", "--max-bytes")
    assert main(["info", str(path), "--max-bytes", str(MOST)]) == 2
    assert capsys.readouterr().err == f"brainrdl: {message}\n"
