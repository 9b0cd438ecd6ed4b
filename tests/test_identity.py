import json
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR, LinearLR, MultiplicativeLR, SequentialLR

import brainrdl as rdl
from brainrdl.identity import describe, describe_scheduler, digest, layers_of, settings
from small_network import IDS, brain_term, loader, network, network_teacher, raises, stimuli


def other_student():
    student = network()
    student.act = nn.ReLU()
    return student


def with_lr(lr):
    return {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=torch.tensor(lr))}


def with_lambda(factor):
    def make(parameters):
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        return optimizer, LambdaLR(optimizer, lambda epoch: factor**epoch)

    return {"optimizer": make}


def half(images):
    return images / 2


def third(images):
    return images / 3


def prepared(preprocess):
    teacher = rdl.NetworkTeacher(network(7, dropout=0.0), ["one"], preprocess=preprocess)
    return {"terms": [rdl.RDLTerm(teacher, {"one": "one"})]}


def teaching(model):
    return {"terms": [rdl.RDLTerm(rdl.NetworkTeacher(model, ["one"]), {"one": "one"})]}


def measured(ids=IDS, metric="correlation", names=("IT",), seed=0):
    values = np.random.default_rng(seed).uniform(0.1, 2, (len(names), 28))
    teacher = rdl.MeasuredTeacher(rdl.label_rdms(values, ids, names, metric))
    loss = rdl.RDLoss(metric="correlation", compare="corr")
    return {"terms": [rdl.RDLTerm(teacher, {"two": "IT"}, loss=loss, stream="stimuli")], "stimuli": stimuli()}


DIFFERENCES = {
    "activation": ({}, {"student": other_student()}, "layers.act is 'Tanh()' there and 'ReLU()' here"),
    "dropout": (
        {},
        {"student": network(dropout=0.25)},
        "layers.drop is 'Dropout(p=0.5, inplace=False)' there and 'Dropout(p=0.25, inplace=False)' here",
    ),
    "smoothing": (
        {"task_loss": nn.CrossEntropyLoss()},
        {"task_loss": nn.CrossEntropyLoss(label_smoothing=0.1)},
        "task_loss.label_smoothing is 0.0 there and 0.1 here",
    ),
    "class weights": (
        {"task_loss": nn.CrossEntropyLoss(weight=torch.ones(3))},
        {"task_loss": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 1.0]))},
        "task_loss has other values",
    ),
    "partial": (
        {"task_loss": partial(cross_entropy, label_smoothing=0.2)},
        {"task_loss": partial(cross_entropy, label_smoothing=0.1)},
        "task_loss.keywords.label_smoothing is 0.2 there and 0.1 here",
    ),
    "lr as a tensor": (with_lr(0.25), with_lr(0.5), "optimizer.groups.0.lr is 0.25 there and 0.5 here"),
    "function of the epoch": (
        with_lambda(0.5),
        with_lambda(0.25),
        "scheduler.lr_lambdas.0.1 is 0.5 there and 0.25 here",
    ),
    "preprocessing": (prepared(half), prepared(third), "teachers.0.preprocess is 'half' there and 'third' here"),
    "a teacher's activation": (
        teaching(network()),
        teaching(other_student()),
        "teachers.0.layers.act is 'Tanh()' there and 'ReLU()' here",
    ),
    "ids": (measured(), measured(ids=IDS[::-1]), "teachers.0 has other stimuli"),
    "distances": (measured(), measured(seed=1), "teachers.0 has other distances"),
    "metric": (
        measured(),
        measured(metric="cosine"),
        "terms.0.teacher_metric is 'correlation' there and 'cosine' here; teachers.0.metric is 'correlation' there and "
        "'cosine' here",
    ),
}


@pytest.mark.parametrize("change", list(DIFFERENCES))
def test_a_checkpoint_is_not_gone_on_with_after(change, tmp_path):
    def fit(student=None, terms=(), stimuli=None, **made):
        trainer = rdl.Trainer(network() if student is None else student, terms, **made)
        return trainer.fit(loader(), epochs=2, stimuli=stimuli, checkpoint=tmp_path / "run")

    there, here, difference = DIFFERENCES[change]
    fit(**there)
    with raises(
        ValueError,
        f"{tmp_path / 'run'} belongs to a run with another configuration: {difference}. Restore the setting to resume "
        "it, or name another path to start over",
    ):
        fit(**here)
    assert len(fit(**there)) == 2


def test_the_names_of_a_measured_teacher_are_compared():
    one, two = (measured(names=names)["terms"][0].teacher.describe() for names in (("IT", "V1"), ("V1", "IT")))
    assert (one["names"], two["names"]) == (["IT", "V1"], ["V1", "IT"])
    assert one["distances"] == two["distances"]


def test_what_describes_a_teacher():
    described = network_teacher().describe()
    assert list(described) == ["name", "metric", "parameters", "preprocess", "layers"]
    assert described["parameters"].startswith("sha256:")
    assert described["layers"]["act"] == "Tanh()"
    (term,) = [brain_term()]
    assert list(term.teacher.describe()) == ["name", "metric", "names", "subjects", "rows", "stimuli", "distances"]


class Callable:
    def __call__(self, images):
        return images


class Configured:
    def __init__(self, size):
        self.size = size

    def __call__(self, images):
        return images

    def __repr__(self):
        return f"Configured({self.size}, {Callable()!r})"


def test_descriptions_are_alike_in_another_process():
    assert describe(None) is None
    assert describe(cross_entropy) == "cross_entropy"
    assert describe(Configured(3)) == describe(Configured(3)) == "Configured(3, <test_identity.Callable object>)"
    assert describe(partial(half, 1, w=torch.ones(2), f=half)) == {
        "function": "half",
        "args": [1],
        "keywords": {"w": digest([("", torch.ones(2))]), "f": "half"},
    }
    assert describe(nn.Flatten()) == {
        "name": "Flatten",
        "layers": {"": "Flatten(start_dim=1, end_dim=-1)"},
        "start_dim": 1,
        "end_dim": -1,
    }
    assert layers_of(nn.Sequential(nn.Sequential(nn.ReLU()))) == {"0": "Sequential()", "0.0": "ReLU()"}
    json.dumps(describe(network()))


def test_settings():
    given = {
        "a": np.float64(0.5),
        "b": torch.tensor(2),
        "c": (0.9, torch.tensor(0.5)),
        "d": object(),
        "f": "",
    }
    assert settings(given) == {"a": 0.5, "b": 2, "c": [0.9, 0.5], "f": ""}


def test_a_digest_tells_names_shapes_types_and_values():
    value = torch.arange(6.0)
    known = digest([("a", value), ("b", value)])
    assert digest([("b", value), ("a", value)]) == known
    others = [("c", value), ("a", value + 1), ("a", value.double()), ("a", value.reshape(2, 3))]
    assert len({known, *(digest([other, ("b", value)]) for other in others)}) == 5
    assert digest([("a", torch.tensor(1, dtype=torch.bfloat16)), ("b", torch.zeros(0))]).startswith("sha256:")


def test_schedulers_within_a_scheduler():
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1)
    parts = [LinearLR(optimizer, total_iters=3), MultiplicativeLR(optimizer, lambda epoch: 1 / epoch)]
    described = describe_scheduler(SequentialLR(optimizer, parts, milestones=[2]), 3)
    assert described["_milestones"] == [2]
    assert [part["name"] for part in described["schedulers"]] == ["LinearLR", "MultiplicativeLR"]
    assert described["schedulers"][0]["total_iters"] == 3
    assert described["schedulers"][1]["lr_lambdas"] == [[1.0, 0.5]]
