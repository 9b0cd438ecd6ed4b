"""One source of randomness per purpose, so that an added term shifts none of the others.

``nn.Dropout`` and most loaders draw from torch's global generators and take no other. Hence each purpose owns a saved
state of the global generators, which is swapped in around that purpose and out again behind it. What is drawn by other
means (NumPy, ``random``, a data set's own generator) is left as it comes, and its state saved and restored.
"""

import json
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from brainrdl.arguments import name_some

GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
"""Types of the generators that a data set may own."""

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
        self.outside = OutsideStates()

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
        return {"purposes": dict(self._states), "pairs": self.pairs.get_state(), "outside": self.outside.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the states of a checkpoint."""
        # generators take their states from the CPU, wherever the checkpoint was read to
        self._states = {purpose: [part.cpu() for part in parts] for purpose, parts in state["purposes"].items()}
        self.pairs.set_state(state["pairs"].cpu())
        if "outside" in state:  # older checkpoints have none
            self.outside.load_state_dict(state["outside"])

    def _read(self) -> list[Tensor]:
        """States of the global generators: the CPU's, then the GPU's where it trains on one."""
        on_gpu = [torch.cuda.get_rng_state(self._device)] if self._device.type == "cuda" else []
        return [torch.get_rng_state(), *on_gpu]

    def _write(self, state: list[Tensor]) -> None:
        torch.set_rng_state(state[0])
        # a checkpoint of a CPU has no state for the GPU it is resumed on
        if self._device.type == "cuda" and len(state) > 1:
            torch.cuda.set_rng_state(state[1], self._device)


@final
class OutsideStates:
    """Random states that are not torch's global ones: NumPy's, Python's, and those of the generators given, by place.

    They are not reseeded, as torch's are: a data set draws what its user seeded it to draw.
    """

    def __init__(self, generators: Mapping[str, Any] | None = None) -> None:
        # the system's own have no state
        self._generators = {p: g for p, g in (generators or {}).items() if not isinstance(g, random.SystemRandom)}
        self._began = self.read()
        self._passes: dict[str, dict[str, Any]] = {}

    def read(self) -> dict[str, Any]:
        """All states by place, each as its generator has it."""
        numpy = np.random.get_state(legacy=False)  # noqa: NPY002 - the one that data sets draw from
        states = {"numpy": numpy, "random": random.getstate()}
        return states | {place: _state_of(generator) for place, generator in self._generators.items()}

    def write(self, states: Mapping[str, Any]) -> None:
        """Set all states that are given, of generators that are there."""
        for place, state in states.items():
            if place == "numpy":
                np.random.set_state(state)  # noqa: NPY002
            elif place == "random":
                random.setstate(state)
            elif place in self._generators:
                _set_state(self._generators[place], state)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Leave all states behind the block as they were before it."""
        before = self.read()
        try:
            yield
        finally:
            self.write(before)

    def begin_pass(self, purpose: str) -> None:
        """Note the states that a pass begins with, for one that is read again up to where a run was interrupted."""
        self._passes[purpose] = self.read()

    def begin_again(self, purpose: str) -> None:
        """Set the states that a purpose's pass began with, where a checkpoint has them."""
        self.write(self._passes.get(purpose, {}))

    def state_dict(self) -> dict[str, Any]:
        """The states that something has drawn from since the run began, as JSON, for a checkpoint."""
        # of the others nothing is known to a run, and nothing to be restored in another process
        now, began = self.read(), self._began
        drawn = [place for place in now if as_json(now[place]) != as_json(began[place])]
        passes = {p: {k: as_json(v) for k, v in states.items() if k in drawn} for p, states in self._passes.items()}
        return {"now": {place: as_json(now[place]) for place in drawn}, "passes": passes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the states of a checkpoint; a warning names those of generators that are there no longer."""
        gone = [place for place in state["now"] if place not in self.read()]
        if gone:
            warnings.warn(
                f"the checkpoint has a random state of {name_some(gone)}, and the loaders have no such generator: what "
                "it draws cannot go on as it would have",
                stacklevel=5,
            )
        self.write({place: self._from_json(place, text) for place, text in state["now"].items()})
        self._passes = {
            purpose: {place: self._from_json(place, text) for place, text in states.items()}
            for purpose, states in state["passes"].items()
        }

    def _from_json(self, place: str, text: str) -> Any:
        state = json.loads(text)
        generator = self._generators.get(place)
        if place == "numpy" or isinstance(generator, np.random.Generator | np.random.RandomState):
            return _arrays(state)
        return torch.tensor(state, dtype=torch.uint8) if isinstance(generator, torch.Generator) else _tuples(state)


def as_json(state: Any) -> str:
    """A random state as text, equal for equal ones."""
    return json.dumps(state, default=_listed)


def _state_of(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state(legacy=False)
    return generator.get_state() if isinstance(generator, torch.Generator) else generator.getstate()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState | torch.Generator):
        generator.set_state(state)
    else:
        generator.setstate(state)


def _listed(value: Any) -> Any:
    """What JSON lacks, as a list or a number."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a random state holds a {type(value).__name__}")


def _arrays(state: Any) -> Any:
    """NumPy's states from JSON: their lists are arrays."""
    if isinstance(state, dict):
        return {name: _arrays(part) for name, part in state.items()}
    return np.array(state, dtype=np.uint64) if isinstance(state, list) else state


def _tuples(state: Any) -> Any:
    """Python's states from JSON: their lists are tuples."""
    return tuple(map(_tuples, state)) if isinstance(state, list) else state
