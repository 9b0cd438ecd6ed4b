"""Simulated data sets whose RDMs are known: for tests, teaching and planning how many runs a study needs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import nibabel
import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import gaussian_filter

from brainrdl.exchange import netcdf
from brainrdl.files.store import atomic_path
from brainrdl.fmri.design import GLM, design_matrix
from brainrdl.rdms.labelled import label_rdms
from brainrdl.rdms.layout import check_rdms
from brainrdl.rdms.patterns import Array

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
_BASELINE = 1000.0
_GAP = 2
_Boxes = tuple[list[tuple[slice, ...]], tuple[int, ...]]  # each region's, and the shape of the volume
_FWHM_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))


@final
@dataclass(frozen=True)
class Simulation:
    """Settings of a simulated data set.

    Attributes
    ----------
    subjects, runs : int
        Numbers of subjects, and of runs of each.
    repeats : int
        Presentations of each stimulus per run, in an order drawn anew for each run.
    side : int
        A region is a cube of side³ voxels.
    snr : float
        SD of the patterns (over stimuli and voxels) divided by the noise SD of one run's estimate of a pattern.
    fwhm : float
        Spatial correlation of the noise: full width at half maximum of the smoothing kernel, in voxels.
    white : float
        Share of the noise's variance that is independent between voxels, as a scanner's thermal noise is.
    ar : float
        Autocorrelation of the noise in time, from scan to scan.
    t_r, duration, spacing : float
        Seconds: per scan, of an event, and from onset to onset.

    Examples
    --------
    >>> Simulation(runs=8, snr=2).side
    5
    """

    subjects: int = 1
    runs: int = 6
    repeats: int = 2
    side: int = 5
    snr: float = 1.0
    fwhm: float = 2.0
    white: float = 0.5
    ar: float = 0.3
    t_r: float = 2.0
    duration: float = 2.0
    spacing: float = 6.0

    def __post_init__(self) -> None:
        for name in ("subjects", "runs", "repeats", "side"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("snr", "t_r", "duration", "spacing"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0")
        if not 0 <= self.ar < 1 or self.fwhm < 0:
            raise ValueError(f"ar is {self.ar} and fwhm {self.fwhm}; expected 0 ≤ ar < 1 and fwhm ≥ 0")
        if not 0 <= self.white <= 1:
            raise ValueError(f"white is {self.white}; expected a share, 0 to 1")


def simulate_bids(
    bids_dir: str | Path, rdms: xr.DataArray, *, simulation: Simulation | None = None, task: str = "sim", seed: int = 0
) -> dict[str, str]:
    """Write a small BIDS data set with planted RDMs: events, sidecars, confounds, masks, raw and preprocessed images.

    Parameters
    ----------
    bids_dir : path
        A new or empty folder.
    rdms : DataArray (rdm, stimulus, stimulus_)
        Labelled RDMs of squared distances (``mse``, ``crossnobis``), one region per label. They must be distances of
        points in a space.
    simulation : Simulation, optional
        Settings, `Simulation()` by default.
    task : str
        Name of the task in the files.
    seed : int
        Seed of patterns, order and noise.

    Returns
    -------
    dict of str to str
        Mask of each region, with ``{subject}`` in its path, as `rdms_from_bids` takes them. The planted RDMs lie in
        ``derivatives/simulated/planted.nc``: of each region the distances as planted (label ``V1``), and those of the
        same patterns whitened by the noise's true covariance (``V1/whitened``), which multivariate noise
        normalisation estimates up to its scale.

    Raises
    ------
    FileExistsError
        If the folder is not empty.
    ValueError
        If an RDM is not of points in a space, is zero everywhere or holds NaN, or a region or the task cannot be part
        of a file name.

    Examples
    --------
    >>> import tempfile, numpy as np, brainrdl as rdl
    >>> planted = rdl.label_rdms(np.array([[1.0, 1, 2]]), ["face", "body", "house"], ["IT"], "mse")
    >>> simulation = rdl.fmri.Simulation(runs=2, side=2)
    >>> folder = tempfile.mkdtemp()
    >>> masks = rdl.fmri.simulate_bids(folder, planted, simulation=simulation)
    >>> rdl.fmri.rdms_from_bids(folder, "sim", masks)["rdm"].values.tolist()
    ['sub-01/IT']
    """
    simulation = simulation or Simulation()
    rdms = check_rdms(rdms)
    root = Path(bids_dir)
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty; name a new folder")
    derived = root / "derivatives" / "simulated"
    regions = rdms["rdm"].values.tolist()
    _check_names(regions, task)
    _check_distances(rdms)
    stimuli = rdms["stimulus"].values.tolist()
    boxes = _boxes(len(regions), simulation.side)
    rng = np.random.default_rng(seed)
    n_voxels = simulation.side**3
    # one geometry for all subjects, patterns of their own for each
    covariance = noise_covariance(simulation.side, simulation.fwhm, simulation.white)
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    simulated = {"Name": "simulation", "BIDSVersion": "1.9.0"}
    derivative = {"DatasetType": "derivative", "GeneratedBy": [{"Name": "brainrdl.fmri.simulate_bids"}]}
    _write_json(root / "dataset_description.json", {**simulated, "DatasetType": "raw"})
    _write_json(derived / "dataset_description.json", {**simulated, **derivative})
    _write_json(root / f"task-{task}_bold.json", {"TaskName": task, "RepetitionTime": simulation.t_r})
    planted = []
    names = [f"sub-{number + 1:02d}" for number in range(simulation.subjects)]
    _write_table(root / "participants.tsv", pd.DataFrame({"participant_id": names}))
    for name in names:
        patterns = {region: plant_patterns(rdms.isel(rdm=[k]), n_voxels, rng) for k, region in enumerate(regions)}
        for region, values in patterns.items():
            for label, seen in ((region, values), (f"{region}/whitened", values @ whitening)):
                planted.append((f"{name}/{label}", _distances(seen)))
        for region, box in zip(regions, boxes[0], strict=True):
            mask = np.zeros(boxes[1], dtype=np.uint8)
            mask[box] = 1
            _save(mask, derived / name / f"{name}_space-sim_label-{region}_mask.nii.gz")
        for run in range(1, simulation.runs + 1):
            run_name = f"{name}_task-{task}_run-{run:02d}"
            _write_run((root, derived), run_name, list(patterns.values()), boxes, stimuli, simulation, rng)
    labels, distances = zip(*planted, strict=True)
    truth = label_rdms(np.array(distances), stimuli, labels, "crossnobis")
    with atomic_path(derived / "planted.nc") as temporary:
        netcdf.write(truth, temporary)
    return {
        region: str(derived / "sub-{subject}" / f"sub-{{subject}}_space-sim_label-{region}_mask.nii.gz")
        for region in regions
    }


def plant_patterns(rdm: xr.DataArray, n_voxels: int, rng: np.random.Generator) -> Array:
    """Draw patterns whose mean squared distances per voxel are those of an RDM, exactly.

    The coordinates of classical scaling, −½ J D J = U Uᵀ, turned into a random direction of voxel space.

    Parameters
    ----------
    rdm : DataArray (rdm, stimulus, stimulus_)
        One labelled RDM of squared distances.
    n_voxels : int
        Number of voxels, at least stimuli − 1.
    rng : Generator
        Source of the direction.

    Returns
    -------
    ndarray (stimuli, n_voxels)
        Patterns of mean 0 over stimuli.

    Raises
    ------
    ValueError
        If no points have such distances, or there are too few voxels.

    Examples
    --------
    >>> rdm = label_rdms(np.array([[1.0, 1, 2]]), ["face", "body", "house"], ["IT"], "mse")
    >>> patterns = plant_patterns(rdm, 10, np.random.default_rng(0))
    >>> round(float(np.square(patterns[0] - patterns[2]).mean()), 9)
    1.0
    """
    D = check_rdms(rdm).values[0]
    if np.isnan(D).any():
        raise ValueError(f"RDM {str(rdm['rdm'].values[0])!r} has unmeasured pairs (NaN), which cannot be planted")
    n = len(D)
    J = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * J @ D @ J)
    if values[0] < -1e-8 * np.abs(values).max():
        raise ValueError(
            f"no points have the squared distances of RDM {str(rdm['rdm'].values[0])!r} (an eigenvalue is "
            f"{values[0]:.3g}); plant squared distances of patterns, such as metric 'mse'"
        )
    if n_voxels < n - 1:
        raise ValueError(f"{n} stimuli need at least {n - 1} voxels to have any geometry, got {n_voxels}")
    coordinates = (vectors * np.sqrt(np.maximum(values, 0.0)))[:, 1:]
    directions, _ = np.linalg.qr(rng.normal(size=(n_voxels, n - 1)))
    patterns: Array = np.sqrt(n_voxels) * coordinates @ directions.T
    return patterns


def smooth_noise(shape: tuple[int, ...], fwhm: float, rng: np.random.Generator, white: float = 0.0) -> Array:
    """Draw noise of SD 1 (samples, x, y, z): smoothed in space with a kernel that wraps around, and a white share."""
    noise = rng.normal(size=shape)
    if fwhm == 0:
        return noise
    sigma = fwhm * _FWHM_TO_SIGMA
    impulse = np.zeros(shape[1:])
    impulse.flat[0] = 1
    norm = np.sqrt(np.square(gaussian_filter(impulse, sigma, mode="wrap")).sum())
    smoothed: Array = np.sqrt(1 - white) * gaussian_filter(noise, (0, sigma, sigma, sigma), mode="wrap") / norm
    return smoothed + np.sqrt(white) * rng.normal(size=shape) if white else smoothed


def noise_covariance(side: int, fwhm: float, white: float = 0.0) -> Array:
    """Covariance (side³, side³) of `smooth_noise` between the voxels of a cube, far from where it wraps around."""
    grid = 4 * side + 8
    sigma = fwhm * _FWHM_TO_SIGMA
    impulse = np.zeros(grid)
    impulse[0] = 1
    kernel = gaussian_filter(impulse, sigma, mode="wrap") if fwhm else impulse
    # the kernel's autocorrelation; the Gaussian is a product over axes
    lag = np.array([kernel @ np.roll(kernel, shift) for shift in range(side)])
    line = lag[np.abs(np.subtract.outer(np.arange(side), np.arange(side)))] / lag[0]
    smooth: Array = np.kron(np.kron(line, line), line)
    return (1 - white) * smooth + white * np.eye(side**3)


def _check_names(regions: list[str], task: str) -> None:
    if not task.isalnum():
        raise ValueError(f"task is {task!r}; BIDS takes letters and digits only, as in task-sim")
    for region in regions:
        if "/" in region or region in (".", ".."):
            raise ValueError(f"RDM {region!r} cannot name a region's mask file; expected a label without '/'")


def _check_distances(rdms: xr.DataArray) -> None:
    for region, distances in zip(rdms["rdm"].values.tolist(), rdms.values, strict=True):
        if not distances.any():
            raise ValueError(
                f"RDM {region!r} is zero everywhere, so that no noise has a ratio to its patterns; plant one with "
                "differences"
            )


def _boxes(n_regions: int, side: int) -> _Boxes:
    """Place the regions' cubes in a row, with a gap around each; and the volume's shape."""
    inside = slice(_GAP, _GAP + side)
    starts = [_GAP + k * (side + _GAP) for k in range(n_regions)]
    boxes: list[tuple[slice, ...]] = [(slice(start, start + side), inside, inside) for start in starts]
    across = side + 2 * _GAP
    return boxes, (starts[-1] + side + _GAP, across, across)


def _write_run(
    folders: tuple[Path, Path],
    name: str,
    patterns: list[Array],
    boxes: _Boxes,
    stimuli: list[str],
    simulation: Simulation,
    rng: np.random.Generator,
) -> None:
    events = _events(stimuli, simulation, rng)
    n_scans = int(np.ceil((events["onset"].max() + simulation.duration + 16) / simulation.t_r))
    walk = np.cumsum(rng.normal(0, 0.02, (n_scans, 6)), axis=0)
    motion = pd.DataFrame(walk, columns=[f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"])
    design = design_matrix(events, n_scans, simulation.t_r, motion, GLM())
    X = design[stimuli].to_numpy()
    noise = smooth_noise((n_scans, *boxes[1]), simulation.fwhm, rng, simulation.white)
    for t in range(1, n_scans):  # stationary, SD 1
        noise[t] = simulation.ar * noise[t - 1] + np.sqrt(1 - simulation.ar**2) * noise[t]
    sd = np.sqrt(np.mean(np.square(patterns)))
    data = _BASELINE + sd / simulation.snr / _estimates_sd(design, stimuli, simulation.ar) * noise
    data += np.tensordot(walk, rng.normal(0, sd, (6, *boxes[1])), axes=1)
    for values, box in zip(patterns, boxes[0], strict=True):
        data[(slice(None), *box)] += (X @ values).reshape(n_scans, *(part.stop - part.start for part in box))
    subject = name.split("_")[0]
    raw, done = (folder / subject / "func" for folder in folders)
    volumes = np.moveaxis(data, 0, -1).astype(np.float32)
    _write_table(raw / f"{name}_events.tsv", events.round(3))
    _write_json(
        raw / f"{name}_bold.json", {"TaskName": name.split("task-")[1].split("_")[0], "RepetitionTime": simulation.t_r}
    )
    _save(volumes, raw / f"{name}_bold.nii.gz", simulation.t_r)
    _write_table(done / f"{name}_desc-confounds_timeseries.tsv", motion)
    _write_json(done / f"{name}_space-sim_desc-preproc_bold.json", {"RepetitionTime": simulation.t_r})
    _save(volumes, done / f"{name}_space-sim_desc-preproc_bold.nii.gz", simulation.t_r)
    _save(np.ones(boxes[1], dtype=np.uint8), done / f"{name}_space-sim_desc-brain_mask.nii.gz")


def _events(stimuli: list[str], simulation: Simulation, rng: np.random.Generator) -> pd.DataFrame:
    order = np.concatenate([rng.permutation(len(stimuli)) for _ in range(simulation.repeats)])
    # onsets off the grid of scans sample the response more finely
    onsets = 4 + simulation.spacing * np.arange(len(order)) + rng.uniform(0, simulation.spacing / 4, len(order))
    return pd.DataFrame({"onset": onsets, "duration": simulation.duration, "trial_type": [stimuli[k] for k in order]})


def _estimates_sd(design: pd.DataFrame, stimuli: list[str], ar: float) -> float:
    """SD of a pattern's generalised least-squares estimate where the noise has SD 1 and autocorrelation `ar`."""
    X = design.to_numpy()
    lags = np.abs(np.subtract.outer(np.arange(len(X)), np.arange(len(X))))
    information = X.T @ np.linalg.solve(ar**lags, X)
    columns = design.columns.get_indexer(pd.Index(stimuli))
    return float(np.sqrt(np.mean(np.diagonal(np.linalg.inv(information))[columns])))


def _distances(patterns: Array) -> Array:
    i, j = np.triu_indices(len(patterns), 1)
    distances: Array = np.square(patterns[i] - patterns[j]).mean(axis=1)
    return distances


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_table(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")


def _save(data: np.ndarray, path: Path, t_r: float | None = None) -> None:
    image = nibabel.Nifti1Image(data, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    if t_r is not None:
        image.header.set_zooms((3, 3, 3, t_r))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
