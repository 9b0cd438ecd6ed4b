"""Ranks, and Kendall's count of discordant pairs, without a quadratic number of comparisons."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from brainrdl.rdms.rounding import parted

_BLOCK = 128
"""Elements that are compared each with each; beyond, tables count."""
_DIGIT = 6
"""Bits by which a level of the count sorts."""


def midranks(values: Tensor) -> Tensor:
    """Rank each row of finite values (rows, length) from 1, in float64; tied values share the mean of their ranks.

    Values are tied with those that differ from them by rounding alone, see `brainrdl.rdms.rounding`.
    """
    if values.device.type == "cpu":  # numpy sorts several times as fast as torch
        return torch.from_numpy(np.stack([ranks_of(row) for row in values.numpy()]))
    ordered, order = values.sort(dim=1)
    new = torch.from_numpy(np.stack([parted(row) for row in ordered.cpu().numpy()])).to(values.device)
    # each run of ties by its number, which says where it begins and ends
    runs = torch.nn.functional.pad(new.cumsum(dim=1), (1, 0))
    first, last = (torch.searchsorted(runs, runs, right=right) for right in (False, True))
    return torch.empty(values.shape, dtype=torch.float64, device=values.device).scatter_(
        1, order, (first + last + 1).double() / 2
    )


def ranks_of(row: np.ndarray) -> np.ndarray:
    """`midranks` of one vector (length,)."""
    order = np.argsort(row)
    ordered = row.take(order)
    new = parted(ordered)
    ranks = np.empty(len(row))
    if new.all():
        ranks[order] = np.arange(1.0, len(row) + 1)
    else:
        # of each run of ties, the mean of its first and last rank
        bounds = np.concatenate(([0], np.flatnonzero(new) + 1, [len(row)]))
        ranks[order] = np.repeat((bounds[:-1] + bounds[1:] + 1) / 2, np.diff(bounds))
    return ranks


class Ranking(NamedTuple):
    """A vector (length,) prepared for `concordance`."""

    ranks: np.ndarray  # from 0, tied values alike and the next value the next rank
    order: np.ndarray  # that sorts the vector
    tied_pairs: int


class Concordance(NamedTuple):
    """Counts of pairs: all, ordered alike less ordered inversely, and tied in either vector."""

    total: int
    difference: int
    tied_a: int
    tied_b: int

    @property
    def tau_a(self) -> float:
        """(concordant − discordant)/all; NaN where either is constant."""
        return self.difference / self.total if self._varies else float("nan")

    @property
    def tau_b(self) -> float:
        """(concordant − discordant)/√(untied in a · untied in b); NaN where either is constant."""
        untied = (self.total - self.tied_a) * (self.total - self.tied_b)
        return float(self.difference / np.sqrt(float(untied))) if self._varies else float("nan")

    @property
    def _varies(self) -> bool:
        return max(self.tied_a, self.tied_b) < self.total


def ranking(values: np.ndarray) -> Ranking:
    """Sort a vector (length,) once, for all that it is going to be compared with; ties as in `midranks`."""
    order = np.argsort(values)
    new = np.concatenate(([False], parted(values[order])))
    dense = np.cumsum(new)
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = dense
    return Ranking(ranks, order, _tied(np.bincount(dense)))


def concordance(a: Ranking, b: Ranking) -> Concordance:
    """Compare the order of all pairs of entries of two vectors of one length, ties counted exactly."""
    n = len(a.ranks)
    total = n * (n - 1) // 2
    bits = max(n - 1, 1).bit_length()
    low = (1 << bits) - 1
    tied_both = 0
    if a.tied_pairs:
        # sorted by a, and by b where a is tied, so that ties in a hold no inversion of b
        keys = np.sort(a.ranks << bits | b.ranks)
        tied_both = _tied(np.diff(np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1], [True])))))
        sequence = keys & low
    else:
        sequence = b.ranks.take(a.order)
    if b.tied_pairs:
        # ties of b take rising numbers in order of occurrence; the inverse permutation has as many inversions
        sequence = np.sort(sequence << bits | np.arange(n)) & low
    discordant = inversions(sequence)
    # total = concordant + discordant + tied in a + tied in b − tied in both
    return Concordance(
        total, total - a.tied_pairs - b.tied_pairs + tied_both - 2 * discordant, a.tied_pairs, b.tied_pairs
    )


def inversions(permutation: np.ndarray) -> int:
    """Count the pairs i < j with p_i > p_j of a permutation (length,) of 0 … length − 1."""
    # The upper bits of the values split them into buckets, and positions are split into blocks of 128. Two entries of
    # different buckets are counted from a table of blocks × buckets if their blocks differ, and by comparing if they
    # share one; then each bucket, whose entries keep their order, is treated likewise with the next bits.
    n = len(permutation)
    bits = max(n - 1, 1).bit_length()
    size = 1 << bits
    values = np.empty(size, dtype=np.int32)
    values[:n] = permutation
    values[n:] = np.arange(n, size)  # what is behind all others, in order, inverts nothing
    count = 0
    groups = 1  # values of one share the bits above those still to be sorted by
    while bits > 7:
        digit = min(_DIGIT, bits - 7)
        bits -= digit
        buckets = ((values >> bits) & ((1 << digit) - 1)).astype(np.uint8)
        count += _compared(buckets.reshape(-1, _BLOCK)) + _tabled(buckets, 1 << digit, groups)
        order = np.argsort(buckets.reshape(groups, -1), axis=1, kind="stable")
        values = np.take_along_axis(values.reshape(groups, -1), order, axis=1).ravel()
        groups <<= digit
    return count + _compared((values & ((1 << bits) - 1)).astype(np.uint8).reshape(-1, 1 << bits))


def _compared(blocks: np.ndarray) -> int:
    """Inversions within each row, every pair compared."""
    columns = np.ascontiguousarray(blocks.T)
    larger = np.zeros(columns.shape, dtype=np.uint8)  # at most 127 entries stand before one
    for shift in range(1, len(columns)):
        larger[shift:] += (columns[:-shift] > columns[shift:]).view(np.uint8)
    return int(larger.sum(dtype=np.int64))


def _tabled(buckets: np.ndarray, n_buckets: int, n_groups: int) -> int:
    """Inversions between blocks of one group: an earlier block's entries of a larger bucket."""
    n_blocks = len(buckets) // _BLOCK
    cells = buckets.astype(np.intp).reshape(n_blocks, _BLOCK)
    cells *= n_blocks
    cells += np.arange(n_blocks)[:, None]
    table = np.bincount(cells.ravel(), minlength=n_buckets * n_blocks).reshape(n_buckets, n_groups, -1)
    count = 0
    larger = np.zeros_like(table[0])
    for bucket in range(n_buckets - 1, -1, -1):
        earlier = np.cumsum(larger, axis=1) - larger
        count += int(np.vdot(earlier, table[bucket]))
        larger += table[bucket]
    return count


def _tied(counts: np.ndarray) -> int:
    counts = counts.astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())
