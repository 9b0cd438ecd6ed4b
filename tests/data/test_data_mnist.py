"""MNIST: the right files, verified, and nested training sets."""

import gzip
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from brainrdl.data import LabelledImages, checksum, load_mnist, mnist_checksums, split_mnist, write_idx
from real_data import data_dir

MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
PREPARE = Path(__file__).parents[2] / "datasets" / "mnist" / "prepare.py"


def _folder() -> Path:
    return data_dir(*(f"mnist/{name}" for name in MD5))


@pytest.fixture(scope="module")
def mnist() -> tuple[LabelledImages, LabelledImages]:
    return load_mnist(_folder())


@pytest.fixture
def copied(tmp_path) -> Path:
    """Copy the files, writable, into the folder itself."""
    for name in MD5:
        shutil.copyfile(_folder() / "mnist" / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module")
def blank() -> LabelledImages:
    """As many images as MNIST's training set has, with unequal classes; no real data needed."""
    return LabelledImages(
        images=torch.zeros(60_000, 1, 1, 1, dtype=torch.uint8),
        labels=(torch.arange(60_000) * 7_919 % 1_000).sqrt().div(32 / 10).long(),
        ids=tuple(f"mnist-train-{at:05d}" for at in range(60_000)),
        classes=tuple("0123456789"),
    )


def test_the_published_checksums_are_torchvisions():
    assert dict(torchvision.datasets.MNIST.resources) == MD5


class TestLoading:
    def test_sizes_ids_and_class_counts(self, mnist):
        train, test = mnist
        assert train.images.shape == (60_000, 1, 28, 28)
        assert test.images.shape == (10_000, 1, 28, 28)
        assert (train.ids[0], train.ids[-1]) == ("mnist-train-00000", "mnist-train-59999")
        assert (test.ids[0], test.ids[-1]) == ("mnist-test-00000", "mnist-test-09999")
        assert train.labels.bincount().tolist() == TRAIN_COUNTS
        assert test.labels.bincount().tolist() == TEST_COUNTS

    def test_the_folder_may_come_from_the_environment(self, mnist, monkeypatch):
        monkeypatch.setenv("BRAINRDL_DATA", str(_folder()))
        assert mnist_checksums() == MD5
        assert checksum(load_mnist()[1]) == checksum(mnist[1])

    def test_unpacked_files_in_torchvisions_layout(self, mnist, copied):
        raw = copied / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for name in MD5:
            (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress((copied / name).read_bytes()))
            (copied / name).unlink()
        assert [checksum(part) for part in load_mnist(copied)] == [checksum(part) for part in mnist]
        assert mnist_checksums(copied) == MD5

    @pytest.mark.parametrize("name", MD5)
    def test_a_flipped_byte_is_found_and_named(self, copied, name):
        content = bytearray((copied / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copied / name).write_bytes(content)
        got = mnist_checksums(copied)[name]
        assert got != MD5[name]
        message = (
            f"{copied / name}: its MD5 is {got}, expected {MD5[name]}; it is damaged or another data set's "
            "file of the same name: replace it, or remove it and fetch it with download=True"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            load_mnist(copied)

    def test_another_data_set_under_mnists_names_is_refused(self, tmp_path):
        write_idx(np.zeros((60_000, 28, 28), dtype=np.uint8), tmp_path / "train-images-idx3-ubyte")
        with pytest.raises(ValueError, match=r"train-images-idx3-ubyte: its MD5 is \w+, expected 6bbc9ace898e44ae57da"):
            load_mnist(tmp_path)

    def test_a_missing_file_is_named(self, copied):
        (copied / "t10k-images-idx3-ubyte.gz").unlink()
        message = (
            "MNIST's file t10k-images-idx3-ubyte.gz (or t10k-images-idx3-ubyte) is in none of "
            f"{copied / 'mnist'}, {copied / 'MNIST' / 'raw'}, {copied}; put it into one of them, or fetch "
            "it with download=True"
        )
        for function in (load_mnist, mnist_checksums):
            with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
                function(copied)

    def test_no_folder(self, monkeypatch):
        monkeypatch.delenv("BRAINRDL_DATA", raising=False)
        message = (
            "there is no folder to look for MNIST in: give data_dir= or set the environment variable BRAINRDL_DATA, "
            "or fetch the files with download=True"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            load_mnist()


class TestDownload:
    def test_fetches_what_is_missing_through_torchvision(self, mnist, tmp_path, monkeypatch):
        def fetch(root: Path, *, download: bool) -> None:
            assert download
            shutil.copytree(_folder() / "mnist", root / "MNIST" / "raw")

        monkeypatch.setattr(torchvision.datasets, "MNIST", fetch)
        train, _ = load_mnist(tmp_path, download=True)
        assert checksum(train) == checksum(mnist[0])

    def test_says_that_no_mirror_answered(self, tmp_path, monkeypatch):
        def fetch(root: Path, *, download: bool) -> None:
            raise RuntimeError("Error downloading t10k-images-idx3-ubyte.gz")

        monkeypatch.setattr(torchvision.datasets, "MNIST", fetch)
        message = (
            f"MNIST could not be fetched into {tmp_path}: Error downloading t10k-images-idx3-ubyte.gz; try again, or "
            "put the four files there by hand"
        )
        with pytest.raises(OSError, match=f"^{re.escape(message)}$"):
            load_mnist(tmp_path, download=True)

    def test_fetches_nothing_that_is_there(self, monkeypatch):
        monkeypatch.setattr(torchvision.datasets, "MNIST", None)
        assert len(load_mnist(_folder(), download=True)[0]) == 60_000


class TestSplit:
    def test_validation_is_always_the_last_10_000(self, blank):
        for n_train in (1, 50_000):
            _, validation = split_mnist(blank, n_train=n_train)
            assert validation.ids == blank.ids[50_000:]

    def test_training_sets_are_nested(self, blank):
        whole, _ = split_mnist(blank)
        for n_train in (1, 100, 10_000, 40_000):
            assert split_mnist(blank, n_train=n_train)[0].ids == whole.ids[:n_train]

    def test_all_of_the_first_50_000_train(self, blank):
        training, _ = split_mnist(blank)
        assert sorted(training.ids) == list(blank.ids[:50_000])

    def test_every_beginning_holds_the_classes_in_proportion(self, blank):
        training, _ = split_mnist(blank)
        share = training.labels.bincount(minlength=10) / 50_000
        held = torch.nn.functional.one_hot(training.labels, 10).cumsum(0)
        expected = torch.arange(1, 50_001).unsqueeze(1) * share
        assert (held - expected).abs().max() < 1.5

    def test_the_order_within_a_class_is_random(self, blank):
        training, _ = split_mnist(blank)
        ones = torch.tensor(
            [int(name[-5:]) for name, label in zip(training.ids, training.labels, strict=True) if label == 1]
        )
        rising = (ones.diff() > 0).double().mean()
        assert 0.45 < rising < 0.55

    def test_the_order_stays_what_it_was_published_as(self, mnist):
        training, _ = split_mnist(mnist[0])
        assert training.ids[:3] == ("mnist-train-16904", "mnist-train-06091", "mnist-train-11341")
        assert checksum(training).startswith("9d91dd4025711da4")

    def test_refuses_what_is_not_mnists_training_set(self, blank):
        message = "got 100 images, expected MNIST's 60,000 training images; pass the first part of load_mnist()"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            split_mnist(blank.take(range(100)))

    @pytest.mark.parametrize("n_train", [0, 50_001])
    def test_refuses_more_than_50_000(self, blank, n_train):
        message = f"n_train is {n_train}, expected 1 to 50,000: the last 10,000 images are for validation"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            split_mnist(blank, n_train=n_train)


class TestPrepare:
    def test_prints_checksums_and_counts(self, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", [str(PREPARE), "--data-dir", str(_folder())])
        runpy.run_path(str(PREPARE), run_name="__main__")
        lines = capsys.readouterr().out.splitlines()
        assert lines[:4] == [f"{name}: MD5 {md5}" for name, md5 in MD5.items()]
        assert lines[5] == f"test: 10000 images, class counts {' '.join(map(str, TEST_COUNTS))}"

    def test_says_what_to_do(self, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "argv", [str(PREPARE), "--data-dir", str(tmp_path)])
        with pytest.raises(SystemExit, match=r"^MNIST's file train-images-idx3-ubyte\.gz .* download=True$"):
            runpy.run_path(str(PREPARE), run_name="__main__")
