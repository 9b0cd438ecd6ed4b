"""The published numbers, to stand beside ours.

McClure, P. and Kriegeskorte, N. (2016). Representational distance learning for deep neural networks. Frontiers in
Computational Neuroscience 10, 131. Tables 2, 3 and 5. Arms bear the names that ``results.csv`` gives them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, combinations

ARMS = ("plain", "teacher", "finetuning", "deep_supervision", "hints", "rdl")
"""The paper's methods, in the order of its tables."""


@dataclass(frozen=True)
class PublishedTest:
    """One McNemar exact test, as printed."""

    p: float  # two-sided, rounded to two decimals, not corrected for the number of tests: 0.0 is "below .005"
    better: str  # the arm that the arrow points to where p < .05; empty where there is no arrow


@dataclass(frozen=True)
class PublishedStudy:
    """The results of one study in the paper."""

    train_size: int  # images that a student is trained on, as the text says
    teacher: str  # the kind of teacher, as results.csv calls it, that taught its students
    test_errors: Mapping[str, float]  # in percent, by arm (Table 3)
    tests: Mapping[tuple[str, str], PublishedTest]  # each pair once, in the order of ARMS (Tables 2 and 5)
    places: Mapping[str, str]  # where the paper shows what a section of the report shows, by the section's id
    teacher_error: float | None = None  # of a teacher with test images of its own; else it stands in Table 3

    def test(self, first: str, second: str) -> PublishedTest | None:
        """Look up the test of two arms in either order; None where the paper has none."""
        return self.tests.get((first, second)) or self.tests.get((second, first))

    def taught_by(self, kind: str) -> bool:
        """Tell if the paper has such students: taught by its teacher, or (with an empty `kind`) by none."""
        return kind in ("", self.teacher)


def _tests(errors: Mapping[str, float], *triangle: tuple[float, ...]) -> dict[tuple[str, str], PublishedTest]:
    """Pair the arms, in the order of their errors; where p < .05 the paper's arrow points to the smaller error."""
    pairs = zip(combinations(errors, 2), chain(*triangle), strict=True)
    return {pair: PublishedTest(p, min(pair, key=errors.__getitem__) if p < 0.05 else "") for pair, p in pairs}


_MNIST = dict(zip(ARMS, (0.63, 0.56, 0.48, 0.55, 0.56, 0.49), strict=True))
_CIFAR100 = {"plain": 30.68, "finetuning": 38.75, "deep_supervision": 29.46, "hints": 29.37, "rdl": 28.77}

PAPER: Mapping[str, PublishedStudy] = {
    "mnist": PublishedStudy(
        train_size=50_000,
        teacher="paper",
        test_errors=_MNIST,
        tests=_tests(
            _MNIST,
            (0.38, 0.00, 0.11, 0.34, 0.01),
            (0.01, 0.66, 0.89, 0.20),
            (0.14, 0.04, 0.63),
            (0.64, 0.39),
            (0.17,),
        ),
        places={
            "errors": "Table 3",
            "tests": "Table 2",
            "output": "Figure 1a",
            "rdms": "Figure 3",
            "curves": "Figure 2",
            "map": "Figure 4",
        },
    ),
    "cifar100": PublishedStudy(
        train_size=50_000,
        teacher="cifar10",
        teacher_error=8.0,
        test_errors=_CIFAR100,
        tests=_tests(_CIFAR100, (0.00, 0.00, 0.00, 0.00), (0.00, 0.00, 0.00), (0.86, 0.08), (0.05,)),
        places={
            "errors": "Table 3",
            "tests": "Table 5",
            "output": "Figure 1b",
            "curves": "Figure 5",
            "map": "Figure 6",
        },
    ),
}
"""By the name of the study."""


def published_error(study: str, arm: str, teacher: str) -> float | None:
    """Look up the paper's test error of a method in percent; None where it has none, as for other kinds of teacher."""
    if study not in PAPER or not PAPER[study].taught_by(teacher):
        return None
    return PAPER[study].test_errors.get(arm)
