"""What the first batches of a stream hold, so that a run is not resumed on other images, labels or ids."""

from collections.abc import Mapping, Sequence
from typing import Any, final

from torch import Tensor

from brainrdl.identity import digest

# as many batches as hold these images: to read them again costs a resumed run seconds
_IMAGES = 512
_BATCHES = 32


@final
class FirstBatches:
    """Sizes and checksums of the first batches of a stream's first pass, in their order."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []
        self.untold = ""
        """Reason why nothing can be told by them, empty if something can."""

    @property
    def is_complete(self) -> bool:
        """True once no further batch is wanted."""
        return len(self.batches) >= _BATCHES or sum(batch["size"] for batch in self.batches) >= _IMAGES

    def wants(self, place: int) -> bool:
        """Tell if the batch at a place is one of the first, noted or not."""
        return place < len(self.batches) or not self.is_complete

    def note(self, place: int, batch: Any, *, drawn_outside: bool = False) -> None:
        """Note the batch at a place of the pass; read again, it has to be the same."""
        if not self.wants(place):
            return
        if drawn_outside:
            self.untold = "its loader draws with NumPy, random or a generator of its own"
        found = _contents(batch)
        if place == len(self.batches):
            self.batches.append(found)
        elif found != self.batches[place]:
            self.untold = self.untold or "its loader gives other batches each time it is read"

    def differences(self, stored: Sequence[Mapping[str, Any]], stream: str) -> list[str]:
        """Name in what the batches of another reading, `stored`, differ; one line for each part of a batch."""
        lines: dict[str, str] = {}
        # the shorter of two: a run may have been stopped at its first batch
        for place, (there, here) in enumerate(zip(stored, self.batches, strict=False)):
            if there["size"] != here["size"]:
                return [f"batch {place} of the {stream} has {there['size']} images there and {here['size']} here"]
            for part in ("ids", "images", "labels"):
                if there[part] != here[part]:
                    lines.setdefault(part, f"batch {place} of the {stream} has other {part}")
        return list(lines.values())


def _contents(batch: Any) -> dict[str, Any]:
    """Size and checksums of a batch; of one that is no batch, which is refused where it is used, None."""
    parts = batch if isinstance(batch, Sequence) and not isinstance(batch, str) else ()
    images, *rest = parts or (None,)
    labels, ids = None, None
    for part in rest:
        if isinstance(part, Tensor):
            labels = digest([("", part)])
        elif isinstance(part, Sequence):
            ids = list(map(str, part))
    return {
        "size": len(images) if isinstance(images, Tensor) and images.ndim else 0,
        "images": digest([("", images)]) if isinstance(images, Tensor) else None,
        "labels": labels,
        "ids": ids,
    }
