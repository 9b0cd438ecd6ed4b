"""A training that dies in a loop of one's own is said to, once."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import brainrdl as rdl
from small_network import network, network_teacher

NOT_FINITE = (
    "{} is not finite, nor will the weights be after a step on it: the training run has diverged. "
    "Most likely a step was too "
    "large: the gradient of raw distances (compare='mse') grows with the third power of the features; or images or "
    "targets are not finite. A safe start is a comparison that ignores scale (compare='corr' or 'cosine'), or α from "
    "rdl.balanced_alpha with clipped gradients (torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)), or a lower "
    "learning rate"
)
ALL_ZERO = (
    "all distances of the student's layer are 0: it responds identically to all stimuli (every output 0, of a ReLU), "
    "has no "
    "geometry, and gets no gradient that could give it one: the layer is dead. Most likely a step was too large: the "
    "gradient of raw distances (compare='mse') grows with the third power of the features. A safe start is a "
    "comparison that ignores scale (compare='corr' or 'cosine'), or α from rdl.balanced_alpha with clipped gradients "
    "(torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)), or a lower learning rate"
)


def said(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function()
    return result, [(str(warning.message), Path(warning.filename).name) for warning in caught]


def layer(scale=1.0, bias=0.0):
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(4, 5), nn.ReLU())
    with torch.no_grad():
        made[0].weight.mul_(scale)
        made[0].bias.add_(bias)
    return made


IMAGES, TARGET = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.arange(1.0, 16.0)


@pytest.mark.parametrize("compare", ["mse", "corr", "cosine"])
def test_a_loss_that_is_not_finite_is_said_at_its_line(compare):
    features = layer(scale=float("nan"))(IMAGES)
    loss, messages = said(lambda: rdl.rdl_loss(features, TARGET, compare=compare))
    assert messages == [(NOT_FINITE.format("rdl_loss"), "test_died.py")]
    assert loss.isnan()


def test_so_is_one_that_overflows():
    loss, messages = said(lambda: rdl.rdl_loss(layer(scale=1e12)(IMAGES), TARGET))
    assert messages == [(NOT_FINITE.format("rdl_loss"), "test_died.py")]
    assert loss.isinf()
    assert [text for text, _ in said(lambda: rdl.RDLoss()(layer(scale=1e12)(IMAGES), TARGET))[1]] == [messages[0][0]]


@pytest.mark.parametrize("compare", ["mse", "corr"])
def test_a_layer_that_has_died_is_said(compare):
    loss, messages = said(lambda: rdl.rdl_loss(layer(bias=-100.0)(IMAGES), TARGET, compare=compare))
    assert messages == [(ALL_ZERO, "test_died.py")]
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("target", "options"),
    [
        (torch.zeros(15), {}),
        (torch.full((15,), float("nan")), {}),
        (TARGET, {"weights": torch.zeros(15)}),
    ],
)
def test_not_where_the_target_asks_for_no_distance(target, options):
    assert said(lambda: rdl.rdl_loss(layer(bias=-100.0)(IMAGES), target, **options))[1] == []


def test_a_layer_that_lives_is_not_said():
    for compare in ("mse", "corr", "cosine", "corr_cov", "cosine_cov", "soft-spearman"):
        assert said(lambda compare=compare: rdl.rdl_loss(layer()(IMAGES), TARGET, compare=compare))[1] == []


def test_nor_are_patterns_without_a_network():
    assert said(lambda: rdl.rdl_loss(torch.zeros(6, 4, requires_grad=True), TARGET))[1] == []


TERMS = {
    "rdl": lambda teacher: rdl.RDLTerm(teacher, {"two": "two"}),
    "hint": lambda teacher: rdl.Hint(teacher, {"two": "two"}),
    "cka": lambda teacher: rdl.CKA(teacher, {"two": "two"}),
    "kd": lambda teacher: rdl.KD(teacher),
    "deep_supervision": lambda teacher: rdl.DeepSupervision(["two"], 3),
}


@pytest.mark.parametrize("name", list(TERMS))
def test_the_terms_say_it_in_a_loop_of_ones_own(name):
    student, term, generator = network(dropout=0.0), TERMS[name](network_teacher()), torch.Generator()
    images, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])

    def value():
        output, features = rdl.capture(student, ["two"], images)
        batch = rdl.Batch(images, labels, output=output, generator=generator)
        if not term.heads:
            term.setup({name: value.detach() for name, value in features.items()}, batch, generator)
        return term(features, batch, generator)

    assert said(value)[1] == []
    with torch.no_grad():
        student.one.weight.mul_(float("nan"))
    where = "output" if name == "kd" else "two"
    assert said(value)[1] == [(NOT_FINITE.format(f"the {name} term in layer {where!r}"), "test_died.py")]


LOOP = """
import torch, brainrdl as rdl
layer = torch.nn.Linear(4, 5)
with torch.no_grad():
    layer.weight.fill_(float("nan"))
for _ in range(5):
    rdl.rdl_loss(layer(torch.randn(6, 4)), torch.rand(15)).backward()
"""


def test_python_shows_it_once():
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run([sys.executable, "-c", LOOP], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(NOT_FINITE.format("rdl_loss")) == 1


def test_raw_distances_at_a_large_step_die_and_a_safe_start_does_not():
    images, labels = torch.rand(60, 16, generator=torch.Generator().manual_seed(0)) * 16, torch.arange(60) % 3
    teacher = rdl.NetworkTeacher(nn.Sequential(nn.Linear(16, 32)), ["0"])

    def train(compare):
        torch.manual_seed(1)
        student = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3))
        optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
        for _ in range(10):
            output, features = rdl.capture(student, ["0"], images)
            aux = rdl.rdl_loss(features["0"], teacher(images, None)["0"], compare=compare)
            optimizer.zero_grad()
            (nn.functional.cross_entropy(output, labels) + aux).backward()
            optimizer.step()
        return all(bool(value.isfinite().all()) for value in student.parameters())

    finite, messages = said(lambda: train("mse"))
    assert not finite
    assert {text for text, _ in messages} == {NOT_FINITE.format("rdl_loss")}
    assert said(lambda: train("corr")) == (True, [])
