"""CIFAR-10 and CIFAR-100, from the published files in torchvision's layout."""

import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from platformdirs import user_cache_dir

from brainrdl.data._pickled import read_pickled
from brainrdl.data._published import published_md5
from brainrdl.data.images import LabelledImages, first_of_order

_N_TRAIN = 40_000


@dataclass(frozen=True)
class _Set:
    """One of the two sets: its files with their published MD5, and the keys in them."""

    name: str
    folder: str
    train: dict[str, str]
    test: dict[str, str]
    meta: dict[str, str]
    labels: str
    classes: str

    @property
    def files(self) -> dict[str, str]:
        return self.train | self.test | self.meta

    @property
    def prefix(self) -> str:
        return self.name.lower().replace("-", "")


_SETS = {
    10: _Set(
        name="CIFAR-10",
        folder="cifar-10-batches-py",
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        meta={"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
        labels="labels",
        classes="label_names",
    ),
    100: _Set(
        name="CIFAR-100",
        folder="cifar-100-python",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        meta={"meta": "7973b15100ade9c7d40fb424638fde48"},
        labels="fine_labels",
        classes="fine_label_names",
    ),
}


def load_cifar(
    n_classes: int, data_dir: str | os.PathLike[str] | None = None, *, download: bool = False
) -> tuple[LabelledImages, LabelledImages]:
    """Load the 50,000 training and 10,000 test images of CIFAR-10 or CIFAR-100.

    The files are looked for in ``cifar-10-batches-py/`` or ``cifar-100-python/`` (torchvision's layout), first in the
    data folder, then in the cache: the folder that the environment variable BRAINRDL_CACHE names, the platform's cache
    folder otherwise. The data folder itself is only read.

    Parameters
    ----------
    n_classes : {10, 100}
        Number of classes of the set: CIFAR-10 or CIFAR-100.
    data_dir : path, optional
        The data folder; the environment variable BRAINRDL_DATA where it is not given.
    download : bool
        Permission to fetch the files through torchvision, into the cache, where neither folder holds them.

    Returns
    -------
    train : LabelledImages
        50,000 images (3, 32, 32), channels red, green and blue; ids such as ``cifar100-train-00000`` to
        ``cifar100-train-49999`` in the files' order. CIFAR-100 has its 100 fine labels.
    test : LabelledImages
        10,000 images, ids such as ``cifar100-test-00000``.

    Raises
    ------
    FileNotFoundError
        If the set, or a file of it, is missing.
    TypeError, ValueError
        If `n_classes` is another number or none, or a file is not the published one: the MD5 of every file is compared
        before it is read. No code in a file is run.

    References
    ----------
    Krizhevsky (2009), *Learning multiple layers of features from tiny images*.

    Examples
    --------
    >>> from brainrdl.data import load_cifar
    >>> train, test = load_cifar(100)  # doctest: +SKIP
    >>> train.ids[0], train.classes[:2], tuple(train.images.shape)  # doctest: +SKIP
    ('cifar100-train-00000', ('apple', 'aquarium_fish'), (50000, 3, 32, 32))
    """
    which = _set(n_classes)
    folder = _folder(which, data_dir, download)
    # before anything is read: a damaged file may still be a valid pickle
    for name, expected in which.files.items():
        if (got := published_md5(_existing(which, folder / name))) != expected:
            raise ValueError(
                f"{folder / name}: its MD5 is {got}, expected {expected}; it is damaged or another data set's file of "
                f"the same name: {_renewal(folder)}"
            )
    return _read_part(which, folder, "train"), _read_part(which, folder, "test")


def cifar_checksums(n_classes: int, data_dir: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Compute the MD5 of the files that `load_cifar` reads, for manifests.

    Parameters
    ----------
    n_classes, data_dir
        Set and folder, as for `load_cifar`.

    Returns
    -------
    dict of str
        MD5 by file, such as ``cifar-100-python/train``.

    Raises
    ------
    FileNotFoundError
        If the set, or a file of it, is missing.
    TypeError, ValueError
        If `n_classes` is neither 10 nor 100.

    Examples
    --------
    >>> from brainrdl.data import cifar_checksums
    >>> cifar_checksums(100)["cifar-100-python/test"]  # doctest: +SKIP
    'f0ef6b0ae62326f3e7ffdfab6717acfc'
    """
    which = _set(n_classes)
    folder = _folder(which, data_dir, download=False)
    return {f"{which.folder}/{name}": published_md5(_existing(which, folder / name)) for name in which.files}


def split_cifar(train: LabelledImages, *, n_train: int = _N_TRAIN) -> tuple[LabelledImages, LabelledImages]:
    """Split the 50,000 training images of either set for training and validation.

    Parameters
    ----------
    train : LabelledImages
        The first part that `load_cifar` answers.
    n_train : int
        Number of training images, 1 to 40,000.

    Returns
    -------
    training : LabelledImages
        The first `n_train` of one fixed order of the first 40,000 images, as in `split_mnist`.
    validation : LabelledImages
        The last 10,000 images, whatever `n_train`, in the files' order.

    Raises
    ------
    ValueError
        If there are not 50,000 images or `n_train` is out of range.

    Examples
    --------
    >>> from brainrdl.data import load_cifar, split_cifar
    >>> training, validation = split_cifar(load_cifar(100)[0], n_train=2_000)  # doctest: +SKIP
    >>> len(training), validation.ids[0]  # doctest: +SKIP
    (2000, 'cifar100-train-40000')
    """
    return first_of_order(train, n_train, _N_TRAIN, "CIFAR")


def _set(n_classes: int) -> _Set:
    if isinstance(n_classes, bool) or not hasattr(n_classes, "__index__"):
        raise TypeError(
            f"n_classes is {n_classes!r}, of type {type(n_classes).__name__}; expected the number 10 or 100"
        )
    if n_classes not in _SETS:
        raise ValueError(f"there is no CIFAR-{n_classes}; n_classes is 10 or 100")
    return _SETS[n_classes]


def _folder(which: _Set, data_dir: str | os.PathLike[str] | None, download: bool) -> Path:
    """Find the folder of the set's files; make it in the cache where downloading is allowed."""
    named = data_dir if data_dir is not None else os.environ.get("BRAINRDL_DATA")
    cache = Path(os.environ.get("BRAINRDL_CACHE") or user_cache_dir("brainrdl"))
    candidates = [Path(place) / which.folder for place in (named, cache) if place]
    for folder in candidates:
        if folder.is_dir():
            return folder
    if download:
        return _download(which, cache)
    raise FileNotFoundError(
        f"{which.name} is in none of {', '.join(map(str, candidates))}: expected its published files "
        f"{', '.join(which.files)}, as torchvision lays them out; name the folder that holds {which.folder} by "
        "data_dir= or the environment variable BRAINRDL_DATA, or fetch the files with download=True"
    )


def _download(which: _Set, cache: Path) -> Path:
    """Fetch the set's folder under another name and rename it once it is complete.

    Whoever looks for it finds a complete folder or none, and of two processes that fetch it at once one is the first.
    """
    from torchvision import datasets  # slow to import, and needed here only

    target = cache / which.folder
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{which.folder}.", dir=cache) as temporary:
        {"CIFAR-10": datasets.CIFAR10, "CIFAR-100": datasets.CIFAR100}[which.name](temporary, download=True)
        try:
            os.rename(Path(temporary, which.folder), target)
        except OSError:
            # a folder that holds files is not replaced: another process was first, and its files are as good
            if not target.is_dir():
                raise
    return target


def _existing(which: _Set, path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path}, one of {which.name}'s files, is missing: {_renewal(path.parent)}")
    return path


def _renewal(folder: Path) -> str:
    return f"replace it by torchvision's, or remove the folder {folder} and fetch the files anew with download=True"


def _read_part(which: _Set, folder: Path, part: str) -> LabelledImages:
    contents = [read_pickled(folder / name) for name in (which.train if part == "train" else which.test)]
    pixels = torch.from_numpy(np.concatenate([content["data"] for content in contents])).view(-1, 3, 32, 32)
    (meta,) = which.meta
    return LabelledImages(
        images=pixels,
        labels=torch.tensor([label for content in contents for label in content[which.labels]]),
        ids=tuple(f"{which.prefix}-{part}-{row:05d}" for row in range(len(pixels))),
        classes=tuple(read_pickled(folder / meta)[which.classes]),
    )
