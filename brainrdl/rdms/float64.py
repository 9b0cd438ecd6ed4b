"""Distances in float64 from patterns that arrive in blocks of units, wherever those come from.

Distances are functions of the Gram matrix, and that is a sum over units: n² numbers and one block are all that has to
be in memory. Pairs too close for it (squared distance below 1e-6 of the squared norms) are recomputed from the
differences of their patterns, again block by block. Without gradient; the training path has its own arithmetic.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from scipy.linalg.blas import dsyrk
from torch import Tensor

ANGULAR = ("correlation", "cosine")

_TOO_CLOSE = 1e-6
_CHUNK_ELEMENTS = 2**18
_BLOCK_ELEMENTS = 2**19  # 4 MiB: a block stays in the cache between the operations on it
_LEAST_WIDTH = 256  # below it, reading and writing the n² sums takes longer than the products


@contextmanager
def blas_alone() -> Iterator[None]:
    """Keep torch to one thread, so that its waiting threads do not hold the cores that SciPy's BLAS computes on."""
    # measured on two cores: 1,000 patterns of 4,096 units took 95 ms beside torch's second thread, 47 without it
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def unit_slices(n: int, n_units: int) -> list[slice]:
    """Blocks of units, of the width at which n patterns are quickest to work on."""
    width = max(_LEAST_WIDTH, _BLOCK_ELEMENTS // n)
    return [slice(start, min(start + width, n_units)) for start in range(0, n_units, width)]


def not_finite(features: Tensor) -> list[int]:
    """The rows with NaN or infinite values."""
    rows: list[int] = torch.nonzero(~torch.isfinite(features).all(dim=1)).flatten().tolist()
    return rows


def unit_means(features: Tensor, slices: Sequence[slice]) -> Tensor:
    """Mean over units (n, 1) in float64, read slice by slice."""
    # centred twice: the mean of a large offset is itself rounded
    n_units = features.shape[1]
    mean = torch.stack([features[:, s].double().sum(dim=1) for s in slices]).sum(dim=0)[:, None] / n_units
    rest = torch.stack([(features[:, s].double() - mean).sum(dim=1) for s in slices]).sum(dim=0)
    return mean + rest[:, None] / n_units


def undefined(features: Tensor, metric: str) -> Tensor:
    """Patterns (n,) that have no distance: constant ones under ``correlation``, zero ones under ``cosine``."""
    if metric == "correlation":
        return features.amax(dim=1) == features.amin(dim=1)
    if metric == "cosine":
        return (features == 0).all(dim=1)
    return torch.zeros(len(features), dtype=torch.bool, device=features.device)


def fill_distances(
    square: Tensor, blocks: Callable[[], Iterable[Tensor]], metric: str, n_units: int, *, mean: Tensor, without: Tensor
) -> bool:
    """Fill the upper triangle of zeros (n, n) with the distances of `blocks` (n, w); False if a square is not finite.

    `mean` (n, 1) is that of `unit_means`; `without` (n,) marks `undefined` patterns, at distance 1 from every other.
    """
    angular = metric in ANGULAR

    def float64(block: Tensor) -> Tensor:
        return block.double() - mean.to(block.device) if metric == "correlation" else block.double()

    offset = False
    for number, block in enumerate(blocks()):
        wide = float64(block)
        if number == 0 and not angular:
            _add_gram(square, wide)
            offset = _shares_an_offset(square)
            if not offset:
                continue
            square.zero_()
        # a common offset cancels in every difference; left in, it would make all pairs seem close
        _add_gram(square, wide - wide.mean(dim=0) if offset else wide)
    squared_norms = square.diagonal().clone()
    if not torch.isfinite(squared_norms).all():
        return False
    norms = squared_norms.sqrt().masked_fill_(without, 0.0)
    i, j = _from_gram(square, norms if angular else squared_norms, angular)
    if len(i):  # read a second time, since the Gram matrix has too few digits for these
        close = square.new_zeros(len(i))
        scale = norms.clamp_min(torch.finfo(norms.dtype).tiny)[:, None]
        for block in blocks():
            wide = float64(block) / scale.to(block.device) if angular else float64(block)
            _add_differences(close, wide, i, j)
        # distances between unit vectors are 1 − cos = |u_i − u_j|²/2
        square[i, j] = close / 2 if angular else close
    if metric == "euclidean":
        square.sqrt_()
    elif metric == "mse":
        square /= n_units
    return True


def mirror(square: Tensor) -> None:
    """Copy the upper triangle of a matrix to its lower one, in place."""
    n = len(square)
    for start in range(0, n, 256):
        stop = min(start + 256, n)
        corner = square[start:stop, start:stop]
        corner.copy_(corner.triu() + corner.triu(1).T)
        square[stop:, start:stop] = square[start:stop, stop:].T


def _add_gram(gram: Tensor, block: Tensor) -> None:
    """``gram += block blockᵀ``, the upper triangle alone."""
    if block.device != gram.device:
        gram += (block @ block.T).triu_().to(gram.device)
    elif gram.device.type == "cpu":
        # the symmetric kernel does half the work, and adds in place; it thinks in columns, hence the transposes
        lower, units = gram.numpy().T, block.contiguous().numpy().T
        dsyrk(1.0, units, beta=1.0, c=lower, trans=1, lower=1, overwrite_c=1)
    else:
        gram += (block @ block.T).triu_()


def _shares_an_offset(gram: Tensor) -> bool:
    """True if nine tenths of the patterns' energy are that of their mean, by their Gram matrix's upper triangle."""
    energy = gram.diagonal().sum()
    return bool(2 * gram.sum() - energy > 0.9 * len(gram) * energy)


def _from_gram(square: Tensor, norms: Tensor, angular: bool) -> tuple[Tensor, Tensor]:
    """Turn a Gram matrix into squared distances (by squared `norms`), or 1 − cosine; the pairs too close for that."""
    n = len(square)
    step = max(1, _CHUNK_ELEMENTS // n)
    close = []
    for start in range(0, n, step):
        rows = slice(start, start + step)
        part, row_norms, others = square[rows, start:], norms[rows, None], norms[start:]
        if angular:
            outer = row_norms * others
            nowhere = outer == 0
            part.div_(outer.clamp_min_(torch.finfo(outer.dtype).tiny)).masked_fill_(nowhere, 0.0)
            part.neg_().add_(1.0).clamp_(0, 2)
            too_close = (part < _TOO_CLOSE) & ~nowhere
        else:
            # |f_i − f_j|² = |f_i|² + |f_j|² − 2 f_i·f_j
            both = row_norms + others
            part.mul_(-2).add_(both).clamp_(min=0)
            too_close = part < both.mul_(_TOO_CLOSE)
        part.triu_(1)
        close.append(torch.nonzero(too_close.triu_(1)) + start)
    i, j = torch.cat(close).unbind(dim=1)
    return i, j


def _add_differences(close: Tensor, block: Tensor, i: Tensor, j: Tensor) -> None:
    """Add a block's |f_i − f_j|² to each pair's sum."""
    step = max(1, _CHUNK_ELEMENTS // block.shape[1])
    for start in range(0, len(i), step):
        chosen = slice(start, start + step)
        first, second = (member[chosen].to(block.device) for member in (i, j))
        close[chosen] += (block[first] - block[second]).square_().sum(dim=1).to(close.device)
