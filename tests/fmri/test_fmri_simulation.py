"""Statistics of crossnobis on simulated data, and a planted RDM from the scanner to a network."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import brainrdl as rdl
from brainrdl import cli
from brainrdl.fmri import (
    Settings,
    Simulation,
    crossnobis,
    make_patterns,
    noise_precision,
    pattern_rdm,
    plant_patterns,
    rdms_from_bids,
    simulate_bids,
    standard_errors,
)
from brainrdl.fmri.simulation import noise_covariance, smooth_noise
from brainrdl.rdms.labelled import condense, label_rdms, select_stimuli

ROOT = Path(__file__).parents[2]
SIDES = (5, 5, 4)


def planted_rdm(n_clusters=4, per_cluster=5, seed=0):
    """Stimuli in clusters; the distances' coefficient of variation is at least .5."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.normal(0, 1.5, (n_clusters, 10)), per_cluster, axis=0)
    points = centres + rng.normal(0, 0.5, centres.shape)
    i, j = np.triu_indices(len(points), 1)
    distances = np.square(points[i] - points[j]).mean(axis=1)
    assert distances.std() / distances.mean() >= 0.5
    return label_rdms(distances[None], [f"s{k:02d}" for k in range(len(points))], ["IT"], "mse")


def covariance(white=0.5):
    """Between the 5 × 5 × 4 voxels of `SIDES`, smoothed by 2 voxels."""
    cube = noise_covariance(5, 2.0, white).reshape((5,) * 6)
    return cube[:, :, :4, :, :, :4].reshape(100, 100)


def noisy(true, n_runs, rng, mix, sd=1.0):
    """Patterns of several runs, noise of SD `sd`."""
    n, n_voxels = true.shape
    noise = sd * rng.normal(size=(n_runs * n, n_voxels)) @ mix.T
    labels = [f"s{k:02d}" for k in range(n)] * n_runs
    return make_patterns(np.tile(true, (n_runs, 1)) + noise, labels, np.repeat(range(n_runs), n), name="IT")


def squared(patterns):
    i, j = np.triu_indices(len(patterns), 1)
    return np.square(patterns[i] - patterns[j]).mean(axis=1)


def test_patterns_have_exactly_the_planted_distances():
    planted = planted_rdm()
    patterns = plant_patterns(planted, 100, np.random.default_rng(0))
    np.testing.assert_allclose(squared(patterns), condense(planted)[0], rtol=1e-10)


def test_noise_is_correlated_as_stated():
    noise = smooth_noise((20000, 4, 4, 4), 1.5, np.random.default_rng(0), white=0.3)[:, :2, :2, :2].reshape(20000, 8)
    expected = noise_covariance(2, 1.5, 0.3)
    # on a torus of four voxels the smoothing wraps around once more
    np.testing.assert_allclose(np.cov(noise.T), expected, atol=0.06)
    assert expected[0, 0] == 1


def test_null_distances_are_unbiased_and_half_are_negative():
    """300 data sets without any difference between stimuli; the uncross-validated distance fails the same test."""
    rng = np.random.default_rng(0)
    mix = np.eye(60)
    crossed, plain = [], []
    for _ in range(300):
        patterns = noisy(np.zeros((6, 60)), 4, rng, mix)
        residuals = rng.normal(size=(300, 60))
        precision = noise_precision(residuals, 299)
        crossed.append(condense(crossnobis(patterns, precision))[0])
        plain.append(condense(pattern_rdm(patterns, "mahalanobis", precision, warn=False))[0] ** 2 / 60)
    for values, passes in ((np.array(crossed), True), (np.array(plain), False)):
        means = values.mean(axis=1)  # pairs of one data set are dependent, data sets are not
        z = means.mean() / (means.std(ddof=1) / np.sqrt(len(means)))
        negative = (values < 0).mean()
        assert bool(abs(z) < 4 and 0.4 <= negative <= 0.6) is passes, (z, negative)


@pytest.mark.parametrize("whiten", [False, True])
def test_a_planted_rdm_is_recovered(whiten):
    """8 runs, 100 voxels, noise correlated over 2 voxels, noise SD of one run's estimate = pattern SD."""
    planted = planted_rdm()
    C = covariance()
    mix = np.linalg.cholesky(C)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        true = plant_patterns(planted, 100, rng)
        patterns = noisy(true, 8, rng, mix, sd=true.std())
        precision = noise_precision(rng.normal(size=(800, 100)) @ mix.T, 799) if whiten else None
        expected = squared(true @ np.linalg.cholesky(np.linalg.inv(C))) if whiten else squared(true)
        r = np.corrcoef(condense(crossnobis(patterns, precision))[0], expected)[0, 1]
        assert r >= 0.95, (seed, r)


def test_recovery_grows_with_runs_as_theory_says():
    """r² = var(true)/(var(true) + mean SE²), with the standard errors of Diedrichsen & Kriegeskorte."""
    planted, rng = planted_rdm(), np.random.default_rng(0)
    true = plant_patterns(planted, 100, rng)
    distances = squared(true)
    found, expected = [], []
    for n_runs in (3, 6, 12, 24):
        rs, errors = [], []
        for _ in range(6):
            patterns = noisy(true, n_runs, rng, np.eye(100), sd=3 * true.std())
            rs.append(np.corrcoef(condense(crossnobis(patterns))[0], distances)[0, 1])
            errors.append(standard_errors(patterns).values[0][np.triu_indices(20, 1)])
        found.append(np.mean(rs))
        noise = np.square(errors).mean()
        expected.append(np.sqrt(distances.var() / (distances.var() + noise)))
    assert found == sorted(found)
    # errors of pairs that share a stimulus covary, so that theory with independent pairs is near, not exact
    np.testing.assert_allclose(found, expected, atol=0.06)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    planted = planted_rdm(4, 3)
    return folder, planted, simulate_bids(folder, planted, simulation=Simulation(runs=6, repeats=1))


@pytest.mark.parametrize(("noise", "label"), [(None, "sub-01/IT"), ("shrinkage_diag", "sub-01/IT/whitened")])
def test_the_pipeline_recovers_what_was_planted(data_set, noise, label):
    folder, _, masks = data_set
    truth = xr.load_dataarray(folder / "derivatives/simulated/planted.nc", engine="h5netcdf")
    rdms = select_stimuli(
        rdms_from_bids(folder, "sim", masks, settings=Settings(noise=noise)), truth["stimulus"].values
    )
    assert np.corrcoef(condense(rdms)[0], condense(truth.sel(rdm=[label]))[0])[0, 1] >= 0.95


def test_the_same_seed_gives_the_same_data(data_set, tmp_path):
    folder, planted, _ = data_set
    simulate_bids(tmp_path, planted, simulation=Simulation(runs=1, repeats=1))
    name = "sub-01/func/sub-01_task-sim_run-01_events.tsv"
    assert (tmp_path / name).read_text() == (folder / name).read_text()


def test_bad_input(data_set, tmp_path):
    folder, planted, _ = data_set
    with pytest.raises(FileExistsError, match=r"is not empty; name a new folder$"):
        simulate_bids(folder, planted)
    impossible = label_rdms(np.array([[1.0, 1, 100]]), list("abc"), ["IT"], "mse")
    with pytest.raises(ValueError, match=r"^no points have the squared distances of RDM 'IT' \(an eigenvalue is -"):
        plant_patterns(impossible, 10, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"^12 stimuli need at least 11 voxels to have any geometry, got 8$"):
        simulate_bids(tmp_path / "new", planted, simulation=Simulation(side=2))
    for label, task, message in (
        ("a/b", "sim", "RDM 'a/b' cannot name a region's mask file; expected a label without '/'"),
        ("IT", "my_task", "task is 'my_task'; BIDS takes letters and digits only, as in task-sim"),
    ):
        named = planted.assign_coords(rdm=[label])
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            simulate_bids(tmp_path / "other", named, task=task)
    flat = label_rdms(np.zeros((1, 3)), list("abc"), ["IT"], "mse")
    message = "RDM 'IT' is zero everywhere, so that no noise has a ratio to its patterns; plant one with differences"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        simulate_bids(tmp_path / "other", flat)
    assert not (tmp_path / "other").exists()
    for changes, message in (
        ({"runs": 0}, "runs is 0; expected at least 1"),
        ({"snr": 0}, "snr is 0; expected more than 0"),
        ({"ar": 1}, "ar is 1 and fwhm 2.0; expected 0 ≤ ar < 1 and fwhm ≥ 0"),
        ({"white": 2}, "white is 2; expected a share, 0 to 1"),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            Simulation(**changes)


def test_from_the_scanner_to_a_network(tmp_path):
    """The example: simulated scans, their RDM, a measured teacher, a student's layer; the command makes that RDM."""
    example = runpy.run_path(str(ROOT / "examples/fmri_teacher.py"))
    found = example["main"](["--runs", "5", "--epochs", "200", "--per-category", "3", "--out", str(tmp_path)])
    assert found["measured RDM"] >= 0.9
    assert abs(found["student before"]) <= 0.3
    assert found["student after"] >= 0.9
    taught = rdl.read_rdms(tmp_path / "rdms.nc")
    (mask,) = tmp_path.rglob("*label-IT_mask.nii.gz")
    commanded = tmp_path / "commanded.nc"
    arguments = ["rdms", "fmri", str(tmp_path / "bids"), "--task", "sim", "--roi", f"IT={mask}", "-o", str(commanded)]
    assert cli.main(arguments) == 0
    report = commanded.with_suffix(".html").read_text(encoding="utf-8")
    assert f"<td><span>brainrdl {shlex.join(arguments)}</span></td>" in re.sub(r' class="words"', "", report)
    assert '<th scope="row">task</th><td><span>sim</span></td>' in report
    assert "residuals that the GLM&#39;s AR(1) model whitens in time" in report
    same = rdl.select_stimuli(rdl.read_rdms(commanded), taught["stimulus"].values.tolist())
    np.testing.assert_array_equal(same.values, taught.values)


def test_the_figure_of_runs(tmp_path):
    example = runpy.run_path(str(ROOT / "examples/fmri_runs.py"))
    rows = example["main"](["--out", str(tmp_path / "runs.png"), "--repeats", "3"])
    assert (tmp_path / "runs.png").read_bytes().startswith(b"\x89PNG")
    for noise in (1.0, 2.0, 4.0):
        simulated, theory = zip(*((r, expected) for level, _, r, expected in rows if level == noise), strict=True)
        assert simulated[-1] > simulated[0]
        np.testing.assert_allclose(simulated, theory, atol=0.08)
