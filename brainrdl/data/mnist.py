"""MNIST, from the four original files."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from platformdirs import user_cache_dir
from torch import Tensor

from brainrdl.data._published import published_md5
from brainrdl.data.idx import read_idx
from brainrdl.data.images import LabelledImages, first_of_order

_N_TRAIN = 50_000


@dataclass(frozen=True)
class _File:
    """One of the four files; `zipped` and `plain` are the MD5 of the published .gz and of its content."""

    name: str
    zipped: str
    plain: str


_TRAIN_IMAGES = _File("train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb")
_TRAIN_LABELS = _File("train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624")
_TEST_IMAGES = _File("t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea")
_TEST_LABELS = _File("t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637")
_FILES = (_TRAIN_IMAGES, _TRAIN_LABELS, _TEST_IMAGES, _TEST_LABELS)


def load_mnist(
    data_dir: str | os.PathLike[str] | None = None, *, download: bool = False
) -> tuple[LabelledImages, LabelledImages]:
    """Load MNIST's 60,000 training and 10,000 test images.

    Parameters
    ----------
    data_dir : path, optional
        The folder that holds the four files (``train-images-idx3-ubyte.gz`` and so on, gzipped or not) in
        ``mnist/``, in ``MNIST/raw/`` (torchvision's layout) or directly; the environment variable
        BRAINRDL_DATA where it is not given, and the cache of `load_cifar` where there is neither.
    download : bool
        Fetch missing files through torchvision, into ``MNIST/raw/``.

    Returns
    -------
    train : LabelledImages
        60,000 images (1, 28, 28), ids ``mnist-train-00000`` to ``mnist-train-59999`` in the file's order.
    test : LabelledImages
        10,000 images, ids ``mnist-test-00000`` to ``mnist-test-09999``.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If neither `data_dir` nor BRAINRDL_DATA is given and nothing was fetched, or a file is not MNIST's: the MD5 of
        every file is compared with the published one before it is read.

    Examples
    --------
    >>> from brainrdl.data import load_mnist
    >>> train, test = load_mnist()  # doctest: +SKIP
    >>> train.ids[0], tuple(train.images.shape)  # doctest: +SKIP
    ('mnist-train-00000', (60000, 1, 28, 28))
    """
    root = _root(data_dir, download=download)
    if download and not all(_found(root, file) for file in _FILES):
        _download(root)
    train = _read_part(root, _TRAIN_IMAGES, _TRAIN_LABELS, "mnist-train")
    return train, _read_part(root, _TEST_IMAGES, _TEST_LABELS, "mnist-test")


def mnist_checksums(data_dir: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Compute the MD5 of the four files that `load_mnist` reads, for manifests.

    Parameters
    ----------
    data_dir : path, optional
        Folder as for `load_mnist`.

    Returns
    -------
    dict of str
        MD5 by the published file's name, ``train-images-idx3-ubyte.gz`` and so on. An unpacked file answers with the
        MD5 of the ``.gz`` that was published with its content: what is in the files counts, not how they are packed.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If neither `data_dir` nor BRAINRDL_DATA is given.

    Examples
    --------
    >>> from brainrdl.data import mnist_checksums
    >>> mnist_checksums()["t10k-labels-idx1-ubyte.gz"]  # doctest: +SKIP
    'ec29112dd5afa0611ce80d1b7f02629c'
    """
    root = _root(data_dir)
    found = {f"{file.name}.gz": (file, published_md5(_path(root, file))) for file in _FILES}
    return {name: file.zipped if md5 == file.plain else md5 for name, (file, md5) in found.items()}


def split_mnist(train: LabelledImages, *, n_train: int = _N_TRAIN) -> tuple[LabelledImages, LabelledImages]:
    """Split MNIST's 60,000 training images for training and validation.

    Parameters
    ----------
    train : LabelledImages
        The first part that `load_mnist` answers.
    n_train : int
        Number of training images, 1 to 50,000.

    Returns
    -------
    training : LabelledImages
        The first `n_train` of one fixed order of the first 50,000 images: a smaller training set is the
        beginning of every larger one. The order is random within the classes and interleaves them, so that
        every beginning holds the share of each class that the 50,000 hold, to within an image or so.
    validation : LabelledImages
        The last 10,000 images, whatever `n_train`, in the file's order.

    Raises
    ------
    ValueError
        If there are not 60,000 images or `n_train` is out of range.

    Examples
    --------
    >>> from brainrdl.data import load_mnist, split_mnist
    >>> train, test = load_mnist()  # doctest: +SKIP
    >>> training, validation = split_mnist(train, n_train=10_000)  # doctest: +SKIP
    >>> len(training), validation.ids[0]  # doctest: +SKIP
    (10000, 'mnist-train-50000')
    """
    return first_of_order(train, n_train, _N_TRAIN, "MNIST")


def _root(data_dir: str | os.PathLike[str] | None, *, download: bool = False) -> Path:
    if data_dir is not None:
        return Path(data_dir)
    if named := os.environ.get("BRAINRDL_DATA"):
        return Path(named)
    cache = Path(os.environ.get("BRAINRDL_CACHE") or user_cache_dir("brainrdl"))
    if download or (cache / "MNIST" / "raw").is_dir():
        return cache
    raise ValueError(
        "there is no folder to look for MNIST in: give data_dir= or set the environment variable BRAINRDL_DATA, "
        "or fetch the files with download=True"
    )


def _folders(root: Path) -> tuple[Path, ...]:
    return root / "mnist", root / "MNIST" / "raw", root


def _found(root: Path, file: _File) -> Path | None:
    candidates = (folder / name for folder in _folders(root) for name in (f"{file.name}.gz", file.name))
    return next((path for path in candidates if path.is_file()), None)


def _path(root: Path, file: _File) -> Path:
    path = _found(root, file)
    if path is None:
        raise FileNotFoundError(
            f"MNIST's file {file.name}.gz (or {file.name}) is in none of {', '.join(map(str, _folders(root)))}; put it "
            "into one of them, or fetch it with download=True"
        )
    return path


def _read(root: Path, file: _File) -> Tensor:
    path = _path(root, file)
    # gzipped or not, the data are the same, but not the published checksum
    expected = file.zipped if path.suffix == ".gz" else file.plain
    if (got := published_md5(path)) != expected:
        raise ValueError(
            f"{path}: its MD5 is {got}, expected {expected}; it is damaged or another data set's file of "
            "the same name: replace it, or remove it and fetch it with download=True"
        )
    return torch.from_numpy(read_idx(path))


def _read_part(root: Path, images: _File, labels: _File, prefix: str) -> LabelledImages:
    pixels = _read(root, images).unsqueeze(1)
    return LabelledImages(
        images=pixels,
        labels=_read(root, labels).to(torch.int64),
        ids=tuple(f"{prefix}-{row:05d}" for row in range(len(pixels))),
        classes=tuple(str(digit) for digit in range(10)),
    )


def _download(root: Path) -> None:
    from torchvision.datasets import MNIST  # slow to import, and needed here only

    try:
        MNIST(root, download=True)
    except RuntimeError as error:  # what torchvision raises where no mirror answers
        raise OSError(
            f"MNIST could not be fetched into {root}: {error}; try again, or put the four files there by hand"
        ) from error
