"""Points in the plane whose distances are those given: multidimensional scaling."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.spatial.distance import pdist, squareform


def classical_mds(distances: ArrayLike, *, n_components: int = 2) -> NDArray[np.float64]:
    """Place points by Torgerson's classical scaling.

    The leading eigenvectors of ``-1/2 J D² J`` (J centres), each times the root of its eigenvalue. Exact, up
    to rotation and reflection, where the distances are Euclidean in `n_components` dimensions.

    Parameters
    ----------
    distances : array_like, shape (points, points)
        Symmetric and not negative, with a zero diagonal; departures up to 1e-6 of the largest
        distance are taken for rounding and set right.
    n_components : int
        Dimensions of the solution, at most ``points``.

    Returns
    -------
    ndarray, shape (points, n_components)
        Centred, in the unit of `distances`, the dimension of largest variance first. The largest coordinate of each
        dimension is positive, so that runs and machines agree. A dimension without a positive eigenvalue is zero.

    Raises
    ------
    ValueError
        If `distances` is not such a matrix, or if `n_components` is not between 1 and ``points``.

    References
    ----------
    Torgerson, W. S. (1952). Multidimensional scaling: I. Theory and method. Psychometrika 17, 401-419.

    Examples
    --------
    >>> classical_mds([[0, 3, 4], [3, 0, 5], [4, 5, 0]]).shape
    (3, 2)
    """
    square = _distance_matrix(distances, n_components)
    squared = square**2
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1, keepdims=True) + squared.mean()
    n = len(square)
    values, vectors = eigh(-0.5 * centred, subset_by_index=[n - n_components, n - 1])
    points: NDArray[np.float64] = (vectors * np.sqrt(np.clip(values, 0, None)))[:, ::-1]
    # an eigenvector's sign is the algorithm's whim
    largest = points[np.abs(points).argmax(axis=0), np.arange(n_components)]
    return points * np.where(largest < 0, -1.0, 1.0)


def mds(distances: ArrayLike, *, n_components: int = 2, seed: int = 0) -> tuple[NDArray[np.float64], float]:
    """Place points by metric scaling: SMACOF from the classical solution.

    Minimises ``Σ (δ_ij - |x_i - x_j|)²`` over pairs (scikit-learn's SMACOF), one descent from `classical_mds`.

    Parameters
    ----------
    distances : array_like, shape (points, points)
        δ, as in `classical_mds`.
    n_components : int
        Dimensions of the solution, at most ``points``.
    seed : int
        Seed of the small displacement that starts a dimension which the classical solution leaves empty; SMACOF
        could not move into it otherwise. Without such a dimension nothing is random.

    Returns
    -------
    points : ndarray, shape (points, n_components)
        Centred, in the unit of `distances`.
    stress : float
        Kruskal's stress-1, ``√(Σ (δ_ij - d_ij)² / Σ d_ij²)`` with d the distances of the points: 0 is
        perfect; he called .05 good, .1 fair, .2 poor. 0 where all distances are 0.

    Raises
    ------
    ValueError
        If `distances` is not such a matrix, or if `n_components` is not between 1 and ``points``.

    References
    ----------
    Kruskal, J. B. (1964). Multidimensional scaling by optimizing goodness of fit to a nonmetric hypothesis.
    Psychometrika 29, 1-27. Borg, I. and Groenen, P. J. F. (2005). Modern Multidimensional Scaling, chapter 8.

    Examples
    --------
    >>> points, stress = mds([[0, 3, 4], [3, 0, 5], [4, 5, 0]])
    >>> round(stress, 6)
    0.0
    """
    square = _distance_matrix(distances, n_components)
    target = squareform(square, checks=False)
    scale = float(np.sqrt(np.mean(target**2))) if target.size else 0.0
    if scale == 0:
        return np.zeros((len(square), n_components)), 0.0
    # SMACOF's constants are absolute: in units of the root mean square distance they always mean the same.
    start = classical_mds(square / scale, n_components=n_components)
    empty = np.abs(start).max(axis=0) < 1e-6
    start[:, empty] = 1e-3 * np.random.default_rng(seed).standard_normal((len(square), int(empty.sum())))
    from sklearn.manifold import smacof  # here: of all figures, only maps need it, and it takes a second to load

    points, _ = smacof(
        square / scale,
        metric=True,
        n_components=n_components,
        init=start,
        n_init=1,
        max_iter=10_000,
        eps=1e-12,
        normalized_stress=False,
    )
    points = scale * (points - points.mean(axis=0))
    d = pdist(points)
    return points, float(np.sqrt(np.sum((target - d) ** 2) / np.sum(d**2)))


def _distance_matrix(distances: ArrayLike, n_components: int) -> NDArray[np.float64]:
    square = np.array(distances, dtype=np.float64)
    if square.ndim != 2 or square.shape[0] != square.shape[1] or not square.size:
        raise ValueError(f"distances must be square, (points, points), but their shape is {square.shape}")
    if not np.isfinite(square).all():
        i, j = np.argwhere(~np.isfinite(square))[0]
        raise ValueError(
            f"distances must be finite, but that of points {i} and {j} is {square[i, j]}; "
            "leave out the points that were not compared"
        )
    tolerance = 1e-6 * np.abs(square).max()
    asymmetric = np.abs(square - square.T)
    if asymmetric.max() > tolerance:
        i, j = np.unravel_index(asymmetric.argmax(), square.shape)
        raise ValueError(
            f"distances must be symmetric, but [{i}, {j}] is {square[i, j]:g} and [{j}, {i}] is {square[j, i]:g}"
        )
    diagonal = np.abs(np.diag(square))
    if diagonal.max() > tolerance:
        i = int(diagonal.argmax())
        raise ValueError(
            f"the distance of a point to itself must be 0, but [{i}, {i}] is {square[i, i]:g}; "
            "of a similarity r, pass 1 - r"
        )
    if square.min() < -tolerance:
        i, j = np.unravel_index(square.argmin(), square.shape)
        raise ValueError(f"distances must not be negative, but [{i}, {j}] is {square[i, j]:g}")
    if not 1 <= n_components <= len(square):
        raise ValueError(
            f"n_components must lie between 1 and the number of points, {len(square)}, but is {n_components}"
        )
    # departures within the tolerance are rounding, which SMACOF must not see
    square = np.clip((square + square.T) / 2, 0, None)
    np.fill_diagonal(square, 0)
    return square
