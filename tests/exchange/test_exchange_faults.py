"""Every fault that a file of RDMs can have gives its error."""

import io
import json
import pickle
import re
import struct
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr
from scipy.spatial.distance import squareform

import brainrdl as rdl
from labelled_rdms import IDS, one, several

SUFFIXES = ("nc", "h5", "npz", "mat", "json", "csv")


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def square(*values):
    return squareform(np.array(values, dtype=np.float64))


def netcdf(path, values, ids=IDS):
    xr.DataArray(
        values,
        dims=("rdm", "stimulus", "stimulus_"),
        coords={"rdm": ["IT"], "stimulus": ids, "stimulus_": ids},
        name="dissimilarity",
        attrs={"metric": "undeclared"},
    ).to_netcdf(path, engine="h5netcdf")


def matlab(path, values, ids=IDS):
    structs = np.empty((1, 1), dtype=[("RDM", object), ("name", object), ("color", object)])
    structs[0, 0] = (values[0], "IT", np.zeros((1, 3)))
    scipy.io.savemat(path, {"RDMs": structs})


def net2brain(path, values, ids=IDS):
    np.savez(path, arr_0=values)


SQUARES = {"nc": netcdf, "mat": matlab, "npz": net2brain}


def read(path):
    """Read, giving what the format at hand does not hold."""
    lacks = {
        ".nc": {},
        ".mat": {"stimuli": IDS, "metric": "undeclared"},
        ".npz": {"stimuli": IDS, "metric": "undeclared", "names": ["IT"]},
    }
    return rdl.read_rdms(path, **lacks[path.suffix])


def asymmetric():
    values = square(1, 2, 3)[None]
    values[0, 0, 1], values[0, 2, 1] = 1.25, 4
    return values


def diagonal():
    values = square(1, 2, 3)[None]
    values[0, 1, 1] = 0.5
    return values


@pytest.mark.parametrize("suffix", SQUARES)
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            asymmetric(),
            "dissimilarity is 3 for stimuli 'body' and 'house' in RDM 'IT', but 4 the other way round, the largest "
            "difference; an RDM is symmetric: average it with its transpose, or find out why the directions differ",
        ),
        (
            diagonal(),
            "dissimilarity is 0.5 on the diagonal, for stimulus 'body' in RDM 'IT'; expected 0, as a stimulus has no "
            "distance to itself: set the diagonal to 0, or turn similarities into distances",
        ),
        (
            square(1, np.inf, 3)[None],
            "dissimilarity is inf for stimuli 'face' and 'house' in RDM 'IT'; expected finite values, or NaN where "
            "unmeasured",
        ),
        (
            square(1, -np.inf, 3)[None],
            "dissimilarity is -inf for stimuli 'face' and 'house' in RDM 'IT'; expected finite values, or NaN where "
            "unmeasured",
        ),
        (square(np.nan, np.nan, np.nan)[None], "no pair is measured (all are NaN) in RDM 'IT'; leave it out"),
    ],
    ids=["asymmetric", "diagonal", "inf", "-inf", "nan"],
)
def test_values_that_are_no_rdm(tmp_path, suffix, values, reason):
    path = tmp_path / f"a.{suffix}"
    SQUARES[suffix](path, values)
    with raises(ValueError, f"{path}: {reason}"):
        read(path)


def test_complex_and_string_values(tmp_path):
    for kind, values in (("complex128", square(1, 2, 3)[None] * 1j), ("<U3", square(1, 2, 3)[None].astype("<U3"))):
        path = tmp_path / "a.npz"
        net2brain(path, values)
        with raises(ValueError, f"{path}: the distances are of type {kind}; expected real numbers"):
            read(path)
    path = tmp_path / "a.mat"
    matlab(path, square(1, 2, 3)[None] * 1j)
    with raises(ValueError, f"{path}: the distances are of type complex128; expected real numbers"):
        read(path)


def rsatoolbox(path, **changes):
    content = {
        "dissimilarities": np.array([[0.5, 1, 1.5]]),
        "pattern_descriptors": {"stimulus": np.array(IDS, dtype="S")},
        "rdm_descriptors": {"rdm": np.array(["IT"], dtype="S")},
        "descriptors": {},
        **changes,
    }
    with h5py.File(path, "w") as file:
        file.attrs["dissimilarity_measure"] = "correlation"
        for name, value in content.items():
            if isinstance(value, dict):
                group = file.create_group(name)
                for key, column in value.items():
                    group[key] = column
            elif value is not None:
                file[name] = value
    return path


def test_the_length_of_a_vector(tmp_path):
    path = rsatoolbox(tmp_path / "a.h5", dissimilarities=np.ones((1, 4)))
    with raises(
        ValueError,
        f"{path}: 4 is not the length of a condensed RDM, which is n(n-1)/2 (1, 3, 6, 10, …); give the upper triangle "
        "without the diagonal",
    ):
        rdl.read_rdms(path)
    rsatoolbox(path, dissimilarities=np.ones((1, 6)))
    with raises(ValueError, f"{path}: holds 4 stimuli, but 3 of the stimulus ids; the file contradicts itself"):
        rdl.read_rdms(path)
    path = tmp_path / "a.json"
    task = {"task": {"task_type": "multiarrange", "name": "t"}, "stimuli": [{"name": i} for i in IDS], "rdm": [1, 2]}
    path.write_text(json.dumps({"tasks": [task]}))
    with raises(
        ValueError,
        f"{path}: 2 is not the length of a condensed RDM, which is n(n-1)/2 (1, 3, 6, 10, …); give the upper triangle "
        "without the diagonal",
    ):
        rdl.read_rdms(path, metric="undeclared")
    path = tmp_path / "a.npz"
    np.savez(path, arr_0=np.ones((2, 3, 4)))
    with raises(ValueError, f"{path}: the values have shape (2, 3, 4), expected (rdms, n(n-1)/2) or (rdms, n, n)"):
        read(path)


def test_no_dissimilarities(tmp_path):
    path = rsatoolbox(tmp_path / "a.h5", dissimilarities=None)
    with raises(
        ValueError,
        f"{path} holds no 'dissimilarities', as files of RDMs that rsatoolbox wrote do; there are: 'descriptors', "
        "'pattern_descriptors', 'rdm_descriptors', 'dissimilarity_measure'",
    ):
        rdl.read_rdms(path)


def test_duplicate_ids(tmp_path):
    path = rsatoolbox(tmp_path / "a.h5", pattern_descriptors={"stimulus": np.array(["a", "b", "a"], dtype="S")})
    reason = (
        "the stimulus ids must be unique, but the file has these more than once: 'a'; give others in their place by "
        "stimuli=, in the file's order"
    )
    with raises(ValueError, f"{path}: {reason}"):
        rdl.read_rdms(path)
    rdms = rdl.read_rdms(path, stimuli=IDS)
    assert rdms["stimulus_in_file"].values.tolist() == ["a", "b", "a"]
    path = tmp_path / "a.nc"
    netcdf(path, square(1, 2, 3)[None], ["a", "b", "a"])
    with raises(ValueError, f"{path}: {reason}"):
        rdl.read_rdms(path)


# HDF5 that points elsewhere, or into itself


def test_external_links(tmp_path):
    path = rsatoolbox(tmp_path / "a.h5", dissimilarities=None)
    with h5py.File(path, "a") as file:
        file["dissimilarities"] = h5py.ExternalLink("/etc/passwd", "/x")
    with raises(
        ValueError,
        f"{path}: /dissimilarities is a link into another file, '/etc/passwd', which is not followed; copy the data "
        "themselves into the file",
    ):
        rdl.read_rdms(path)


@pytest.mark.parametrize("kind", ["external", "virtual"])
def test_values_in_other_files(tmp_path, kind):
    path = rsatoolbox(tmp_path / "a.h5", dissimilarities=None)
    (tmp_path / "raw").write_bytes(np.ones(3).tobytes())
    with h5py.File(path, "a") as file:
        if kind == "external":
            file.create_dataset("dissimilarities", (1, 3), "<f8", external=[(str(tmp_path / "raw"), 0, 24)])
        else:
            layout = h5py.VirtualLayout((1, 3), "<f8")
            layout[0] = h5py.VirtualSource(str(tmp_path / "raw"), "x", (3,))
            file.create_virtual_dataset("dissimilarities", layout)
    with raises(
        ValueError,
        f"{path}: the values of /dissimilarities lie in other files, which are not opened; copy the data themselves "
        "into "
        "the file",
    ):
        rdl.read_rdms(path)


@pytest.mark.parametrize("link", ["hard", "soft"])
def test_cyclic_groups(tmp_path, link):
    path = rsatoolbox(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        inner = file["descriptors"].create_group("inner")
        inner["again"] = file["descriptors"] if link == "hard" else h5py.SoftLink("/descriptors")
    with raises(ValueError, f"{path}: the group /descriptors/inner/again contains itself; expected a tree of groups"):
        rdl.read_rdms(path)


def test_groups_too_deep(tmp_path):
    path = rsatoolbox(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["descriptors"].create_group("/".join("abcdefghijklmnopqrstuvwxyz"))
    place = "/descriptors/" + "/".join("abcdefghijklmnopqrs")
    with raises(ValueError, f"{path}: groups lie more than 20 deep, at {place}; expected a file of RDMs"):
        rdl.read_rdms(path)


@pytest.mark.parametrize("suffix", ["nc", "mat"])
def test_the_other_hdf5_files_are_checked_too(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with h5py.File(path, "w") as file:
        file["dissimilarity"] = h5py.ExternalLink("b", "/x")
    with raises(
        ValueError,
        f"{path}: /dissimilarity is a link into another file, 'b', which is not followed; copy the data themselves "
        "into the "
        "file",
    ):
        rdl.read_rdms(path)


def test_cells_that_contain_themselves(tmp_path):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        cell = file.create_dataset("RDMs", (1, 1), dtype=h5py.ref_dtype)
        cell[0, 0] = cell.ref
    with raises(ValueError, f"{path}: cells or structs lie more than 20 deep, or contain themselves; expected RDMs"):
        rdl.read_rdms(path)


# files that are cut off, or claim more than is there


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != "csv"])
def test_truncated_files(tmp_path, suffix, share):
    path = tmp_path / f"a.{suffix}"
    rdl.write_rdms(several(3, n=12), path)
    content = path.read_bytes()
    kept = content[: int(share * len(content))]
    path.write_bytes(kept)
    again = "fetch or write it again"
    claimed = int.from_bytes(content[132:136], "little")  # the size of the first variable of a MATLAB file
    message = {
        "nc": f"{path} is not an HDF5 file, or is cut off; {again}",
        "h5": f"{path} is not an HDF5 file, or is cut off; {again}",
        "npz": f"{path} is not an .npz file, or is cut off or damaged; {again}",
        "mat": f"{path}: a variable claims {claimed} bytes, the file holds {len(kept) - 136} more; it is cut off: "
        f"{again}",
        "json": f"{path} is not JSON, or is cut off; {again}",
    }
    with raises(ValueError, message[suffix]):
        rdl.read_rdms(path)


def test_a_truncated_table_is_never_taken_for_a_whole_one(tmp_path):
    path = tmp_path / "a.csv"
    rdms = several(1, n=3)
    rdl.write_rdms(rdms, path)
    content = path.read_bytes()
    outcomes = set()
    for length in range(len(content) - 120, len(content)):
        path.write_bytes(content[:length])
        try:
            assert rdl.read_rdms(path).identical(rdms)
            outcomes.add("whole")  # what was cut off is the empty end of the last row
        except ValueError as error:
            outcomes.add(re.sub(r"'.*?'|[1-5]", "_", str(error).removeprefix(str(path))))
    assert outcomes == {
        "whole",
        " is not a CSV table in UTF-8, or is cut off; write it again",
        ": the row that ends in line _ has _ cells, the header 6; the file is cut off, or a comma is too many or "
        "too few",
        ": stimuli _ and _ of RDM _ have no row; add one, with NaN where unmeasured",
    }


def test_truncated_classic_netcdf(tmp_path):
    path = tmp_path / "a.nc"
    assembly = xr.Dataset({"data": (("presentation", "neuroid"), np.ones((30, 40)))})
    assembly.to_netcdf(path, engine="scipy")
    content = path.read_bytes()
    for length in (10, 60, len(content) // 2):
        path.write_bytes(content[:length])
        with raises(ValueError, f"{path} is not a netCDF file, or is damaged; fetch or write it again"):
            rdl.read_rdms(path, metric="mse")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_of_something_else(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"\xff\xfenothing of the kind" * 20)
    message = {
        "nc": f"{path} is not an HDF5 file, or is cut off; fetch or write it again",
        "h5": f"{path} is not an HDF5 file, or is cut off; fetch or write it again",
        "npz": f"{path} is not an .npz file, or is cut off or damaged; fetch or write it again",
        "mat": f"{path} is not a MATLAB file of version 5 to 7.3, or is damaged; fetch or write it again",
        "json": f"{path} is not JSON, or is cut off; fetch or write it again",
        "csv": f"{path} is not a CSV table in UTF-8, or is cut off; write it again",
    }
    with raises(ValueError, message[suffix]):
        rdl.read_rdms(path)
    path.unlink()
    with raises(FileNotFoundError, f"no file {path}; give the path of a file of RDMs"):
        rdl.read_rdms(path)


@pytest.mark.parametrize("chunks", [None, (1, 1000)])
def test_hdf5_that_claims_more_than_it_holds(tmp_path, chunks):
    path = rsatoolbox(tmp_path / "a.h5", dissimilarities=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("dissimilarities", (1000, 499500), "<f8", chunks=chunks, compression=chunks and "gzip")
    with raises(
        ValueError,
        f"{path}: /dissimilarities claims 3996000000 bytes (shape (1000, 499500)), more than the 0 stored for it can "
        "hold; "
        "the file is damaged: write it again",
    ):
        rdl.read_rdms(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_npz_that_claims_more_than_it_holds(tmp_path, compression):
    path = tmp_path / "a.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**3, 10**3)}
    )
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("arr_0.npy", header.getvalue() + bytes(72))
    with raises(
        ValueError,
        f"{path}: 'arr_0' claims 8000000000000 bytes (shape (1000000, 1000, 1000)), more than the 72 stored for it; "
        "the file "
        "is damaged: write it again",
    ):
        read(path)


def test_matlab_file_that_claims_more_than_it_holds(tmp_path):
    path = tmp_path / "a.mat"
    rdl.write_rdms(one(), path)
    content = bytearray(path.read_bytes())
    content[132:136] = (2**31).to_bytes(4, "little")
    path.write_bytes(content)
    with raises(
        ValueError,
        f"{path}: a variable claims 2147483648 bytes, the file holds {len(content) - 136} more; it is cut off: fetch "
        "or "
        "write it again",
    ):
        rdl.read_rdms(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_arrays_that_claim_more_than_they_hold(tmp_path, compressed):
    """SciPy's own reader crashes on some of these."""
    path = tmp_path / "a.mat"
    matlab(path, square(1, 2, 3)[None])
    if compressed:
        scipy.io.savemat(path, {"RDMs": scipy.io.loadmat(path)["RDMs"]}, do_compression=True)
        content = path.read_bytes()
        start, inner = content[:128], bytearray(zlib.decompress(content[136:]))
    else:
        content = path.read_bytes()
        start, inner = content[:128], bytearray(content[128:])
    sizes = [at for at in range(0, len(inner) - 4, 4) if inner[at : at + 4] in (b"\3\0\0\0", b"\1\0\0\0")]
    assert len(sizes) > 5
    for at in sizes:
        faulty = bytearray(inner)
        faulty[at + 1] = 0x40  # thousands more rows, columns, cells or bytes
        body = struct.pack("<II", 15, len(zlib.compress(faulty))) + zlib.compress(faulty) if compressed else faulty
        path.write_bytes(start + body)
        with raises(
            ValueError,
            f"{path} is not a MATLAB file of version 5 to 7.3, or is damaged; fetch or write it again",
        ):
            read(path)


# pickle


class Trap:
    opened = False

    def __reduce__(self):
        return setattr, (Trap, "opened", True)


def test_no_pickle_is_opened(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, arr_0=np.array([[[Trap()]]], dtype=object))
    with raises(
        ValueError,
        f"{path}: 'arr_0' is an array of Python objects, which only pickle can read, and pickle can run any code; "
        "save it "
        "again as numbers or strings where you trust it: np.savez(path, arr_0=np.asarray(old['arr_0'].tolist())) "
        "with old = "
        "np.load(..., allow_pickle=True)",
    ):
        read(path)
    np.savez(path, rdm=np.ones(3), stimuli_name=np.array([Trap()] * 3), layer_name="IT", meta=np.array(Trap()))
    with (
        pytest.warns(UserWarning, match="'meta' is pickled and was not opened"),
        raises(
            ValueError,
            f"{path}: does not hold the stimulus ids; give stimuli=, 3 strings in the file's order",
        ),
    ):
        rdl.read_rdms(path, metric="mse")
    for suffix, way in (
        ("pkl", "rsatoolbox: rsatoolbox.rdm.load_rdm(path).save('rdms.h5')"),
        ("pickle", "rsatoolbox: rsatoolbox.rdm.load_rdm(path, 'pkl').save('rdms.h5')"),
        ("pt", "Net2Brain: LayerRDM.from_file(path).save('rdm.npz', 'npz')"),
    ):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(pickle.dumps(Trap()))
        with raises(
            ValueError,
            f"{path}: files that need pickle are not opened, as pickle can run any code; where you trust it, convert "
            "it with "
            f"{way}",
        ):
            rdl.read_rdms(path)
    assert not Trap.opened


# our own additions, damaged


def test_damaged_labels_of_ours(tmp_path):
    path = tmp_path / "a.npz"
    for text in (
        "",
        "{}",
        "[]",
        '{"version": 1}',
        '{"version": 1, "stimuli": 1, "names": [], "attrs": {}, "coords": {}}',
    ):
        np.savez(path, arr_0=square(1, 2, 3)[None], brainrdl=np.array(text))
        with raises(
            ValueError,
            f"'brainrdl' of {path} is damaged: it is not the JSON that write_rdms puts there; write the file again",
        ):
            rdl.read_rdms(path)
    np.savez(path, arr_0=square(1, 2, 3)[None], brainrdl=np.array('{"version": 2}'))
    with raises(ValueError, f"'brainrdl' of {path} is of version 2, this brainrdl reads 1; use a newer brainrdl"):
        rdl.read_rdms(path)


# labels that are no text, and what else would be taken for something that it is not


@pytest.mark.parametrize("kind", ["S5", object])
def test_byte_strings_are_text(tmp_path, kind):
    labels = np.array([label.encode() for label in IDS], dtype=kind)
    netcdf(tmp_path / "a.nc", square(1, 2, 3)[None], labels)
    assert rdl.read_rdms(tmp_path / "a.nc")["stimulus"].values.tolist() == IDS
    if kind == "S5":
        np.savez(tmp_path / "a.npz", rdm=np.array([1.0, 2, 3]), stimuli_name=labels, layer_name=np.array(b"IT"))
        rdms = rdl.read_rdms(tmp_path / "a.npz", metric="mse")
        assert (rdms["stimulus"].values.tolist(), rdms["rdm"].values.tolist()) == (IDS, ["IT"])


def test_byte_strings_of_assemblies_and_coordinates_are_text(tmp_path):
    ids = np.array([b"a", b"b", b"a"])
    data = xr.DataArray(
        np.arange(6.0).reshape(3, 2) ** 2,
        dims=("presentation", "neuroid"),
        coords={"stimulus_id": ("presentation", ids)},
    )
    data.to_dataset(name="data").to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    assert rdl.read_rdms(tmp_path / "a.nc", metric="mse", names=["IT"])["stimulus"].values.tolist() == ["a", "b"]
    rdms = one().assign_coords(roi=("rdm", np.array([b"IT"])))
    rdms.to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    assert rdl.read_rdms(tmp_path / "b.nc")["roi"].values.tolist() == ["IT"]


def test_labels_that_are_numbers_with_a_point_are_refused(tmp_path):
    path = tmp_path / "a.nc"
    netcdf(path, square(1, 2, 3)[None], np.array([0.0, 0.5, 1.0]))
    with raises(
        ValueError,
        f"{path}: coordinate 'stimulus' holds 0.0, of type float; expected strings, which alone are labels: convert "
        "them where the file was made",
    ):
        rdl.read_rdms(path)
    netcdf(path, square(1, 2, 3)[None], np.array([b"a", b"\xff", b"c"]))
    with raises(
        ValueError,
        f"{path}: coordinate 'stimulus' holds b'\\xff', which is not UTF-8; write the file again in UTF-8",
    ):
        rdl.read_rdms(path)
    netcdf(path, square(1, 2, 3)[None], np.array([1, 2, 3]))
    assert rdl.read_rdms(path)["stimulus"].values.tolist() == ["1", "2", "3"]


def test_tables_with_rows_of_another_length(tmp_path):
    path = tmp_path / "a.csv"
    head, rows = "rdm,stimulus,stimulus_,dissimilarity", ["IT,a,b,1", "IT,a,c,2", "IT,b,c,3"]
    for row, n in (("IT,b,c", 3), ("IT,b,c,3,", 5)):
        path.write_text("\n".join([head, *rows[:2], row]), encoding="utf-8")
        with raises(
            ValueError,
            f"{path}: the row that ends in line 4 has {n} cells, the header 4; the file is cut off, or a comma is too "
            "many or too few",
        ):
            rdl.read_rdms(path, metric="mse")
    path.write_text("\n".join(f"{row}," for row in [head, *rows]), encoding="utf-8")
    with raises(ValueError, f"{path} has a column without a name; give each column a name of its own"):
        rdl.read_rdms(path, metric="mse")
    path.write_text("\n".join([f"{head},rdm", *(f"{row},IT" for row in rows)]), encoding="utf-8")
    with raises(ValueError, f"{path} has several columns named 'rdm'; give each column a name of its own"):
        rdl.read_rdms(path, metric="mse")
    path.write_text("\n".join([head, "IT,a,b,1_000", *rows[1:]]), encoding="utf-8")
    with raises(ValueError, f"{path}: dissimilarity is '1_000'; expected a number, or nothing where unmeasured"):
        rdl.read_rdms(path, metric="mse")
    path.write_text("\ufeff" + "\n".join([head, *rows, ""]), encoding="utf-8")
    assert rdl.read_rdms(path, metric="mse").values[0, 0].tolist() == [0, 1, 2]


def test_npz_with_two_members_of_one_name(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, arr_0=square(1, 2, 3)[None])
    with zipfile.ZipFile(path, "a") as archive, zipfile.ZipFile(path) as other:
        archive.writestr("arr_0", other.read("arr_0.npy"))
    with raises(
        ValueError,
        f"{path} has several members named 'arr_0', of which one would hide the others; write it again with one",
    ):
        read(path)


def test_rsatoolbox_descriptors_of_another_shape(tmp_path):
    path = tmp_path / "a.h5"

    def refused(message, **changes):
        rsatoolbox(path, **changes)
        with raises(ValueError, message):
            rdl.read_rdms(path)

    ids = {"stimulus": np.array(IDS, dtype="S")}
    damaged = "; the file is damaged: write it again"
    refused(f"{path}: 'rdm_descriptors' is not a group of descriptors{damaged}", rdm_descriptors=np.arange(3))
    refused(f"{path}: 'descriptors' is not a group of descriptors{damaged}", descriptors="none")
    odd = (
        f"the descriptor 'brainrdl' of {path} is damaged: it is not the JSON that write_rdms puts there; write the "
        "file again"
    )
    refused(odd, descriptors={"brainrdl": '{"version": 1, "coords": []}'})
    types = '{"version": 1, "coords": {"age": {"dims": "foo", "type": "int64"}}}'
    refused(odd, descriptors={"brainrdl": types}, pattern_descriptors={**ids, "age": np.arange(3)})
    refused(
        f"{path} has a descriptor 'stimulus' that holds no single value each, so it cannot become a coordinate; "
        "remove it",
        pattern_descriptors={"stimulus": "abc"},
    )
    refused(
        f"{path}: descriptor 'stimulus' holds b'\\xff', which is not UTF-8; write the file again in UTF-8",
        pattern_descriptors={"stimulus": np.array([b"a", b"\xff", b"c"])},
    )
    refused(
        f"{path}: the coordinate 'age' has 2 values along 'stimulus', expected 3",
        pattern_descriptors={**ids, "age": np.arange(2)},
    )


def test_meadows_numbers_beyond_floats(tmp_path):
    path = tmp_path / "a.json"
    rdl.write_rdms(one(), path)
    path.write_text(path.read_text(encoding="utf-8").replace("[0.2,", f"[{10**400},"), encoding="utf-8")
    with raises(ValueError, f"{path}: 'rdm' holds a number beyond the range of float64; write the file again"):
        rdl.read_rdms(path)


def test_netcdf_read_as_matlab(tmp_path):
    path = tmp_path / "a.nc"
    rdl.write_rdms(one(), path)
    with raises(
        ValueError,
        f"{path} holds no struct array with a field 'RDM', as the RSA toolbox writes them; its variables are "
        "'rdm', 'stimulus', 'stimulus_', 'dissimilarity'",
    ):
        rdl.read_rdms(path, format="matlab")


def test_places_where_no_file_can_be(tmp_path):
    with raises(ValueError, f"{tmp_path} is a folder; expected the path of a file in it"):
        rdl.write_rdms(one(), tmp_path, format="netcdf")
    file = tmp_path / "file"
    file.write_text("kept", encoding="utf-8")
    path = file / "deeper" / "a.nc"
    with raises(ValueError, f"{path} lies below {file}, which is a file; expected a folder"):
        rdl.write_rdms(one(), path)
    assert file.read_text(encoding="utf-8") == "kept"
