"""Verify the four MNIST files in a folder, or fetch them."""

import argparse
from pathlib import Path

from brainrdl.data import load_mnist, mnist_checksums


def main() -> None:
    """Load (and thereby verify) the files; print their checksums and the class counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="the folder (default: the environment variable BRAINRDL_DATA)")
    parser.add_argument("--download", action="store_true", help="fetch missing files through torchvision")
    arguments = parser.parse_args()
    try:
        parts = load_mnist(arguments.data_dir, download=arguments.download)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error
    for name, md5 in mnist_checksums(arguments.data_dir).items():
        print(f"{name}: MD5 {md5}")
    for name, part in zip(("train", "test"), parts, strict=True):
        counts = " ".join(str(count) for count in part.labels.bincount(minlength=10).tolist())
        print(f"{name}: {len(part)} images, class counts {counts}")


if __name__ == "__main__":
    main()
