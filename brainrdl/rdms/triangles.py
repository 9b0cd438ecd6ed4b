"""Condensed RDMs as arrays: what `brainrdl.rdms.condensed` does with tensors, without loading torch."""

from collections.abc import Sequence
from math import isqrt

import numpy as np


def upper_triangles(squares: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The row-major upper triangles (rdms, n(n-1)/2) of squares (rdms, n, n), unchecked; written to `out` if given."""
    n = squares.shape[-1]
    triangles = np.empty((len(squares), n * (n - 1) // 2), dtype=squares.dtype) if out is None else out
    start = 0
    for i in range(n - 1):  # slices are several times as fast as an index of n² numbers
        triangles[:, start : start + n - 1 - i] = squares[:, i, i + 1 :]
        start += n - 1 - i
    return triangles


def to_squares(triangles: np.ndarray | Sequence[np.ndarray], n: int) -> np.ndarray:
    """The squares, float64 (rdms, n, n), of row-major upper triangles (rdms, n(n-1)/2), unchecked."""
    squares = np.zeros((len(triangles), n, n))
    i, j = np.triu_indices(n, 1)
    squares[:, i, j] = triangles
    squares[:, j, i] = triangles
    return squares


def stimuli_of(n_distances: int) -> int:
    """Number of stimuli n of a condensed RDM with n(n-1)/2 distances; ValueError if there is none."""
    n = (1 + isqrt(1 + 8 * n_distances)) // 2
    if n_distances < 1 or n * (n - 1) // 2 != n_distances:
        raise ValueError(
            f"{n_distances} is not the length of a condensed RDM, which is n(n-1)/2 (1, 3, 6, 10, …); "
            "give the upper triangle without the diagonal"
        )
    return n
