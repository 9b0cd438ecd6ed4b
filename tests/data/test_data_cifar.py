"""CIFAR-10 and CIFAR-100: the right files, verified, and nested training sets."""

import hashlib
import os
import pickle
import re
import runpy
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from brainrdl.data import LabelledImages, checksum, cifar, cifar_checksums, load_cifar, split_cifar
from brainrdl.data._pickled import read_pickled

MD5 = {
    "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
    "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
    "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
    "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
    "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
}
FOLDERS = {10: "cifar-10-batches-py", 100: "cifar-100-python"}
DATASETS = Path(__file__).parents[2] / "datasets"


def _files(n_classes: int) -> list[str]:
    return [name for name in MD5 if name.startswith(f"{FOLDERS[n_classes]}/")]


def _linked(source: Path, target: Path) -> Path:
    """Stand in for a copy of a folder: its files, to be replaced and not written to."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        (target / file.name).symlink_to(file.resolve())
    return target


def _flip_a_bit(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.unlink()
    path.write_bytes(content)


def _exactly(message: str) -> str:
    return f"^{re.escape(message)}$"


@pytest.fixture(scope="module")
def blank() -> LabelledImages:
    """As many images as CIFAR's training set has; no real data needed."""
    return LabelledImages(
        images=torch.zeros(50_000, 1, 1, 1, dtype=torch.uint8),
        labels=torch.arange(50_000) * 7_919 % 10,
        ids=tuple(f"cifar10-train-{at:05d}" for at in range(50_000)),
        classes=tuple("0123456789"),
    )


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "empty cache"
    monkeypatch.setenv("BRAINRDL_CACHE", str(folder))
    return folder


def test_the_checksums_are_torchvisions():
    for n_classes, kind in ((10, torchvision.datasets.CIFAR10), (100, torchvision.datasets.CIFAR100)):
        published = dict([*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]])
        assert published == {name.split("/")[1]: MD5[name] for name in _files(n_classes)}


class TestLoading:
    @pytest.mark.parametrize(("n_classes", "first", "last"), [(10, "airplane", "truck"), (100, "apple", "worm")])
    def test_sizes_ids_and_class_counts(self, n_classes, first, last, request):
        parts = request.getfixturevalue(f"cifar{n_classes}")
        for part, name, n in zip(parts, ("train", "test"), (50_000, 10_000), strict=True):
            assert part.images.shape == (n, 3, 32, 32)
            assert part.images.is_contiguous()
            assert part.labels.bincount().tolist() == [n // n_classes] * n_classes
            assert part.ids[:: n - 1] == (f"cifar{n_classes}-{name}-00000", f"cifar{n_classes}-{name}-{n - 1:05d}")
            assert (part.classes[0], part.classes[-1], part.top) == (first, last, 255)

    @pytest.mark.parametrize("n_classes", [10, 100])
    def test_the_checksums_are_those_of_the_files(self, n_classes, data_cache, request):
        request.getfixturevalue(f"cifar{n_classes}")
        read = {name: hashlib.md5((data_cache / name).read_bytes()).hexdigest() for name in _files(n_classes)}
        assert read == {name: MD5[name] for name in _files(n_classes)}
        assert cifar_checksums(n_classes, data_cache) == read

    @pytest.mark.parametrize("n_classes", [10, 100])
    def test_torchvision_reads_the_same_images(self, n_classes, data_cache, request):
        _, test = request.getfixturevalue(f"cifar{n_classes}")
        kind = {10: torchvision.datasets.CIFAR10, 100: torchvision.datasets.CIFAR100}[n_classes]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, on how Python 2 pickled a type's alignment
            theirs = kind(data_cache, train=False)
        assert tuple(theirs.classes) == test.classes
        assert test.labels.tolist() == theirs.targets
        assert np.array_equal(test.images.permute(0, 2, 3, 1).numpy(), theirs.data)

    def test_the_data_folder_comes_before_the_cache_and_the_environment_names_either(
        self, cifar100, data_cache, tmp_path, empty_cache, monkeypatch
    ):
        _linked(data_cache / FOLDERS[100], tmp_path / "data" / FOLDERS[100])
        monkeypatch.setenv("BRAINRDL_DATA", str(tmp_path / "data"))
        assert checksum(load_cifar(100)[1]) == checksum(cifar100[1])
        assert not empty_cache.exists()
        monkeypatch.delenv("BRAINRDL_DATA")
        monkeypatch.setenv("BRAINRDL_CACHE", str(tmp_path / "data"))
        assert cifar_checksums(100) == {name: MD5[name] for name in _files(100)}

    def test_the_duplicates_of_the_readme(self, cifar100):
        seen: dict[bytes, list[str]] = {}
        for part in cifar100:
            for name, image in zip(part.ids, part.images, strict=True):
                seen.setdefault(image.numpy().tobytes(), []).append(name.split("-")[1])
        pairs = [tuple(parts) for parts in seen.values() if len(parts) > 1]
        assert {kind: pairs.count(kind) for kind in set(pairs)} == {
            ("train", "train"): 14,
            ("train", "test"): 10,
            ("test", "test"): 2,
        }

    def test_there_is_no_other_set(self):
        for function in (load_cifar, cifar_checksums):
            with pytest.raises(ValueError, match=_exactly("there is no CIFAR-20; n_classes is 10 or 100")):
                function(20)
            for given, kind in ([10], "list"), ("10", "str"):
                message = f"n_classes is {given!r}, of type {kind}; expected the number 10 or 100"
                with pytest.raises(TypeError, match=_exactly(message)):
                    function(given)

    @pytest.mark.parametrize("given", [True, False])
    def test_nothing_anywhere(self, given, tmp_path, empty_cache, monkeypatch):
        monkeypatch.delenv("BRAINRDL_DATA", raising=False)
        looked = [tmp_path / "cifar-100-python"] if given else []
        looked += [empty_cache / "cifar-100-python"]
        message = (
            f"CIFAR-100 is in none of {', '.join(map(str, looked))}: expected its published files train, test, meta, "
            "as torchvision lays them out; name the folder that holds cifar-100-python by data_dir= or the "
            "environment variable BRAINRDL_DATA, or fetch the files with download=True"
        )
        for function in (load_cifar, cifar_checksums):
            with pytest.raises(FileNotFoundError, match=_exactly(message)):
                function(100, tmp_path if given else None)

    def test_without_a_name_the_cache_is_the_platforms(self, monkeypatch, tmp_path):
        monkeypatch.delenv("BRAINRDL_CACHE")
        monkeypatch.setattr(cifar, "user_cache_dir", lambda name: str(tmp_path / f"platform's {name}"))
        with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "platform's brainrdl"))):
            load_cifar(10, tmp_path)


class TestDamage:
    @pytest.mark.parametrize("name", ["cifar-100-python/test", "cifar-100-python/meta"])
    def test_a_flipped_bit_is_found_and_named(self, cifar100, data_cache, tmp_path, name):
        folder = _linked(data_cache / FOLDERS[100], tmp_path / FOLDERS[100])
        _flip_a_bit(tmp_path / name)
        got = cifar_checksums(100, tmp_path)[name]
        message = (
            f"{tmp_path / name}: its MD5 is {got}, expected {MD5[name]}; it is damaged or another data set's file of "
            f"the same name: replace it by torchvision's, or remove the folder {folder} and fetch the files anew with "
            "download=True"
        )
        with pytest.raises(ValueError, match=_exactly(message)):
            load_cifar(100, tmp_path)

    def test_a_missing_file_is_named(self, cifar100, data_cache, tmp_path):
        folder = _linked(data_cache / FOLDERS[100], tmp_path / FOLDERS[100])
        (folder / "meta").unlink()
        message = (
            f"{folder / 'meta'}, one of CIFAR-100's files, is missing: replace it by torchvision's, or remove the "
            f"folder {folder} and fetch the files anew with download=True"
        )
        for function in (load_cifar, cifar_checksums):
            with pytest.raises(FileNotFoundError, match=_exactly(message)):
                function(100, tmp_path)


class TestDownload:
    def test_fetches_through_torchvision_into_the_cache(self, cifar100, data_cache, tmp_path, empty_cache, monkeypatch):
        def fetch(root: Path, *, download: bool) -> None:
            assert download
            _linked(data_cache / FOLDERS[100], Path(root, FOLDERS[100]))
            Path(root, "cifar-100-python.tar.gz").touch()

        monkeypatch.setattr(torchvision.datasets, "CIFAR100", fetch)
        assert checksum(load_cifar(100, tmp_path, download=True)[1]) == checksum(cifar100[1])
        assert [path.name for path in empty_cache.iterdir()] == [FOLDERS[100]]

    def test_fetches_nothing_that_is_there(self, cifar100, data_cache, monkeypatch):
        monkeypatch.setattr(torchvision.datasets, "CIFAR100", None)
        assert len(load_cifar(100, data_cache, download=True)[0]) == 50_000

    def test_the_second_to_finish_takes_what_the_first_has_made(
        self, cifar100, data_cache, tmp_path, empty_cache, monkeypatch
    ):
        def fetch(root: Path, *, download: bool) -> None:
            shutil.copytree(data_cache / FOLDERS[100], Path(root, FOLDERS[100]))
            _linked(data_cache / FOLDERS[100], empty_cache / FOLDERS[100])  # another process's

        monkeypatch.setattr(torchvision.datasets, "CIFAR100", fetch)
        assert checksum(load_cifar(100, tmp_path, download=True)[1]) == checksum(cifar100[1])
        assert [path.name for path in empty_cache.iterdir()] == [FOLDERS[100]]
        assert (empty_cache / FOLDERS[100] / "train").is_symlink()

    def test_another_failure_to_rename_is_not_hidden(self, tmp_path, empty_cache, monkeypatch):
        monkeypatch.setattr(torchvision.datasets, "CIFAR100", lambda root, download: None)
        with pytest.raises(FileNotFoundError, match=FOLDERS[100]):
            load_cifar(100, tmp_path, download=True)
        assert not list(empty_cache.iterdir())


class _Evil:
    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


class TestPickles:
    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (_Evil(os.mkdir, "made by a pickle"), f"{os.mkdir.__module__}.mkdir"),
            (_Evil(eval, "1 + 1"), "__builtin__.eval"),
            (_Evil(torch.load, "x"), "torch.serialization.load"),
        ],
    )
    def test_nothing_that_a_file_names_is_run(self, tmp_path, monkeypatch, content, what):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "evil").write_bytes(pickle.dumps({"data": content}, protocol=2))
        message = (
            f"{tmp_path / 'evil'}: it asks to run {what}, which an array of bytes does not need; nothing of it was run"
        )
        with pytest.raises(ValueError, match=_exactly(message)):
            read_pickled(tmp_path / "evil")
        assert [path.name for path in tmp_path.iterdir()] == ["evil"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (pickle.dumps([1, 2], protocol=2), "it holds a list, expected a dict"),
            (pickle.dumps({"data": "abc"}, protocol=2)[:-4], "it is no pickle, or a damaged one (EOFError)"),
            (b"\xff", "invalid load key, '\\xff'."),
            # room for four thousand million objects, of which there is one
            (b"\x80\x02]r\xff\xff\xff\xff.", "it puts its object 2 into place 4294967295; it is damaged"),
            (
                b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR.",
                "it holds an array of type 'f8', expected bytes ('u1')",
            ),
        ],
    )
    def test_what_is_no_dict_of_bytes_is_refused(self, tmp_path, content, message):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ValueError, match=_exactly(f"{tmp_path / 'file'}: {message}")):
            read_pickled(tmp_path / "file")


class TestSplit:
    def test_training_sets_are_nested_and_validation_is_always_the_last_10_000(self, blank):
        whole, validation = split_cifar(blank)
        assert sorted(whole.ids) == list(blank.ids[:40_000])
        assert validation.ids == blank.ids[40_000:]
        for n_train in (1, 2_000):
            training, again = split_cifar(blank, n_train=n_train)
            assert training.ids == whole.ids[:n_train]
            assert again.ids == validation.ids

    def test_every_beginning_holds_the_classes_in_proportion(self, blank):
        training, _ = split_cifar(blank)
        held = torch.nn.functional.one_hot(training.labels, 10).cumsum(0)
        assert (held - torch.arange(1, 40_001).unsqueeze(1) / 10).abs().max() < 1.5

    def test_the_order_stays_what_it_was_published_as(self, cifar100):
        training, _ = split_cifar(cifar100[0])
        assert training.ids[:3] == ("cifar100-train-29044", "cifar100-train-06959", "cifar100-train-36853")
        assert checksum(training).startswith("e9ca3466d153c91a")

    def test_refuses_what_is_not_cifars_training_set(self, blank):
        message = "got 100 images, expected CIFAR's 50,000 training images; pass the first part of load_cifar()"
        with pytest.raises(ValueError, match=_exactly(message)):
            split_cifar(blank.take(range(100)))

    @pytest.mark.parametrize("n_train", [0, 40_001])
    def test_refuses_more_than_40_000(self, blank, n_train):
        message = f"n_train is {n_train}, expected 1 to 40,000: the last 10,000 images are for validation"
        with pytest.raises(ValueError, match=_exactly(message)):
            split_cifar(blank, n_train=n_train)


class TestPrepare:
    @pytest.mark.parametrize("n_classes", [10, 100])
    def test_verifies_the_files(self, n_classes, data_cache, monkeypatch, capsys, request):
        request.getfixturevalue(f"cifar{n_classes}")
        prepare = DATASETS / f"cifar{n_classes}" / "prepare.py"
        monkeypatch.setattr(sys, "argv", [str(prepare), "--data-dir", str(data_cache)])
        runpy.run_path(str(prepare), run_name="__main__")
        each = 50_000 // n_classes
        assert capsys.readouterr().out.splitlines() == [
            *(f"{name}: MD5 {MD5[name]}" for name in _files(n_classes)),
            f"train: 50000 images, {each} to {each} of each of {n_classes} classes",
            f"test: 10000 images, {each // 5} to {each // 5} of each of {n_classes} classes",
        ]

    @pytest.mark.parametrize("n_classes", [10, 100])
    def test_says_what_to_do(self, n_classes, monkeypatch, tmp_path):
        prepare = DATASETS / f"cifar{n_classes}" / "prepare.py"
        monkeypatch.setenv("BRAINRDL_CACHE", "")
        monkeypatch.setattr(sys, "argv", [str(prepare), "--data-dir", str(tmp_path), "--out", str(tmp_path / "out")])
        expected = rf"^CIFAR-{n_classes} is in none of .*{re.escape(str(tmp_path / 'out'))}.* with download=True$"
        with pytest.raises(SystemExit, match=expected):
            runpy.run_path(str(prepare), run_name="__main__")
