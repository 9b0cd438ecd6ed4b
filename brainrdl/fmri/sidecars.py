"""What sidecars say of a run: seconds per scan, and the moment of a scan that its volumes show.

Slices are acquired one after the other. Where they were brought to one moment, ``StartTime`` says to which; where they
were not, ``SliceTiming`` says when each was acquired, and their mean is the moment that one model for all fits best.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from brainrdl.files.budget import BudgetError
from brainrdl.files.store import load_json

_LARGEST = 1e300
_UNSTATED = "taken as the start of the scan"


class Sidecar(NamedTuple):
    """A sidecar's file and its content."""

    path: Path
    content: dict[str, Any]


class SliceTime(NamedTuple):
    """The moment of the scan that a run's volumes show, 0 (start) to 1, and where it is from."""

    reference: float
    source: str
    warning: str = ""  # a sentence, where a sidecar says that there is another moment, but not which


def read_sidecar(path: Path) -> Sidecar:
    """Read a sidecar; ValueError, naming it, unless it holds a JSON object."""
    try:
        content = load_json(path, encoding="utf-8-sig")
    except BudgetError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON object ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object (it holds a {type(content).__name__})")
    return Sidecar(path, content)


def repetition_time(sidecars: Sequence[Sidecar], image: Path, expected: str) -> float:
    """Seconds per scan by the first of the sidecars that states it; ValueError if none does, or two contradict."""
    stated = {
        path: content["RepetitionTime"] for path, content in sidecars if content.get("RepetitionTime") is not None
    }
    for path, value in stated.items():
        if not _is_number(value) or not value > 0:
            raise ValueError(f"{path} has RepetitionTime {value!r}; expected seconds as a number")
    if not stated:
        raise ValueError(f"no sidecar of {image} states a RepetitionTime; expected one in {expected}_bold.json")
    first, *others = stated
    # the most specific sidecar applies, but one that says otherwise is a mistake in one of them
    for other in others:
        if abs(stated[other] - stated[first]) > 1e-3 * stated[first]:
            raise ValueError(
                f"{first} has RepetitionTime {stated[first]:g} s, but {other} {stated[other]:g} s; find out which is "
                "right and mend the other"
            )
    return float(stated[first])


def sidecar_beside(image: object) -> list[Sidecar]:
    """The sidecar of an image file, with its name; none of an image in memory."""
    file = image if isinstance(image, str | Path) else getattr(image, "get_filename", lambda: None)()
    if not file:
        return []
    path = Path(file)
    beside = path.with_name(re.sub(r"\.nii(\.gz)?$", "", path.name) + ".json")
    return [read_sidecar(beside)] if beside.is_file() else []


def slice_time(own: Sequence[Sidecar], raw: Sequence[Sidecar], t_r: float, *, is_raw: bool) -> SliceTime:
    """The moment of the scan that an image's volumes show; ValueError where a sidecar's entry cannot be.

    `own` are the sidecars of the image, the nearest first, `raw` those of the raw run; an image that `is_raw` has had
    no correction.
    """
    start = _first(own, "StartTime")
    if start is not None:
        path, seconds = start
        if not _is_number(seconds) or not 0 <= seconds <= t_r:
            raise ValueError(
                f"{path} has StartTime {seconds!r}; expected the seconds from the start of a scan to the moment that "
                f"its volumes show, 0 to {t_r:g}"
            )
        return SliceTime(seconds / t_r, f"StartTime {seconds:g} s of {path.name}")
    corrected = _first(own, "SliceTimingCorrected")
    if corrected is not None and not isinstance(corrected[1], bool):
        raise ValueError(f"{corrected[0]} has SliceTimingCorrected {corrected[1]!r}; expected true or false")
    if corrected is not None and corrected[1]:
        name = corrected[0].name
        return SliceTime(
            0.0,
            f"{name} says that slices were corrected, but not to which moment; {_UNSTATED}",
            f"{name} says that slices were brought to one moment (SliceTimingCorrected), but not to which (StartTime): "
            f"it is {_UNSTATED}; many pipelines take the middle, so state it with slice_time_ref=, 0 to 1",
        )
    timing = _first([*own, *raw], "SliceTiming")
    if timing is not None and (corrected is not None or is_raw):
        path, seconds = timing
        times = seconds if isinstance(seconds, list) else [seconds]
        for slot, value in enumerate(times, start=1):
            if not _is_number(value) or not 0 <= value <= t_r:
                raise ValueError(
                    f"{path} has SliceTiming {value!r} for slice {slot}; expected seconds within the scan, 0 to {t_r:g}"
                )
        if times:
            mean = math.fsum(times) / len(times)
            return SliceTime(mean / t_r, f"mean SliceTiming {mean:g} s of {path.name}, as slices were not corrected")
    return SliceTime(0.0, f"no sidecar states it; {_UNSTATED}")


def _first(sidecars: Sequence[Sidecar], field: str) -> tuple[Path, Any] | None:
    return next(((path, content[field]) for path, content in sidecars if content.get(field) is not None), None)


def _is_number(value: Any) -> bool:
    # JSON's whole numbers may be larger than any float
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
