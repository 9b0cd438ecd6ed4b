"""One source of randomness per purpose, so that an added term shifts none of the others.

``nn.Dropout`` and most loaders draw from torch's global generators and take no other. Hence each purpose owns a saved
state of the global generators, which is swapped in around that purpose and out again behind it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

PURPOSES = ("task order", "task forward", "stimulus order", "stimulus forward", "heads")


def derive_seed(seed: int, *key: object) -> int:
    """Derive the seed of a purpose: a hash, so that neighbouring seeds share nothing.

    Parameters
    ----------
    seed : int
        Seed of the run.
    *key : object
        Purpose; two are the same if their ``str`` are.

    Returns
    -------
    int
        Seed of the purpose, 0 … 2⁶³ − 1.

    Examples
    --------
    >>> from brainrdl.training import derive_seed
    >>> derive_seed(0, "heads") == derive_seed(1, "heads")
    False
    """
    text = "/".join(map(str, (seed, *key)))
    # not hash(): Python salts it anew in every process
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


class RandomStates:
    """Saved states of torch's global generators (CPU and device), one per purpose, and that of the pair draws."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._device = device
        self._states: dict[str, list[Tensor]] = {}
        self._held = False
        for purpose in PURPOSES:
            self.reseed(purpose)
        # a generator, not a state: pairs are drawn by this package's code, which takes one
        self.pairs = torch.Generator().manual_seed(derive_seed(seed, "pairs"))

    def reseed(self, purpose: str, *key: object) -> int:
        """Start a purpose anew from (seed, purpose, key); returns the derived seed."""
        derived = derive_seed(self._seed, purpose, *key)
        before = self._read()
        torch.manual_seed(derived)
        self._states[purpose] = self._read()
        self._write(before)
        return derived

    @contextmanager
    def use(self, purpose: str) -> Iterator[None]:
        """Draw from the purpose's own state within; outside, the global state is as it was."""
        if self._held:  # within `only`
            yield
            return
        before = self._read()
        self._write(self._states[purpose])
        try:
            yield
        finally:
            self._states[purpose] = self._read()
            self._write(before)

    @contextmanager
    def only(self, purpose: str) -> Iterator[None]:
        """Draw from one purpose's state within, whichever are used there: a recorded update cannot swap them."""
        with self.use(purpose):
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def state_dict(self) -> dict[str, Any]:
        """All states, for a checkpoint."""
        return {"purposes": dict(self._states), "pairs": self.pairs.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the states of a checkpoint."""
        # generators take their states from the CPU, wherever the checkpoint was read to
        self._states = {purpose: [part.cpu() for part in parts] for purpose, parts in state["purposes"].items()}
        self.pairs.set_state(state["pairs"].cpu())

    def _read(self) -> list[Tensor]:
        """States of the global generators: the CPU's, then the GPU's where it trains on one."""
        on_gpu = [torch.cuda.get_rng_state(self._device)] if self._device.type == "cuda" else []
        return [torch.get_rng_state(), *on_gpu]

    def _write(self, state: list[Tensor]) -> None:
        torch.set_rng_state(state[0])
        # a checkpoint of a CPU has no state for the GPU it is resumed on
        if self._device.type == "cuda" and len(state) > 1:
            torch.cuda.set_rng_state(state[1], self._device)
