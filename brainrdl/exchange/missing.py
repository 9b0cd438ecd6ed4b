"""Words for what a file of RDMs does not say, and its user has to."""

from collections.abc import Mapping, Sequence
from typing import final

from brainrdl.arguments import name_some
from brainrdl.rdms.layout import METRICS

LABELS = {"stimuli": "the stimulus ids", "names": "the names of the RDMs"}
"""What each kind of labels is called in an error."""


@final
class MissingError(ValueError):
    """The error of a file that lacks what only its user can say, all of it at once.

    `beside` names what is missing too, whichever of the file's variables is chosen.
    """

    def __init__(self, message: str, beside: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.beside = tuple(beside)


PLAIN = ("stimuli", "metric")
"""Facts that a plain array does not state."""


def missing_labels(what: str, fields: Mapping[str, Sequence[str]], count: int) -> str:
    """Ask for ids or names, `count` of them, or for the one of the file's `fields` that holds them."""
    if fields:
        return (
            f"does not say which of its fields holds {LABELS[what]}: {name_some(fields)}; choose one by {what}=, such "
            f"as {next(iter(fields))!r}"
        )
    return f"does not hold {LABELS[what]}; give {what}=, {count} strings in the file's order"


def missing_order(n_pairs: int) -> str:
    """Ask for the order of the pairs in vectors."""
    return (
        f"holds vectors of {n_pairs} pairs, but not their order; give order=: 'row-major' for SciPy's and MATLAB's "
        "squareform, 'column-major' for MATLAB's rdm(triu(true(n), 1)) and nilearn's lower triangles"
    )


def missing_metric(foreign: str | None) -> str:
    """Ask for the metric, which the file may call by a name that is none of ours."""
    called = f", and calls it {foreign!r}, which is none of them" if foreign else ""
    return (
        f"does not say by a known name what the distances are{called}; give metric=, one of {', '.join(METRICS)} "
        "('undeclared' where it is not known)"
    )
