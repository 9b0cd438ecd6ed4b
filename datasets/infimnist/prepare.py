"""Write a range of InfiMNIST images as IDX files, with a description of how they were made."""

import argparse
import json
from pathlib import Path

import numpy as np

from brainrdl.data import InfiMNIST, load_mnist, split_mnist, write_idx


def main() -> None:
    """Generate the images and write images, labels and description."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data-dir", type=Path, help="where MNIST is (default: the environment variable BRAINRDL_DATA)"
    )
    parser.add_argument("--first", type=int, default=80_000, help="first index, at least 70000 (default: %(default)s)")
    parser.add_argument("--count", type=int, default=120_000, help="number of images (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    parser.add_argument("--n-train", type=int, help="take only a student's training images as sources: split_mnist's N")
    arguments = parser.parse_args()
    if arguments.count < 1:
        parser.error(f"--count is {arguments.count}, expected at least 1")
    try:
        sources, _ = load_mnist(arguments.data_dir)
        if arguments.n_train is not None:
            sources, _ = split_mnist(sources, n_train=arguments.n_train)
        generator = InfiMNIST(sources)
        data = generator.generate(range(arguments.first, arguments.first + arguments.count))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error
    arguments.out.mkdir(parents=True, exist_ok=True)
    stem = f"infimnist-{arguments.first}-{arguments.first + arguments.count - 1}"
    write_idx(data.images.squeeze(1).numpy(), arguments.out / f"{stem}-images-idx3-ubyte")
    write_idx(data.labels.numpy().astype(np.uint8), arguments.out / f"{stem}-labels-idx1-ubyte")
    description = arguments.out / f"{stem}-description.json"
    description.write_text(json.dumps(generator.describe(), indent=2) + "\n", encoding="utf-8")
    print(f"{len(data)} images in {arguments.out}: {stem}-images-idx3-ubyte, -labels-idx1-ubyte, -description.json")


if __name__ == "__main__":
    main()
