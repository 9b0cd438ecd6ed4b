"""Distances that are equal but for the rounding of their computation: tied ones, and RDMs of nothing else.

Distances that are equal by mathematics, such as those of one-hot patterns, come out of a computation a few units in the
last place apart. Their order is the rounding's, so that ranks take them as tied. How far apart that is:

- whole numbers are exact, whatever they count: only equal ones are tied;
- distances that are float32 numbers without exception were computed, or stored, in single precision, where sums over
  some thousand units are right to about 1e-6: 2e-6 of the larger of two neighbours;
- otherwise 1e-12 of the larger of the two, as such sums are right to about 1e-13 in double precision.

Distances made as 1 − similarity carry the rounding of that 1, however small they are themselves. They show it, being
multiples of one and the same last place; the tolerance is then that share of the RDM's largest distance.

In single precision a large RDM holds distances as close as that by chance. Rounding leaves clumps with nothing near
them, chance leaves pairs, and gaps of all sizes: where the gaps beyond the tolerance, up to 16 times it, are as many as
half the distances within it of another, or neighbours chain beyond twice the tolerance, only equal distances are tied.

That float64 numbers were computed from float32 ones, such as the mean of three float32 RDMs, cannot be told from them.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

_SINGLE = 2e-6
_DOUBLE = 1e-12
_NEAR = 16


def parted(ordered: np.ndarray) -> np.ndarray:
    """Which of ascending finite values (length,) differ from the next one by more than rounding: (length − 1,)."""
    gaps = np.diff(ordered)
    differ: np.ndarray = gaps > 0
    share = share_of_rounding(ordered)
    # a look that costs little, and finds nothing in nearly every RDM
    if not (share and len(gaps) and (differ & (gaps <= share * max(-ordered[0], ordered[-1]))).any()):
        return differ
    sizes = _sizes(ordered, share)
    allowed = share * np.maximum(sizes[:-1], sizes[1:])
    new: np.ndarray = differ & (gaps > allowed)
    clumps = np.flatnonzero(np.concatenate(([True], new, [True])))
    first, last = clumps[:-1], clumps[1:] - 1
    widths = ordered[last] - ordered[first]
    # chance brings two together, rounding as many as are tied
    together = (last - first + 1)[widths > 0].sum() / 2
    beside = np.count_nonzero(new & (gaps <= _NEAR * allowed))
    if together <= beside or (widths > 2 * share * np.maximum(sizes[first], sizes[last])).any():
        return differ
    return new


def is_constant(values: np.ndarray) -> bool:
    """True if the measured distances of an RDM (pairs,) are all alike, but for rounding; NaN is an unmeasured one."""
    measured = values[~np.isnan(values)]
    if not len(measured):
        return True
    spread, largest = np.ptp(measured), np.abs(measured).max()
    # rounding is never more than the first, and costs more to tell
    return bool(spread <= _SINGLE * largest and spread <= share_of_rounding(measured) * largest)


def share_of_rounding(values: np.ndarray) -> float:
    """The share of an RDM's finite distances (pairs,) that may be rounding: 0 of whole numbers."""
    if _throughout(lambda part: part == np.rint(part), values):
        return 0.0
    with np.errstate(over="ignore", under="ignore"):
        return _SINGLE if _throughout(lambda part: part == part.astype(np.float32), values) else _DOUBLE


def _sizes(values: np.ndarray, share: float) -> np.ndarray:
    """What each of an RDM's finite distances (pairs,) has its rounding from: its own size, or that of the largest."""
    sizes = np.abs(values)
    # 1 − similarity is a multiple of the last place of 1; two places more, as the largest may be as much as 2
    digits = (24 if share == _SINGLE else 53) + 2 - int(np.frexp(sizes.max())[1])

    def is_multiple(part: np.ndarray) -> np.ndarray:
        places = np.ldexp(part, digits)
        multiple: np.ndarray = places == np.rint(places)
        return multiple

    return np.full_like(sizes, sizes.max()) if _throughout(is_multiple, values) else sizes


def _throughout(test: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> bool:
    # a few of them say no for nearly all RDMs
    return bool(test(values[:: len(values) // 64 + 1]).all() and test(values).all())


def lack_of_geometry(values: np.ndarray, method: str) -> str:
    """Say why an RDM (pairs,) cannot be compared by a method: ``is constant (every distance is 1)``; empty if it can.

    The cosines need a distance other than 0, all other methods but ``mse`` two that differ.
    """
    measured = values[~np.isnan(values)]
    if len(measured) < 2:
        return f"has {len(measured)} measured pairs, fewer than the 2 that a comparison needs"
    if method == "mse":
        return ""
    if not measured.any():
        return "is zero for every pair"
    if not method.startswith("cosine") and is_constant(measured):
        return f"is constant (every distance is {measured[0]:.6g})"
    return ""


def lacking_geometry(rdms: np.ndarray, names: Sequence[str], method: str) -> dict[str, str]:
    """The names of those RDMs (rdms, pairs) that cannot be compared by a method, each with what is wrong with it."""
    lacks = {name: lack_of_geometry(rdm, method) for name, rdm in zip(names, rdms, strict=True)}
    return {name: lack for name, lack in lacks.items() if lack}


def describe_lacking(lacking: Mapping[str, str]) -> str:
    """Write RDMs without geometry for a message: ``'conv1', which is constant (…), and 'fc', which is zero …``."""
    shown = [f"{name!r}, which {lack}" for name, lack in list(lacking.items())[:3]]
    return "; ".join(shown) + (f"; and {len(lacking) - 3} more" if len(lacking) > 3 else "")


def check_geometry(rdms: np.ndarray, names: Sequence[str], method: str, what: str) -> None:
    """Raise a ValueError that names the RDMs (rdms, pairs) which cannot be compared by a method, if there are any."""
    if lacking := lacking_geometry(rdms, names, method):
        raise ValueError(
            f"{what} without a geometry to compare by {method!r}: {describe_lacking(lacking)}; leave these out"
        )
