"""Verify CIFAR-100's files in a folder, or fetch them."""

import argparse
import os
from pathlib import Path

from brainrdl.data import cifar_checksums, load_cifar


def main() -> None:
    """Load (and thereby verify) the files; print their checksums and the class counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data-dir",
        type=Path,
        help="the folder that holds cifar-100-python/ (default: the environment variable BRAINRDL_DATA)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="the folder to fetch cifar-100-python/ into (default: the environment variable BRAINRDL_CACHE, then the "
        "platform's cache folder)",
    )
    parser.add_argument("--download", action="store_true", help="fetch missing files through torchvision")
    arguments = parser.parse_args()
    if arguments.out is not None:
        os.environ["BRAINRDL_CACHE"] = str(arguments.out)
    try:
        parts = load_cifar(100, arguments.data_dir, download=arguments.download)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error
    for name, md5 in cifar_checksums(100, arguments.data_dir).items():
        print(f"{name}: MD5 {md5}")
    for name, part in zip(("train", "test"), parts, strict=True):
        counts = part.labels.bincount(minlength=100)
        print(f"{name}: {len(part)} images, {counts.min()} to {counts.max()} of each of 100 classes")


if __name__ == "__main__":
    main()
