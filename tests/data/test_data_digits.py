"""scikit-learn's digits: the split is the documented one."""

import runpy
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits as load_from_sklearn

from brainrdl.data import checksum, load_digits

PREPARE = Path(__file__).parents[2] / "datasets" / "digits" / "prepare.py"


def test_every_image_is_in_one_part_and_is_the_one_its_id_says():
    bunch = load_from_sklearn()
    seen = []
    for part in load_digits():
        positions = [int(name.removeprefix("digits-")) for name in part.ids]
        seen += positions
        assert torch.equal(part.images.squeeze(1).double(), torch.from_numpy(bunch.images)[positions])
        assert torch.equal(part.labels, torch.from_numpy(bunch.target)[positions].to(torch.int64))
        assert (part.top, part.classes) == (16, tuple("0123456789"))
    assert sorted(seen) == list(range(1_797))


def test_sizes_and_class_counts():
    training, validation, test = load_digits()
    assert (len(training), len(validation), len(test)) == (1_000, 297, 500)
    assert training.labels.bincount().tolist() == [99, 101, 98, 102, 101, 101, 101, 100, 97, 100]
    assert validation.labels.bincount().tolist() == [30, 30, 29, 30, 30, 30, 30, 29, 29, 30]
    assert test.labels.bincount().tolist() == [49, 51, 50, 51, 50, 51, 50, 50, 48, 50]


def test_the_split_stays_what_it_was_published_as():
    assert [checksum(part) for part in load_digits()] == [
        "b06b48013c9df9b7c1f5cb793940683b5997d959940b151002f2a983408d9b8a",
        "9f61ac25acbd9df5e8bcb212ee74399db965ddfd512f304c67b5fa024d689817",
        "70e51c1188607b8857b73369d0ce468eb0cf957fc75252fb481ffa7727b941cc",
    ]


def test_the_split_does_not_touch_the_global_random_state():
    before = torch.random.get_rng_state()
    load_digits()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_prepare_finds_its_readme_right(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(PREPARE)])
    runpy.run_path(str(PREPARE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("test: 500 images, class counts 49 51 50 51 50 51 50 50 48 50, SHA-256 70e51c11")
