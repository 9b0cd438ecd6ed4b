"""Where the tests find real data."""

import os
from pathlib import Path

import pytest


def data_dir(*needed: str) -> Path:
    """Answer the folder of real data; skip the test without one, fail it where a needed file is missing."""
    named = os.environ.get("BRAINRDL_DATA")
    if not named:
        pytest.skip("needs real data: set BRAINRDL_DATA to the folder that holds them")
    folder = Path(named)
    missing = [name for name in needed if not (folder / name).exists()]
    if missing:
        pytest.fail(f"BRAINRDL_DATA is set to {folder}, which lacks {', '.join(missing)}")
    return folder
