"""Published files, known by their MD5."""

import re

import pytest

from brainrdl.data import load_cifar, load_mnist


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("cifar-100-python/train", lambda folder: load_cifar(100, folder)),
        ("mnist/train-images-idx3-ubyte", load_mnist),
    ],
)
def test_terabytes_under_a_published_name_are_not_hashed(tmp_path, name, load):
    path = tmp_path / name
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(10**12)
    message = f"{path} has 1,000,000,000,000 bytes, more than any published file of this data set; fetch it again"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load(tmp_path)
