"""Warnings kept: what was said while something was made belongs into its file too."""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import xarray as xr  # not at run time: commands that make no RDMs start without it


@contextmanager
def warnings_given(tell: Callable[[str], None] | None = None) -> Iterator[list[str]]:
    """Collect the warnings given within, each once, by their messages; they are shown as ever.

    `tell` is called with each at once.
    """
    given: list[str] = []
    # not record=True, which would keep them from whoever records or shows them outside; entering it makes Python forget
    # which ones it has shown already, of which a second file would know nothing
    with warnings.catch_warnings():
        show = warnings.showwarning

        def note(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if (text := str(message)) not in given:
                given.append(text)
                if tell is not None:
                    tell(text)
            show(message, category, filename, lineno, file, line)

        warnings.showwarning = note
        yield given


def with_warnings(rdms: "xr.DataArray", given: Sequence[str]) -> "xr.DataArray":
    """Note warnings in the provenance of RDMs, under ``warnings``, behind those that are there; none change nothing.

    RDMs that were joined have it in the provenance of each part, where joining them further leaves it.
    """
    if not given:
        return rdms
    noted = _noting(json.loads(rdms.attrs.get("provenance", "{}")), given)
    return rdms.assign_attrs(provenance=json.dumps(noted, ensure_ascii=False))


def _noting(provenance: Any, given: Sequence[str]) -> dict[str, Any]:
    if not isinstance(provenance, dict):  # none, or another program's
        return {"warnings": list(given)} if provenance is None else {"provenance": provenance, "warnings": list(given)}
    if isinstance(parts := provenance.get("concatenated"), list):
        joined = [p | {"provenance": _noting(p.get("provenance"), given)} if isinstance(p, dict) else p for p in parts]
        return provenance | {"concatenated": joined}
    return provenance | {"warnings": list(dict.fromkeys([*_list_of(provenance, "warnings"), *given]))}


def warnings_in(rdms: "xr.DataArray") -> list[str]:
    """All warnings that the provenance of RDMs holds, each once."""
    found: list[str] = []
    left = [json.loads(rdms.attrs.get("provenance", "{}"))]
    while left:
        part = left.pop(0)
        if isinstance(part, dict):
            found += [str(text) for text in _list_of(part, "warnings")]
            left += [joined.get("provenance") for joined in _list_of(part, "concatenated") if isinstance(joined, dict)]
    return list(dict.fromkeys(found))


def _list_of(part: dict[str, Any], field: str) -> list[Any]:
    # a stranger's file may hold anything under that name
    value = part.get(field)
    return value if isinstance(value, list) else []
