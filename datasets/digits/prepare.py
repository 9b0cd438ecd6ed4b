"""Print what scikit-learn's digits hold, and compare them with the README beside this file."""

import argparse
from pathlib import Path

from brainrdl.data import checksum, load_digits


def main() -> None:
    """Print one line per part; stop with status 1 if a checksum is not in the README."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    unknown = []
    for name, part in zip(("training", "validation", "test"), load_digits(), strict=True):
        counts = " ".join(str(count) for count in part.labels.bincount(minlength=10).tolist())
        print(f"{name}: {len(part)} images, class counts {counts}, SHA-256 {checksum(part)}")
        if checksum(part) not in readme:
            unknown.append(name)
    if unknown:
        raise SystemExit(
            f"{', '.join(unknown)}: not the images that the README lists; another version of scikit-learn "
            "or PyTorch ships other data or draws another split, and results on it are not comparable"
        )


if __name__ == "__main__":
    main()
