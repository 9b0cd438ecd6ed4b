"""What a checkpoint's configuration does not say by itself: what the first batches held, and what functions compute."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch

from brainrdl.features.networks import held_in_eval
from brainrdl.training.compiled import PYTHON
from brainrdl.training.functions import ABSENT, Facts, other_functions

if TYPE_CHECKING:
    from brainrdl.training.run import TrainingRun  # which calls this

# checkpoints that are written with a look at what the run has changed: the first ones show it
_LOOKS = 5


@final
class Fingerprint:
    """Checksums of a run's first batches, and facts of the user's functions and classes in it.

    The batches are those that hold the first 512 images of a stream's first pass, at most 32 of them: what differs
    behind them alone is not seen. Nothing is read for it before the first update: batches are noted as the run reads
    them.
    """

    def __init__(self, run: "TrainingRun", optimizer: torch.optim.Optimizer) -> None:
        self._run = run
        self._optimizer = optimizer
        self._began = self._facts()
        self._changing: dict[str, None] = {}  # places that the run itself changes, in their order
        self._looks = _LOOKS
        self._held = held_in_eval(run.setup.student)
        streams = {"task": run.task, "stimuli": run.stimuli}
        self._streams = {name: passes for name, passes in streams.items() if passes is not None}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it; JSON-able."""
        self._note_changing()
        streams = {
            name: {"batches": passes.first.batches, "length": passes.length, "untold": passes.first.untold}
            for name, passes in self._streams.items()
        }
        functions = {"python": PYTHON, "found": self._began.found, "changing": list(self._changing)}
        return {"functions": functions, "streams": streams, "eval": self._held, "cannot be told": self._untold()}

    def check(self, stored: Mapping[str, Any] | None, path: str | Path) -> None:
        """Compare with that of a checkpoint; ValueError for another run, UserWarning for what cannot be told.

        The first batches are read once more, in states that the checkpoint's replace.
        """
        if stored is None:
            for passes in self._streams.values():
                passes.first = passes.read_first()
            warnings.warn(
                f"{path} was written by a version that noted no checksums: whether the run is resumed on the same "
                "images, labels, ids and functions cannot be told",
                stacklevel=4,
            )
            return
        self._changing |= dict.fromkeys(stored["functions"]["changing"])
        lines = self._other_functions(stored["functions"])
        # absent where it was written by a version that did not note it
        if (held := stored.get("eval", self._held)) != self._held:
            there, here = (", ".join(map(repr, names)) or "none" for names in (held, self._held))
            lines.append(f"the student's modules in eval mode were {there} there and are {here} here")
        for name, passes in self._streams.items():
            lines += self._other_batches(name, passes, stored["streams"].get(name))
        if lines:
            raise ValueError(
                f"{path} belongs to a run on other data, or with other functions: {'; '.join(lines[:5])}"
                f"{f' and {len(lines) - 5} more' if len(lines) > 5 else ''}. Restore them to resume it, or name "
                "another path to start over"
            )
        untold = dict(stored["cannot be told"]) | self._untold()
        if stored["functions"]["python"] != PYTHON:
            untold["functions"] = f"compiled by {stored['functions']['python']} there and {PYTHON} here"
        if untold:
            reasons = "; ".join(f"{place} ({why})" for place, why in untold.items())
            warnings.warn(f"{path}: whether these are as they were cannot be told: {reasons}", stacklevel=4)

    def _note_changing(self) -> None:
        """Find what the run itself changes, a counter or a list of losses: no setting, and not compared."""
        if self._looks == 0:
            return
        self._looks -= 1
        began, now = self._began.found, self._facts().found
        for place in {**began, **now}:
            if began.get(place, ABSENT) != now.get(place, ABSENT):
                # of what grows or shrinks, all entries
                self._changing[place if place in began and place in now else place.rpartition(".")[0]] = None

    def _untold(self) -> dict[str, str]:
        untold = dict(self._began.untold)
        untold |= {f"the {name}'s batches": p.first.untold for name, p in self._streams.items() if p.first.untold}
        return untold

    def _facts(self) -> Facts:
        """The facts of everything of the user's that is called in an update."""
        run, student = self._run, self._run.setup.student
        apart: list[tuple[object, str]] = [(module, "the student") for module in student.modules()]
        apart += [(tensor, "the student") for tensor in (*student.parameters(), *student.buffers())]
        apart += [(teacher, f"teacher {number}") for number, teacher in enumerate(run.teachers)]
        facts = Facts(apart)
        facts.read(run.setup.task_loss, "task_loss")
        facts.modules(student, "student")
        for name, term in run.terms.items():
            facts.own(term, f"terms.{name}", ("alpha", "heads"))
        for number, teacher in enumerate(run.teachers):
            facts.own(teacher, f"teachers.{number}", ())
        facts.own(self._optimizer, "optimizer", ("step",))
        if run.scheduler is not None:
            facts.own(run.scheduler, "scheduler", ())
        return facts

    def _other_functions(self, stored: Mapping[str, Any]) -> list[str]:
        if stored["python"] != PYTHON:
            return []
        return other_functions(stored["found"], self._began.found, stored["changing"])

    def _other_batches(self, name: str, passes: Any, stored: Mapping[str, Any] | None) -> list[str]:
        if stored is None:
            return []
        if stored["length"] != passes.length:
            return [f"a pass over the {name} has {stored['length']} batches there and {passes.length} here"]
        passes.first = passes.read_first()
        lines: list[str] = passes.first.differences(stored["batches"], name)
        if not lines:
            return []
        sized = [line for line in lines if " images there and " in line]
        # a loader that never gives the same twice has not changed
        again = passes.read_first()
        if again.differences(passes.first.batches, name):
            passes.first.untold = "its loader gives other batches each time it is read"
        return sized if stored["untold"] or passes.first.untold else lines
