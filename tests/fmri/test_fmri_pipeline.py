import json
import re
import runpy
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import first_level_from_bids

import brainrdl.studies.scans as command
from brainrdl.exchange import read_rdms
from brainrdl.fmri import (
    GLM,
    Settings,
    Simulation,
    crossnobis,
    find_runs,
    fit_patterns,
    fit_precision,
    rdms_from_bids,
    read_betas,
    simulate_bids,
    split_half,
)
from brainrdl.fmri.bids import entities
from brainrdl.fmri.images import checksums
from brainrdl.rdms.labelled import label_rdms
from brainrdl.rdms.layout import check_rdms
from brainrdl.studies.reports.fmri import facts_of
from brainrdl.studies.scans import describe, make_rdms
from brainrdl.warned import warnings_in
from real_data import data_dir

IDS = ["face", "body", "house", "tool", "car"]


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """Two subjects, two regions, four runs; with the masks."""
    folder = tmp_path_factory.mktemp("bids")
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2, 5, 8))
    i, j = np.triu_indices(5, 1)
    planted = label_rdms(np.square(points[:, i] - points[:, j]).mean(axis=2), IDS, ["V1", "IT"], "mse")
    simulation = Simulation(subjects=2, runs=4, repeats=2, side=3, snr=4)
    return folder, simulate_bids(folder, planted, simulation=simulation)


@pytest.fixture
def copy(data_set, tmp_path):
    """One that a test may break."""
    folder, masks = data_set
    shutil.copytree(folder, tmp_path / "bids")
    return tmp_path / "bids", {name: path.replace(str(folder), str(tmp_path / "bids")) for name, path in masks.items()}


def func(folder, subject=1, derived=False):
    return (folder / "derivatives/simulated" if derived else folder) / f"sub-{subject:02d}" / "func"


def test_entities_of_a_file_name():
    assert entities(Path("sub-01_task-rest_run-2_bold.nii.gz")) == {"sub": "01", "task": "rest", "run": "2"}


def test_checksums_go_by_the_name_below_the_root(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    assert checksums([tmp_path / "a.txt"], tmp_path)["a.txt"][:8] == "ca978112"


@pytest.mark.filterwarnings("ignore:'StartTime' not found")
def test_finds_the_files_that_nilearn_finds(data_set):
    folder, _ = data_set
    _, images, events, confounds = first_level_from_bids(
        folder, "sim", space_label="sim", derivatives_folder="derivatives/simulated", slice_time_ref=0.0
    )
    runs = find_runs(folder, "sim")
    assert [str(run.image) for run in runs] == [path for subject in images for path in subject]
    for run, event, confound in zip(
        runs, [one for part in events for one in part], [one for part in confounds for one in part], strict=True
    ):
        pd.testing.assert_frame_equal(pd.read_csv(run.events, sep="\t"), event)
        pd.testing.assert_frame_equal(pd.read_csv(run.confounds, sep="\t"), confound)
    assert {run.t_r for run in runs} == {2.0}
    assert [run.label for run in runs[:4]] == ["run-01", "run-02", "run-03", "run-04"]


def test_rdms_are_those_of_the_steps_by_hand(data_set):
    folder, masks = data_set
    rdms = check_rdms(rdms_from_bids(folder, "sim", masks))
    assert rdms["rdm"].values.tolist() == ["sub-01/V1", "sub-01/IT", "sub-02/V1", "sub-02/IT"]
    assert rdms["subject"].values.tolist() == ["sub-01", "sub-01", "sub-02", "sub-02"]
    assert rdms["roi"].values.tolist() == ["V1", "IT"] * 2
    runs = find_runs(folder, "sim", subjects=["sub-02"])
    fit = fit_patterns(
        [run.image for run in runs],
        [run.events for run in runs],
        masks["IT"].replace("{subject}", "02"),
        t_r=2.0,
        confounds=[run.confounds for run in runs],
        runs=[run.label for run in runs],
    )
    precision = fit_precision(fit)
    ours = crossnobis(fit["patterns"], precision)
    there = rdms.sel(rdm="sub-02/IT").sel(stimulus=ours.stimulus.values, stimulus_=ours.stimulus.values)
    np.testing.assert_allclose(there, ours.values[0], rtol=1e-8, atol=1e-10)
    facts = facts_of(rdms)["sub-02/IT"]
    assert facts["split_half"]["r"] == pytest.approx(split_half(fit["patterns"], precision).r)
    assert [run["dof"] for run in facts["runs"]] == fit["dof"].values.tolist()
    assert facts["voxels"] == {"mask": 27, "outside_brain_mask": 0, "no_variance_or_nan": 0, "used": 27}
    assert facts["order"]["shared_by_runs"] is False
    assert len(facts["inputs"]) == 4 * 4
    assert all(not name.startswith("/") and len(digest) == 64 for name, digest in facts["inputs"].items())


@pytest.mark.parametrize(
    "settings",
    [
        Settings(per_run=True, noise="shrinkage_eye"),
        Settings(noise=None, confounds=(), glm=GLM(noise_model="ols", trials="lss")),
        Settings(noise="diag", stimuli=("house", "face", "car")),
    ],
)
def test_other_settings(data_set, settings):
    folder, masks = data_set
    rdms = rdms_from_bids(folder, "sim", {"IT": masks["IT"]}, subjects=["01"], settings=settings)
    facts = facts_of(rdms)["sub-01/IT"]
    assert facts["settings"]["noise"] == settings.noise
    # every stimulus in every run, in one observation or, by "lss", in two
    assert facts["standard_error"] == "analytic"
    if settings.stimuli:
        assert rdms["stimulus"].values.tolist() == ["house", "face", "car"]
        assert len(facts["runs"][0]["trial_types"]) == 5
    if settings.per_run:
        assert list(facts["shrinkage"]) == ["run-01", "run-02", "run-03", "run-04"]
    if not settings.confounds:
        assert facts["runs"][0]["confounds"] == []


def test_metrics_without_cross_validation_warn(data_set):
    folder, masks = data_set
    with pytest.warns(UserWarning, match="mahalanobis distances are not cross-validated"):
        rdms = rdms_from_bids(
            folder, "sim", {"IT": masks["IT"]}, subjects=["01"], settings=Settings(metric="mahalanobis")
        )
    assert rdms.attrs["metric"] == "mahalanobis"
    assert (rdms.values >= 0).all()


def test_fmripreps_confounds_are_chosen(copy):
    """Motion and cosines; a regressor for each scan before the steady state; no further drift."""
    folder, masks = copy
    for path in func(folder, derived=True).glob("*_timeseries.tsv"):
        table = pd.read_csv(path, sep="\t")
        n = np.arange(len(table))
        for name in list(table):
            change = table[name].diff()
            table[f"{name}_derivative1"] = change
            table[f"{name}_power2"] = table[name] ** 2
            table[f"{name}_derivative1_power2"] = change**2
        table["cosine00"] = np.cos(np.pi * (n + 0.5) / len(n))
        table["white_matter"] = 7.0
        table["non_steady_state_outlier00"] = (n == 0).astype(float)
        table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    rdms = rdms_from_bids(folder, "sim", {"IT": masks["IT"]}, subjects=["01"])
    run = facts_of(rdms)["sub-01/IT"]["runs"][0]
    assert run["drift_model"] is None
    assert {"cosine00", "non_steady_state_outlier00", "trans_x_derivative1"} <= set(run["confounds"])
    assert len(run["confounds"]) == 26
    assert run["dof"] == run["scans"] - 5 - 26 - 1


def test_sessions_are_kept_apart(copy):
    folder, masks = copy
    for part in (folder, folder / "derivatives/simulated"):
        shutil.rmtree(part / "sub-02")
        for path in sorted((part / "sub-01/func").iterdir()):
            session = "1" if int(path.name.split("run-")[1][:2]) <= 2 else "2"
            target = part / f"sub-01/ses-{session}/func" / path.name.replace("sub-01_", f"sub-01_ses-{session}_")
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    rdms = rdms_from_bids(folder, "sim", {"IT": masks["IT"]})
    assert rdms["rdm"].values.tolist() == ["sub-01/ses-1/IT", "sub-01/ses-2/IT"]
    assert rdms["session"].values.tolist() == ["ses-1", "ses-2"]
    pooled = rdms_from_bids(folder, "sim", {"IT": masks["IT"]}, settings=Settings(sessions="pooled"))
    assert pooled["rdm"].values.tolist() == ["sub-01/IT"]
    assert facts_of(pooled)["sub-01/IT"]["runs"][0]["run"] == "ses-1/run-01"
    lone = next((folder / "derivatives/simulated/sub-01/ses-2/func").glob("*run-03*desc-preproc_bold.nii.gz"))
    (lone.parent / lone.name.replace("run-03", "run-04")).unlink()
    with raises(
        ValueError,
        f"sub-01/ses-2 has one run only ({lone}), so there is nothing to cross-validate over; sessions='pooled' "
        "makes folds of the runs of all sessions",
    ):
        rdms_from_bids(folder, "sim", {"IT": masks["IT"]})


def test_runs_in_one_order_are_warned_of(copy):
    folder, masks = copy
    events = sorted(func(folder).glob("*_events.tsv"))
    first = pd.read_csv(events[0], sep="\t")
    for path in events[1:]:
        table = pd.read_csv(path, sep="\t")
        table.assign(trial_type=first["trial_type"]).to_csv(path, sep="\t", index=False)
    rdms = rdms_from_bids(folder, "sim", {"IT": masks["IT"]}, subjects=["01"])
    order = facts_of(rdms)["sub-01/IT"]["order"]
    assert order["shared_by_runs"] is True
    assert order["warning"] == (
        "all runs have the stimuli in one order: drifts and carry-over repeat, and cross-validation over runs does not "
        "remove them"
    )


# the command


def test_command_resumes_and_reports(data_set, tmp_path, monkeypatch):
    folder, masks = data_set
    out, lines = tmp_path / "rdms.nc", []
    process, done = command.process, []

    def fails_on_the_second(unit, *arguments):
        if done:
            raise KeyboardInterrupt
        done.append(unit.label)
        return process(unit, *arguments)

    monkeypatch.setattr(command, "process", fails_on_the_second)
    with pytest.raises(KeyboardInterrupt):
        make_rdms(folder, "sim", masks, out, log=lines.append)
    monkeypatch.setattr(command, "process", process)
    report = make_rdms(folder, "sim", masks, out, log=lines.append)
    assert "[1/2] sub-01: done before" in lines
    assert "sub-02 run-04: 39 scans, 10 events, 6 confounds" in lines
    rdms = read_rdms(out)
    whole = rdms_from_bids(folder, "sim", masks)
    np.testing.assert_array_equal(rdms, whole)
    np.testing.assert_array_equal(rdms["standard_error"], whole["standard_error"])
    page = report.read_text(encoding="utf-8")
    assert page.count('<img src="data:image/png') == 4
    for words in ("Between subjects", "sub-02/IT", "27 of 27", "Spearman–Brown", "sub-01_task-sim_run-01_events.tsv"):
        assert words in page
    # another setting makes the parts again
    make_rdms(folder, "sim", masks, out, settings=Settings(noise="diag"), log=lines.append)
    assert lines.count("[1/2] sub-01: done before") == 1
    with raises(ValueError, "the RDMs are written as netCDF, so rdms.h5 should end in .nc"):
        make_rdms(folder, "sim", masks, "rdms.h5")


@pytest.mark.parametrize("ending", [".npz", ".nc"])
@pytest.mark.parametrize("damage", [b"", b"x" * 100, None])
def test_damaged_parts_are_made_again(data_set, tmp_path, ending, damage):
    folder, masks = data_set
    out, lines = tmp_path / "rdms.nc", []
    given = {"subjects": ["01"], "settings": Settings(noise=None, glm=GLM(noise_model="ols"))}
    make_rdms(folder, "sim", {"IT": masks["IT"]}, out, **given, log=lines.append)
    whole = read_rdms(out)
    part = tmp_path / f"rdms.parts/sub-01{ending}"
    part.write_bytes(part.read_bytes()[:-300] if damage is None else damage)
    make_rdms(folder, "sim", {"IT": masks["IT"]}, out, **given, log=lines.append)
    assert f"{part} is damaged; its part is made again" in lines
    assert "[1/1] sub-01: done before" not in lines
    np.testing.assert_array_equal(read_rdms(out), whole)
    make_rdms(folder, "sim", {"IT": masks["IT"]}, out, **given, log=lines.append)
    assert "[1/1] sub-01: done before" in lines


def test_dry_run(data_set):
    folder, masks = data_set
    assert describe(folder, "sim", masks, subjects=["02"]).splitlines()[:2] == [
        "sub-02: 4 runs",
        "  run-01: sub-02_task-sim_run-01_space-sim_desc-preproc_bold.nii.gz, TR 2 s, events "
        "sub-02_task-sim_run-01_events.tsv, confounds sub-02_task-sim_run-01_desc-confounds_timeseries.tsv",
    ]
    assert describe(folder, "sim", masks, subjects=["02"]).endswith("region V1: 27 voxels\n  region IT: 27 voxels")


# bad input


def test_bad_arguments(data_set):
    folder, masks = data_set
    with raises(FileNotFoundError, f"there is no folder {folder}/x"):
        find_runs(folder / "x", "sim")
    with raises(FileNotFoundError, f"{folder}/derivatives has no dataset_description.json, so it is no BIDS data set"):
        find_runs(folder / "derivatives", "sim")
    derived = folder / "derivatives/simulated"
    with raises(
        FileNotFoundError,
        f"no preprocessed image of task 'smi' in {derived}; its tasks are 'sim'; did you mean 'sim'?",
    ):
        find_runs(folder, "smi")
    with raises(FileNotFoundError, f"{derived} has no image of space 'MNI'; there is 'sim'"):
        find_runs(folder, "sim", space="MNI")
    with raises(FileNotFoundError, f"{derived} has no subject '07'; there are '01', '02'"):
        find_runs(folder, "sim", subjects=["sub-07"])
    with raises(ValueError, "subjects names '01' more than once, so that its runs would count twice"):
        find_runs(folder, "sim", subjects=["01", "sub-01", "02"])
    with raises(ValueError, "subjects is empty; name at least one, or None for all"):
        find_runs(folder, "sim", subjects=[])
    missing = {"V1": masks["V1"], "FFA": str(folder / "ffa-{subject}.nii.gz")}
    for compute in (rdms_from_bids, describe):
        with raises(
            FileNotFoundError, f"the mask of region 'FFA' is missing: there is no image {folder}/ffa-01.nii.gz"
        ):
            compute(folder, "sim", missing)
    with raises(FileNotFoundError, f"the mask of region 'FFA' is missing: there is no image {folder}/ffa-01.nii.gz"):
        make_rdms(folder, "sim", missing, folder / "rdms.nc")
    with raises(TypeError, "subjects is one string, '01'; expected a list: ['01']"):
        find_runs(folder, "sim", subjects="01")
    with raises(ValueError, "masks is empty; expected at least one region of interest, {name: mask}"):
        rdms_from_bids(folder, "sim", {})
    with raises(ValueError, "a region is named 'a/b'; expected a name without '/', such as 'V1'"):
        rdms_from_bids(folder, "sim", {"a/b": masks["IT"]})
    with raises(ValueError, "sub-01 has no trial type 'fase'; there are 'body', 'car', 'face', 'house', 'tool'"):
        rdms_from_bids(folder, "sim", masks, settings=Settings(stimuli=("fase", "house")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": "cosine"}, "unknown metric 'cosine'; known are crossnobis, correlation, euclidean, mahalanobis"),
        ({"noise": "lw"}, "unknown noise 'lw'; known are shrinkage_diag, shrinkage_eye, diag, full and None"),
        ({"sessions": "all"}, "unknown sessions 'all'; known are apart, pooled"),
        (
            {"confounds": ("scrub",)},
            "unknown confounds 'scrub'; known are motion, high_pass, wm_csf, global_signal, compcor",
        ),
        (
            {"stimuli": ("face", "house", "face")},
            "stimuli must be unique, but these occur more than once: 'face'",
        ),
        ({"stimuli": ("face",)}, "stimuli names 'face'; an RDM needs at least 2"),
        ({"stimuli": ()}, "stimuli names none; an RDM needs at least 2"),
        (
            {"per_run": True, "metric": "correlation"},
            "a precision per run is for crossnobis; correlation averages the runs' patterns first",
        ),
    ],
)
def test_bad_settings(settings, message):
    with raises(ValueError, message):
        Settings(**settings)


@pytest.mark.parametrize(("name", "value"), [("stimuli", "face"), ("confounds", "motion")])
def test_settings_that_are_one_string(name, value):
    with raises(TypeError, f"{name} is one string, {value!r}; expected a sequence of strings: [{value!r}]"):
        Settings(**{name: value})


def test_several_spaces(copy):
    folder, _ = copy
    image = next(func(folder, derived=True).glob("*desc-preproc_bold.nii.gz"))
    shutil.copy(image, image.parent / image.name.replace("space-sim", "space-T1w"))
    with raises(
        ValueError,
        f"{folder}/derivatives/simulated has images of space 'T1w', 'sim'; choose one: space='sim'",
    ):
        find_runs(folder, "sim")


@pytest.mark.parametrize("subjects", [None, ["02"]])
def test_what_was_not_preprocessed_is_told(copy, subjects):
    folder, masks = copy
    derived = folder / "derivatives" / "simulated"
    shutil.rmtree(derived / "sub-01")
    (derived / "sub-02" / "func" / "sub-02_task-sim_run-03_space-sim_desc-preproc_bold.nii.gz").unlink()
    lacking = ["sub-01_run-01", "sub-01_run-02", "sub-01_run-03", "sub-01_run-04", "sub-02_run-03"]
    runs, first = (8, 0) if subjects is None else (4, 4)
    named = ", ".join(map(repr, lacking[first:]))
    message = (
        f"{5 - first} of {runs} runs of task 'sim' have a raw image in {folder} and no preprocessed one in {derived}, "
        f"and are left out: {named}; finish the preprocessing, or name the subjects that are meant (subjects=)"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        rdms = rdms_from_bids(folder, "sim", masks, subjects=subjects)
    assert message in warnings_in(rdms)
    # neither other tasks nor the raw images themselves are meant
    func(folder).joinpath("sub-01_task-rest_run-01_bold.nii.gz").touch()
    assert len(find_runs(folder, "sim", subjects=["02"], derivatives=None)) == 4


def test_missing_events(copy):
    folder, _ = copy
    path = func(folder) / "sub-01_task-sim_run-02_events.tsv"
    path.unlink()
    image = func(folder, derived=True) / "sub-01_task-sim_run-02_space-sim_desc-preproc_bold.nii.gz"
    with raises(FileNotFoundError, f"{image} has no events: expected sub-01_task-sim_run-02_events.tsv in {folder}"):
        find_runs(folder, "sim")


def test_repetition_times(copy):
    folder, masks = copy
    derived = func(folder, derived=True) / "sub-01_task-sim_run-02_space-sim_desc-preproc_bold.json"
    raw = func(folder) / "sub-01_task-sim_run-02_bold.json"
    image = derived.with_suffix(".nii.gz")
    derived.write_text('{"RepetitionTime": 2.5}')
    with raises(
        ValueError,
        f"{derived} has RepetitionTime 2.5 s, but {raw} 2 s; find out which is right and mend the other",
    ):
        find_runs(folder, "sim")
    raw.write_text('{"RepetitionTime": 2.5}')
    (folder / "task-sim_bold.json").unlink()
    with raises(
        ValueError,
        f"the repetition time of {image} is 2.5 s by its sidecar, but 2 s by the image's header; find out which is "
        "right and mend the other",
    ):
        rdms_from_bids(folder, "sim", masks)
    for path in (derived, raw):
        path.write_text("{}")
    with raises(
        ValueError,
        f"no sidecar of {image} states a RepetitionTime; expected one in sub-01_task-sim_run-02_bold.json",
    ):
        find_runs(folder, "sim")
    for value in ("true", "-1", '"2"'):
        raw.write_text(f'{{"RepetitionTime": {value}}}')
        with raises(ValueError, f"{raw} has RepetitionTime {json.loads(value)!r}; expected seconds as a number"):
            find_runs(folder, "sim")
    raw.write_text("[")
    with pytest.raises(ValueError, match=f"^{re.escape(str(raw))} is not a JSON object"):
        find_runs(folder, "sim")


def test_one_run_only(copy):
    folder, masks = copy
    images = sorted(func(folder, derived=True).glob("*desc-preproc_bold.nii.gz"))
    for image in images[1:]:
        image.unlink()
    with raises(ValueError, f"sub-01 has one run only ({images[0]}), so there is nothing to cross-validate over"):
        rdms_from_bids(folder, "sim", masks)


def test_different_stimuli(copy):
    folder, masks = copy
    for path in func(folder, subject=2).glob("*_events.tsv"):
        path.write_text(path.read_text().replace("car", "bus"))
    with raises(
        ValueError,
        "sub-01 and sub-02 have different stimuli: sub-02 lacks 'car' and sub-01 lacks 'bus'; name the common ones "
        "(stimuli=), or make RDMs of either alone",
    ):
        rdms_from_bids(folder, "sim", masks)
    common = Settings(stimuli=("face", "body", "house"))
    assert rdms_from_bids(folder, "sim", masks, settings=common).sizes["stimulus"] == 3


def test_pairs_that_no_two_runs_share(copy):
    folder, masks = copy
    for run in (1, 2, 3):
        path = func(folder) / f"sub-01_task-sim_run-{run:02d}_events.tsv"
        table = pd.read_csv(path, sep="\t")
        table[table["trial_type"] != "car"].to_csv(path, sep="\t", index=False)
    with pytest.raises(ValueError, match=r"^in 'sub-01/V1' no two runs share both stimuli of 4 pairs"):
        rdms_from_bids(folder, "sim", masks, subjects=["01"])
    rdms = rdms_from_bids(folder, "sim", masks, subjects=["01"], settings=Settings(allow_missing=True))
    assert np.isnan(rdms.sel(rdm="sub-01/V1", stimulus="car")).sum() == 4


def test_an_unbalanced_design_of_as_many_trials_as_a_balanced_one_gets_the_jackknife(copy):
    folder, masks = copy
    for run in (1, 2, 3, 4):
        path = func(folder) / f"sub-01_task-sim_run-{run:02d}_events.tsv"
        table = pd.read_csv(path, sep="\t")
        single = table.drop_duplicates("trial_type")
        if run == 4:  # no car, two faces
            single = table[
                (table["trial_type"] == "face") | ((table["trial_type"] != "car") & table.index.isin(single.index))
            ]
        single.to_csv(path, sep="\t", index=False)
    settings = Settings(allow_missing=True, glm=GLM(trials="lss"))
    rdms = rdms_from_bids(folder, "sim", {"IT": masks["IT"]}, subjects=["01"], settings=settings)
    facts = facts_of(rdms)["sub-01/IT"]
    assert [len(run["trial_types"]) for run in facts["runs"]] == [5, 5, 5, 4]
    assert facts["standard_error"] == "jackknife"


def test_masks_outside_the_brain(copy):
    folder, masks = copy
    brain = func(folder, derived=True) / "sub-01_task-sim_run-01_space-sim_desc-brain_mask.nii.gz"
    opened = nibabel.load(brain)
    inside = nibabel.load(masks["IT"].replace("{subject}", "01")).get_fdata() == 0
    nibabel.save(nibabel.Nifti1Image(inside.astype(np.uint8), opened.affine), brain)
    mask = masks["IT"].replace("{subject}", "01")
    with raises(ValueError, f"mask {mask} lies outside the brain masks of sub-01's runs"):
        rdms_from_bids(folder, "sim", masks)


# betas from elsewhere


def test_betas_carry_their_warning(tmp_path):
    rng = np.random.default_rng(0)
    image = nibabel.Nifti1Image(rng.normal(size=(3, 2, 1, 8)), np.eye(4))
    data = image.get_fdata()
    data[0, 0, 0, 2] = np.nan
    image = nibabel.Nifti1Image(data, np.eye(4))
    mask = nibabel.Nifti1Image(np.ones((3, 2, 1), dtype=np.uint8), np.eye(4))
    table = tmp_path / "trials.tsv"
    table.write_text("stimulus\trun\n" + "".join(f"{s}\t{r}\n" for r in (1, 2) for s in ("a", "b", "a", "b")))
    with pytest.warns(UserWarning, match=r"^betas estimated over all runs at once"):
        patterns = read_betas(image, table, mask, made_by="glmsingle", name="V1")
    assert patterns.shape == (8, 5)
    assert patterns.attrs["dropped_voxels"] == 1
    rdms = check_rdms(crossnobis(patterns))
    assert rdms.attrs["warning"].startswith("betas estimated over all runs at once (GLMsingle, NSD)")
    assert "warning" not in crossnobis(read_betas(image, table, mask, made_by="spm")).attrs
    short = pd.read_csv(table, sep="\t")[:7]
    with raises(ValueError, "an image of shape (3, 2, 1, 8) has 8 volumes, its table 7 rows; expected as many"):
        read_betas(image, short, mask, made_by="spm")
    with raises(
        ValueError,
        "the table of an image of shape (3, 2, 1, 8) has no column 'run'; expected stimulus and run of each volume",
    ):
        read_betas(image, short.drop(columns="run"), mask, made_by="spm")
    for column in ("stimulus", "run"):
        gap = pd.read_csv(table, sep="\t", dtype=str)
        gap.loc[2, column] = None
        gap.to_csv(tmp_path / "gap.tsv", sep="\t", index=False)
        for given, name in ((gap, "the table of an image of shape (3, 2, 1, 8)"), (tmp_path / "gap.tsv",) * 2):
            with raises(
                ValueError,
                f"{name} has an empty {column} in row 3 (1 in all); name stimulus and run of every volume, or take "
                "such volumes and rows out",
            ):
                read_betas(image, given, mask, made_by="spm")
    with raises(ValueError, "an image of shape (3, 2, 1) has shape (3, 2, 1); expected a volume per observation, 4-D"):
        read_betas(mask, table, mask, made_by="spm")
    table.write_text("stimulus\trun\n" + "".join(f"{s}\t{r}\n" for r in ("1", "01") for s in ("01", "1", "NA", "2")))
    numbered = read_betas(image, table, mask, made_by="spm")
    assert crossnobis(numbered)["stimulus"].values.tolist() == ["01", "1", "NA", "2"]
    assert numbered["run"].values.tolist() == ["1"] * 4 + ["01"] * 4
    with raises(ValueError, "unknown made_by 'afni'; known are glmsingle, nsd, spm, other"):
        read_betas(image, short, mask, made_by="afni")


# real scans


def test_haxby_houses_stand_apart():
    root = data_dir("haxby_bids") / "haxby_bids"
    mask = str(
        root / "derivatives/motioncorrected/sub-{subject}/sub-{subject}_space-native_label-posterior_mask.nii.gz"
    )
    rdms = rdms_from_bids(root, "objectviewing", {"posterior": mask})
    mean = rdms[0].sum("stimulus_") / 7
    assert mean["stimulus"].values[int(mean.values.argmax())] == "house"
    half = facts_of(rdms)["sub-01/posterior"]["split_half"]
    assert half["splits"] == 462
    assert half["r"] == pytest.approx(0.254, abs=0.005)
    assert json.loads(rdms.attrs["provenance"])["voxels"]["used"] == 530


def test_haxby_example(tmp_path, monkeypatch):
    root = data_dir("haxby_bids")
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples/haxby_rdms.py"))
    monkeypatch.setattr("sys.argv", ["haxby_rdms.py", "--data-dir", str(root), "--out", str(tmp_path), "--short"])
    example["main"]()
    page = (tmp_path / "rdms.html").read_text(encoding="utf-8")
    assert "largest first: house" in page
    assert "precision per run" in page
    assert str(root) not in page
