"""Images that are damaged, claim too much, or are none."""

import gzip
import re
import struct
import tracemalloc

import nibabel
import numpy as np
import pandas as pd
import pytest

import brainrdl.fmri.images as images
from brainrdl.cli import main
from brainrdl.fmri import Settings, fit_patterns, rdms_from_bids, read_betas
from brainrdl.fmri.images import check_t_r, header_t_r, open_image, read_volumes
from small_bids import image, make_bids

AFFINE = np.diag([3.0, 3, 3, 1])


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


@pytest.fixture
def scan(tmp_path):
    values = (100 + np.random.default_rng(0).standard_normal((4, 4, 2, 40))).astype(np.float32)
    saved = nibabel.Nifti1Image(values, AFFINE)
    saved.header.set_zooms((3, 3, 3, 2.0))
    path = tmp_path / "bold.nii.gz"
    nibabel.save(saved, path)
    return path


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_compressed_images_are_read_as_nibabel_reads_them(tmp_path, dtype):
    values = (100 + 20 * np.random.default_rng(0).standard_normal((4, 3, 2, 5))).astype(dtype)
    saved = nibabel.Nifti1Image(values, AFFINE)
    if dtype == "i2":
        saved.header.set_slope_inter(1.7, 3)
    nibabel.save(saved, tmp_path / "a.nii.gz")
    theirs = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj, dtype="f8" if dtype == "f8" else "f4")
    np.testing.assert_array_equal(read_volumes(tmp_path / "a.nii.gz"), theirs, strict=True)


def test_a_flipped_bit_fails_gzip_s_checksum(scan):
    content = bytearray(scan.read_bytes())
    content[len(content) // 2] ^= 4
    scan.write_bytes(content)
    mask = nibabel.Nifti1Image(np.ones((4, 4, 2), dtype=np.uint8), AFFINE)
    rows = pd.DataFrame({"onset": [0.0, 20, 40], "duration": 4.0, "trial_type": list("abc")})
    for given in (scan, nibabel.load(scan)):
        with pytest.raises(
            ValueError,
            match=rf"^{re.escape(str(scan))} is truncated or damaged \(CRC check failed .*\): its header promises "
            r"\(4, 4, 2, 40\); copy it again$",
        ):
            fit_patterns([given], [rows], mask, t_r=2.0)


def claiming(path, shape):
    """Write a NIfTI file whose header claims a shape, and that holds nothing."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    content = bytearray(header.binaryblock + b"\0\0\0\0")
    struct.pack_into("<8h", content, 40, 4, *shape, 1, 1, 1)
    struct.pack_into("<f", content, 108, 352)
    content[344:348] = b"n+1\0"
    path.write_bytes(gzip.compress(bytes(content)) if path.suffix == ".gz" else bytes(content))
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_that_claims_terabytes_is_refused_at_once(tmp_path, name):
    path = claiming(tmp_path / name, (2000, 2000, 2000, 100))
    for read in (open_image, read_volumes):
        with pytest.raises(
            ValueError,
            match=rf"^the header of {re.escape(str(path))} claims 3200000000000 bytes \(shape \(2000, 2000, 2000, "
            r"100\)\), more than the \d+, a quarter of this machine's memory, that one file may take; if it is what "
            r"you expect, give a larger max_bytes=, or the image as nibabel.load opens it$",
        ):
            read(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_that_claims_more_than_its_file_can_hold(tmp_path, name):
    path = claiming(tmp_path / name, (100, 100, 100, 100))
    expected = (
        f"{path} is truncated or damaged ({path.stat().st_size} bytes where 400000352 are expected): its header "
        "promises (100, 100, 100, 100); copy it again"
    )
    tracemalloc.start()
    try:
        with raises(ValueError, expected):
            read_volumes(path)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_the_budget_is_an_option(tmp_path, capsys):
    masks = make_bids(tmp_path / "bids")
    folder = tmp_path / "bids"
    shape = nibabel.load(image(folder)).shape
    size = 4 * int(np.prod(shape))
    said = (
        f"the header of {image(folder)} claims {size} bytes (shape {shape}), more than the {size - 1} that one file may"
    )
    expected = "take; if it is what you expect, give a larger {}, or the image as nibabel.load opens it"
    assert rdms_from_bids(folder, "sim", masks, settings=Settings(max_bytes=size)).sizes["rdm"] == 1
    with raises(ValueError, f"{said} {expected.format('max_bytes=')}"):
        rdms_from_bids(folder, "sim", masks, settings=Settings(max_bytes=size - 1))
    given = ["rdms", "fmri", str(folder), "--task", "sim", "--roi", f"IT={masks['IT']}", "--dry-run"]
    assert main([*given, "--max-bytes", str(size - 1)]) == 2
    assert capsys.readouterr().err == f"brainrdl: {said} {expected.format('--max-bytes')}\n"
    with raises(ValueError, "max_bytes must be at least 1, but is 0"):
        Settings(max_bytes=0)


def test_headers_that_cannot_be(scan, tmp_path):
    whole = gzip.decompress(scan.read_bytes())
    path = tmp_path / "b.nii"

    def damaged(place, form, *values):
        content = bytearray(whole)
        struct.pack_into(form, content, place, *values)
        path.write_bytes(content)
        return path

    with raises(ValueError, f"{path} has shape (4, -4, 2, 40) by its header; it is damaged"):
        open_image(damaged(40, "<8h", 4, 4, -4, 2, 40, 1, 1, 1))
    with raises(ValueError, f"{path} has an affine that is not finite; it is damaged"):
        open_image(damaged(280, "<f", float("nan")))
    for offset in (-1, 3e38, float("nan")):
        with raises(
            ValueError,
            f"{path} cannot be read as an image (its header claims that the data begin at byte {offset:g}); it is "
            "damaged or no NIfTI file",
        ):
            open_image(damaged(108, "<f", offset))
    with raises(ValueError, f"{path} holds values of type complex64; expected real numbers"):
        open_image(damaged(70, "<2h", 32, 64))
    # a time step that is no number says nothing
    assert header_t_r(damaged(92, "<f", float("nan"))) is None
    assert check_t_r(2.0, path, "t_r") == 2


def test_more_in_a_file_than_its_header_says(scan, tmp_path, monkeypatch):
    whole = gzip.decompress(scan.read_bytes())
    right = read_volumes(scan)
    scan.write_bytes(gzip.compress(whole + bytes(100)))
    np.testing.assert_array_equal(read_volumes(scan), right)
    monkeypatch.setattr(images, "_BEHIND", 99)
    with raises(
        ValueError,
        f"{scan} is truncated or damaged (more than 99 bytes follow the data): its header promises (4, 4, 2, 40); copy "
        "it again",
    ):
        read_volumes(scan)


def test_every_truncation_is_an_error(scan, tmp_path):
    whole = scan.read_bytes()
    plain = gzip.decompress(whole)
    for content, path in ((whole, scan), (plain, tmp_path / "b.nii")):
        for length in np.linspace(0, len(content) - 1, 25).astype(int):
            path.write_bytes(content[:length])
            with pytest.raises(ValueError, match=f"^{re.escape(str(path))} .* damaged"):
                read_volumes(path)


def test_what_is_no_image(tmp_path):
    mask = nibabel.Nifti1Image(np.ones((2, 1, 1), dtype=np.uint8), AFFINE)
    table = pd.DataFrame({"stimulus": ["a", "b"] * 2, "run": [1, 1, 2, 2]})
    values = np.random.default_rng(0).normal(size=(2, 1, 1, 4))
    with raises(
        TypeError,
        "an image is given as a ndarray; expected one path, one nibabel image or one nilearn SurfaceImage "
        "(nibabel.Nifti1Image(array, affine) makes one of an array)",
    ):
        read_betas(values, table, mask, made_by="other")
    np.save(tmp_path / "betas.npy", values)
    with pytest.raises(ValueError, match=r"betas.npy cannot be read as an image \(Cannot work out file type"):
        read_betas(tmp_path / "betas.npy", table, mask, made_by="glmsingle")
    surface = nibabel.GiftiImage()
    nibabel.save(surface, tmp_path / "a.gii")
    with raises(
        ValueError,
        f"{tmp_path / 'a.gii'} holds a GiftiImage, which is no volume; expected a NIfTI file (surfaces are given as "
        "nilearn SurfaceImages)",
    ):
        read_betas(tmp_path / "a.gii", table, mask, made_by="other")


# a list of images


def test_betas_in_a_file_each(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 3, 3, 6)).astype(np.float32)
    values[0, 0, 0] = np.nan
    mask = nibabel.Nifti1Image(np.ones((3, 3, 3), dtype=np.uint8), AFFINE)
    table = pd.DataFrame({"stimulus": list("abc") * 2, "run": [1, 1, 1, 2, 2, 2]})
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"beta_{number + 1:04d}.nii")
        nibabel.save(nibabel.Nifti1Image(values[..., number], AFFINE), paths[-1])
    right = read_betas(nibabel.Nifti1Image(values, AFFINE), table, mask, made_by="spm")
    assert right.attrs["dropped_voxels"] == 1
    for given in (paths, tuple(map(str, paths)), [nibabel.load(path) for path in paths]):
        assert read_betas(given, table, mask, made_by="spm").identical(right)
    with raises(ValueError, "a list of 5 images has 5 volumes, its table 6 rows; expected as many"):
        read_betas(paths[:5], table, mask, made_by="spm")
    with raises(
        ValueError, f"image names {paths[0]} more than once, so that its noise would be in several observations"
    ):
        read_betas([*paths[:5], paths[0]], table, mask, made_by="spm")
    with raises(ValueError, "image is an empty list; expected an image per observation, or one 4-D image"):
        read_betas([], table, mask, made_by="spm")
    nibabel.save(nibabel.load(paths[0]), paths[4])
    with raises(
        ValueError,
        "a list of 6 images: volumes 1 and 5, of runs 1 and 2, are the same to the last digit, so that their noise is "
        "not independent; give each run its own data",
    ):
        read_betas(paths, table, mask, made_by="spm")
    moved = nibabel.Nifti1Image(values[..., 5], np.diag([3.0, 3, 2, 1]))
    with pytest.raises(ValueError, match=r"^the image an image of shape .* has another affine than"):
        read_betas([*paths[:5], moved], table, mask, made_by="spm")


def test_a_stimulus_of_betas_in_two_spellings():
    values = np.random.default_rng(0).normal(size=(2, 1, 1, 4))
    mask = nibabel.Nifti1Image(np.ones((2, 1, 1), dtype=np.uint8), AFFINE)
    table = pd.DataFrame({"stimulus": ["face", "house", "Face", "house"], "run": [1, 1, 2, 2]})
    with raises(
        ValueError,
        "the trial types 'face' and 'Face' differ in case only (run 1 has only one of them); spell one stimulus alike "
        "in all runs, and name two apart",
    ):
        read_betas(nibabel.Nifti1Image(values, AFFINE), table, mask, made_by="spm")
    spaced = table.assign(stimulus=["face", "house", "face ", " house"])
    patterns = read_betas(nibabel.Nifti1Image(values, AFFINE), spaced, mask, made_by="spm")
    assert patterns["stimulus"].values.tolist() == ["face", "house"] * 2
