"""Confounds that are asked for are those that are used."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from brainrdl.fmri import GLM, Settings, find_runs, rdms_from_bids
from brainrdl.fmri.events import read_confounds
from brainrdl.studies.scans import make_rdms
from small_bids import change_table, confounds, derived, facts_of_runs, image, make_bids

MOTION = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]


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


def used(rdms):
    return [run["confounds"] for run in facts_of_runs(rdms)]


def taken(*strategies, **changes):
    return Settings(confounds=strategies, **changes)


def change_tables(folder, **columns):
    for run in (1, 2, 3):
        change_table(confounds(folder, run), **columns)


@pytest.mark.parametrize("name", ["desc-confounds_regressors.tsv", "bold_confounds.tsv"])
def test_older_names_of_the_table(bids, name):
    folder, masks = bids
    before = rdms_from_bids(folder, "sim", masks)
    for run in (1, 2, 3):
        path = confounds(folder, run)
        path.rename(path.with_name(path.name.replace("desc-confounds_timeseries.tsv", name)))
    rdms = rdms_from_bids(folder, "sim", masks)
    assert used(rdms) == [MOTION] * 3
    np.testing.assert_array_equal(rdms, before)


def test_a_table_under_two_names(bids):
    folder, _ = bids
    path = confounds(folder)
    other = path.with_name(path.name.replace("timeseries", "regressors"))
    shutil.copy(path, other)
    assert find_runs(folder, "sim")[0].confounds == path
    change_table(other, rot_x=0.0)
    with raises(
        ValueError,
        f"{path} and {other} are both confounds of {image(folder)}, and differ; leave one of them in the folder",
    ):
        find_runs(folder, "sim")


def test_one_run_without_its_table(bids):
    folder, masks = bids
    confounds(folder, 2).unlink()
    lacks = f"{image(folder, 2)} has no table of confounds beside it (desc-confounds_timeseries.tsv)"
    with raises(FileNotFoundError, f"{lacks}, and other runs have one; get it, or take none with confounds=()"):
        rdms_from_bids(folder, "sim", masks)
    for settings in (taken("motion"), Settings(confound_columns=("rot_x",))):
        with raises(FileNotFoundError, f"{lacks}; get it, or take none with confounds=()"):
            rdms_from_bids(folder, "sim", masks, settings=settings)
    assert used(rdms_from_bids(folder, "sim", masks, settings=taken())) == [[], [], []]


def test_no_run_has_a_table(bids, tmp_path):
    folder, masks = bids
    for run in (1, 2, 3):
        confounds(folder, run).unlink()
    message = (
        "no run has a table of confounds (desc-confounds_timeseries.tsv) beside its image, so that motion and "
        "high_pass are not taken out; confounds=() says that this is meant"
    )
    with pytest.warns(UserWarning, match=f"^sub-01: {re.escape(message)}$"):
        report = make_rdms(folder, "sim", masks, tmp_path / "rdms.nc", log=lambda line: None)
    assert f"sub-01: {message}" in report.read_text(encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="has no table of confounds beside it"):
        rdms_from_bids(folder, "sim", masks, settings=taken("motion"))
    rdms_from_bids(folder, "sim", masks, settings=taken())


def test_only_what_was_asked_for_is_taken(bids):
    folder, masks = bids
    before = rdms_from_bids(folder, "sim", masks)
    rng = np.random.default_rng(0)
    noise = ("global_signal", "csf", "white_matter", "framewise_displacement", "rmsd", "mine")
    change_tables(folder, **{name: lambda table: rng.normal(size=len(table)) for name in noise})
    rdms = rdms_from_bids(folder, "sim", masks)
    assert used(rdms) == [MOTION] * 3
    np.testing.assert_array_equal(rdms, before)
    for strategies, columns in (
        (("motion",), MOTION),
        (("global_signal",), ["global_signal"]),
        (("wm_csf", "motion"), [*MOTION, "csf", "white_matter"]),
        (("high_pass",), []),
    ):
        assert used(rdms_from_bids(folder, "sim", masks, settings=taken(*strategies)))[0] == columns
    chosen = Settings(confound_columns=("mine", "trans_*"))
    assert used(rdms_from_bids(folder, "sim", masks, settings=chosen))[0] == ["trans_x", "trans_y", "trans_z", "mine"]


def test_columns_that_are_asked_for_and_not_there(bids):
    folder, masks = bids
    listed = ", ".join(map(repr, MOTION))
    advice = "or name columns of the table (confound_columns=)"
    for strategy in ("compcor", "global_signal", "wm_csf"):
        with raises(
            ValueError,
            f"{confounds(folder)} was asked for the confounds {strategy!r}, and has none of its columns; its columns "
            f"are {listed}. Leave {strategy} out of confounds, {advice}",
        ):
            rdms_from_bids(folder, "sim", masks, settings=taken("motion", strategy))
    with raises(ValueError, f"{confounds(folder)} has no column 'fd'; its columns are {listed}"):
        rdms_from_bids(folder, "sim", masks, settings=Settings(confound_columns=("rot_x", "fd")))
    with raises(
        ValueError,
        f"{confounds(folder)} was asked for the confounds 'high_pass', and has no cosines; leave high_pass out of "
        "confounds, or have the GLM make them (drift_model='cosine')",
    ):
        rdms_from_bids(folder, "sim", masks, settings=taken("high_pass", glm=GLM(drift_model=None)))
    for run in (1, 2, 3):
        path = confounds(folder, run)
        pd.read_csv(path, sep="\t")[["rot_x"]].assign(cosine00=1.0).to_csv(path, sep="\t", index=False)
    # also by default, where the table names what fMRIPrep names
    for settings in (Settings(), taken("motion")):
        with raises(
            ValueError,
            f"{confounds(folder)} was asked for the confounds 'motion', and has only 'rot_x'; its columns are 'rot_x', "
            f"'cosine00'. Leave motion out of confounds, {advice}",
        ):
            rdms_from_bids(folder, "sim", masks, settings=settings)


def test_compcor_takes_the_combined_components(bids):
    folder, masks = bids
    rng = np.random.default_rng(0)
    names = ("a_comp_cor_00", "a_comp_cor_01", "t_comp_cor_00")
    change_tables(folder, **{name: lambda table: rng.normal(size=len(table)) for name in names})
    beside = confounds(folder).with_suffix(".json")
    with raises(
        ValueError,
        f"the confounds 'compcor' of {confounds(folder)} need the file {beside}, which says where each component is "
        "from; get it, or name columns of the table (confound_columns=)",
    ):
        rdms_from_bids(folder, "sim", masks, settings=taken("compcor"))
    about = {"a_comp_cor_00": {"Mask": "CSF"}, "a_comp_cor_01": {"Mask": "combined"}, "t_comp_cor_00": {}}
    for run in (1, 2, 3):
        confounds(folder, run).with_suffix(".json").write_text(json.dumps(about))
    assert used(rdms_from_bids(folder, "sim", masks, settings=taken("compcor"))) == [["a_comp_cor_01"]] * 3


def test_another_pipeline_s_table_is_taken_whole_with_a_word(bids):
    folder, masks = bids
    for run in (1, 2, 3):
        path = confounds(folder, run)
        table = pd.read_csv(path, sep="\t")
        table.columns = [f"mp{number}" for number in range(6)]
        table.to_csv(path, sep="\t", index=False)
    with pytest.warns(UserWarning, match="all its columns are taken") as caught:
        rdms = rdms_from_bids(folder, "sim", masks)
    assert [str(warning.message) for warning in caught] == [
        f"sub-01: {confounds(folder, run)} has no column of motion or high_pass by its names, so all its columns are "
        "taken: 'mp0', 'mp1', 'mp2', 'mp3', 'mp4', 'mp5'; name those that are meant (confound_columns=)"
        for run in (1, 2, 3)
    ]
    assert len(used(rdms)[0]) == 6
    np.testing.assert_array_equal(
        rdms, rdms_from_bids(folder, "sim", masks, settings=Settings(confound_columns=("*",)))
    )


def test_columns_that_are_not_taken_may_hold_anything(bids):
    folder, masks = bids
    before = rdms_from_bids(folder, "sim", masks)
    gaps = lambda table: np.where(np.arange(len(table)) == 5, np.nan, 1.0)  # noqa: E731
    change_tables(folder, edge_comp_00=np.nan, dvars=gaps, note="text")
    np.testing.assert_array_equal(rdms_from_bids(folder, "sim", masks), before)
    with raises(ValueError, f"confound 'edge_comp_00' of {confounds(folder)} has no value; leave it out"):
        rdms_from_bids(folder, "sim", masks, settings=Settings(confound_columns=("edge*",)))


def test_uncompressed_images_and_unpadded_names_find_fmripreps_table(bids):
    folder, masks = bids
    change_tables(folder, cosine00=lambda table: np.cos(np.arange(len(table))), std_dvars=1.0)
    before = rdms_from_bids(folder, "sim", masks)
    for path in derived(folder).glob("*desc-confounds*"):
        path.rename(path.with_name(path.name.replace("run-0", "run-")))
    rdms = rdms_from_bids(folder, "sim", masks)
    assert used(rdms)[0] == [*MOTION, "cosine00"]
    np.testing.assert_array_equal(rdms, before)


def test_the_first_values_of_a_derivative_are_filled_and_no_more():
    table = pd.DataFrame({"x": np.arange(80.0), "y": np.arange(80.0)})
    table.loc[:1, "x"] = np.nan
    assert read_confounds(table, n_scans=80)["x"].tolist()[:4] == [2, 2, 2, 3]
    table.loc[:30, "x"] = np.nan
    with raises(
        ValueError,
        "confound 'x' of the confounds lacks its first 31 values; only the 2 first of a derivative may be missing, or "
        "those of scans that have a regressor of their own (non_steady_state_outlier), so leave it out",
    ):
        read_confounds(table, n_scans=80)
    table.loc[:3, "x"] = np.nan
    table["x"] = table["x"].where(np.arange(80) < 4, np.arange(80.0))
    for scan in range(4):
        table[f"non_steady_state_outlier0{scan}"] = (np.arange(80) == scan).astype(float)
    assert read_confounds(table, n_scans=80)["x"].tolist()[:5] == [4, 4, 4, 4, 4]


def test_settings_that_contradict_each_other():
    with raises(ValueError, "confounds and confound_columns contradict each other; give one of them"):
        taken("motion", confound_columns=("rot_x",))
    with raises(ValueError, "confound_columns is empty; name at least one, or none with confounds=()"):
        Settings(confound_columns=())
