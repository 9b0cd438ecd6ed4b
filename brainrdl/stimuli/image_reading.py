"""An image file as a picture in RGB, upright as viewers show it, or an error where RGB cannot hold what was shown."""

import re
import warnings
from pathlib import Path
from typing import SupportsIndex

from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from brainrdl.files.budget import check_claim

# no others: a file that ends in .png may be PostScript, which Pillow hands to another program to run
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# as Pillow holds it (4 bytes a pixel), as RGB (3), and as floats (12) with the copy that brings them in order
_BYTES_PER_PIXEL = 24
_BYTES_BESIDE = {"PPM": 2**16, "BMP": 2**16}  # bytes of a file beside its pixels, where there is no metadata
_MOST_SCANS = 200
_WITH_COLOURS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
_BITS_PER_SAMPLE, _SAMPLE_FORMAT = 258, 339
_UNSIGNED = {1, 4}  # 4: not said
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_rgb(path: Path, max_bytes: SupportsIndex | None = None) -> Image.Image:
    """Read an image in RGB, turned as its EXIF orientation says.

    OSError if it cannot be read; ValueError if it is larger than `max_bytes` allow, or transparent, in several frames,
    of more than 8 bits per channel, or in colours that a screen does not have (CMYK, LAB).
    """
    try:
        image, several, deep = _loaded(path, max_bytes)
    except _TooLargeError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # a foreign file can make the reader fail in any way
        raise OSError(
            f"{path} cannot be read as an image ({error}); replace the file or take it out of the folder"
        ) from error
    if several:
        raise ValueError(f"{path} holds several frames; a stimulus is one image, so save the frame that was shown")
    if deep:
        raise ValueError(
            f"{path} has more than 8 bits per channel (mode {deep}), which RGB would cut off; save it "
            "with 8 bits, scaled as it was shown"
        )
    if image.mode not in _WITH_COLOURS:
        raise ValueError(
            f"{path} is in {image.mode}, whose colours on a screen depend on a colour profile; save it in RGB as it "
            "was shown"
        )
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise ValueError(
                f"{path} has transparent pixels, whose colour depends on the background; save it on the "
                "background that was shown"
            )
    turn = _UPRIGHT.get(_orientation(image, path))
    if turn is not None:
        image = image.transpose(turn)
    return image.convert("RGB")


class _TooLargeError(Exception):
    pass


def _loaded(path: Path, max_bytes: SupportsIndex | None) -> tuple[Image.Image, bool, str]:
    """Decode a file's picture; also whether there are further frames, and the mode if it has more than 8 bits."""
    with _opened(path) as file:
        width, height = file.size
        try:
            check_claim(width * height * _BYTES_PER_PIXEL, str(path), max_bytes, detail=f"({width} x {height} pixels)")
        except ValueError as error:
            raise _TooLargeError(str(error)) from None
        _check_proportions(file, path)
        # some cameras store previews as further frames (MPO); the first is the picture
        several = getattr(file, "is_animated", False) and file.format != "MPO"
        deep = _deep_mode(file)
        if not several and not deep:
            if file.format == "PNG":
                _check_png(path)
            file.load()
    return file, several, deep


def _check_proportions(file: ImageFile.ImageFile, path: Path) -> None:
    """Raise a _TooLargeError for a file that is far larger than its picture explains, and may never end."""
    size, most = path.stat().st_size, _BYTES_BESIDE.get(str(file.format), 2**24) + 32 * file.width * file.height
    if size > most:
        raise _TooLargeError(
            f"{path} has {size} bytes for {file.width} x {file.height} pixels, more than {most}; save the picture anew"
        )
    # of a progressive JPEG each scan goes over all pixels, however few bytes it has
    scans = path.read_bytes().count(b"\xff\xda") if file.format == "JPEG" else 0
    if scans > _MOST_SCANS:
        raise _TooLargeError(
            f"{path} has {scans} scans, more than {_MOST_SCANS}, and may be made to take hours; save the picture anew"
        )


def _opened(path: Path) -> ImageFile.ImageFile:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            _check_ppm(path)
            return Image.open(path, formats=_FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise _TooLargeError(
                f"{path} has more than {Image.MAX_IMAGE_PIXELS} pixels, and may be made to fill the memory; save it in "
                "the size that was shown, or raise PIL.Image.MAX_IMAGE_PIXELS if it is what you expect"
            ) from None


def _check_ppm(path: Path) -> None:
    """Raise an OSError for a PPM header of comments alone, which Pillow reads byte by byte."""
    with path.open("rb") as file:
        start = file.read(2**14)
    if re.match(rb"P[1-6]\s", start) and len(re.sub(rb"#[^\r\n]*", b"", start).split()) < 3:
        raise OSError("no size in its first 16 kB")


def _check_png(path: Path) -> None:
    """Compare the checksums that PNG has of its parts, which Pillow leaves out for the pixels."""
    with _opened(path) as file:
        file.verify()


def _deep_mode(file: ImageFile.ImageFile) -> str:
    """The mode of a picture of more than 8 bits (or of signed numbers) per channel, else nothing.

    Of 16 bits in colour Pillow says RGB, and keeps the upper 8.
    """
    if file.mode.split(";")[0] in ("I", "F"):
        return file.mode
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        bits, formats = (_numbers(file.tag_v2.get(tag, 1)) for tag in (_BITS_PER_SAMPLE, _SAMPLE_FORMAT))
        return f"{file.mode};{max(bits)}" if max(bits) > 8 or not formats <= _UNSIGNED else ""
    if file.format in ("PNG", "PPM") and file.tile:
        arguments = file.tile[0].args
        if file.format == "PNG":
            return str(arguments) if ";16" in str(arguments) else ""
        if isinstance(arguments, tuple) and isinstance(arguments[-1], int) and arguments[-1] > 255:
            return f"{file.mode};16"
    return ""


def _numbers(value: int | tuple[int, ...]) -> set[int]:
    return set(value) if isinstance(value, tuple) else {value}


def _orientation(image: Image.Image, path: Path) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # in any way, as above; viewers show such a picture as it is stored
        warnings.warn(f"{path}: its EXIF data are damaged ({error}); it is taken as it is stored", stacklevel=5)
        return 1
