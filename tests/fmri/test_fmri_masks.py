"""A region's mask says what is inside; an atlas or a map of probabilities is asked which part is meant."""

import json
import re

import nibabel
import numpy as np
import pytest

from brainrdl.cli import main
from brainrdl.exchange import read_rdms
from brainrdl.fmri import Settings, atlas_masks, fit_patterns, rdms_from_bids, threshold_mask
from brainrdl.fmri.masks import Inside, mask_voxels
from small_bids import events, image, make_bids

AFFINE = np.diag([3.0, 3, 3, 1])


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    """A data set, its mask, and beside it the region as a label of an atlas and in a map of probabilities."""
    folder = tmp_path_factory.mktemp("bids")
    masks = make_bids(folder)
    opened = nibabel.load(masks["IT"].replace("{subject}", "01"))
    inside = opened.get_fdata() > 0
    for name, values in (
        ("atlas", np.where(inside, 3, np.arange(inside.size).reshape(inside.shape) % 2 + 1).astype(np.int16)),
        ("probable", np.where(inside, 0.9, 0.01).astype(np.float32)),
    ):
        nibabel.save(nibabel.Nifti1Image(values, opened.affine), folder / f"{name}.nii.gz")
    return folder, masks


def volume(values):
    return nibabel.Nifti1Image(np.asarray(values), AFFINE)


def test_an_atlas_or_a_map_of_probabilities_is_no_mask(bids):
    folder, _ = bids
    atlas, probable = folder / "atlas.nii.gz", folder / "probable.nii.gz"
    for mask, message in (
        (
            atlas,
            f"mask {atlas} holds the labels 1, 2, 3, so it is an atlas of several regions, and no mask of one; say "
            "which is meant (label=), or cut it out (fmri.atlas_masks)",
        ),
        (
            probable,
            f"mask {probable} holds values between 0.01 and 0.9, as a map of probabilities does; a mask is 0 outside "
            "and one value inside, so say above which value a voxel is inside (threshold=), or make a mask "
            "(fmri.threshold_mask)",
        ),
    ):
        with raises(ValueError, message):
            rdms_from_bids(folder, "sim", {"IT": mask})
        with raises(ValueError, message):
            fit_patterns([image(folder)], [events(folder)], mask, t_r=2.0)


def test_a_label_or_a_threshold_says_which_voxels_are_meant(bids):
    folder, masks = bids
    right = rdms_from_bids(folder, "sim", masks)
    atlas, probable = folder / "atlas.nii.gz", folder / "probable.nii.gz"
    for mask, settings in (
        (atlas, Settings(label={"IT": 3})),
        (probable, Settings(threshold={"IT": 0.5})),
        (atlas_masks(atlas, {"IT": 3})["IT"], None),
        (threshold_mask(probable, 0.5), None),
    ):
        rdms = rdms_from_bids(folder, "sim", {"IT": mask}, settings=settings)
        np.testing.assert_array_equal(rdms, right)
        if settings:
            stated = json.loads(rdms.attrs["provenance"])["settings"]
            assert (stated["label"], stated["threshold"]) == (dict(settings.label), dict(settings.threshold))


def test_the_command_takes_labels_and_thresholds(bids, tmp_path, capsys):
    folder, masks = bids
    right = rdms_from_bids(folder, "sim", masks)
    given = ["rdms", "fmri", str(folder), "--task", "sim", "--roi", f"A={folder}/atlas.nii.gz"]
    given += ["--roi", f"B={folder}/probable.nii.gz", "-o", str(tmp_path / "rdms.nc")]
    assert main([*given, "--label", "A=3", "--threshold", "B=0.5"]) == 0
    np.testing.assert_array_equal(read_rdms(tmp_path / "rdms.nc"), np.repeat(right.values, 2, axis=0))
    page = (tmp_path / "rdms.html").read_text(encoding="utf-8")
    assert "A: 3" in page
    assert "B: 0.5" in page
    capsys.readouterr()
    for more, message in (
        ((), "say which is meant (--label), or cut it out (fmri.atlas_masks)"),
        (("--label", "A=three"), "--label takes NAME=N, such as V1=17, got 'A=three'"),
        (("--label", "A=3", "--label", "A=4"), "--label names the region 'A' twice; give each region its own name"),
        (("--label", "C=3"), "--label names the region 'C'; there are 'A', 'B'"),
        (("--label", "A=3", "--threshold", "A=3"), "label and threshold both name the region 'A'; give one of them"),
        (("--label", "A=9"), f"no voxel of {folder}/atlas.nii.gz bears the label 9; its labels are 1, 2, 3"),
    ):
        assert main([*given, *more, "--dry-run"]) == 2
        assert message in capsys.readouterr().err


def test_masks_of_any_one_value_are_as_before():
    for inside in (1, 255, 0.5):
        values = np.zeros((2, 2, 1), dtype=np.float32)
        values[0] = inside
        assert mask_voxels(volume(values), volume(values)).tolist() == [0, 1]


def test_what_is_not_in_a_mask():
    atlas = volume(np.array([[[1, 2, 0]]], dtype=np.int16))
    with raises(ValueError, "no voxel of an image of shape (1, 1, 3) bears the label 7; its labels are 1, 2"):
        mask_voxels(atlas, atlas, inside=Inside(label=7))
    with raises(TypeError, "label is 1.5; expected a whole number"):
        mask_voxels(atlas, atlas, inside=Inside(label=1.5))
    probable = volume(np.array([[[0.1, 0.2, 0]]], dtype=np.float32))
    with raises(ValueError, "no voxel of an image of shape (1, 1, 3) is above 0.5; its largest value is 0.2"):
        threshold_mask(probable, 0.5)
    with raises(TypeError, "threshold is '0.1'; expected a number"):
        threshold_mask(probable, "0.1")


def test_large_labels_keep_their_digits():
    # float32, in which other volumes are read, does not tell these apart
    atlas = volume(np.array([[[2**24, 2**24 + 1]]], dtype=np.int32))
    assert atlas_masks(atlas, {"V1": 2**24})["V1"].get_fdata().tolist() == [[[1, 0]]]
    rounded = volume(np.array([[[3.0001, 4]]], dtype=np.float32))
    assert atlas_masks(rounded, {"V1": 3})["V1"].get_fdata().tolist() == [[[1, 0]]]
    with raises(TypeError, "the label of region 'V1' is '3'; expected a whole number"):
        atlas_masks(atlas, {"V1": "3"})
