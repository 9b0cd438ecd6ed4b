"""Settings of all tests, and the data sets that several of them share."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from brainrdl.data import LabelledImages, load_cifar
from real_data import data_dir


def pytest_configure(config: pytest.Config) -> None:
    """Keep what tests restore in one folder of the session, and never in the user's own cache."""
    # the workers of pytest-xdist inherit the environment of the process that starts them, and so share the folder
    if not hasattr(config, "workerinput"):
        os.environ["BRAINRDL_CACHE"] = tempfile.mkdtemp(prefix="brainrdl-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the session's folder, once all workers have ended."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["BRAINRDL_CACHE"])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Fixed, so that "bitwise the same" means something, and small work does not wait for a second core."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_cache() -> Path:
    """The folder of the session in which restored data sets lie, in torchvision's layout."""
    return Path(os.environ["BRAINRDL_CACHE"])


@pytest.fixture(scope="session")
def cifar10(data_cache: Path) -> tuple[LabelledImages, LabelledImages]:
    """CIFAR-10's training and test images."""
    return _cifar(10, data_cache)


@pytest.fixture(scope="session")
def cifar100(data_cache: Path) -> tuple[LabelledImages, LabelledImages]:
    """CIFAR-100's training and test images."""
    return _cifar(100, data_cache)


def _cifar(n_classes: int, cache: Path) -> tuple[LabelledImages, LabelledImages]:
    """Load a set whose original files ``unpack_cifar.py`` of the folder of real data restores."""
    name = f"cifar-{n_classes}"
    script = data_dir(name, "unpack_cifar.py") / "unpack_cifar.py"
    with FileLock(cache / f"{name}.lock"):  # one worker restores, the others find the files right
        subprocess.run([sys.executable, str(script), str(cache), name], check=True, stdout=subprocess.DEVNULL)
    return load_cifar(n_classes, cache)
