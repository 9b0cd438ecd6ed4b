import re

import nibabel
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import spearmanr

from brainrdl.fmri import (
    crossnobis,
    fit_patterns,
    make_patterns,
    pattern_rdm,
    read_betas,
    searchlight_map,
    searchlight_rdms,
)
from brainrdl.rdms.labelled import condense, label_rdms
from brainrdl.rdms.layout import check_rdms

AFFINE = np.diag([2.0, 3, 3, 1])
SHAPE = (5, 4, 3)
IDS = ["face", "body", "house", "tool"]


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


@pytest.fixture(scope="module")
def mask():
    inside = np.random.default_rng(0).random(SHAPE) < 0.8
    return nibabel.Nifti1Image(inside.astype(np.uint8), AFFINE)


@pytest.fixture(scope="module")
def patterns(mask):
    voxels = np.flatnonzero(mask.get_fdata())
    values = np.random.default_rng(1).normal(size=(12, len(voxels)))
    return make_patterns(values, IDS * 3, np.repeat([1, 2, 3], 4), voxels=voxels)


def spheres(patterns, radius):
    """The columns within the radius of each voxel, by brute force."""
    millimetres = np.stack(np.unravel_index(patterns["voxel"].values, SHAPE), axis=1) * np.diag(AFFINE)[:3]
    return [np.flatnonzero(np.linalg.norm(millimetres - centre, axis=1) <= radius) for centre in millimetres]


@pytest.mark.parametrize("metric", ["crossnobis", "correlation"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_each_centre_is_the_rdm_of_its_sphere(patterns, mask, metric, n_jobs, monkeypatch):
    monkeypatch.setattr("brainrdl.fmri.searchlight._BLOCK_BYTES", 20_000)  # several blocks
    rdms = check_rdms(searchlight_rdms(patterns, mask, radius=3.5, metric=metric, n_jobs=n_jobs))
    around = zip(patterns["voxel"].values, spheres(patterns, 3.5), strict=True)
    kept = [(place, sphere) for place, sphere in around if len(sphere) > 1]
    assert rdms["rdm"].values.tolist() == [f"voxel-{place}" for place, _ in kept]
    assert rdms["n_voxels"].values.tolist() == [len(sphere) for _, sphere in kept]
    for row, (_, sphere) in enumerate(kept):
        part = patterns.isel(voxel=sphere)
        alone = crossnobis(part) if metric == "crossnobis" else pattern_rdm(part, warn=False)
        np.testing.assert_allclose(condense(rdms)[row], condense(alone)[0], rtol=1e-9, atol=1e-12)
    x, y, z = (rdms[axis].values for axis in "xyz")
    index = np.rint([x / 2, y / 3, z / 3]).astype(int)
    np.testing.assert_array_equal(np.ravel_multi_index(tuple(index), SHAPE), rdms["voxel"])


def test_residuals_normalise_voxels(patterns, mask):
    residuals = (
        np.random.default_rng(2).normal(size=(60, patterns.sizes["voxel"]))
        * np.arange(1, 50)[: patterns.sizes["voxel"]]
    )
    fit = xr.Dataset({"patterns": patterns, "residuals": (("scan", "voxel"), residuals), "dof": ("fold", [25, 25])})
    normalised = patterns / np.sqrt(np.square(residuals).sum(axis=0) / 50)
    np.testing.assert_allclose(
        searchlight_rdms(fit, mask, radius=4), searchlight_rdms(normalised, mask, radius=4), rtol=1e-9
    )


@pytest.mark.parametrize("compare", ["corr", "cosine", "spearman"])
def test_maps_are_comparisons(patterns, mask, compare):
    models = label_rdms(np.random.default_rng(3).random((2, 6)), IDS[::-1], ["a", "b"], "mse")
    maps = searchlight_map(patterns, mask, models, radius=3.5, compare=compare)
    rdms = searchlight_rdms(patterns, mask, radius=3.5)
    target = condense(models.isel(stimulus=slice(None, None, -1), stimulus_=slice(None, None, -1)))[1]
    volume = maps["b"].get_fdata()
    assert np.isfinite(volume).sum() == rdms.sizes["rdm"]
    for distances, place in zip(condense(rdms), rdms["voxel"].values, strict=True):
        expected = {
            "corr": lambda d: np.corrcoef(d, target)[0, 1],
            "cosine": lambda d: d @ target / np.linalg.norm(d) / np.linalg.norm(target),
            "spearman": lambda d: spearmanr(d, target).statistic,
        }[compare](distances)
        assert volume.flat[place] == pytest.approx(expected, abs=1e-6)


def test_signal_is_found_where_it_is():
    rng = np.random.default_rng(0)
    mask = nibabel.Nifti1Image(np.ones((9, 9, 9), dtype=np.uint8), np.eye(4))
    true = np.zeros((4, 9, 9, 9))
    true[:, 2:5, 2:5, 2:5] = 3 * rng.normal(size=(4, 1, 1, 1)) + rng.normal(size=(4, 3, 3, 3))
    values = np.tile(true.reshape(4, -1), (4, 1)) + rng.normal(size=(16, 729))
    patterns = make_patterns(values, IDS * 4, np.repeat(range(4), 4), voxels=range(729))
    signal = true[:, 2:5, 2:5, 2:5].reshape(4, -1)
    i, j = np.triu_indices(4, 1)
    model = label_rdms(np.square(signal[i] - signal[j]).mean(axis=1)[None], IDS, ["model"], "mse")
    volume = searchlight_map(patterns, mask, model, radius=1.8)["model"].get_fdata()
    assert volume[3, 3, 3] > 0.95
    assert np.abs(volume[7:]).mean() < 0.7


def test_bad_input(patterns, mask):
    with raises(ValueError, "unknown metric 'euclidean'; a searchlight knows crossnobis, correlation"):
        searchlight_rdms(patterns, mask, metric="euclidean")
    with raises(ValueError, "no sphere of radius 0.5 mm holds 2 voxels; choose a larger radius"):
        searchlight_rdms(patterns, mask, radius=0.5)
    with raises(ValueError, "the patterns have no coordinate 'voxel', the position in the flattened volume"):
        searchlight_rdms(patterns.drop_vars("voxel"), mask)
    with raises(
        ValueError,
        "stimulus 'face' is missing in run 2; a searchlight takes stimuli that every run has",
    ):
        searchlight_rdms(patterns.isel(observation=[0, 1, 5, 8, 9]), mask)
    model = label_rdms(np.array([[1.0, 2, 3]]), IDS[:3], ["a"], "mse")
    with raises(
        ValueError,
        "models and patterns have different stimuli: only one of them has 'tool'; take the common ones",
    ):
        searchlight_map(patterns, mask, model)
    model = label_rdms(np.ones((1, 6)), IDS, ["a"], "mse")
    with raises(ValueError, "a model RDM has no variance, so it cannot be compared; leave it out"):
        searchlight_map(patterns, mask, model, compare="corr")
    with raises(ValueError, "unknown compare 'tau'; known are corr, cosine, spearman"):
        searchlight_map(patterns, mask, model, compare="tau")


def test_a_mask_of_another_grid(patterns, mask):
    rng = np.random.default_rng(0)
    scans, others = (nibabel.Nifti1Image(values, AFFINE) for values in rng.normal(100, 1, (2, *SHAPE, 60)))
    for image in (scans, others):
        image.header.set_zooms((2, 3, 3, 2))
    events = pd.DataFrame({"onset": [4.0, 40, 80], "duration": 4.0, "trial_type": ["a", "b", "c"]})
    fit = fit_patterns([scans, others], [events] * 2, mask, t_r=2.0)
    table = pd.DataFrame({"stimulus": ["a", "b"] * 30, "run": np.repeat([1, 2], 30)})
    betas = read_betas(scans, table, mask, made_by="spm")
    assert searchlight_rdms(fit, mask, radius=4).sizes["rdm"] > 0
    turned = nibabel.Nifti1Image(mask.get_fdata().astype(np.uint8), np.diag([3.0, 2, 3, 1]))
    wider = nibabel.Nifti1Image(np.ones((5, 4, 4), dtype=np.uint8), AFFINE)
    advice = "; give the mask in which they were fitted, or another of its grid"
    for given in (fit, fit["patterns"], betas):
        for other, found in ((turned, "the same shape, but another affine"), (wider, "(5, 4, 4)")):
            with raises(
                ValueError,
                "the patterns lie on a grid of shape (5, 4, 3), but mask an image of shape "
                f"{other.shape} has {found}{advice}",
            ):
                searchlight_rdms(given, other, radius=4)
    # of patterns that keep no grid the positions tell
    small = nibabel.Nifti1Image(np.ones((2, 2, 2), dtype=np.uint8), AFFINE)
    first = next(place for place in patterns["voxel"].values if place > 7)
    no_position = "which is no position in the flattened volume of mask an image of shape (2, 2, 2): 0 to 7"
    with raises(ValueError, f"the coordinate 'voxel' holds {first}, {no_position}"):
        searchlight_rdms(patterns, small)
    with raises(ValueError, f"the coordinate 'voxel' holds np.str_('x'), {no_position}"):
        searchlight_rdms(patterns.assign_coords(voxel=["x"] * patterns.sizes["voxel"]), small)


@pytest.mark.parametrize("radius", [0, -1.0, np.nan, np.inf])
def test_bad_radius(patterns, mask, radius):
    with raises(ValueError, f"radius is {radius}; expected millimetres, more than 0"):
        searchlight_rdms(patterns, mask, radius=radius)


def test_bad_min_voxels(patterns, mask):
    with raises(ValueError, "min_voxels is 0; expected at least 1"):
        searchlight_rdms(patterns, mask, min_voxels=0)


def test_too_many_rdms(patterns, mask, monkeypatch):
    monkeypatch.setattr("brainrdl.fmri.searchlight._MAX_RDM_BYTES", 1000)
    with pytest.raises(ValueError, match=r"RDMs of 4 stimuli would take 0.0 GB; searchlight_map keeps only their comp"):
        searchlight_rdms(patterns, mask)


# what is not defined is no number


@pytest.fixture(scope="module")
def half_empty():
    """Patterns that are 0 in one half of a volume, and its mask."""
    mask = nibabel.Nifti1Image(np.ones((9, 2, 2), dtype=np.uint8), np.eye(4))
    # seed 4: no sphere at the border has patterns that are all alike up to a factor
    values = np.random.default_rng(4).normal(size=(12, 9, 2, 2))
    values[:, :4] = 0
    return make_patterns(values.reshape(12, -1), IDS * 3, np.repeat([1, 2, 3], 4), voxels=range(36)), mask


@pytest.mark.parametrize("compare", ["corr", "cosine", "spearman"])
@pytest.mark.parametrize("metric", ["crossnobis", "correlation"])
def test_spheres_that_cannot_be_compared_are_nan_and_counted(half_empty, metric, compare):
    patterns, mask = half_empty
    models = label_rdms(np.random.default_rng(3).random((1, 6)), IDS, ["a"], "mse")
    message = "12 of 36 spheres have an RDM that cannot be compared, such as that around voxel 0; they are NaN"
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        volume = searchlight_map(patterns, mask, models, radius=1.0, metric=metric, compare=compare)["a"].get_fdata()
    assert np.isnan(volume[:3]).all()
    assert np.isfinite(volume[3:]).all()
    assert (volume[3:] != 0).all()


def test_spheres_without_a_correlation_are_nan_and_counted(half_empty):
    patterns, mask = half_empty
    message = (
        "12 of 36 spheres have no distance that is defined (constant patterns), such as that around voxel 0; they "
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}are left out$"):
        rdms = check_rdms(searchlight_rdms(patterns, mask, radius=1.0, metric="correlation"))
    assert rdms["voxel"].values.tolist() == list(range(12, 36))
    assert np.isfinite(rdms.values).all()
    # a cross-validated distance of patterns without a difference is 0
    assert (condense(searchlight_rdms(patterns, mask, radius=1.0))[:12] == 0).all()


def test_a_stimulus_without_a_correlation_is_nan_and_counted(half_empty):
    patterns, mask = half_empty
    full = np.random.default_rng(1).normal(size=patterns.shape)
    full[::4, :20] = 0  # the face
    message = "16 of 36 spheres have distances that are not defined, such as that around voxel 0; they are NaN"
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        rdms = searchlight_rdms(patterns.copy(data=full), mask, radius=1.0, metric="correlation")
    missing = np.isnan(condense(rdms))
    assert missing[:16, :3].all()
    assert missing.sum() == 16 * 3


def test_what_rounding_leaves_of_a_constant_is_no_correlation(half_empty):
    patterns, mask = half_empty
    offset = patterns.copy(data=patterns.values + 0.1 * np.arange(1, 13)[:, None])
    with pytest.warns(UserWarning, match=r"^12 of 36 spheres have no distance that is defined"):
        assert searchlight_rdms(offset, mask, radius=1.0, metric="correlation").sizes["rdm"] == 24
    constant = make_patterns(np.full((3, 7), 0.1) * np.array([[1], [3], [7]]), list("abc"), [1, 1, 1])
    with raises(ValueError, "the pattern of 'a' is constant over voxels, so it has no correlation"):
        pattern_rdm(constant, warn=False)


def test_no_sphere_has_a_correlation(half_empty):
    patterns, mask = half_empty
    nothing = patterns.copy(data=np.zeros(patterns.shape))
    with raises(
        ValueError, "all 36 spheres have no distance that is defined (constant patterns); look at the patterns"
    ):
        searchlight_rdms(nothing, mask, radius=1.0, metric="correlation")
    models = label_rdms(np.random.default_rng(3).random((1, 6)), IDS, ["a"], "mse")
    with raises(ValueError, "all 36 spheres have an RDM that cannot be compared; look at the patterns"):
        searchlight_map(nothing, mask, models, radius=1.0)
