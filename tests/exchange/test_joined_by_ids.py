"""What files say of their stimuli is read and joined; position is a promise that nobody made."""

import json
import re

import h5py
import numpy as np
import pytest
import rsatoolbox.data
import rsatoolbox.rdm
import scipy.io
import xarray as xr
from scipy.spatial.distance import squareform

import brainrdl as rdl
from brainrdl import cli
from brainrdl.rdms.labelled import condense
from labelled_rdms import IDS, one


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def warns(message):
    return pytest.warns(UserWarning, match=f"^{re.escape(message)}$")


# the order of text and that of numbers

COUNTED = [f"img{k}" for k in range(1, 13)]
AS_TEXT = sorted(COUNTED)
ORDERS = (
    "has no ids, and stimuli= gives them in the order of text, which the file may not have: position 1 is 'img10' in "
    "the order of text and 'img2' in that of numbers; give the ids in the file's order, or, where its rows follow the "
    "text, by row: stimuli=dict(enumerate(ids)), on the command line --as-listed"
)


def unlabelled(folder):
    square = squareform(np.random.default_rng(0).random(66))
    np.save(folder / "a.npy", square)
    scipy.io.savemat(folder / "a.mat", {"IT": square})
    np.savez(folder / "a.npz", square)
    return square


@pytest.mark.parametrize("suffix", ["npy", "mat", "npz"])
def test_ids_in_the_order_of_text_are_asked_about(tmp_path, suffix):
    square, path = unlabelled(tmp_path), tmp_path / f"a.{suffix}"
    given = {"metric": "undeclared", "names": ["IT"]}
    with raises(ValueError, f"{path}: {ORDERS}"):
        rdl.read_rdms(path, stimuli=AS_TEXT, **given)
    for ids, expected in ((COUNTED, COUNTED), (dict(enumerate(AS_TEXT)), AS_TEXT), (COUNTED[::-1], COUNTED[::-1])):
        rdms = rdl.read_rdms(path, stimuli=ids, **given)
        assert rdms["stimulus"].values.tolist() == expected
        np.testing.assert_array_equal(rdms.values[0], square)
    with raises(
        ValueError, f"{path}: stimuli is a mapping, and its keys are not the rows 0 to 11; give dict(enumerate(ids))"
    ):
        rdl.read_rdms(path, stimuli=dict(enumerate(AS_TEXT, start=1)), **given)


def test_a_file_that_has_its_ids_is_not_asked_about(tmp_path):
    rdms = rdl.label_rdms(np.random.default_rng(0).random((1, 66)), AS_TEXT, ["IT"], "mse")
    rdl.write_rdms(rdms, tmp_path / "a.nc")
    xr.testing.assert_identical(rdl.read_rdms(tmp_path / "a.nc", stimuli=AS_TEXT), rdms)


def test_the_order_of_a_list_is_promised_on_the_command_line(tmp_path, capsys):
    unlabelled(tmp_path)
    (tmp_path / "ids.txt").write_text("\n".join(AS_TEXT), encoding="utf-8-sig")  # with a byte-order mark
    source, target = tmp_path / "a.npy", tmp_path / "b.nc"
    given = ["--stimuli", str(tmp_path / "ids.txt"), "--metric", "undeclared"]
    assert cli.main(["convert", str(source), str(target), *given]) == 2
    told = ORDERS.replace("stimuli= gives", "--stimuli gives").replace(
        "stimuli=dict(enumerate(ids)), on the command line --as-listed", "--as-listed"
    )
    assert capsys.readouterr().err == f"brainrdl: {source}: {told}\n"
    assert cli.main(["convert", str(source), str(target), *given, "--as-listed"]) == 0
    assert rdl.read_rdms(target)["stimulus"].values.tolist() == AS_TEXT


# naming what is in use


@pytest.mark.parametrize("suffix", ["nc", "h5", "npz", "mat", "json", "csv"])
def test_the_fields_in_use_can_be_named(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    rdl.write_rdms(one(), path)
    xr.testing.assert_identical(rdl.read_rdms(path, stimuli="stimulus", names="rdm"), one())


def test_the_descriptor_in_use_and_another_one(tmp_path):
    theirs = rsatoolbox.rdm.RDMs(
        np.array([[0.2, 1.3, 1.1]]),
        dissimilarity_measure="correlation",
        rdm_descriptors={"rdm": ["IT"], "subj": ["s1"]},
        pattern_descriptors={"stimulus": IDS, "file": ["f.png", "b.png", "h.png"]},
    )
    for descriptor, ids in (("stimulus", IDS), (None, IDS), ("file", ["f.png", "b.png", "h.png"])):
        rdms = rdl.from_rsatoolbox(theirs, stimuli=descriptor)
        assert rdms["stimulus"].values.tolist() == ids
        assert rdms["file"].values.tolist() == ["f.png", "b.png", "h.png"]
    assert rdms["stimulus_in_file"].values.tolist() == IDS
    assert rdl.from_rsatoolbox(theirs, names="subj")["rdm"].values.tolist() == ["s1"]
    with raises(
        ValueError,
        "rsatoolbox's RDMs: has no field 'File' that could hold the stimulus ids; there are 'stimulus', 'file'; did "
        "you mean 'file', which differs from 'File' in upper and lower case?",
    ):
        rdl.from_rsatoolbox(theirs, stimuli="File")
    only = rsatoolbox.rdm.RDMs(
        np.array([[0.2, 1.3, 1.1]]), dissimilarity_measure="correlation", pattern_descriptors={"conds": IDS}
    )
    only.save(str(tmp_path / "a.h5"))
    for rdms in (
        rdl.from_rsatoolbox(only, stimuli="conds", names=["IT"]),
        rdl.read_rdms(tmp_path / "a.h5", stimuli="conds", names=["IT"]),
    ):
        assert rdms["stimulus"].values.tolist() == IDS


def test_another_spelling_than_the_files_is_named(tmp_path):
    path = tmp_path / "a.nc"
    rdl.write_rdms(one(), path)
    with raises(
        ValueError,
        f"{path}: stimuli contradicts the file, first at position 1: 'body ' was given, the file has 'body' (they "
        "differ in blanks); leave stimuli out, and rename afterwards",
    ):
        rdl.read_rdms(path, stimuli=["face", "body ", "house"])


# rsatoolbox's noise


def noisy(sizes=(4, 4)):
    random = np.random.default_rng(0)
    return rsatoolbox.rdm.RDMs(
        random.random((2, 10)),
        "crossnobis",
        rdm_descriptors={"noise": [random.random((size, size)) for size in sizes], "subj": ["s1", "s2"]},
        pattern_descriptors={"conds": list("abcde")},
    )


@pytest.mark.parametrize("sizes", [(4, 4), (4, 5)])
def test_a_noise_matrix_for_each_rdm_is_left_out_and_said(tmp_path, sizes):
    theirs, path = noisy(sizes), tmp_path / "a.h5"
    said = (
        "the descriptor 'noise' holds an array for each, as rsatoolbox keeps a noise precision, which labelled RDMs "
        "have no place for; it is left out"
    )
    with warns(f"rsatoolbox's RDMs: {said}"):
        rdms = rdl.from_rsatoolbox(theirs, names="subj")
    np.testing.assert_array_equal(condense(rdms), theirs.dissimilarities)
    assert list(rdms.coords) == ["rdm", "stimulus", "stimulus_", "subj"]
    if len(set(sizes)) == 1:  # it does not save others
        theirs.save(str(path))
        with warns(f"{path}: {said}"):
            xr.testing.assert_identical(rdl.read_rdms(path, names="subj"), rdms)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # of rsatoolbox itself
def test_the_standard_crossnobis_product(tmp_path):
    random = np.random.default_rng(0)
    data = [
        rsatoolbox.data.Dataset(
            random.normal(size=(10, 4)),
            descriptors={"subj": subject},
            obs_descriptors={"c": list("abcde") * 2, "r": [0] * 5 + [1] * 5},
        )
        for subject in ("s1", "s2")
    ]
    noise = [np.eye(4), 2 * np.eye(4)]
    theirs = rsatoolbox.rdm.calc_rdm(data, "crossnobis", descriptor="c", cv_descriptor="r", noise=noise)
    theirs.save(str(tmp_path / "a.h5"))
    with pytest.warns(UserWarning, match="the descriptor 'noise' holds an array for each"):
        rdms = rdl.read_rdms(tmp_path / "a.h5", names="subj", stimuli="c")
    np.testing.assert_array_equal(condense(rdms), theirs.dissimilarities)
    assert rdms.attrs["metric"] == "crossnobis"


# Meadows


def meadows(path, people):
    content = {}
    for person, (ids, vector) in people.items():
        content[f"stimuli_{person}"] = np.array(ids)
        content[f"rdmutv_{person}"] = np.array([vector], dtype=float)
    scipy.io.savemat(path, content)
    return path


def meadows_json(path, people):
    tasks = [
        {
            "task": {"task_type": "multiarrange", "name": person},
            "stimuli": [{"name": stimulus} for stimulus in ids],
            "rdm": list(map(float, vector)),
        }
        for person, (ids, vector) in people.items()
    ]
    path.write_text(json.dumps({"tasks": tasks}))
    return path


WRITERS = {"mat": meadows, "json": meadows_json}


@pytest.mark.parametrize("suffix", WRITERS)
def test_people_who_saw_the_images_in_another_order(tmp_path, suffix):
    people = {"able": (["a.png", "b.png", "c.png"], [1, 2, 3]), "calm": (["c.png", "a.png", "b.png"], [4, 5, 6])}
    rdms = rdl.read_rdms(WRITERS[suffix](tmp_path / f"a.{suffix}", people), metric="undeclared")
    assert rdms["stimulus"].values.tolist() == ["a.png", "b.png", "c.png"]
    np.testing.assert_array_equal(condense(rdms), [[1, 2, 3], [6, 4, 5]])  # b and c stand 5, a and b 6, c and a 4 apart


@pytest.mark.parametrize("suffix", WRITERS)
def test_people_who_saw_other_images(tmp_path, suffix):
    people = {"able": (["a", "b", "c"], [1, 2, 3]), "calm": (["d", "c", "b"], [4, 5, 6])}
    path = WRITERS[suffix](tmp_path / f"a.{suffix}", people)
    with warns(f"{path}: of 4 stimuli, not all are in RDM 'able', 'calm'; pairs that were not arranged are NaN"):
        rdms = rdl.read_rdms(path, metric="undeclared")
    assert rdms["stimulus"].values.tolist() == ["a", "b", "c", "d"]
    nan = np.nan
    np.testing.assert_array_equal(condense(rdms), [[1, 2, nan, 3, nan, nan], [nan, nan, nan, 6, 5, 4]])


def test_people_whose_files_contradict_themselves(tmp_path):
    path = tmp_path / "a.mat"
    meadows(path, {"able": (["a", "b", "c"], [1, 2, 3]), "calm": (["a", "B", "c"], [4, 5, 6])})
    with raises(
        ValueError,
        f"{path}: its RDMs name stimuli 'b' and 'B', which differ in upper and lower case alone; give them one "
        "spelling, or keep each RDM in a file of its own",
    ):
        rdl.read_rdms(path, metric="undeclared")
    rdms = rdl.read_rdms(path, metric="undeclared", variable="rdmutv_calm")
    assert (rdms["stimulus"].values.tolist(), rdms["rdm"].values.tolist()) == (["a", "B", "c"], ["calm"])
    meadows(path, {"able": (["a", "b", "c"], [1, 2, 3]), "calm": (["a", "b", "d"], [4])})
    with raises(
        ValueError,
        f"{path}: RDM 'calm' has 1 pairs and 3 stimuli, which have 3; download it again from Meadows",
    ):
        rdl.read_rdms(path, metric="undeclared")
    meadows(path, {"able": (["a", "b", "c"], [1, 2, 3]), "calm": (["a", "b", "a"], [4, 5, 6])})
    with raises(
        ValueError,
        f"{path}: RDM 'calm' has these stimuli more than once: 'a', so that it cannot be joined to the others by them; "
        "keep it in a file of its own",
    ):
        rdl.read_rdms(path, metric="undeclared")


# every join names another spelling


def other_ids(ids):
    return rdl.label_rdms(np.array([[0.2, 1.3, 1.1, 0.5, 0.4, 0.7]]), ids, ["V1"], "correlation")


FOUR = ["face", "body", "house", "tree"]
SPELT = ["face ", "body", "house", "tree"]
HINT = "; did you mean 'face ', which differs from 'face' in blanks?"


def test_comparisons_and_combinations():
    a, b = other_ids(FOUR), other_ids(SPELT)
    with raises(
        ValueError,
        f"the stimuli of a and b differ: 3 are shared, a alone has 'face'; b alone has 'face '{HINT}; "
        "join='intersect', or select_stimuli first, leaves the others out",
    ):
        rdl.compare_rdms(a, b)
    with warns(f"2 stimuli of a and b are left out, and may be the same{HINT}"):
        assert rdl.compare_rdms(a, b, join="intersect").item() == pytest.approx(1)
    with raises(
        ValueError,
        f"rdms[1] has other stimuli than rdms[0]: it lacks 'face' and adds 'face '{HINT}; take the common ones of both "
        "with select_stimuli",
    ):
        rdl.concat_rdms([a, b.assign_coords(rdm=["IT"])])
    with raises(ValueError, f"not among the 4 stimuli of the RDMs: 'face'{HINT}"):
        rdl.select_stimuli(b, FOUR)


def test_teachers():
    teacher = rdl.MeasuredTeacher(other_ids(SPELT))
    with raises(
        ValueError,
        "no RDM row for 1 of 2 stimuli, the first 'face'; leave them out of the stimuli (StimulusSet.select)" + HINT,
    ):
        teacher(None, ["face", "body"])
    with raises(
        ValueError,
        "no condition for 1 of 2 stimuli, the first 'Ann'; leave them out of the stimuli (StimulusSet.select); did you "
        "mean 'ann', which differs from 'Ann' in upper and lower case?",
    ):
        rdl.ConditionTeacher(teacher, {"ann": "face", "barn": "house"})(None, ["Ann", "barn"])
    with raises(
        ValueError,
        "no RDM row for 1 of 2 stimuli, the first 'face'; leave them out of the stimuli (StimulusSet.select)" + HINT,
    ):
        rdl.ConditionTeacher(teacher, {"ann": "face", "barn": "house"})(None, ["ann", "barn"])


def test_categories_of_controls():
    with raises(ValueError, f"labels has no category for 1 of 4 stimuli: 'face'{HINT}"):
        rdl.remove_block_means(other_ids(FOUR), dict(zip(SPELT, "aabb", strict=True)))


def test_hdf5_of_rsatoolbox_with_a_byte_order_mark(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["dissimilarity_measure"] = "correlation"
        file["dissimilarities"] = np.array([[0.2, 1.3, 1.1]])
        names = [name.encode() for name in ("\ufeffface", "body", "house")]
        file.create_group("pattern_descriptors")["stimulus"] = np.array(names)
    rdms = rdl.read_rdms(tmp_path / "a.h5", names=["V1"])
    with raises(
        ValueError,
        "not among the 3 stimuli of the RDMs: 'face'; did you mean '\\ufeffface', which differs from 'face' in "
        "invisible characters?",
    ):
        rdl.select_stimuli(rdms, IDS)


# tables and assemblies


def test_a_table_with_two_spellings_of_a_stimulus(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("stimulus,stimulus_,dissimilarity\na,b,1\na ,c,2\nb,c,3\n")
    with raises(
        ValueError,
        f"{path} names stimuli 'a' and 'a ', which differ in blanks alone, and has no row for some of their pairs; "
        "give each stimulus one spelling",
    ):
        rdl.read_rdms(path, metric="mse", names=["IT"])
    path.write_text("Stimulus,stimulus_,dissimilarity\na,b,1\n")
    with raises(
        ValueError,
        f"{path} lacks 'stimulus'; expected the columns rdm, stimulus, stimulus_, dissimilarity with one row per RDM "
        "and pair; did you mean 'Stimulus', which differs from 'stimulus' in upper and lower case?",
    ):
        rdl.read_rdms(path, metric="mse", names=["IT"])


def assembly(path, **coords):
    patterns = np.random.default_rng(0).normal(size=(4, 5))
    made = xr.DataArray(patterns, dims=("presentation", "neuroid"))
    made = made.assign_coords({name: ("presentation", ids) for name, ids in coords.items()})
    made.to_dataset(name="data").to_netcdf(path, engine="h5netcdf")
    return path


def test_the_coordinate_of_an_assembly_can_be_named(tmp_path):
    given = {"metric": "mse", "names": ["IT"]}
    path = assembly(tmp_path / "a.nc", stimulus_id=list("abab"), object_name=["cat", "dog", "cat", "cup"])
    assert rdl.read_rdms(path, stimuli="stimulus_id", **given)["stimulus"].values.tolist() == ["a", "b"]
    assert rdl.read_rdms(path, stimuli="object_name", **given)["stimulus"].values.tolist() == ["cat", "dog", "cup"]
    path = assembly(tmp_path / "a.nc", stimulus_id=list("abab"), image_id=list("xxyz"))
    with raises(
        ValueError,
        f"{path}: 'stimulus_id' and 'image_id' put different presentations together; choose one by stimuli=, such as "
        "'stimulus_id'",
    ):
        rdl.read_rdms(path, **given)
    assert rdl.read_rdms(path, stimuli="image_id", **given)["stimulus"].values.tolist() == ["x", "y", "z"]
    path = assembly(tmp_path / "a.nc", stimulus_id=list("abab"), image_id=list("xyxy"))
    assert rdl.read_rdms(path, **given)["stimulus"].values.tolist() == ["a", "b"]


def test_presentations_of_one_stimulus_in_two_spellings(tmp_path):
    path = assembly(tmp_path / "a.nc", stimulus_id=["a", "b", "a ", "b"])
    with raises(
        ValueError,
        f"{path}: coordinate 'stimulus_id' has 'a' and 'a ', which differ in blanks alone, and whose presentations "
        "would be averaged apart; give each stimulus one spelling",
    ):
        rdl.read_rdms(path, metric="mse", names=["IT"])


def test_other_tools_names_of_the_fields_in_use(tmp_path):
    np.savez(tmp_path / "a.npz", rdm=[0.2, 1.3, 1.1], stimuli_name=IDS, layer_name="fc")
    rdms = rdl.read_rdms(tmp_path / "a.npz", stimuli="stimuli_name", names="layer_name", metric="correlation")
    assert (rdms["stimulus"].values.tolist(), rdms["rdm"].values.tolist()) == (IDS, ["fc"])
    path = meadows(tmp_path / "a.mat", {"able": (["a", "b", "c"], [1, 2, 3])})
    assert rdl.read_rdms(path, stimuli="stimuli", metric="undeclared")["stimulus"].values.tolist() == list("abc")
    structs = np.empty((1, 1), dtype=[("RDM", object), ("name", object)])
    structs[0, 0] = (one().values[0], "IT")
    scipy.io.savemat(tmp_path / "b.mat", {"RDMs": structs})
    assert rdl.read_rdms(tmp_path / "b.mat", names="name", stimuli=IDS, metric="mse")["rdm"].values.tolist() == ["IT"]
