"""Settings of all tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Fixed, so that "bitwise the same" means something, and small work does not wait for a second core."""
    torch.set_num_threads(1)
