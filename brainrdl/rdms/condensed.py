"""The condensed form of an RDM: its pairs, in the row-major order of SciPy, torch and rsatoolbox."""

import torch
from torch import Tensor

from brainrdl.arguments import check_tensor
from brainrdl.rdms.triangles import stimuli_of


def to_square(condensed: Tensor) -> Tensor:
    """Lay a condensed RDM out as a symmetric matrix with a zero diagonal.

    Parameters
    ----------
    condensed : Tensor (..., n(n-1)/2)
        Row-major upper triangles.

    Returns
    -------
    Tensor (..., n, n)

    Raises
    ------
    TypeError
        If it is not a tensor.
    ValueError
        If the length is not n(n-1)/2 for any n ≥ 2.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> rdl.to_square(torch.tensor([1.0, 2.0, 3.0]))
    tensor([[0., 1., 2.],
            [1., 0., 3.],
            [2., 3., 0.]])
    """
    check_tensor(condensed, "the condensed RDM")
    n = stimuli_of(condensed.shape[-1] if condensed.ndim else 0)
    i, j = torch.triu_indices(n, n, 1, device=condensed.device)
    square = condensed.new_zeros(*condensed.shape[:-1], n, n)
    square[..., i, j] = condensed
    square[..., j, i] = condensed
    return square


def to_condensed(square: Tensor) -> Tensor:
    """Read the row-major upper triangle of a symmetric RDM.

    Parameters
    ----------
    square : Tensor (..., n, n)
        Symmetric, zero on the diagonal; NaN stands for an unmeasured pair and must be symmetric too.

    Returns
    -------
    Tensor (..., n(n-1)/2)

    Raises
    ------
    TypeError
        If it is not a tensor.
    ValueError
        If the matrix is not square, smaller than 2 × 2, not symmetric or not zero on the diagonal.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> rdl.to_condensed(torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]]))
    tensor([1., 2., 3.])
    """
    check_tensor(square, "the square RDM")
    if square.ndim < 2 or square.shape[-1] != square.shape[-2] or square.shape[-1] < 2:
        raise ValueError(
            f"expected a square RDM of at least 2 × 2, got shape {tuple(square.shape)}; "
            "a condensed RDM is laid out by to_square"
        )
    mirrored = square.transpose(-1, -2)
    alike = (square == mirrored) | (square.isnan() & mirrored.isnan())
    if not alike.all():
        largest = (square - mirrored).abs()[~alike].nan_to_num(torch.inf, torch.inf).max().item()
        upper, lower = (upper_triangle(side).nan_to_num().any() for side in (square, mirrored))
        remedy = (  # its mean with the transpose would be half of every distance
            "average it with its transpose, or find out why the two directions differ"
            if upper == lower
            else "only one triangle is filled: mirror it, "
            + ("torch.fmax(square, square.mT)" if square.isnan().any() else "square + square.mT")
        )
        raise ValueError(f"the RDM is not symmetric (largest difference {largest:.3g}); {remedy}")
    diagonal = square.diagonal(dim1=-2, dim2=-1)
    if (diagonal != 0).any():
        raise ValueError(
            f"the RDM's diagonal must be 0, the largest entry found is {diagonal.abs().max().item():.3g}; "
            "a similarity matrix has to be turned into distances first"
        )
    return upper_triangle(square)


def upper_triangle(square: Tensor) -> Tensor:
    """The row-major upper triangle (..., n(n-1)/2) of square matrices (..., n, n), unchecked."""
    n = square.shape[-1]
    i, j = torch.triu_indices(n, n, 1, device=square.device)
    return square[..., i, j]


def sample_pairs(n: int, n_pairs: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw distinct pairs of stimuli without replacement.

    Parameters
    ----------
    n : int
        Number of stimuli.
    n_pairs : int
        Number of unordered pairs i < j to draw, at most n(n-1)/2.
    generator : torch.Generator, optional
        Source of randomness on the CPU, torch's global one if absent.

    Returns
    -------
    Tensor (n_pairs, 2)
        int64, ``i < j`` in each row, no row twice.

    Raises
    ------
    ValueError
        If there are fewer than `n_pairs` pairs, or `n_pairs` is below 1.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> rdl.sample_pairs(3, 3).sort(dim=0).values
    tensor([[0, 1],
            [0, 2],
            [1, 2]])
    """
    total = n * (n - 1) // 2
    if n < 2 or not 1 <= n_pairs <= total:
        raise ValueError(
            f"cannot draw {n_pairs} distinct pairs from {n} stimuli, which have {max(total, 0)}; "
            "ask for at least 1 and at most that many"
        )
    chosen = torch.randperm(total, generator=generator)[:n_pairs]
    i, j = torch.triu_indices(n, n, 1)
    return torch.stack((i[chosen], j[chosen]), dim=1)


def condensed_index(n: int, pairs: Tensor) -> Tensor:
    """Find pairs (P, 2) of n stimuli, i ≠ j in either order, in the condensed order: positions (P,)."""
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.is_floating_point() or pairs.dtype == torch.bool:
        raise ValueError(
            f"pairs must be an integer tensor of shape (P, 2), got {pairs.dtype} of shape {tuple(pairs.shape)}; "
            "sample_pairs makes one"
        )
    pairs = pairs.long()  # i · n does not fit a narrow type
    i, j = torch.minimum(*pairs.T), torch.maximum(*pairs.T)
    if pairs.device.type == "cpu":  # elsewhere the host would wait for the device
        wrong = (i < 0) | (j >= n) | (i == j)
        if wrong.any():
            k = int(torch.nonzero(wrong)[0, 0])
            raise ValueError(f"pair {k} is {tuple(pairs[k].tolist())}; both members must lie in 0 … {n - 1} and differ")
    return i * n - i * (i + 1) // 2 + j - i - 1
