"""One scan under two names is no two: of runs, of subjects, or of patterns."""

import re
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest

import brainrdl as rdl
from brainrdl.fmri import (
    crossnobis,
    fit_patterns,
    make_patterns,
    rdms_from_bids,
    searchlight_rdms,
    select_voxels,
    split_half,
    standard_errors,
)
from brainrdl.studies.scans import describe, make_rdms
from small_bids import image, make_bids

MASK = nibabel.Nifti1Image(np.ones((3, 3, 1), dtype=np.uint8), np.eye(4))
ROWS = pd.DataFrame({"onset": [0.0, 20, 40, 60, 80, 100], "duration": 4.0, "trial_type": list("abcabc")})


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def scan(seed):
    values = 100 + np.random.default_rng(seed).standard_normal((3, 3, 1, 80))
    image = nibabel.Nifti1Image(values.astype(np.float32), np.eye(4))
    image.header.set_zooms((1, 1, 1, 2.0))
    return image


CROSS_VALIDATED = (
    crossnobis,
    standard_errors,
    split_half,
    lambda patterns: searchlight_rdms(patterns, MASK, radius=2),
    lambda patterns: select_voxels(patterns, 3, training_runs=["a", "b"]),
    rdl.PatternTeacher,
)


@pytest.mark.parametrize("compute", CROSS_VALIDATED)
def test_one_scan_as_two_runs_is_not_cross_validated(compute):
    # with other events each, so that the patterns differ
    tables = [ROWS, ROWS.assign(trial_type=list("bcabca")), ROWS, ROWS]
    fit = fit_patterns([scan(0), scan(0), scan(1), scan(2)], tables, MASK, t_r=2.0, runs=["a", "b", "c", "d"])
    with raises(
        ValueError,
        "the runs 'a' and 'b' hold one and the same scan, so that its noise would be cross-validated with itself; take "
        "one of them out",
    ):
        compute(fit["patterns"].rename("V1"))
    # without one of them
    rest = fit["patterns"].isel(observation=fit["run"].values != "a")
    assert crossnobis(rest).shape == (1, 3, 3)
    other = fit_patterns([scan(3), scan(0), scan(1), scan(2)], tables, MASK, t_r=2.0, runs=["a", "b", "c", "d"])
    assert "same_scans" not in other["patterns"].attrs
    compute(other["patterns"])


@pytest.mark.parametrize("compute", CROSS_VALIDATED)
def test_one_pattern_in_two_runs_is_not_cross_validated(compute):
    values = np.random.default_rng(0).normal(size=(12, 9))
    patterns = make_patterns(values, list("abc") * 4, np.repeat(["a", "b", "c", "d"], 3), voxels=range(9))
    compute(patterns)
    values[10] = values[4]
    copied = make_patterns(values, list("abc") * 4, np.repeat(["a", "b", "c", "d"], 3), voxels=range(9))
    with raises(
        ValueError,
        "the pattern of 'b' is the same in the runs 'b' and 'd', to the last digit, so that its noise would be "
        "cross-validated with itself; give each run its own data",
    ):
        compute(copied)


def test_constant_patterns_may_be_alike():
    values = np.random.default_rng(0).normal(size=(6, 4))
    values[[0, 3]] = 0
    assert crossnobis(make_patterns(values, list("abc") * 2, [1, 1, 1, 2, 2, 2])).shape == (1, 3, 3)


def test_a_run_that_is_a_copy_of_another(tmp_path):
    folder = tmp_path / "bids"
    masks = make_bids(folder)
    one, other = image(folder, 1), image(folder, 3)
    message = (
        f"{one} and {other} are one and the same scan (1 such pairs in all), so that its noise would be "
        "cross-validated with itself, or its subject count twice; take one out, or fetch the right one"
    )
    shutil.copy(one, other)
    for compute in (rdms_from_bids, describe):
        with raises(ValueError, message):
            compute(folder, "sim", masks)
    with raises(ValueError, message):
        make_rdms(folder, "sim", masks, tmp_path / "rdms.nc", log=lambda line: None)
    other.unlink()
    other.symlink_to(one)
    with raises(ValueError, message):
        rdms_from_bids(folder, "sim", masks)
    # written anew, the file is another, and the scan is the same
    other.unlink()
    again = nibabel.Nifti1Image(nibabel.load(one).get_fdata(dtype=np.float64), nibabel.load(one).affine)
    again.header.set_zooms((3, 3, 3, 2))
    nibabel.save(again, other)
    with raises(
        ValueError,
        "the runs 'run-01' and 'run-03' hold one and the same scan, so that its noise would be cross-validated with "
        "itself; take one of them out",
    ):
        rdms_from_bids(folder, "sim", masks)


def test_one_scan_of_two_subjects(tmp_path):
    masks = make_bids(tmp_path, subjects=2, runs=2)
    shutil.copy(image(tmp_path, 1, subject=1), image(tmp_path, 2, subject=2))
    with pytest.raises(ValueError, match=r"are one and the same scan \(1 such pairs in all\)"):
        rdms_from_bids(tmp_path, "sim", masks)
    assert rdms_from_bids(tmp_path, "sim", masks, subjects=[1]).sizes["rdm"] == 1
