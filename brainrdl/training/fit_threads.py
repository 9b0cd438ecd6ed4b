"""The CPU threads of a fit: chosen once, at its first update, and those of a checkpoint when it is resumed."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self, final

import torch
from torch import Tensor, nn

from brainrdl.features.work import work_of
from brainrdl.threads import Threads, choose_threads, limited, settled, usable_cores

_log = logging.getLogger(__name__)


@final
class FitThreads:
    """A context in which a fit computes on as many threads as were chosen; torch's number is restored behind it.

    Until the first update there is one thread: a resumed run is prepared as it was at first, bitwise.
    """

    def __init__(self, asked: int | None, device: torch.device) -> None:
        self.chosen: Threads | None = settled(asked)
        if self.chosen is None and device.type != "cpu":
            self.chosen = Threads(torch.get_num_threads(), "torch's own number, as a GPU computes")
        self._stack = ExitStack()
        self._before = torch.get_num_threads()

    def __enter__(self) -> Self:
        self._stack.enter_context(limited(1 if self.chosen is None else self.chosen.number))
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def resume(self, number: int | None) -> None:
        """Take the number of the training that a checkpoint is of, unless another was said or there are fewer cores."""
        if self.chosen is None and number is not None and number <= usable_cores():
            self._take(Threads(number, "as in the training that is resumed"))

    def decide(self, networks: Sequence[nn.Module], images: Sequence[Tensor]) -> None:
        """Choose by what the networks do with the images of an update, unless it is decided."""
        if self.chosen is None:
            work = sum(work_of(network, part) for network in networks for part in images)
            with limited(self._before):  # what the process has is chosen from
                chosen = choose_threads(work=work)
            self._take(chosen)

    def _take(self, threads: Threads) -> None:
        self.chosen = threads
        torch.set_num_threads(threads.number)
        _log.info("%s", threads)
