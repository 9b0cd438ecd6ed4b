"""The fits of a study as tasks, which several processes may do in parallel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from brainrdl.inference.splits import Split
from brainrdl.studies.brain.arms import Arm, FittedArm, Fold, Student, arms_in
from brainrdl.studies.brain.outcomes import Outcome
from brainrdl.studies.brain.runs import FitRuns


@dataclass(frozen=True, eq=False)
class FitTask:
    """One fit that is kept, to be made by whichever process comes first."""

    arm: FittedArm
    fitted: str
    split: Split
    seed: int
    students: bool

    @property
    def name(self) -> str:
        """Name of the fit, as a log has it."""
        return f"{self.arm.name}-seed{self.seed} of {self.fitted}, {self.split.scheme}, {self.split.name}"

    def done(self, runs: FitRuns) -> bool:
        """Tell if the fit is there already."""
        name = self._fold(runs).file(self.arm.name, self.seed)
        return (runs.folder / "fits" / f"{name}.npz").exists()

    def make(self, runs: FitRuns) -> Outcome:
        """Make the fit, or read it where it is done."""
        return self.arm.fit(self._fold(runs), self.seed)

    def _fold(self, runs: FitRuns) -> Fold:
        return Fold(runs, self.fitted, self.split, self.students)


def fit_tasks(runs: FitRuns, arms: Sequence[Arm], folds: Mapping[tuple[str, str], Sequence[Split]]) -> list[FitTask]:
    """List the fits that can be made in parallel, by (fitted study, scheme), split, arm and seed."""
    # in the order in which one process would make them, so that what is needed first is made first
    tasks = []
    for (fitted, scheme), splits in folds.items():
        in_scheme = arms_in(arms, scheme)
        students = any(isinstance(arm, Student) for arm in in_scheme)
        fitted_arms = [arm for arm in in_scheme if isinstance(arm, FittedArm)]
        tasks += [
            FitTask(arm, fitted, split, seed, students) for split, arm, seed in product(splits, fitted_arms, runs.seeds)
        ]
    return tasks
