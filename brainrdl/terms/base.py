"""Terms: what is added to the task loss (Eq. 5), representational distance learning above all."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from brainrdl.features.recorder import layer_names
from brainrdl.rdms.condensed import sample_pairs
from brainrdl.teachers.base import RDMTeacher
from brainrdl.terms.alpha import Alpha, Schedule, check_alpha, check_schedule
from brainrdl.terms.died import warn_not_finite

STREAMS = ("task", "stimuli")


@dataclass(frozen=True)
class Batch:
    """An update, as a term sees it.

    Attributes
    ----------
    images : Tensor (n, ...)
        Images, the very batch that the student got.
    labels : Tensor (n,) or None
        Class labels, None on the stimulus stream.
    ids : tuple of str or None
        Stimulus ids, None where the stream has none.
    output : Tensor or None
        Output of the student.
    generator : torch.Generator
        Source of the pair draws.
    asked : dict
        Names asked of each teacher so far, shared by the batches of a stream: a term that asks in its `setup` already
        lets the first question of every update fetch its answers too.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> batch = rdl.Batch(torch.zeros(4, 2), generator=torch.Generator().manual_seed(0))
    >>> batch.pairs(3) is batch.pairs(3)
    True
    """

    images: Tensor
    labels: Tensor | None = None
    ids: tuple[str, ...] | None = None
    output: Any = None
    generator: torch.Generator | None = None
    asked: dict[RDMTeacher, tuple[str, ...]] = field(default_factory=dict, repr=False)
    _pairs: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)
    _answers: dict[RDMTeacher, dict[str, Tensor]] = field(default_factory=dict, repr=False)
    _compared: dict[tuple["Term", str], Tensor] = field(default_factory=dict, repr=False)
    _watched: bool = field(default=False, repr=False)  # whoever made it refuses losses that are not finite

    def __len__(self) -> int:
        return len(self.images)

    def pairs(self, n_pairs: int, n: int | None = None) -> Tensor | None:
        """Draw a random subset P of the pairs, once per update: every term and layer gets the same.

        Parameters
        ----------
        n_pairs : int
            Number of pairs; smaller subsets are part of larger ones.
        n : int, optional
            Number of rows, the batch's stimuli if absent; fewer where several stimuli make a row.

        Returns
        -------
        Tensor (n_pairs, 2) or None
            Pairs of rows, on the images' device; None, which means all, where there are no more than `n_pairs`.
        """
        n = len(self) if n is None else n
        total = n * (n - 1) // 2
        if n_pairs >= total:
            return None
        if (n, n_pairs) in self._pairs:
            return self._pairs[n, n_pairs]
        if (n, total) not in self._pairs:
            self._pairs[n, total] = sample_pairs(n, total, self.generator)
        # not waiting: the host would stand still until the device has done all that it was given
        self._pairs[n, n_pairs] = self._pairs[n, total][:n_pairs].to(self.images.device, non_blocking=True)
        return self._pairs[n, n_pairs]

    def drawn(self) -> dict[tuple[int, int], Tensor]:
        """The subsets of pairs drawn so far: (number of rows, number of pairs) → pairs."""
        return {(n, size): drawn for (n, size), drawn in self._pairs.items() if size < n * (n - 1) // 2}

    def ask(self, teacher: RDMTeacher, layers: Iterable[str]) -> dict[str, Tensor]:
        """Ask a teacher about the batch, once per update however many terms ask.

        Parameters
        ----------
        teacher : RDMTeacher
            Teacher that is asked.
        layers : list of str
            Names to ask for; ``"output"`` is a network teacher's output.

        Returns
        -------
        dict of Tensor
            Features of a network in their own shape, condensed RDMs of any other teacher: what ``distances`` takes.
        """
        known = self.asked.get(teacher, ())
        layers = tuple(layers)
        names = tuple(dict.fromkeys((*known, *layers)))
        # names asked for late are fetched with all others again: a teacher's answers are those of one pass
        if teacher not in self._answers or not set(layers) <= set(self._answers[teacher]):
            self.asked[teacher] = names
            self._answers[teacher] = teacher.observe(self.images, self.ids, names)
        return {layer: self._answers[teacher][layer] for layer in layers}

    def note(self, term: "Term", layer: str, pairs: Tensor | int) -> None:
        """Note how many pairs a term's value for a layer compares: of none, it is left out of the term's mean.

        Parameters
        ----------
        term : Term
            Term that gives the value.
        layer : str
            Student layer.
        pairs : Tensor () or int
            Number of pairs, 0 where the value is a constant that says nothing of this batch.
        """
        self._compared[term, layer] = torch.as_tensor(pairs, device=self.images.device)

    def told(self, term: "Term", values: dict[str, Tensor]) -> dict[str, Tensor]:
        """A term's values as they are; those that are not finite are warned of, in a loop that does not look itself."""
        if not self._watched:
            named = {f"the {term.name} term in layer {layer!r}": value.detach() for layer, value in values.items()}
            warn_not_finite(named, stacklevel=3)
        return values

    def noted(self, term: "Term") -> dict[str, Tensor]:
        """The numbers of pairs () that a term has noted: student layer → number."""
        return {layer: pairs for (of, layer), pairs in self._compared.items() if of is term}


class Term(ABC):
    """Something added to the task loss. Subclass it to train toward something new.

    Parameters
    ----------
    layers : sequence of str
        Layers of the student, whose features the term needs.
    alpha : float, dict of float or schedule
        Weight α in Eq. 5, for all layers, for each, or over the epochs.
    stream : {"task", "stimuli"}
        Stream on whose batches the term is computed.

    Raises
    ------
    ValueError
        If `layers` is a single string or names one twice, `alpha` has other layers or is negative, `stream` is unknown.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> class Activity(rdl.Term):
    ...     name = "activity"
    ...     def __call__(self, features, batch, generator):
    ...         return {layer: features[layer].square().mean() for layer in self.layers}
    >>> Activity(["fc"], alpha=0.1).layers
    ('fc',)
    """

    name: str = "term"
    fewest: int = 1
    """Number of stimuli that a batch needs for a value that says anything."""

    def __init__(self, layers: Sequence[str], *, alpha: Alpha | Schedule = 1.0, stream: str = "task") -> None:
        self.layers = layer_names(layers)
        if stream not in STREAMS:
            raise ValueError(f"unknown stream {stream!r}; known are: {', '.join(STREAMS)}")
        if isinstance(alpha, Mapping) and set(alpha) != set(layers):
            raise ValueError(f"alpha is given for {sorted(alpha)}, but the term's layers are {sorted(layers)}")
        self.alpha = check_schedule(alpha) if callable(alpha) else check_alpha(alpha)
        self.stream = stream
        self.heads = nn.ModuleDict()

    @abstractmethod
    def __call__(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the term.

        Parameters
        ----------
        features : dict of Tensor (n, ...)
            Features of the student's `layers`, in the layer's own shape.
        batch : Batch
            Batch of the update.
        generator : torch.Generator
            Source of anything random.

        Returns
        -------
        dict of Tensor ()
            Student layer (``"output"`` for its output) → value, before α.
        """

    def setup(self, features: Mapping[str, Tensor], batch: Batch, generator: torch.Generator) -> None:  # noqa: B027
        """Build heads for features of this shape, none by default; called once, before the optimiser exists.

        torch's global generator is set for the purpose, so that heads do not shift any other random draw.
        """

    def parameters(self) -> Iterator[nn.Parameter]:
        """The heads' parameters, never a teacher's."""
        return self.heads.parameters()

    def teachers(self) -> tuple[RDMTeacher, ...]:
        """The teachers it asks."""
        return ()

    def describe(self) -> dict[str, Any]:
        """Name what identifies the term in a manifest; JSON-able."""
        return {"layers": list(self.layers), "stream": self.stream}


def check_targets(layers: Any) -> None:
    """Raise a TypeError unless `layers` maps student layers to teacher names."""
    if not isinstance(layers, Mapping):
        raise TypeError(
            f"layers must map student layers to teacher names, got a {type(layers).__name__}; write "
            "{'student layer': 'teacher name'}"
        )
    for layer, name in layers.items():
        if not isinstance(layer, str) or not isinstance(name, str):
            raise TypeError(
                f"layers maps {layer!r} to {name!r}; both are names, and names are strings: "
                f"{{{str(layer)!r}: {str(name)!r}}}"
            )


def head_key(layer: str) -> str:
    """The name under which a layer's head is registered."""
    # a head's name may hold no dot, nor be an attribute of ModuleDict's ("values", "type")
    return layer.replace(".", "/") + "/"
