"""A subject's part that ``rdms fmri`` takes as done is the one that was made, of what is asked for now."""

import json
import zipfile

import nibabel
import numpy as np
import pytest

from brainrdl.exchange import read_rdms
from brainrdl.fmri import GLM, Settings
from brainrdl.studies.scans import make_rdms
from small_bids import image, make_bids

QUICK = Settings(noise=None, glm=GLM(noise_model="ols"))


@pytest.fixture
def made(tmp_path):
    """A data set whose RDMs were made: a function that makes them again, and tells whether its part was done before."""
    masks = make_bids(tmp_path / "bids", runs=2)

    def again(given=None, settings=QUICK):
        lines = []
        make_rdms(tmp_path / "bids", "sim", given or masks, tmp_path / "rdms.nc", settings=settings, log=lines.append)
        return "[1/1] sub-01: done before" in lines, lines

    assert again()[0] is False
    assert again()[0] is True
    return tmp_path, masks, again


def test_a_damaged_part_is_found_by_its_checksum(made):
    folder, _, again = made
    whole = read_rdms(folder / "rdms.nc")
    for ending in (".nc", ".npz"):
        part = folder / f"rdms.parts/sub-01{ending}"
        right = part.read_bytes()
        for share in (0.1, 0.4, 0.7):
            content = bytearray(right)
            content[int(share * len(right))] ^= 4
            part.write_bytes(content)
            done, lines = again()
            assert not done
            assert f"{part} is damaged; its part is made again" in lines
            assert read_rdms(folder / "rdms.nc").identical(whole)


def test_a_part_whose_content_was_exchanged_is_not_taken(made):
    folder, _, again = made
    part = folder / "rdms.parts/sub-01.npz"
    with np.load(part) as held:
        arrays = {name: held[name] for name in held.files}
    arrays["tsnr_0"] = arrays["tsnr_0"] + 1
    np.savez(part, **arrays)
    assert zipfile.ZipFile(part).testzip() is None
    done, lines = again()
    assert not done
    assert f"{part} is damaged; its part is made again" in lines
    # nor one of before parts had a checksum
    del arrays["checksum"]
    np.savez(part, **arrays)
    assert again()[0] is False


def test_another_mask_in_memory_makes_a_part_again(made):
    _, masks, again = made
    opened = nibabel.load(masks["IT"].replace("{subject}", "01"))
    inside = opened.get_fdata()
    smaller = inside.copy()
    smaller[tuple(np.argwhere(inside)[0])] = 0
    one, other = (nibabel.Nifti1Image(values.astype(np.uint8), opened.affine) for values in (inside, smaller))
    assert again({"IT": one})[0] is False
    assert again({"IT": one})[0] is True
    assert again({"IT": other})[0] is False


@pytest.mark.parametrize(
    "facts", [{"RepetitionTime": 2.0, "StartTime": 1.0}, {"RepetitionTime": 2.0, "SliceTimingCorrected": False}]
)
def test_another_slice_time_makes_a_part_again(made, facts):
    folder, _, again = made
    (folder / "bids/task-sim_bold.json").write_text(json.dumps({"RepetitionTime": 2.0, "SliceTiming": [0.5, 1.0]}))
    assert again()[0] is True
    path = image(folder / "bids", 2)
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(facts))
    assert again()[0] is False
