"""The 92 object images and the RDMs of them."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import brainrdl as rdl
from brainrdl.data.objects92 import CATEGORIES, IDS, load_objects92, load_objects92_images
from brainrdl.rdms.labelled import condense
from real_data import data_dir

DATASETS = Path(__file__).parents[2] / "datasets"
FIRST = "kriegeskorte92/92_brainRDMs.mat"
SUPPLEMENT = "kriegeskorte92/Kriegeskorte_Neuron2008_supplementalData.mat"
SECOND = "cichy92/cichy92_fmri_rdms.npz"


def test_ids_and_categories():
    assert len(IDS) == len(CATEGORIES) == len(set(IDS)) == 92
    assert (IDS[0], IDS[48], IDS[-1]) == ("human-body-01", "natural-01", "artificial-21")
    assert (CATEGORIES[0], CATEGORIES[47], CATEGORIES[-1]) == ("human body", "animal face", "artificial")


def test_the_files_open_with_the_ids_given():
    path = data_dir(FIRST) / FIRST
    rdms = rdl.read_rdms(path, stimuli=IDS, metric="correlation")
    assert rdms["subject"].values.tolist() == ["BE", "BE", "KO", "KO", "SN", "SN", "TI", "TI"]
    assert rdms["session"].values.tolist() == [1, 2] * 4
    assert rdms["roi"].values.tolist() == ["hIT"] * 8
    assert rdms["stimulus"].values.tolist() == list(IDS)


def test_subjects_and_sessions_are_told_apart():
    human = load_objects92("human", data_dir(FIRST))
    assert human["rdm"].values.tolist()[:3] == ["BE/1/IT", "BE/2/IT", "KO/1/IT"]
    between = [np.corrcoef(condense(human.isel(rdm=[2 * k, 2 * k + 1])))[0, 1] for k in range(4)]
    np.testing.assert_allclose(between, [0.29, 0.10, 0.40, 0.12], atol=0.006)


def test_the_sets_agree_with_each_other():
    folder = data_dir(FIRST, SUPPLEMENT, SECOND)
    human, primates, second = (load_objects92(name, folder) for name in ("human", "primates", "second-study"))
    mean = condense(human).mean(0)
    it = primates.sel(rdm=["human IT"])
    assert np.corrcoef(mean, condense(it)[0])[0, 1] > 0.9999
    means = rdl.average_rdms(second)
    by_roi = {roi: np.corrcoef(condense(it)[0], condense(means.sel(rdm=[roi]))[0])[0, 1] for roi in ("EVC", "IT")}
    np.testing.assert_allclose([by_roi["IT"], by_roi["EVC"]], [0.588, 0.152], atol=0.0006)
    assert second.sizes["rdm"] == 30
    assert second["category"].dims == ("stimulus",)


def test_models_and_judgements():
    folder = data_dir("kriegeskorte92/92_modelRDMs.mat", "kriegeskorte92/92_behavRDMs.mat", SUPPLEMENT)
    models, judgements = load_objects92("models", folder), load_objects92("judgements", folder)
    assert models["rdm"].values.tolist()[0] == "animacy"
    animate = np.array([not category.endswith("al") for category in CATEGORIES])
    np.testing.assert_array_equal(models.sel(rdm="animacy").values, animate[:, None] != animate)
    assert judgements["subject"].values.tolist()[:2] == ["subject1", "subject2"]
    assert judgements.sizes["rdm"] == 16


def test_the_datasets_are_prepared(tmp_path, monkeypatch, capsys):
    folder = data_dir(FIRST, SUPPLEMENT, SECOND)
    for name in ("kriegeskorte92", "cichy92"):
        monkeypatch.setattr(sys, "argv", ["prepare.py", "--data-dir", str(folder), "--out", str(tmp_path)])
        runpy.run_path(str(DATASETS / name / "prepare.py"), run_name="__main__")
    assert f"{tmp_path / 'human.nc'}: 8 RDMs (correlation)" in capsys.readouterr().out.splitlines()
    stimuli = rdl.StimulusSet.from_folder(tmp_path / "stimuli")
    assert sorted(stimuli.ids) == sorted(IDS)
    image, _ = load_objects92_images(folder)[50]
    prepared, stimulus = stimuli.select([IDS[50]])[0]
    assert stimulus == "natural-03"
    np.testing.assert_array_equal((prepared * 255).round(), image)
    for name in ("human", "primates", "models", "judgements", "second-study"):
        assert rdl.read_rdms(tmp_path / f"{name}.nc").identical(load_objects92(name, folder))


def test_other_files_of_the_same_name_are_refused(tmp_path, monkeypatch):
    path = tmp_path / SECOND
    with pytest.raises(
        FileNotFoundError,
        match=f"^{re.escape(f'no file {path}; datasets/cichy92/README.md says where it comes from')}$",
    ):
        load_objects92("second-study", tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"")
    message = (
        f"{path}: its MD5 is d41d8cd98f00b204e9800998ecf8427e, expected aff92a69a943cfb183fb7b6bf198822b; it is "
        "damaged or "
        "another file: fetch it again"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_objects92("second-study", tmp_path)
    monkeypatch.delenv("BRAINRDL_DATA", raising=False)
    message = (
        "there is no folder to look for the 92 images in: give data_dir= or set the environment variable BRAINRDL_DATA"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_objects92()
    message = (
        "unknown set of RDMs 'humans'; known are human, primates, models, judgements, second-study; did you mean "
        "'human' or 'judgements'?"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_objects92("humans")
