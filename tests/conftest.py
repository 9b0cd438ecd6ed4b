"""Settings of all tests, and the data sets that several of them share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from brainrdl.data import LabelledImages, load_cifar
from real_data import data_dir


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Fixed, so that "bitwise the same" means something, and small work does not wait for a second core."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def data_cache(tmp_path_factory) -> Iterator[Path]:
    """Keep what the tests restore in one folder of the session: once for all, and never in the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINRDL_CACHE", str(folder))
        yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cifar10() -> tuple[LabelledImages, LabelledImages]:
    """CIFAR-10's training and test images, from the sheets."""
    return load_cifar(10, data_dir("cifar-10"))


@pytest.fixture(scope="session")
def cifar100() -> tuple[LabelledImages, LabelledImages]:
    """CIFAR-100's training and test images, from the sheets."""
    return load_cifar(100, data_dir("cifar-100"))
