"""Images from disk, with the file's name in every complaint, and the checks that two of them lie in one space."""

import gzip
import math
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsIndex, TypeAlias
from xml.parsers.expat import ExpatError

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage

from brainrdl.files.budget import check_claim
from brainrdl.files.store import file_sha256, sha256

Image: TypeAlias = Any
"""A path, a nibabel image, or a nilearn SurfaceImage."""

_POINTER = 1024
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_DAMAGED = (
    ImageFileError,
    HeaderDataError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    AssertionError,
    struct.error,
    zlib.error,
    ExpatError,
)
"""What nibabel raises on damaged files."""

_DEFLATED_MOST = 1032  # times that deflate makes a file smaller, at most
_BEHIND = 64 * 2**20  # bytes that may follow an image's data in its file
_SURFACES = (".gii", ".gii.gz", ".gii.bz2", ".gii.zst")
_HEADER_MOST = 256 * 2**20  # bytes of header and extensions, far more than any has


def open_image(image: Image, max_bytes: SupportsIndex | None = None) -> Any:
    """Open an image without reading its data; what is an image already is returned as it is.

    FileNotFoundError without the file; ValueError if it is no image, only a version-control pointer to its content, or
    claims more than `max_bytes` (a quarter of memory by default; whoever opened it has agreed to its size); TypeError
    for what is neither path nor image.
    """
    if not isinstance(image, str | Path):
        if not isinstance(image, SpatialImage) and not is_surface(image):
            raise TypeError(
                f"an image is given as a {type(image).__name__}; expected one path, one nibabel image or one nilearn "
                "SurfaceImage (nibabel.Nifti1Image(array, affine) makes one of an array)"
            )
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
    # before nibabel, which would read such a file whole, and others that it names
    if path.name.lower().endswith(_SURFACES):
        raise _no_volume(path, "GiftiImage")
    try:
        _check_start(path)
        opened = nibabel.load(path)
    except _DAMAGED as error:
        raise ValueError(
            f"{path} cannot be read as an image ({_said(error)}); it is damaged or no NIfTI file"
        ) from error
    if not isinstance(opened, SpatialImage):
        raise _no_volume(path, type(opened).__name__)
    _check_header(opened, path, max_bytes)
    return opened


def _no_volume(path: Path, kind: str) -> ValueError:
    return ValueError(
        f"{path} holds a {kind}, which is no volume; expected a NIfTI file (surfaces are given as nilearn "
        "SurfaceImages)"
    )


def read_volumes(image: Image, *, exact: bool = False) -> Any:
    """Read a volume image's data, float32 or float64, or `exact`, of the file's type.

    ValueError if the file is truncated, or fails gzip's checksum.
    """
    opened = open_image(image)
    # scaled integers take no more than float32 holds
    dtype = None if exact else np.float64 if opened.get_data_dtype() == np.float64 else np.float32
    source = opened.dataobj
    file = getattr(source, "file_like", None)
    try:
        if isinstance(source, ArrayProxy) and isinstance(file, str | Path):
            if _is_gzip(Path(file)):
                return _read_gzip(Path(file), source, dtype)
            _check_length(Path(file), source)
        return np.asarray(source, dtype=dtype)
    except _DAMAGED as error:
        raise ValueError(
            f"{image_name(image)} is truncated or damaged ({_said(error)}): its header promises "
            f"{tuple(opened.shape)}; copy it again"
        ) from error


def _said(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _end(source: ArrayProxy) -> int:
    return int(source.offset) + math.prod(map(int, source.shape)) * int(source.dtype.itemsize)


def _check_length(path: Path, source: ArrayProxy) -> None:
    """Raise an EOFError if a file that is not compressed is too short, before room is made for its data."""
    size = path.stat().st_size
    if path.suffix in (".nii", ".img", ".mgh") and _end(source) > size:
        raise EOFError(f"{size} bytes where {_end(source)} are expected")


def _read_gzip(path: Path, source: ArrayProxy, dtype: Any) -> Any:
    """Read a compressed image to the file's end, where gzip's checksum is: nibabel stops at the end of the data."""
    size = path.stat().st_size
    if _end(source) > _DEFLATED_MOST * size:
        raise EOFError(f"{size} bytes where {_end(source)} are expected")
    with gzip.open(path, "rb") as stream:
        if type(source) is ArrayProxy:
            proxy = ArrayProxy(stream, (source.shape, source.dtype, source.offset, source.slope, source.inter))
            data = np.asarray(proxy, dtype=dtype)
        else:  # a format whose own proxy knows more, and is read by it
            data = np.asarray(source, dtype=dtype)
            stream.seek(_end(source))
        behind = 0
        while chunk := stream.read(2**20):
            behind += len(chunk)
            if behind > _BEHIND:
                raise ValueError(f"more than {_BEHIND} bytes follow the data")
    return data


def _check_start(path: Path) -> None:
    """Raise a ValueError where a NIfTI header claims extensions that no image has, which nibabel would read at once."""
    with gzip.open(path, "rb") if _is_gzip(path) else path.open("rb") as file:
        start = file.read(544)
    for order in ("<", ">"):
        if len(start) >= 352 and struct.unpack_from(f"{order}i", start)[0] == 348:
            offset = struct.unpack_from(f"{order}f", start, 108)[0]
        elif len(start) >= 544 and struct.unpack_from(f"{order}i", start)[0] == 540:
            offset = struct.unpack_from(f"{order}q", start, 168)[0]
        else:
            continue
        if not 0 <= offset <= _HEADER_MOST:
            raise ValueError(f"its header claims that the data begin at byte {offset:g}")


def _check_header(opened: SpatialImage, path: Path, max_bytes: SupportsIndex | None) -> None:
    """Raise a ValueError for a header that cannot be, or claims more than `max_bytes`."""
    shape, dtype = tuple(map(int, opened.shape)), opened.get_data_dtype()
    if not shape or min(shape) < 1:
        raise ValueError(f"{path} has shape {shape} by its header; it is damaged")
    if not np.isfinite(opened.affine).all():
        raise ValueError(f"{path} has an affine that is not finite; it is damaged")
    if dtype.kind not in "iufb":
        raise ValueError(f"{path} holds values of type {dtype}; expected real numbers")
    # as it lies in the file, and as it is computed with
    size = max(dtype.itemsize, 4) * math.prod(shape)
    try:
        check_claim(size, f"the header of {path}", max_bytes, detail=f"(shape {shape})")
    except ValueError as error:
        raise ValueError(f"{error}, or the image as nibabel.load opens it") from None


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
    try:
        unit = header.get_xyzt_units()[1]
    except KeyError:  # a code that no unit has
        unit = "unknown"
    step = float(header.get_zooms()[3]) * _SECONDS.get(unit, 1.0)
    return step if step and math.isfinite(step) else None


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


def content_sha256(image: Image) -> str:
    """SHA-256 of a file, or of the values and the grid of an image in memory."""
    if isinstance(image, str | Path):
        return file_sha256(image)
    opened = open_image(image)
    if is_surface(opened):
        parts = [np.ascontiguousarray(part) for part in opened.data.parts.values()]
        return sha256(*(f"{part.shape} {part.dtype}".encode() + part.tobytes() for part in parts))
    data = np.ascontiguousarray(read_volumes(opened, exact=True))
    grid = np.asarray(opened.affine, dtype=np.float64)
    return sha256(f"{data.shape} {data.dtype}".encode(), data.tobytes(), grid.tobytes())


def same_files(files: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Pairs of files with the same content, under whatever names; only files that may be alike are read."""
    seen: dict[tuple[int, bytes], list[Path]] = {}
    pairs = []
    for path in files:
        if not path.is_file():
            continue
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - 4096))
            alike = seen.setdefault((size, file.read()), [])
        twin = next((other for other in alike if size and file_sha256(other) == file_sha256(path)), None)
        alike.append(path)
        if twin is not None:
            pairs.append((twin, path))
    return pairs
