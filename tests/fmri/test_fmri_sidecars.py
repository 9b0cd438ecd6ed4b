"""What a BIDS data set says of itself is read: sidecars, run numbers, names of files."""

import json
import re
import shutil

import numpy as np
import pytest

from brainrdl.fmri import GLM, Settings, find_runs, fit_patterns, rdms_from_bids
from brainrdl.studies.scans import describe
from small_bids import derived, events, facts_of_runs, image, make_bids, raw


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, make_bids(folder)


@pytest.fixture
def bids(whole, tmp_path):
    folder, masks = whole
    shutil.copytree(folder, tmp_path / "bids")
    return tmp_path / "bids", {name: mask.replace(str(folder), str(tmp_path / "bids")) for name, mask in masks.items()}


def sidecar(folder, run=1):
    return image(folder, run).with_name(image(folder, run).name.replace(".nii.gz", ".json"))


def state(folder, **facts):
    for run in (1, 2, 3):
        sidecar(folder, run).write_text(json.dumps({"RepetitionTime": 2.0, **facts}))


# slice times


def test_start_times_are_used_and_stated(bids):
    folder, masks = bids
    before = rdms_from_bids(folder, "sim", masks)
    assert facts_of_runs(before)[0]["slice_time_ref"] == 0
    assert facts_of_runs(before)[0]["slice_time_from"] == "no sidecar states it; taken as the start of the scan"
    state(folder, StartTime=1.0, SliceTimingCorrected=True)
    rdms = rdms_from_bids(folder, "sim", masks)
    asked = rdms_from_bids(folder, "sim", masks, settings=Settings(glm=GLM(slice_time_ref=0.5)))
    np.testing.assert_array_equal(rdms, asked)
    assert np.abs(rdms.values - before.values).max() > 0.01
    assert facts_of_runs(rdms)[2]["slice_time_ref"] == 0.5
    assert facts_of_runs(rdms)[2]["slice_time_from"] == f"StartTime 1 s of {sidecar(folder, 3).name}"
    assert facts_of_runs(asked)[2]["slice_time_from"] == "slice_time_ref of the settings"
    overruled = rdms_from_bids(folder, "sim", masks, settings=Settings(glm=GLM(slice_time_ref=0.0)))
    np.testing.assert_array_equal(overruled, before)
    assert f"slices at 0.5 of the scan (StartTime 1 s of {sidecar(folder).name})" in describe(folder, "sim", masks)


def test_start_times_are_inherited(bids):
    folder, _ = bids
    (folder / "derivatives/simulated/task-sim_bold.json").write_text('{"RepetitionTime": 2.0, "StartTime": 0.8}')
    assert [run.slice_time.reference for run in find_runs(folder, "sim")] == [0.4] * 3
    # the nearest sidecar overrules
    sidecar(folder, 2).write_text('{"RepetitionTime": 2.0, "StartTime": 1.0}')
    assert [run.slice_time.reference for run in find_runs(folder, "sim")] == [0.4, 0.5, 0.4]


def test_slice_timing_of_images_that_are_not_corrected(bids):
    folder, _ = bids
    timing = {"RepetitionTime": 2.0, "SliceTiming": [0, 1, 0.5, 1.5]}
    (folder / "task-sim_bold.json").write_text(json.dumps(timing))
    # whether slices were corrected is not said
    assert find_runs(folder, "sim")[0].slice_time.reference == 0
    state(folder, SliceTimingCorrected=False)
    said = "mean SliceTiming 0.75 s of task-sim_bold.json, as slices were not corrected"
    assert find_runs(folder, "sim")[0].slice_time[:2] == (0.375, said)
    assert find_runs(folder, "sim", derivatives=None)[0].slice_time[:2] == (0.375, said)
    for wrong, message in (
        ([0, 1000], "SliceTiming 1000 for slice 2; expected seconds within the scan, 0 to 2"),
        ([0, "n/a"], "SliceTiming 'n/a' for slice 2; expected seconds within the scan, 0 to 2"),
    ):
        (folder / "task-sim_bold.json").write_text(json.dumps({**timing, "SliceTiming": wrong}))
        with raises(ValueError, f"{folder / 'task-sim_bold.json'} has {message}"):
            find_runs(folder, "sim")


def test_slices_corrected_to_a_moment_that_is_not_said(bids):
    folder, masks = bids
    state(folder, SliceTimingCorrected=True)
    message = (
        "says that slices were brought to one moment (SliceTimingCorrected), but not to which (StartTime): it is taken "
        "as the start of the scan; many pipelines take the middle, so state it with slice_time_ref=, 0 to 1"
    )
    with pytest.warns(UserWarning, match=re.escape(message)) as caught:
        rdms = rdms_from_bids(folder, "sim", masks)
    warnings = json.loads(rdms.attrs["provenance"])["warnings"]
    assert warnings == [str(warning.message) for warning in caught]
    assert warnings[0] == f"sub-01: {sidecar(folder).name} {message}"
    rdms_from_bids(folder, "sim", masks, settings=Settings(glm=GLM(slice_time_ref=0.5)))


@pytest.mark.parametrize("value", [2.5, -1, "1.0", True])
def test_start_times_that_cannot_be(bids, value):
    folder, _ = bids
    state(folder, StartTime=value)
    with raises(
        ValueError,
        f"{sidecar(folder)} has StartTime {value!r}; expected the seconds from the start of a scan to the moment that "
        "its volumes show, 0 to 2",
    ):
        find_runs(folder, "sim")


def test_one_run_s_sidecar_is_read_beside_its_image(bids):
    folder, masks = bids
    mask = masks["IT"].replace("{subject}", "01")
    given = [image(folder, run) for run in (1, 2)], [events(folder, run) for run in (1, 2)], mask
    plain = fit_patterns(*given, t_r=2.0)
    assert "slice_time_ref" not in plain.attrs
    state(folder, StartTime=1.0)
    fit = fit_patterns(*given, t_r=2.0)
    assert fit.attrs["slice_time_ref"] == [0.5, 0.5]
    np.testing.assert_array_equal(
        fit["patterns"], fit_patterns(*given, t_r=2.0, glm=GLM(slice_time_ref=0.5))["patterns"]
    )
    np.testing.assert_array_equal(
        plain["patterns"], fit_patterns(*given, t_r=2.0, glm=GLM(slice_time_ref=0.0))["patterns"]
    )


def test_sidecars_that_are_no_json(bids):
    folder, _ = bids
    path = sidecar(folder)
    # with a byte order mark, as Windows writes it
    path.write_text('{"RepetitionTime": 2.0}', encoding="utf-8-sig")
    assert find_runs(folder, "sim")[0].t_r == 2
    for text, what in (("[" * 100_000, "maximum recursion depth exceeded"), ("[]", "it holds a list")):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))} is not a JSON object \\({what}"):
            find_runs(folder, "sim")


# one run under two spellings


def test_run_1_is_run_01(bids):
    folder, masks = bids
    before = rdms_from_bids(folder, "sim", masks)
    for path in derived(folder).iterdir():
        path.rename(path.with_name(path.name.replace("run-0", "run-")))
    runs = find_runs(folder, "sim")
    assert [run.run for run in runs] == ["1", "2", "3"]
    assert [run.events for run in runs] == [events(folder, run) for run in (1, 2, 3)]
    np.testing.assert_array_equal(rdms_from_bids(folder, "sim", masks), before)


def test_two_spellings_of_one_run(bids):
    folder, _ = bids
    other = image(folder).with_name(image(folder).name.replace("run-01", "run-1"))
    shutil.copy(image(folder), other)
    with raises(ValueError, f"{image(folder)} and {other} are of one run; leave one of them in the folder"):
        find_runs(folder, "sim")
    other.unlink()
    twin = events(folder).with_name(events(folder).name.replace("run-01", "run-1"))
    shutil.copy(events(folder), twin)
    with raises(
        ValueError,
        f"{events(folder)} and {twin} are both events of {image(folder)}; leave one of them in the folder",
    ):
        find_runs(folder, "sim")


def test_subjects_and_sessions_of_other_spelling(bids):
    folder, _ = bids
    right = [(run.image, run.events, run.confounds, run.t_r) for run in find_runs(folder, "sim")]
    for subjects in (["1"], ["sub-1"], [1], [np.int64(1)], ("01",)):
        assert [(*run[3:6], run.t_r) for run in find_runs(folder, "sim", subjects=subjects)] == right
    with raises(ValueError, "subjects names '01' more than once, so that its runs would count twice"):
        find_runs(folder, "sim", subjects=[1, "01"])
    for wrong, what in ((1.0, "1.0, a float"), (None, "None, a NoneType"), (True, "True, a bool")):
        with raises(TypeError, f"subjects holds {what}; expected labels, such as '01'"):
            find_runs(folder, "sim", subjects=[wrong])
    with raises(TypeError, "subjects is 1; expected a list: [1]"):
        find_runs(folder, "sim", subjects=1)
    (folder / "sub-01").rename(folder / "sub-1")
    (folder / "sub-1/func").rename(folder / "sub-1/func-of-the-session")
    (folder / "sub-1/ses-1").mkdir()
    (folder / "sub-1/func-of-the-session").rename(folder / "sub-1/ses-1/func")
    for path in sorted((folder / "sub-1/ses-1/func").iterdir()):
        path.rename(path.with_name(path.name.replace("sub-01_", "sub-1_ses-1_")))
    home = derived(folder).parent
    (home / "ses-01").mkdir()
    (home / "func").rename(home / "ses-01/func")
    for path in sorted((home / "ses-01/func").iterdir()):
        path.rename(path.with_name(path.name.replace("sub-01_", "sub-01_ses-01_")))
    runs = find_runs(folder, "sim")
    assert [run.events.name for run in runs] == [f"sub-1_ses-1_task-sim_run-0{k}_events.tsv" for k in (1, 2, 3)]
    assert all(run.confounds is not None and run.brain_mask is not None for run in runs)


def test_two_subjects_of_one_number_are_two(tmp_path):
    make_bids(tmp_path, subjects=1, runs=2)
    for part in (tmp_path, tmp_path / "derivatives/simulated"):
        shutil.copytree(part / "sub-01", part / "sub-1")
        for path in sorted((part / "sub-1").rglob("sub-01_*")):
            path.rename(path.with_name(path.name.replace("sub-01_", "sub-1_")))
    assert {run.subject for run in find_runs(tmp_path, "sim", subjects=["1"])} == {"1"}
    assert find_runs(tmp_path, "sim", subjects=["1"])[0].events.parent == tmp_path / "sub-1/func"
    with raises(FileNotFoundError, f"{tmp_path}/derivatives/simulated has no subject '001'; there are '01', '1'"):
        find_runs(tmp_path, "sim", subjects=["001"])


def test_an_image_in_another_subjects_folder(bids):
    folder, _ = bids
    path = image(folder).rename(image(folder).with_name(image(folder).name.replace("sub-01", "sub-02")))
    with raises(ValueError, f"{path} lies in the folder of another subject than its name says; rename or move it"):
        find_runs(folder, "sim")


# hidden files


def test_the_files_that_macos_leaves_beside_the_real_ones(bids):
    folder, masks = bids
    before = rdms_from_bids(folder, "sim", masks)
    runs = find_runs(folder, "sim")
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07" + bytes(200))
    (derived(folder) / "._sub-01_task-sim_desc-confounds_timeseries.tsv").write_bytes(b"\x00\x05\x16\x07")
    shutil.copytree(derived(folder), derived(folder).parent / ".AppleDouble/func")
    (folder / "derivatives/.Trash").mkdir()
    assert find_runs(folder, "sim") == runs
    np.testing.assert_array_equal(rdms_from_bids(folder, "sim", masks), before)


def test_masks_named_by_the_subject_are_found_for_a_number(bids):
    folder, masks = bids
    assert rdms_from_bids(folder, "sim", masks, subjects=[1])["rdm"].values.tolist() == ["sub-01/IT"]


def test_a_raw_sidecar_of_a_run_is_found_by_its_number(bids):
    folder, _ = bids
    for run in (1, 2, 3):
        sidecar(folder, run).unlink()
        path = raw(folder) / f"sub-01_task-sim_run-0{run}_bold.json"
        path.rename(path.with_name(f"sub-01_task-sim_run-{run}_bold.json"))
    (folder / "task-sim_bold.json").unlink()
    assert [run.t_r for run in find_runs(folder, "sim")] == [2.0] * 3
