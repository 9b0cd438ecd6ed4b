"""A study is resumed with the code of the networks that it was begun with."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from brainrdl.studies.brain.checks import functions_of
from brainrdl.studies.brain.configuration import Configuration, checked
from brainrdl.studies.brain.study import fit
from brainrdl.studies.folder import claimed
from brainrdl.studies.paper.cifar100 import cifar100_study
from brainrdl.studies.paper.digits import digits_study
from brainrdl.studies.paper.mnist import mnist_study
from brainrdl.training.compiled import PYTHON
from brainrdl.training.functions import facts_of
from brainrdl.training.machine import Machine
from small_study import write_study

NETWORK = '''
import torch
from torch import nn

class Net(nn.Module):
    """A network of the user's."""
    def __init__(self):
        super().__init__()
        self.pool1 = nn.Conv2d(1, 6, 3)
        self.linear = nn.Linear(216, 10)
    def forward(self, x):
        return self.linear(torch.relu(self.pool1(x) - 0.125).flatten(1))

def make():
    return Net()

def with_transform():
    return Net(), lambda image: torch.full((1, 8, 8), 0.5)
'''


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Configuration]:
    """The study, after its user has changed the network's file."""
    study = write_study(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    study |= {"seeds": 1, "arms": ["mixture", "task_only"]}
    study["schemes"] |= {"leave_one_category_out": False, "random": 0}
    study["fit"] |= {"layers": ["pool1"], "updates": [2], "alphas": [0.5]}
    study["primary"] |= {"arm": "task_only", "against": "mixture"}

    def written(old: str = "", new: str = "", function: str = "make") -> Configuration:
        # a module anew: what is compiled is kept by the file's time, to the second
        name = f"users_network_{len(list(tmp_path.glob('users_network_*.py')))}"
        (tmp_path / f"{name}.py").write_text(NETWORK.replace(old, new))
        monkeypatch.delitem(sys.modules, name, raising=False)
        study["student"]["model"] = f"{name}:{function}"
        return checked(study)

    return written


def test_the_code_of_a_student_and_its_transform_is_known(configuration: Callable[..., Configuration]) -> None:
    known = functions_of(configuration())
    assert known["student.Net.forward.constants"] == [0.125, 1]
    assert functions_of(configuration("A network", "The network")) == known
    assert functions_of(configuration("- 0.125", "- 0.25")) != known
    assert functions_of(configuration("relu", "tanh")) != known
    transformed = functions_of(configuration(function="with_transform"))
    assert transformed["transform.constants"] == [[1, 8, 8], 0.5]
    assert functions_of(configuration("0.5", "0.75", "with_transform")) != transformed


@pytest.mark.parametrize("study", [digits_study, mnist_study, cifar100_study])
def test_of_the_packages_own_studies_there_is_nothing_to_note(study: Callable[[], Any]) -> None:
    made = study()
    assert facts_of(networks=made.networks, arms=made.arms, batches=made.batches) == {}


def networks_of(width: int) -> Callable[[Any], Mapping[str, Callable[[], nn.Sequential]]]:
    return lambda splits: {"student": lambda: nn.Sequential(nn.Linear(64, width)), "teacher": lambda: nn.Sequential()}


def test_the_networks_of_a_users_study_are_known() -> None:
    study = digits_study()
    one, other = (facts_of(networks=dataclasses.replace(study, networks=networks_of(n)).networks) for n in (5, 6))
    assert (one.pop("networks.closure.width"), other.pop("networks.closure.width")) == (5, 6)
    assert one == other


def begun(folder: Path, functions: Mapping[str, Any] | None) -> None:
    with claimed(folder, {"a": 1}, functions=functions):
        pass


def test_a_folder_is_taken_for_the_code_it_was_begun_with(tmp_path: Path) -> None:
    begun(tmp_path / "out", {"student.code": "sha256:1", "student.constants": [1.0]})
    begun(tmp_path / "out", {"student.code": "sha256:1", "student.constants": [1.0]})
    with pytest.raises(ValueError) as error:
        begun(tmp_path / "out", {"student.code": "sha256:2", "student.constants": [2.0]})
    assert str(error.value) == (
        f"{tmp_path / 'out'} holds a study with another configuration: student has other code; student.constants is "
        "[1.0] there and [2.0] here. Ask for the same to resume it, or give another out="
    )
    assert json.loads((tmp_path / "out" / "study.json").read_text()) == {
        "a": 1,
        "functions": {"python": PYTHON, "found": {"student.code": "sha256:1", "student.constants": [1.0]}},
    }


def test_what_an_older_folder_or_python_did_not_note_is_said(tmp_path: Path) -> None:
    begun(tmp_path / "older", None)
    begun(tmp_path / "older", {})  # a study without code of the user's: nothing to be told
    functions = {"student.code": "sha256:1"}
    with pytest.warns(UserWarning, match=r"noted no functions") as given:
        begun(tmp_path / "older", functions)
    assert str(given[0].message) == (
        f"{tmp_path / 'older'} was begun by a version that noted no functions: whether the code of its networks is the "
        "same cannot be told"
    )
    begun(tmp_path / "python", functions)
    path = tmp_path / "python" / "study.json"
    path.write_text(path.read_text().replace(PYTHON, "Python 2.7"))
    with pytest.warns(UserWarning, match=r"cannot be told") as given:
        begun(tmp_path / "python", {"student.code": "sha256:2"})
    assert str(given[0].message) == (
        f"{tmp_path / 'python'} was begun with Python 2.7, and this is {PYTHON}: whether the code of its networks is "
        "the same cannot be told"
    )


def test_a_fit_is_not_resumed_with_another_student(
    configuration: Callable[..., Configuration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet: dict[str, Any] = {"machine": Machine("cpu", "32-true", 1), "log": lambda line: None}
    study = configuration()
    fit(study, tmp_path / "out", **quiet)
    module = sys.modules[study.student.model.partition(":")[0]]
    changed: dict[str, Any] = {"__name__": "users"}
    exec(NETWORK.replace("0.125", "0.25"), changed)
    monkeypatch.setattr(module.Net, "forward", changed["Net"].forward)
    with pytest.raises(ValueError) as error:
        fit(study, tmp_path / "out", **quiet)
    assert str(error.value) == (
        f"{tmp_path / 'out'} holds a study with another configuration: student.Net.forward.constants is [0.125, 1] "
        "there and [0.25, 1] here. Ask for the same to resume it, or give another out="
    )
