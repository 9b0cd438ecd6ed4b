"""Settings that were tried, of which some were chosen: a table made once and kept as JSON, a record per try."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd

from brainrdl.files.store import check_json, read_json, write_json
from brainrdl.studies.kept import kept

Tries = list[dict[str, Any]]


def kept_tries(
    path: Path,
    choose: Callable[[], Tries],
    *,
    fields: Iterable[str],
    lock: AbstractContextManager[object] | None = None,
) -> Tries:
    """Read the tries of a choice, each with its `fields`, or make them; ValueError where a file holds something else.

    What was chosen has a true ``chosen``; a choice of settings has one of them, one in inner folds one per fold.
    """

    def read(path: Path) -> Tries:
        return [check_json(entry, dict, fields, f"an entry of {path}") for entry in read_json(path, list)]

    # what was chosen for what stands in the entries, and is the caller's to compare
    return kept(path, choose, write=write_json, read=read, lock=lock)


def tries_table(paths: Iterable[Path]) -> pd.DataFrame:
    """Join the tries of several choices, a row per try, in the order of the paths' names."""
    # sorted, since a folder lists its files in any order
    return pd.DataFrame([entry for path in sorted(paths) for entry in read_json(path, list)])
