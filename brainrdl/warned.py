"""Warnings kept: what was said while something was made belongs into its file too."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def warnings_given() -> Iterator[list[str]]:
    """Collect the warnings given within, each once, by their messages; they are shown as ever."""
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
            show(message, category, filename, lineno, file, line)

        warnings.showwarning = note
        yield given
