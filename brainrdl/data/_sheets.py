"""Lossless sheets: a set of 32 × 32 images as WebP pictures, from which its original files are put together.

A folder holds ``images-00.webp``, ``images-01.webp``, …, each with rows of 40 images, in the order of the original
files; and for every original file ``NAME.rest.xz``: the number of bytes before the pixels (8 bytes, little-endian),
those bytes, and the bytes behind the pixels. Small files lie there as they are.
"""

import lzma
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE, _COLUMNS = 32, 40


def restore_from_sheets(sheets: Path, files: Mapping[str, int], target: Path) -> None:
    """Put the original files together.

    Parameters
    ----------
    sheets : path
        The folder of sheets.
    files : dict of int
        Number of images by file name, in the order in which the sheets hold them; 0 for a file that lies in the
        folder as it is.
    target : path
        The folder to write to.

    Raises
    ------
    FileNotFoundError
        If a file of the folder is missing.
    ValueError
        If a sheet or a rest is damaged, or the sheets hold another number of images.
    """
    rows = _Rows(sheets)
    for name, count in files.items():
        if not count:
            (target / name).write_bytes(_existing(sheets / name).read_bytes())
            continue
        before, behind = _rest(sheets / f"{name}.rest.xz")
        with (target / name).open("wb") as file:
            file.write(before)
            for pixels in rows.take(count):
                file.write(pixels.tobytes())
            file.write(behind)
    if rows.left():
        raise ValueError(f"{sheets}: the sheets hold more than the {sum(files.values())} images of the original files")


@final
class _Rows:
    """Images in order, read sheet by sheet, each a row of 3,072 bytes: its red, green and blue plane."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sheets = iter(sorted(folder.glob("images-*.webp")))
        self._rows = np.empty((0, 3 * _SIDE**2), dtype=np.uint8)

    def take(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the next `count` images, in blocks."""
        missing = count
        while missing:
            if not self.left():
                raise ValueError(
                    f"{self._folder}: the sheets end {missing} images before an original file does; one is missing, "
                    "fetch them again"
                )
            block, self._rows = self._rows[:missing], self._rows[missing:]
            missing -= len(block)
            yield block

    def left(self) -> bool:
        """Whether there is a further image."""
        while not len(self._rows):
            sheet = next(self._sheets, None)
            if sheet is None:
                return False
            self._rows = _read_sheet(sheet)
        return True


def _read_sheet(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, EOFError) as error:
        raise ValueError(f"{path}: this sheet of images is damaged ({error}); fetch it again") from error
    height, width, _ = pixels.shape
    if height % _SIDE or width != _COLUMNS * _SIDE:
        raise ValueError(
            f"{path}: this sheet has {width} × {height} pixels, expected rows of {_COLUMNS} images of "
            f"{_SIDE} × {_SIDE}; fetch it again"
        )
    # (row of the sheet, y, column, x, colour) → (row, column, colour, y, x)
    tiles = pixels.reshape(-1, _SIDE, _COLUMNS, _SIDE, 3).transpose(0, 2, 4, 1, 3)
    return tiles.reshape(-1, 3 * _SIDE**2)


def _rest(path: Path) -> tuple[bytes, bytes]:
    try:
        content = lzma.decompress(_existing(path).read_bytes())
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{path}: its compression is cut off or damaged ({error}); fetch it again") from error
    behind = 8 + int.from_bytes(content[:8], "little")
    if len(content) < behind:
        raise ValueError(f"{path}: it holds {len(content)} bytes, fewer than the {behind} announced; fetch it again")
    return content[8:behind], content[behind:]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, and the data set is not to be put together without it; fetch it")
    return path
