"""The first look, before the first update: what is shown to student and teachers is what distances can be made of."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from brainrdl.features.answers import BEFORE, check_answers, check_first_axis
from brainrdl.features.networks import copy_of
from brainrdl.features.recorder import Recorder, kept_modes
from brainrdl.teachers.base import NothingToCompare
from brainrdl.teachers.network import NetworkTeacher
from brainrdl.terms.base import Batch, Term
from brainrdl.training.dead_layers import DeadLayers
from brainrdl.training.update import show


def look(
    batches: Iterator[Batch],
    terms: Sequence[Term],
    student: nn.Module,
    recorder: Recorder,
    generator: torch.Generator,
    *,
    dead: DeadLayers,
) -> None:
    """Let the terms of a stream see its first batch, and check it; nothing is learned: eval mode, no gradient.

    A term that has nothing to compare in it sees the next, and so on; the error is raised if no batch is left.
    """
    waiting = list(terms)
    missed: dict[Term, NothingToCompare] = {}
    for number, batch in enumerate(batches):
        images = batch.images.clone() if number == 0 else batch.images
        with kept_modes(student), torch.no_grad():
            seen, features = show(batch, student.eval(), recorder)
        for layer in {layer for term in waiting if term.teachers() for layer in term.layers}:
            check_first_axis(features[layer], len(images), f"the student's layer {layer!r}")
        for term in list(waiting):
            try:
                term.setup(features, seen, generator)
                waiting.remove(term)
            except NothingToCompare as error:
                missed.setdefault(term, error)
        if number == 0:
            _check(seen, features, images, terms, student)
            dead.look(features, images, BEFORE)
        if not waiting:
            return
    raise missed[waiting[0]]


def _check(
    seen: Batch, features: Mapping[str, Tensor], images: Tensor, terms: Sequence[Term], student: nn.Module
) -> None:
    """Check a batch that student and teachers have seen; `images` are a copy from before."""
    if not _same(seen.images, images):
        raise ValueError(
            "the student, a teacher or a term writes to the images of the batch: whatever is given them after it gets "
            "others, and a loader that hands out its own tensors has other data from then on; let it work on a copy"
        )
    # what has no teacher and no head (a term that watches) compares nothing
    judged = [term for term in terms if term.teachers() or len(term.heads)]
    layers = dict.fromkeys(layer for term in judged for layer in term.layers)
    if judged:
        check_answers(_copy(student), layers, images, "the student", output=not all(term.layers for term in judged))
    for teacher, names in seen.asked.items():
        if isinstance(teacher, NetworkTeacher):
            teacher.judge(seen.images, seen.ask(teacher, names))


def _same(after: Tensor, before: Tensor) -> bool:
    """The same values, NaN among them."""
    return torch.equal(after, before) or bool(((after == before) | ((after != after) & (before != before))).all())


def _copy(student: nn.Module) -> nn.Module:
    """A copy of the student, which may keep what it sees; itself where it cannot be copied."""
    try:
        return copy_of(student)
    except Exception:  # whatever a module holds that cannot be copied
        return student
