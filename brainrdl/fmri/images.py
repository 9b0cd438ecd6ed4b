"""Images from disk, with the file's name in every complaint, and the checks that two of them lie in one space."""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError

from brainrdl.files import file_sha256
from brainrdl.rdms.patterns import Array

Image: TypeAlias = Any
"""A path, a nibabel image, or a nilearn SurfaceImage."""

_POINTER = 1024
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


def open_image(image: Image) -> Any:
    """Open an image without reading its data; what is no path is returned as it is.

    FileNotFoundError without the file, ValueError if it is no image, or only a version-control pointer to its content.
    """
    if not isinstance(image, str | Path):
        return image
    path = Path(image)
    if not path.is_file():
        if path.is_symlink():
            raise FileNotFoundError(
                f"{path} is a link to {path.readlink()}, which is not here; fetch its content first (datalad get, git "
                "annex get)"
            )
        raise FileNotFoundError(f"there is no image {path}")
    if path.stat().st_size < _POINTER:
        start = path.read_bytes()
        if start.startswith(b"version https://git-lfs") or b"annex/objects" in start:
            raise ValueError(
                f"{path} is only a version-control pointer of {len(start)} bytes, not the image; fetch its content "
                "first (git lfs pull, git annex get, datalad get)"
            )
    try:
        return nibabel.load(path)
    except (ImageFileError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); it is damaged or no NIfTI file") from error


def read_volumes(image: Image) -> Array:
    """Read a volume image's data, float32 or float64; ValueError if the file is truncated."""
    opened = open_image(image)
    try:
        # scaled integers take no more than float32 holds
        dtype = np.float64 if opened.get_data_dtype() == np.float64 else np.float32
        data: Array = np.asarray(opened.dataobj, dtype=dtype)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise ValueError(
            f"{image_name(image)} is truncated or damaged ({str(error).splitlines()[0]}): its header promises "
            f"{opened.shape}; copy it again"
        ) from error
    return data


def image_name(image: Image) -> str:
    """Name an image for a message: by its file, if it has one."""
    if isinstance(image, str | Path):
        return str(image)
    filename = getattr(image, "get_filename", lambda: None)()
    return str(filename) if filename else f"an image of shape {tuple(image.shape)}"


def n_scans_of(image: Image, expected: str = "one run of scans, 4-D") -> int:
    """Number of scans of a 4-D image, or of a surface image; ValueError if it is neither."""
    opened = open_image(image)
    if len(opened.shape) not in ((2,) if is_surface(opened) else (4,)):
        raise ValueError(f"{image_name(image)} has shape {tuple(opened.shape)}; expected {expected}")
    return int(opened.shape[-1])


def is_surface(image: Any) -> bool:
    """True if an image lies on a surface (it has a mesh)."""
    return hasattr(image, "mesh")


def header_t_r(image: Image) -> float | None:
    """Repetition time in seconds that a NIfTI header states; None if it states none."""
    header = getattr(open_image(image), "header", None)
    if header is None or not hasattr(header, "get_xyzt_units") or len(header.get_zooms()) < 4:
        return None
    step = float(header.get_zooms()[3]) * _SECONDS.get(header.get_xyzt_units()[1], 1.0)
    return step or None


def check_t_r(t_r: float | None, image: Image, source: str) -> float:
    """Return the repetition time in seconds; `source` is its origin, for messages.

    TypeError if it is no number, ValueError if it is missing, out of range, or the image's header states another.
    """
    if t_r is None:
        raise ValueError(f"{source} states no repetition time (RepetitionTime, in seconds) for {image_name(image)}")
    if isinstance(t_r, bool) or not isinstance(t_r, int | float | np.number):
        raise TypeError(
            f"the repetition time of {image_name(image)} is {t_r!r} by {source}, of type {type(t_r).__name__}; "
            "expected seconds as a number"
        )
    if not 0.05 <= t_r <= 30:
        raise ValueError(f"the repetition time of {image_name(image)} is {t_r:g} s by {source}; expected seconds")
    stated = header_t_r(image)
    if stated is not None and abs(stated - t_r) > 1e-3 * t_r:
        raise ValueError(
            f"the repetition time of {image_name(image)} is {t_r:g} s by {source}, but {stated:g} s by the image's "
            "header; find out which is right and mend the other"
        )
    return float(t_r)


def check_same_space(image: Image, reference: Image, what: str, advice: str) -> None:
    """Raise a ValueError (which ends in `advice`) unless two images have the same grid, or as many vertices."""
    opened, other = open_image(image), open_image(reference)
    if is_surface(opened) != is_surface(other):
        raise ValueError(
            f"{what} {image_name(image)} and {image_name(reference)} are not both volumes or both surfaces"
        )
    if is_surface(opened):
        if opened.shape[0] != other.shape[0]:
            raise ValueError(
                f"{what} {image_name(image)} has {opened.shape[0]} vertices, but {image_name(reference)} "
                f"{other.shape[0]}; {advice}"
            )
        return
    if tuple(opened.shape[:3]) != tuple(other.shape[:3]):
        raise ValueError(
            f"{what} {image_name(image)} has the grid {tuple(opened.shape[:3])}, but {image_name(reference)} "
            f"{tuple(other.shape[:3])}; {advice}"
        )
    # a hundredth of a millimetre is rounding, more is another space
    if not np.allclose(opened.affine, other.affine, atol=1e-2, rtol=0):
        i, j = map(int, np.unravel_index(np.argmax(np.abs(opened.affine - other.affine)), (4, 4)))
        raise ValueError(
            f"{what} {image_name(image)} has another affine than {image_name(reference)}: {opened.affine[i, j]:g} and "
            f"{other.affine[i, j]:g} mm in row {i}, column {j}; {advice}"
        )


def checksums(files: Iterable[Image], root: str | Path | None = None) -> dict[str, str]:
    """SHA-256 of each file, by its name below `root` (elsewhere its bare name); ``in memory`` for other images."""
    found = {}
    for file in files:
        if isinstance(file, str | Path):
            path = Path(file)
            inside = root is not None and path.resolve().is_relative_to(Path(root).resolve())
            name = path.resolve().relative_to(Path(root).resolve()) if root is not None and inside else path.name
            found[str(name)] = file_sha256(path)
        else:
            found[image_name(file)] = "in memory"
    return found
