"""Files of RDMs carry a checksum of their content, and only the content counts."""

import json
import re
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import xarray as xr

import brainrdl as rdl
from brainrdl.exchange import describe, netcdf
from brainrdl.exchange.seal import checksum
from brainrdl.studies.reports.files import read_array
from labelled_rdms import one, several

PLACES = {
    "nc": "the attribute 'brainrdl_sha256'",
    "h5": "the attribute 'brainrdl_sha256'",
    "npz": "the archive's comment",
    "mat": "the text at its start, by saving the variables anew",
    "json": "the key 'brainrdl_sha256'",
    "csv": "the column 'brainrdl'",
}


def raises(message):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


def edit_netcdf(path, number):
    with h5py.File(path, "a") as file:
        file["dissimilarity"][0, 0, 1] = file["dissimilarity"][0, 1, 0] = number


def edit_hdf5(path, number):
    with h5py.File(path, "a") as file:
        file["dissimilarities"][0, 0] = number


def edit_npz(path, number):
    with zipfile.ZipFile(path) as archive:
        comment = archive.comment
    with np.load(path) as file:
        arrays = dict(file)
    arrays["rdm"][0] = number
    np.savez(path, **arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = comment


def edit_matlab(path, number):
    start = path.read_bytes()[:116]
    content = scipy.io.loadmat(path)
    content["RDMs"][0, 0]["RDM"][[0, 1], [1, 0]] = number
    scipy.io.savemat(path, {"RDMs": content["RDMs"], "brainrdl": content["brainrdl"]})
    path.write_bytes(start + path.read_bytes()[116:])


def edit_text(path, number):
    path.write_text(path.read_text("utf-8").replace("0.2", str(number), 1), "utf-8")


EDITS = {
    "nc": edit_netcdf,
    "h5": edit_hdf5,
    "npz": edit_npz,
    "mat": edit_matlab,
    "json": edit_text,
    "csv": edit_text,
}


@pytest.mark.parametrize("read", [rdl.read_rdms, describe])
@pytest.mark.parametrize("suffix", EDITS)
def test_another_number_is_found(tmp_path, suffix, read):
    path = tmp_path / f"a.{suffix}"
    rdl.write_rdms(one(), path)
    EDITS[suffix](path, 0.25)
    place = PLACES[suffix]
    place = f"{place} of {path}" if suffix == "csv" else place
    with raises(
        f"{path}: its distances or labels are not those that were written (their SHA-256 is another), so that the file "
        f"was damaged or edited; put a copy in its place, or, where it was edited on purpose, remove {place}"
    ):
        read(path)


def test_reports_and_single_variables_ask_for_the_seal_too(tmp_path):
    rdl.write_rdms(one(), tmp_path / "a.nc")
    assert read_array(tmp_path / "a.nc").identical(one())
    edit_netcdf(tmp_path / "a.nc", 0.25)
    rdl.write_rdms(one(), tmp_path / "a.h5")
    edit_hdf5(tmp_path / "a.h5", 0.25)
    given = {"stimuli": ["a", "b", "c"], "names": ["x"], "metric": "mse", "order": "row-major"}
    for read in (
        lambda: read_array(tmp_path / "a.nc"),
        lambda: rdl.read_rdms(tmp_path / "a.nc", variable="dissimilarity"),
        lambda: rdl.read_rdms(tmp_path / "a.h5", variable="dissimilarities", **given),
    ):
        with pytest.raises(ValueError, match="its distances or labels are not those that were written"):
            read()


def test_whoever_writes_a_file_anew_needs_no_seal(tmp_path):
    rdms = several(2, n=4, roi=["V1", "IT"])
    twice = (rdms * 2).assign_attrs(rdms.attrs)
    for suffix in EDITS:
        rdl.write_rdms(rdms, tmp_path / f"a.{suffix}")
    xr.load_dataarray(tmp_path / "a.nc").pipe(lambda read: (read * 2).assign_attrs(read.attrs)).to_netcdf(
        tmp_path / "a.nc", engine="h5netcdf"
    )
    import rsatoolbox

    theirs = rsatoolbox.rdm.load_rdm(str(tmp_path / "a.h5"))
    theirs.dissimilarities *= 2
    theirs.save(str(tmp_path / "b.h5"), "hdf5")
    content = scipy.io.loadmat(tmp_path / "a.mat")
    for struct in content["RDMs"].flat:
        struct["RDM"] *= 2
    scipy.io.savemat(tmp_path / "a.mat", {name: content[name] for name in ("RDMs", "brainrdl")})
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "a.npz", arr_0=2 * arrays["arr_0"], brainrdl=arrays["brainrdl"])
    table = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    table["dissimilarity"] *= 2
    table.drop(columns="brainrdl").to_csv(tmp_path / "a.csv", index=False)
    for name in ("a.nc", "b.h5", "a.mat", "a.npz", "a.csv"):
        np.testing.assert_allclose(rdl.read_rdms(tmp_path / name).values, twice.values, rtol=1e-15, err_msg=name)


def test_a_table_without_some_of_its_rdms_is_read(tmp_path):
    rdms = several(3, n=4)
    rdl.write_rdms(rdms, tmp_path / "a.csv")
    table = pd.read_csv(tmp_path / "a.csv", dtype=str, keep_default_na=False)
    table[table["rdm"] != "rdm-1"].to_csv(tmp_path / "b.csv", index=False)
    xr.testing.assert_identical(rdl.read_rdms(tmp_path / "b.csv"), rdms.isel(rdm=[0, 2]))
    # cut off behind an RDM
    lines = (tmp_path / "a.csv").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "c.csv").write_text("".join(lines[: 1 + 2 * 6]), "utf-8")
    with pytest.raises(ValueError, match="its distances or labels are not those that were written"):
        rdl.read_rdms(tmp_path / "c.csv")


def test_files_from_before_the_seals_are_read(tmp_path):
    rdms = several(2)
    rdms.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    xr.testing.assert_identical(rdl.read_rdms(tmp_path / "a.nc"), rdms)
    rdl.write_rdms(rdms, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file.attrs["brainrdl_sha256"]
    xr.testing.assert_identical(rdl.read_rdms(tmp_path / "a.h5"), rdms)
    rdl.write_rdms(abs(rdms).assign_attrs(rdms.attrs), tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text("utf-8"))
    del content["brainrdl_sha256"]
    (tmp_path / "a.json").write_text(json.dumps(content), "utf-8")
    assert rdl.read_rdms(tmp_path / "a.json").identical(abs(rdms).assign_attrs(rdms.attrs))


def test_one_content_has_one_checksum_in_every_format(tmp_path):
    times = np.array(["2024-02-29T12:00:00.5", "1969-12-31", "NaT"], dtype="datetime64[ns]")
    rdms = several(3, metric="undeclared", time=times, session=[1, 2, 3], strength=[0.1, np.nan, 3]).assign_attrs(
        n=3, share=0.5, note="α"
    )
    expected = checksum(rdms)
    assert expected == checksum(rdms.assign_coords(time=("rdm", times.astype("datetime64[us]"))))
    for suffix in ("nc", "h5", "npz", "mat", "csv"):
        rdl.write_rdms(rdms, tmp_path / f"a.{suffix}")
        assert checksum(rdl.read_rdms(tmp_path / f"a.{suffix}")) == expected
    netcdf.write(rdms, tmp_path / "b.nc", dtype="float32")
    rounded = rdl.read_rdms(tmp_path / "b.nc")
    assert rounded.identical(rdms.astype("float32").astype("float64"))


def test_every_part_of_the_content_counts():
    rdms = several(2, metric="undeclared", session=[1, 2]).assign_attrs(note="a")
    others = [
        rdms.drop_attrs(),
        rdms.assign_attrs(note="b"),
        rdms.assign_attrs(note="a", more=1),
        rdms.assign_coords(session=("rdm", [1, 3])),
        rdms.assign_coords(session=("rdm", [1.0, 2.0])),
        rdms.assign_coords(session=("rdm", ["1", "2"])),
        rdms.assign_coords(rdm=["a", "b"]),
        rdms.assign_coords(stimulus=list("abcde"), stimulus_=list("abcde")),
        rdms.isel(rdm=[1, 0]),
        rdms.drop_vars("session"),
        rdms.copy(data=np.nextafter(rdms.values, 9)),
    ]
    digests = {checksum(each) for each in (rdms, *others)}
    assert len(digests) == 1 + len(others)
    assert checksum(rdms) == checksum(rdms.copy())
