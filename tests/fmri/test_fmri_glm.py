import re
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import FirstLevelModel

from brainrdl.fmri import GLM, atlas_masks, fit_patterns, fit_precision, noise_precision
from brainrdl.fmri.design import design_matrix
from brainrdl.fmri.events import read_confounds, read_events
from brainrdl.fmri.masks import mask_voxels


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


T_R, N_SCANS = 2.0, 80
AFFINE = np.diag([3.0, 3, 3, 1])


def volume(data, t_r=None):
    image = nibabel.Nifti1Image(np.asarray(data), AFFINE)
    if t_r is not None:
        image.header.set_zooms((3, 3, 3, t_r))
        image.header.set_xyzt_units("mm", "sec")
    return image


@pytest.fixture(scope="module")
def run():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 5, (4, 3, 2, N_SCANS))
    for k in range(1, N_SCANS):
        noise[..., k] += 0.4 * noise[..., k - 1]
    events = pd.DataFrame(
        {
            "onset": [4.0, 24, 44, 64, 84, 104, 124, 140],
            "duration": 4.0,
            "trial_type": ["house", "face", "cat", "face", "house", "cat", "face", "house"],
        }
    )
    confounds = pd.DataFrame(rng.normal(size=(N_SCANS, 2)), columns=["rot_x", "rot_y"])
    return volume(1000 + noise, T_R), events, confounds


@pytest.fixture(scope="module")
def mask():
    inside = np.zeros((4, 3, 2), dtype=np.uint8)
    inside[1:3, :, 1] = 1
    return volume(inside)


@pytest.mark.filterwarnings("ignore:.*Generation of a mask has been requested")
@pytest.mark.parametrize(
    "glm", [GLM(), GLM(hrf_model="glover + derivative", noise_model="ols", drift_model="polynomial")]
)
def test_design_betas_and_residuals_equal_nilearns(run, mask, glm):
    image, events, confounds = run
    theirs = FirstLevelModel(
        t_r=T_R,
        hrf_model=glm.hrf_model,
        drift_model=glm.drift_model,
        high_pass=glm.high_pass,
        noise_model=glm.noise_model,
        mask_img=mask,
        signal_scaling=False,
        minimize_memory=False,
    ).fit(image, events, confounds)
    fit = fit_patterns([image], [events], mask, t_r=T_R, confounds=[confounds], glm=glm)
    design = theirs.design_matrices_[0]
    pd.testing.assert_frame_equal(design_matrix(events, N_SCANS, T_R, confounds, glm), design)
    for name in ("house", "face", "cat"):
        effect = theirs.compute_contrast(name, output_type="effect_size")
        ours = fit["patterns"].values[fit["stimulus"].values == name][0]
        np.testing.assert_allclose(ours, effect.get_fdata()[1:3, :, 1].ravel(), rtol=1e-5, atol=1e-5)
    labels, results = theirs.labels_[0], theirs.results_[0]
    for label, result in results.items():
        # the maskers hand on float32
        np.testing.assert_allclose(
            fit["residuals"].values[:, labels == label], result.whitened_residuals, rtol=1e-4, atol=1e-3
        )
    assert fit["dof"].values.tolist() == [N_SCANS - np.linalg.matrix_rank(design)]
    assert fit["stimulus"].values.tolist() == ["house", "face", "cat"]
    assert fit["onset"].values.tolist() == pytest.approx([76, 212 / 3, 74])


def test_single_trials(run, mask):
    image, events, confounds = run
    all_at_once, separate = (
        fit_patterns([image], [events], mask, t_r=T_R, confounds=[confounds], glm=GLM(trials=trials, noise_model="ols"))
        for trials in ("lsa", "lss")
    )
    assert all_at_once["stimulus"].values.tolist() == events["trial_type"].tolist()
    assert separate["onset"].values.tolist() == events["onset"].tolist()
    # least squares, separate, written out for the second event: its own regressor, the other faces, the rest
    types = events["trial_type"].replace({}).tolist()
    types[1] = "this"
    X = design_matrix(events.assign(trial_type=types), N_SCANS, T_R, confounds, GLM())
    Y = image.get_fdata()[1:3, :, 1].reshape(-1, N_SCANS).T
    np.testing.assert_allclose(
        separate["patterns"].values[1], np.linalg.lstsq(X.values, Y)[0][X.columns.get_loc("this")], rtol=1e-8
    )
    condition = fit_patterns([image], [events], mask, t_r=T_R, confounds=[confounds], glm=GLM(noise_model="ols"))
    assert all_at_once["dof"].item() == condition["dof"].item() - 5
    np.testing.assert_array_equal(all_at_once["residuals"], separate["residuals"])


def test_voxels_without_variance_are_dropped_in_all_runs(run, mask):
    image, events, _ = run
    broken, constant = image.get_fdata().copy(), image.get_fdata().copy()
    broken[1, 0, 1, 7] = np.nan
    constant[2, 2, 1] = 3.0
    fit = fit_patterns([volume(broken, T_R), volume(constant, T_R)], [events] * 2, mask, t_r=T_R)
    whole = fit_patterns([image], [events], mask, t_r=T_R)
    assert (fit.attrs["mask_voxels"], fit.attrs["dropped_voxels"]) == (6, 2)
    kept = fit["voxel"].values
    assert kept.tolist() == [9, 11, 13, 15]
    np.testing.assert_allclose(fit["patterns"].values[:3], whole["patterns"].sel(voxel=kept))
    np.testing.assert_allclose(fit["tsnr"], whole["tsnr"].sel(voxel=kept), rtol=0.05)
    with raises(ValueError, "every voxel of the mask has NaN or no variance in some run; 6 voxels are lost"):
        fit_patterns([volume(np.ones((4, 3, 2, N_SCANS)), T_R)], [events], mask, t_r=T_R)


def test_pooled_and_per_run_precision(run, mask):
    image, events, _ = run
    fit = fit_patterns([image, image], [events] * 2, mask, t_r=T_R, runs=["a", "b"])
    both = fit["residuals"].values
    np.testing.assert_allclose(fit_precision(fit), noise_precision(both, int(fit["dof"].sum())), atol=1e-12)
    per_run = fit_precision(fit, per_run=True, method="diag")
    assert list(per_run) == ["a", "b"]
    np.testing.assert_allclose(per_run["b"], noise_precision(both[N_SCANS:], int(fit["dof"][1]), method="diag"))


def test_fmripreps_confounds(run, mask):
    """Its cosines stand in for the drift model, its outlier regressors take a scan each."""
    image, events, _ = run
    n = np.arange(N_SCANS)
    derivative = np.concatenate([[np.nan], np.diff(np.sin(n))])
    confounds = pd.DataFrame(
        {
            "cosine00": np.cos(np.pi * (n + 0.5) / N_SCANS),
            "rot_x_derivative1": derivative,
            "non_steady_state_outlier00": (n == 0).astype(float),
        }
    )
    fit = fit_patterns([image], [events], mask, t_r=T_R, confounds=[confounds], glm=GLM(noise_model="ols"))
    # three stimuli, three confounds, the constant, and no further cosine
    assert fit["dof"].item() == N_SCANS - 7
    rest = image.get_fdata()[1:3, :, 1].reshape(-1, N_SCANS).T[1:]
    X = design_matrix(events, N_SCANS, T_R, read_confounds(confounds, n_scans=N_SCANS)).iloc[1:]
    without = np.linalg.lstsq(X.drop(columns="non_steady_state_outlier00").values, rest)[0]
    np.testing.assert_allclose(
        fit["patterns"].sel(observation=fit["stimulus"] == "face")[0], without[X.columns.get_loc("face")]
    )


def test_a_mask_of_another_grid_is_resampled_only_when_asked(run):
    image, *_ = run
    coarse = nibabel.Nifti1Image(np.ones((2, 2, 1), dtype=np.uint8), np.diag([6.0, 6, 6, 1]))
    assert mask_voxels(coarse, image, resample=True).size > 0
    with raises(
        ValueError,
        "mask an image of shape (2, 2, 1) has the grid (2, 2, 1), but an image of shape (4, 3, 2, 80) (4, 3, 2); bring "
        "it into the images' space, or ask for it with resample=True",
    ):
        mask_voxels(coarse, image)
    moved = nibabel.Nifti1Image(np.ones((4, 3, 2), dtype=np.uint8), np.diag([3.0, 3, 2.5, 1]))
    with raises(
        ValueError,
        "mask an image of shape (4, 3, 2) has another affine than an image of shape (4, 3, 2, 80): 2.5 and 3 mm in row "
        "2, column 2; bring it into the images' space, or ask for it with resample=True",
    ):
        mask_voxels(moved, image)


def test_regions_of_an_atlas(run):
    image, *_ = run
    atlas = volume(np.arange(24, dtype=np.int16).reshape(4, 3, 2))
    regions = atlas_masks(atlas, {"V1": 5})
    assert mask_voxels(regions["V1"], image).tolist() == [5]
    with raises(ValueError, "region 'V2': no voxel of an image of shape (4, 3, 2) bears the label 99"):
        atlas_masks(atlas, {"V2": 99})


# bad input


def saved(image, path):
    nibabel.save(image, path)
    return path


def test_bad_images(run, mask, tmp_path):
    image, events, _ = run
    whole = saved(image, tmp_path / "bold.nii")
    part = tmp_path / "part.nii"
    part.write_bytes(whole.read_bytes()[:5000])

    def fit(path, **changes):
        return fit_patterns([path], [events], mask, **{"t_r": T_R, **changes})

    with pytest.raises(
        ValueError,
        match=rf"^{re.escape(str(part))} is truncated or damaged \(.*\): its header promises "
        r"\(4, 3, 2, 80\); copy it again$",
    ):
        fit(part)
    pointer = tmp_path / "pointer.nii.gz"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with raises(
        ValueError,
        f"{pointer} is only a version-control pointer of 63 bytes, not the image; fetch its content first (git lfs "
        "pull, git annex get, datalad get)",
    ):
        fit(pointer)
    link = tmp_path / "link.nii.gz"
    link.symlink_to("../.git/annex/objects/x")
    with raises(
        FileNotFoundError,
        f"{link} is a link to ../.git/annex/objects/x, which is not here; fetch its content first (datalad get, git "
        "annex get)",
    ):
        fit(link)
    with raises(FileNotFoundError, f"there is no image {tmp_path}/no.nii"):
        fit(tmp_path / "no.nii")
    with raises(
        ValueError,
        f"the repetition time of {whole} is 2.5 s by t_r, but 2 s by the image's header; find out which is right and "
        "mend the other",
    ):
        fit(whole, t_r=2.5)
    with raises(ValueError, f"the repetition time of {whole} is 2000 s by t_r; expected seconds"):
        fit(whole, t_r=2000)
    with raises(ValueError, f"t_r states no repetition time (RepetitionTime, in seconds) for {whole}"):
        fit(whole, t_r=None)
    empty = saved(volume(np.zeros((4, 3, 2), dtype=np.uint8)), tmp_path / "empty.nii")
    with raises(ValueError, f"mask {empty} is empty; no voxel is above 0"):
        fit_patterns([whole], [events], empty, t_r=T_R)
    with raises(ValueError, f"{empty} has shape (4, 3, 2); expected one run of scans, 4-D"):
        fit(empty)


@pytest.mark.parametrize("kind", ["shape", "affine"])
def test_runs_of_another_grid(run, mask, kind, tmp_path):
    image, events, _ = run
    moved = AFFINE.copy()
    moved[0, 3] = 6
    other = image.get_fdata()[::-1] if kind == "affine" else image.get_fdata()[:, :, :1]
    other = nibabel.Nifti1Image(other, moved if kind == "affine" else AFFINE, image.header)
    paths = [saved(volume(image.get_fdata(), T_R), tmp_path / "one.nii"), saved(other, tmp_path / "two.nii")]
    with raises(
        ValueError,
        f"the image of run b, {paths[1]} has "
        + (
            f"another affine than {paths[0]}: 6 and 0 mm in row 0, column 3; bring all runs into one space"
            if kind == "affine"
            else f"the grid (4, 3, 1), but {paths[0]} (4, 3, 2); bring all runs into one space"
        ),
    ):
        fit_patterns(paths, [events] * 2, mask, t_r=T_R, runs=["a", "b"])


def test_masks_with_values_below_zero(run, mask, tmp_path):
    image, *_ = run
    path = saved(volume(mask.get_fdata().astype(np.float32) - 1), tmp_path / "mask.nii")
    with raises(ValueError, f"mask {path} holds values below 0, such as -1; expected 0 outside, more inside"):
        mask_voxels(path, image)


def change(**columns):
    return pd.DataFrame({"onset": [2.0, 30], "duration": [4.0, 4], "trial_type": ["a", "b"]}).assign(**columns)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (
            change().drop(columns=["onset"]).rename(columns={"trial_type": "type"}),
            "{} has no column 'onset', 'trial_type'; its columns are 'duration', 'type'. Events need onset and "
            "duration in seconds, and trial_type",
        ),
        (
            change().drop(columns="duration"),
            "{} has no column 'duration'; its columns are 'onset', 'trial_type'. Events "
            "need onset and duration in seconds, and trial_type",
        ),
        (
            change(trial_type=["a", None]),
            "{} has an empty trial_type in row 2 (1 in all); name the stimulus of every event, or take such rows out",
        ),
        (
            change(onset=[2000.0, 30000]),
            "{} has onset 2000 s in row 1, past the last scan at 100 s; the onsets look "
            "like milliseconds, expected seconds",
        ),
        (
            change(onset=[2.0, 130]),
            "{} has onset 130 s in row 2, past the last scan at 100 s; expected seconds from the first scan of the run",
        ),
        (change(onset=[-50.0, 3]), "{} has onset -50 s, long before the first scan; expected seconds from it"),
        (change(onset=["x", 3]), "{} has onset 'x' in row 1; expected seconds as a number"),
        (change(duration=[-1, 3]), "{} has duration -1 s in row 1; expected 0 or more"),
        (change().iloc[:0], "{} holds no event; leave the run out, or mend the file"),
    ],
)
def test_bad_events(events, message, tmp_path):
    path = tmp_path / "events.tsv"
    events.to_csv(path, sep="\t", index=False, na_rep="n/a")
    with raises(ValueError, message.format(path)):
        read_events(path, n_scans=50, t_r=2.0)


def test_trial_types_are_text(tmp_path):
    """A file's as they are written; a DataFrame's whole numbers as text."""
    path = tmp_path / "events.tsv"
    types = ["01", "1", "001", "NA", "None", "null", "nan", "1.0"]
    path.write_text("onset\tduration\ttrial_type\n" + "".join(f"{k}\t1\t{name}\n" for k, name in enumerate(types)))
    assert read_events(path, n_scans=50, t_r=2.0)["trial_type"].tolist() == types
    assert read_events(change(trial_type=[1, 10]), n_scans=50, t_r=2.0)["trial_type"].tolist() == ["1", "10"]
    for value, kind in ((1.0, "float"), (True, "bool")):
        with raises(
            TypeError,
            f"the events has trial_type {value!r} in row 1, of type {kind}; expected text, so that all runs spell a "
            "name alike",
        ):
            read_events(change(trial_type=[value, value]), n_scans=50, t_r=2.0)


def test_modulated_events():
    plain = read_events(change(), n_scans=50, t_r=2.0)
    pd.testing.assert_frame_equal(read_events(change(modulation=[1, 1.0]), n_scans=50, t_r=2.0), plain)
    with raises(
        ValueError,
        "the events has modulation 0.5 in row 2 (1 not 1 in all); a pattern is the response to a stimulus, not to its "
        "modulation, so take the column out",
    ):
        read_events(change(modulation=[1, 0.5]), n_scans=50, t_r=2.0)


def test_missing_tables(tmp_path):
    with raises(FileNotFoundError, f"there is no table {tmp_path}/events.tsv"):
        read_events(tmp_path / "events.tsv", n_scans=50, t_r=2.0)


@pytest.mark.parametrize(
    ("confounds", "message"),
    [
        ({"x": [1.0, 2]}, "the confounds has 2 rows, but the run 3 scans; expected a row per scan"),
        ({"x": [None, None, None]}, "confound 'x' of the confounds has no value; leave it out"),
        (
            {"x": [1.0, np.nan, 2]},
            "confound 'x' of the confounds is nan at scan 1; only the first values of a derivative may be missing",
        ),
    ],
)
def test_bad_confounds(confounds, message):
    with raises(ValueError, message):
        read_confounds(pd.DataFrame(confounds), n_scans=3)


def test_stimuli_that_the_design_does_not_tell_apart(run, mask):
    image, events, confounds = run
    twice = pd.concat([events, events[events.trial_type == "face"].assign(trial_type="copy")])
    with raises(
        ValueError,
        "in run 1 the design does not tell 'face', 'copy' from its other regressors; events coincide, or a confound "
        "repeats them",
    ):
        fit_patterns([image], [twice], mask, t_r=T_R)
    late = pd.concat([events, change(onset=159.99, duration=0.001, trial_type="late")[:1]])
    with raises(ValueError, "in run 1 no response to 'late' falls on a scan; check the onsets"):
        fit_patterns([image], [late], mask, t_r=T_R)
    many = pd.DataFrame(np.random.default_rng(0).normal(size=(N_SCANS, N_SCANS)), columns=[f"c{k}" for k in range(80)])
    with raises(
        ValueError,
        "run 1 has 80 scans for a design of rank 80, which leaves no degree of freedom; use fewer confounds or "
        "regressors",
    ):
        fit_patterns([image], [events], mask, t_r=T_R, confounds=[many])
    with raises(ValueError, "'face' names both a trial type and a confound; rename one of them"):
        fit_patterns([image], [events], mask, t_r=T_R, confounds=[confounds.rename(columns={"rot_x": "face"})])


def test_names_of_other_regressors(run, mask):
    image, events, confounds = run
    reserved = "bears the name of a regressor of every design (constant, drift_1, …); rename it"
    for name in ("constant", "drift_1"):
        with raises(ValueError, f"trial type {name!r} {reserved}"):
            fit_patterns([image], [events.replace("face", name)], mask, t_r=T_R)
        renamed = confounds.rename(columns={"rot_x": name})
        with raises(ValueError, f"confound {name!r} {reserved}"):
            fit_patterns([image], [events], mask, t_r=T_R, confounds=[renamed])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"imgs": "bold.nii"}, TypeError, "imgs is a single str; expected a list, one per run"),
        ({"imgs": Path("bold.nii")}, TypeError, "imgs is a single PosixPath; expected a list, one per run"),
        (
            {"imgs": volume(np.ones((4, 3, 2, 9)))},
            TypeError,
            "imgs is a single Nifti1Image; expected a list, one per run",
        ),
        (
            {"imgs": [volume(np.ones((4, 3, 2, 9)))], "t_r": "2"},
            TypeError,
            "the repetition time of an image of shape (4, 3, 2, 9) is '2' by t_r, of type str; expected seconds as a "
            "number",
        ),
        ({"events": []}, ValueError, "there are 1 images, but 0 events; expected one per run"),
        ({"events": "events.tsv"}, TypeError, "events is a single str; expected a list, one per run"),
        ({"imgs": [], "events": []}, ValueError, "imgs is empty; expected an image per run"),
        ({"runs": [1, 1]}, ValueError, "there are 1 images, but 2 runs; expected one per run"),
    ],
)
def test_bad_lists(run, mask, changes, error, message):
    image, events, _ = run
    with raises(error, message):
        fit_patterns(**{"imgs": [image], "events": [events], "mask": mask, "t_r": T_R, **changes})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"hrf_model": "smp"},
            "unknown hrf_model 'smp'; known are spm, spm + derivative, spm + derivative + "
            "dispersion, glover, glover + derivative, glover + derivative + dispersion; did you mean 'spm'?",
        ),
        ({"drift_model": "linear"}, "unknown drift_model 'linear'; known are cosine, polynomial, None"),
        ({"noise_model": "arma"}, "unknown noise_model 'arma'; known are ols, ar1, ar2, …"),
        ({"trials": "single"}, "unknown trials 'single'; known are condition, lsa, lss"),
        ({"high_pass": 128}, "high_pass is 128; expected a frequency in Hz, such as 1/128"),
        ({"slice_time_ref": 2}, "slice_time_ref is 2; expected a share of the scan, 0 to 1"),
    ],
)
def test_bad_settings(settings, message):
    with raises(ValueError, message):
        GLM(**settings)


def test_surfaces():
    """Scans on a surface are masked and fitted like volumes."""
    from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage

    rng = np.random.default_rng(0)
    mesh = PolyMesh(
        **{side: InMemoryMesh(rng.normal(size=(6, 3)), np.array([[0, 1, 2], [3, 4, 5]])) for side in ("left", "right")}
    )
    scans = {side: rng.normal(100, 1, (6, N_SCANS)) for side in ("left", "right")}
    inside = {"left": np.array([1, 0, 0, 0, 1, 0.0]), "right": np.array([0, 0, 1, 0, 0, 0.0])}
    events = change(onset=[4.0, 60])
    fit = fit_patterns([SurfaceImage(mesh, scans)], [events], SurfaceImage(mesh, inside), t_r=T_R)
    assert fit["voxel"].values.tolist() == [0, 4, 8]
    X = design_matrix(events, N_SCANS, T_R)
    fit = fit_patterns(
        [SurfaceImage(mesh, scans)], [events], SurfaceImage(mesh, inside), t_r=T_R, glm=GLM(noise_model="ols")
    )
    Y = np.stack([scans["left"][0], scans["left"][4], scans["right"][2]], axis=1)
    np.testing.assert_allclose(fit["patterns"], np.linalg.lstsq(X.values, Y)[0][X.columns.get_indexer(["a", "b"])])
    half = PolyMesh(**{side: InMemoryMesh(np.eye(3), np.array([[0, 1, 2]])) for side in ("left", "right")})
    smaller = SurfaceImage(half, {side: values[:3] for side, values in scans.items()})
    with raises(
        ValueError,
        "the image of run 2, an image of shape (6, 80) has 6 vertices, but an image of shape (12, 80) 12; bring all "
        "runs into one space",
    ):
        fit_patterns([SurfaceImage(mesh, scans), smaller], [events] * 2, SurfaceImage(mesh, inside), t_r=T_R)
    with raises(
        ValueError,
        "mask an image of shape (4, 3, 2) and an image of shape (12, 80) are not both volumes or both surfaces; give "
        "masks of the images' kind",
    ):
        fit_patterns([SurfaceImage(mesh, scans)], [events], volume(np.ones((4, 3, 2))), t_r=T_R)
