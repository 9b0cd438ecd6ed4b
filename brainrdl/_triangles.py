"""Upper triangles of square RDMs, in numpy: what `to_condensed` and `to_square` are for tensors, unchecked."""

from collections.abc import Sequence

import numpy as np


def condensed(squares: np.ndarray) -> np.ndarray:
    """Row-major upper triangles, (rdms, n(n-1)/2), of (rdms, n, n)."""
    i, j = np.triu_indices(squares.shape[-1], 1)
    triangles: np.ndarray = squares[:, i, j]
    return triangles


def laid_out(triangles: np.ndarray | Sequence[np.ndarray], n: int) -> np.ndarray:
    """Symmetric squares with a zero diagonal, (rdms, n, n), of (rdms, n(n-1)/2)."""
    squares = np.zeros((len(triangles), n, n))
    i, j = np.triu_indices(n, 1)
    squares[:, i, j] = triangles
    squares[:, j, i] = triangles
    return squares
