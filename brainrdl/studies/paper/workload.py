"""The epochs that a paper's study still has to train."""

from collections.abc import Sequence
from pathlib import Path

from brainrdl.studies.paper.arms import TEACHER
from brainrdl.studies.paper.runs import CHOICE_SEED, StudyRuns
from brainrdl.studies.paper.study import Row
from brainrdl.studies.paper.training import Arm


def epochs_left(runs: StudyRuns, rows: Sequence[Row]) -> int:
    """Count the epochs of all training runs that a study needs and that are not done, tries and teachers among them.

    Where one is under way, its epochs count as a whole.
    """
    study, recipe, request = runs.study, runs.recipe, runs.request
    trainings: dict[Path, int] = {}

    def add(row: Row) -> None:
        folder = request.out / "runs" / row.name
        if folder in trainings:
            return
        arm = study.arm(row.arm)
        trainings[folder] = recipe.teacher_epochs if row.of_teacher else recipe.epochs
        if row.of_teacher:
            choose(arm, row.teacher, row.labels)
            return
        choose_student(arm, row.labels)
        if row.teacher:
            teach(row.teacher, runs.teacher_seed(row.seed), row.labels)

    def teach(kind: str, seed: int, labels: int | None = None) -> None:
        add(Row(TEACHER, seed, kind, labels if kind == "labels" else None))

    def choose_student(arm: Arm, labels: int | None) -> None:
        kind = study.choice_teacher if arm.taught else ""
        if choose(arm, kind, None if labels is None else runs.labels_for_choice(labels)) and kind:
            teach(kind, 0)
        if arm.baseline is not None:
            choose_student(study.arm(arm.baseline), labels)

    def choose(arm: Arm, kind: str, labels: int | None) -> bool:
        """Add an arm's tries; False where there is nothing to choose, or it is chosen."""
        row = Row(arm.name, CHOICE_SEED, kind, labels)
        folder, n = runs.choice_folder(row), len(arm.candidates_of(request.alphas, request.tries))
        if n == 1 or (folder / "choice.json").exists():
            return False
        epochs = recipe.teacher_epochs if row.of_teacher else recipe.epochs
        for number in range(n):
            trainings[folder / str(number)] = min(epochs, recipe.choice_epochs or epochs)
        return True

    for row in rows:
        add(row)
    return sum(epochs for folder, epochs in trainings.items() if not (folder / "run.json").exists())
