"""Description of a file of RDMs, which is neither changed nor completed."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from brainrdl.arguments import name_some
from brainrdl.exchange.files import read_parts
from brainrdl.exchange.parts import Given, Order, along_rdm, column_of_names, complete
from brainrdl.rdms.subjects import subjects_of
from brainrdl.rdms.triangles import upper_triangles
from brainrdl.terminal import one_line

_LONGEST = 200


def describe(
    path: str | os.PathLike[str],
    *,
    metric: str | None = None,
    order: Order | None = None,
    variable: str | None = None,
    format: str | None = None,
    subjects: Sequence[str] | str | int | None = None,
    max_bytes: int | None = None,
) -> dict[str, Any]:
    """Describe what a file says of its RDMs, and what it lacks.

    Parameters
    ----------
    path, metric, order, variable, format, max_bytes
        File and its facts as in `read_rdms`; nothing but patterns needs a metric, and nothing an order.
    subjects : sequence of str, int or str, optional
        Names of the people whose RDMs a file without the coordinate ``subject`` holds, how many they are (S1, S2, …),
        or the coordinate that names them.

    Returns
    -------
    dict
        ``names``, ``stimuli``, ``metric`` (None where the file does not say), ``n_rdms``, ``n_stimuli``, ``coords``
        (names), ``attrs``; and one value per RDM in ``missing_pairs`` (NaN), ``negative_pairs``, ``asymmetry`` (the
        largest difference between the two directions of a pair; 0 for vectors), ``diagonal`` (the largest
        magnitude) and ``range`` (lowest and highest distance, None if all are missing).

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_rdms`, but for missing labels and values that are not distances.

    Examples
    --------
    >>> import numpy as np, tempfile, brainrdl as rdl
    >>> from brainrdl.exchange import describe
    >>> rdms = rdl.label_rdms(np.array([[0.2, np.nan, -1.1]]), ["face", "body", "house"], ["IT"], "crossnobis")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rdl.write_rdms(rdms, f"{folder}/rdms.h5")
    ...     found = describe(f"{folder}/rdms.h5")
    >>> found["names"], found["metric"], found["missing_pairs"], found["negative_pairs"]
    (['IT'], 'crossnobis', [1], [1])
    """
    path = Path(path)
    given = Given(metric=metric, order=order, variable=variable, max_bytes=max_bytes)
    parts = read_parts(path, given, format)
    if parts.seal is not None:
        complete(parts, Given(max_bytes=max_bytes), path)  # compares the file's checksum
    if subjects is not None:
        try:
            people = subjects_of(subjects, len(parts.values), along_rdm(parts.coords))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        parts = replace(parts, coords={**parts.coords, "subject": (("rdm",), people)})
    values = parts.values
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path}: the values are of type {values.dtype}; expected real numbers")
    values = values.astype(np.float64)
    try:
        n_stimuli = parts.n_stimuli
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if parts.is_condensed:  # one direction of each pair, and no diagonal
        pairs, asymmetry, diagonal = values, np.zeros(len(values)), np.zeros(len(values))
    else:
        pairs = upper_triangles(values)
        asymmetry = np.nan_to_num(np.abs(pairs - upper_triangles(values.swapaxes(1, 2)))).max(axis=1, initial=0)
        diagonal = np.abs(np.diagonal(values, axis1=1, axis2=2)).max(axis=1)
    names = column_of_names(parts) if parts.names is None else parts.names
    return {
        "names": None if names is None else list(names),
        "stimuli": None if parts.stimuli is None else list(parts.stimuli),
        "metric": parts.metric or parts.foreign_metric,
        "n_rdms": len(values),
        "n_stimuli": n_stimuli,
        "coords": sorted(parts.coords),
        "attrs": dict(parts.attrs),
        "missing_pairs": np.isnan(pairs).sum(axis=1).tolist(),
        "negative_pairs": (pairs < 0).sum(axis=1).tolist(),
        "asymmetry": asymmetry.tolist(),
        "diagonal": diagonal.tolist(),
        "range": [None if np.isnan(row).all() else (np.nanmin(row).item(), np.nanmax(row).item()) for row in pairs],
    }


def describe_as_text(
    path: str | os.PathLike[str],
    *,
    metric: str | None = None,
    variable: str | None = None,
    format: str | None = None,
    subjects: Sequence[str] | str | int | None = None,
    max_bytes: int | None = None,
) -> str:
    """Write `describe` out for reading, one line per RDM; long attributes (provenance) are cut, and come last."""
    found = describe(path, metric=metric, variable=variable, format=format, subjects=subjects, max_bytes=max_bytes)
    stimuli = "no ids in the file" if found["stimuli"] is None else name_some(found["stimuli"])
    lines = [
        f"{path}",
        f"{found['n_rdms']} {'RDM' if found['n_rdms'] == 1 else 'RDMs'} of {found['n_stimuli']} stimuli ({stimuli})",
        f"metric: {found['metric'] or 'not in the file'}",
        f"coordinates: {', '.join(found['coords']) or 'none'}",
    ]
    for row in range(found["n_rdms"]):
        name = repr(found["names"][row]) if found["names"] else f"RDM {row} (no name in the file)"
        span = found["range"][row]
        lines.append(
            f"{name}: {'no pair measured' if span is None else f'{span[0]:.6g} to {span[1]:.6g}'}, "
            f"{found['missing_pairs'][row]} missing and {found['negative_pairs'][row]} negative pairs, "
            + (f"asymmetric by up to {found['asymmetry'][row]:.6g}" if found["asymmetry"][row] else "symmetric")
            + (f", diagonal up to {found['diagonal'][row]:.6g}" if found["diagonal"][row] else "")
        )
    for name, value in found["attrs"].items():
        text = " ".join(str(value).split())
        lines.append(
            f"{name}: {text}" if len(text) <= _LONGEST else f"{name}: {text[:_LONGEST]} … ({len(text)} characters)"
        )
    return "\n".join(map(one_line, lines))
