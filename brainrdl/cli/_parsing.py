"""Values of options that the commands share."""

import argparse


def names(text: str) -> tuple[str, ...]:
    """Split a list like A,B."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise argparse.ArgumentTypeError(f"a list like A,B is expected, got {text!r}")
    return parts


def whole_numbers(text: str) -> tuple[int, ...]:
    """Split a list like 100,300."""
    try:
        return tuple(int(part) for part in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"whole numbers like 100,300 are expected, got {text!r}") from None


def numbers(text: str) -> tuple[float, ...]:
    """Split a list like 0.3,1."""
    try:
        return tuple(float(part) for part in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"numbers like 0.3,1 are expected, got {text!r}") from None
