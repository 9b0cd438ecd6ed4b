"""Upper triangles of square RDMs, in numpy: what `to_condensed` and `to_square` are for tensors, unchecked."""

from collections.abc import Sequence

import numpy as np


def condensed(squares: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Row-major upper triangles, (rdms, n(n-1)/2), of (rdms, n, n); written to `out` where it is given."""
    n = squares.shape[-1]
    triangles = np.empty((len(squares), n * (n - 1) // 2), dtype=squares.dtype) if out is None else out
    start = 0
    for i in range(n - 1):  # slices are several times as fast as an index of n² numbers
        triangles[:, start : start + n - 1 - i] = squares[:, i, i + 1 :]
        start += n - 1 - i
    return triangles


def laid_out(triangles: np.ndarray | Sequence[np.ndarray], n: int) -> np.ndarray:
    """Symmetric squares with a zero diagonal, (rdms, n, n), of (rdms, n(n-1)/2)."""
    squares = np.zeros((len(triangles), n, n))
    i, j = np.triu_indices(n, 1)
    squares[:, i, j] = triangles
    squares[:, j, i] = triangles
    return squares
