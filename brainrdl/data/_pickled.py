"""Read pickled arrays without running code that a file brings along."""

import pickle
import pickletools
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, final

import numpy as np


def read_pickled(path: Path) -> dict[str, Any]:
    """Read a dict of arrays, lists, strings and numbers that Python 2 pickled; ValueError for anything else.

    A pickle can name any function to rebuild it: the three that rebuild an array of bytes are called, and no other.
    """
    # whole, so that a length that the file claims is cut to what there is
    with BytesIO(path.read_bytes()) as file:
        try:
            _check_places(file)
            file.seek(0)
            content = _Unpickler(file, encoding="latin1").load()
        except pickle.UnpicklingError as error:
            raise ValueError(f"{path}: {error}") from error
        except Exception as error:  # a foreign file can make the reader fail in any way
            raise ValueError(f"{path}: it is no pickle, or a damaged one ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: it holds a {type(content).__name__}, expected a dict")
    return content


def _check_places(file: BytesIO) -> None:
    """Refuse a place in the pickle's memory that nothing led up to: room for all before it would be made."""
    with suppress(ValueError):  # what is no pickle is said by the reader itself
        for number, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if operation.name.endswith("PUT") and isinstance(argument, int) and argument > number:
                raise pickle.UnpicklingError(f"it puts its object {number} into place {argument}; it is damaged")


def _empty_array(kind: type, shape: tuple[int, ...], code: str) -> np.ndarray[Any, Any]:
    """Stand in for NumPy's ``_reconstruct``: an array whose state follows."""
    return np.ndarray((0,), dtype=np.uint8)


def _byte(code: str, *flags: int) -> np.dtype[Any]:
    if code != "u1":
        raise pickle.UnpicklingError(f"it holds an array of type {code!r}, expected bytes ('u1')")
    return np.dtype(np.uint8)


_KNOWN: dict[tuple[str, str], Callable[..., Any] | type] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _byte,
}


@final
class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Find a name of a file among the few that it may use."""
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(
                f"it asks to run {module}.{name}, which an array of bytes does not need; nothing of it was run"
            )
        return _KNOWN[module, name]
