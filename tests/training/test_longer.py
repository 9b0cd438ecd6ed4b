"""A training run made longer: resumed from its checkpoint where no schedule depends on the number of epochs."""

import math
from functools import partial

import pytest
import torch
from torch.optim import SGD, lr_scheduler as lrs

import brainrdl as rdl
from small_network import (
    assert_same,
    assert_same_history,
    brain_term,
    loader,
    network,
    network_teacher,
    raises,
    stimuli,
    weights,
)

STEPS = 4


def rdl_term(alpha):
    return rdl.RDLTerm(network_teacher(), {"two": "two", "one": "one"}, n_pairs=7, alpha=alpha)


def with_scheduler(schedule, *said):
    """Make the optimizer function of a training of so many epochs."""

    def of_epochs(epochs):
        def make(parameters):
            optimizer = SGD(parameters, lr=0.1, momentum=0.9)
            return optimizer, schedule(optimizer, epochs), *said

        return make

    return of_epochs


def train(epochs, path=None, *, terms=lambda: [], optimizer=lambda epochs: None, task=True, seed=0, **fitted):
    student, made = network(), terms()
    trainer = rdl.Trainer(student, made, optimizer=optimizer(epochs))
    history = trainer.fit(loader() if task else None, epochs=epochs, checkpoint=path, seed=seed, **fitted)
    return weights(student), [weights(term.heads) for term in made], history


def of_epoch(epoch, epochs):
    return {"two": 0.5**epoch, "one": 0.1}


def shrinking(epoch, epochs):
    return 1.0 - epoch / epochs


LONGER = {
    "plain": {},
    "number": {"terms": lambda: [rdl_term(0.5)]},
    "constant": {"terms": lambda: [rdl_term(rdl.constant({"two": 0.5, "one": 0.1}))]},
    "steps": {"terms": lambda: [rdl_term(rdl.step_decay(1.0, every=2))]},
    "function of the epoch": {"terms": lambda: [rdl_term(of_epoch)]},
    "heads": {"terms": lambda: [rdl.Hint(network_teacher(), {"act": "act"})]},
    "stimuli alone": {"terms": lambda: [brain_term(n_pairs=6)], "task": False, "stimuli": stimuli()},
    "stimuli, every third": {
        "terms": lambda: [brain_term(n_pairs=4)],
        "stimuli": rdl.StimulusStream(stimuli(), batch_size=4, every=3),
    },
    "MultiStepLR": {"optimizer": with_scheduler(lambda o, epochs: lrs.MultiStepLR(o, [1, 4]))},
    "ExponentialLR": {"optimizer": with_scheduler(lambda o, epochs: lrs.ExponentialLR(o, 0.9))},
    "CosineAnnealingLR as it was": {"optimizer": with_scheduler(lambda o, epochs: lrs.CosineAnnealingLR(o, T_max=40))},
    "LambdaLR": {"optimizer": with_scheduler(lambda o, epochs: lrs.LambdaLR(o, lambda epoch: 1 / (1 + epoch)))},
    "LambdaLR of updates": {
        "optimizer": with_scheduler(lambda o, epochs: lrs.LambdaLR(o, lambda step: min(1, step / 5)), "update")
    },
    "validated": {"validation": loader(12)},
}


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("kind", list(LONGER))
def test_a_finished_training_is_made_longer_and_ends_as_one_that_was_as_long(kind, within, tmp_path):
    expected, expected_heads, history = train(5, **LONGER[kind])
    every = {"checkpoint_every": 3} if within else {}
    train(3, tmp_path / "run", **LONGER[kind], **every)
    torch.manual_seed(123)  # another process is in another state
    got, heads, resumed = train(5, tmp_path / "run", **LONGER[kind], **every)
    assert_same(got, expected)
    for a, b in zip(heads, expected_heads, strict=True):
        assert_same(a, b)
    assert_same_history(resumed, history)
    assert resumed.attrs["configuration"] == history.attrs["configuration"]


class InterruptionError(Exception):
    pass


def test_so_is_one_that_was_interrupted_within_an_epoch(tmp_path):
    calls = []

    def interrupted(student):
        calls.append(1)
        if len(calls) == 2:
            raise InterruptionError
        return {"score": 1.0}

    kind = LONGER["steps"]
    expected, _, history = train(6, **kind, validation=lambda student: {"score": 1.0})
    with pytest.raises(InterruptionError):
        train(4, tmp_path / "run", **kind, validation=interrupted, checkpoint_every=3)
    assert torch.load(tmp_path / "run", weights_only=True)["progress"]["updates"] == 3
    got, _, resumed = train(6, tmp_path / "run", **kind, validation=lambda student: {"score": 1.0})
    assert_same(got, expected)
    assert_same_history(resumed, history)


def refused(path, reasons):
    return raises(
        ValueError,
        f"{path} belongs to a run with another configuration: {reasons}. Restore the setting to resume it, or name "
        "another path to start over",
    )


SHORTER_LIVED = {
    "linear_decay": (rdl.linear_decay(0.5), "linear_decay", "0.25 there and 0.3333 here"),
    "cosine_decay": (rdl.cosine_decay({"two": 0.5, "one": 1.0}), "cosine_decay", "0.25 there and 0.375 here"),
    "a function": (shrinking, "shrinking", "0.5 there and 0.6667 here"),
    "a part of one": (partial(shrinking), "partial", "0.5 there and 0.6667 here"),
}


@pytest.mark.parametrize("kind", list(SHORTER_LIVED))
def test_an_alpha_that_depends_on_the_number_of_epochs_is_named(kind, tmp_path):
    alpha, name, values = SHORTER_LIVED[kind]
    path = tmp_path / "run"
    train(2, path, terms=lambda: [rdl_term(alpha)])
    before = path.read_bytes()
    reason = (
        f"epochs is 2 there and 3 here, and the alpha of the rdl term, {name}, depends on the number of epochs "
        f"({values} for layer 'two' in epoch 2)"
    )
    with refused(path, reason):
        train(3, path, terms=lambda: [rdl_term(alpha)])
    assert path.read_bytes() == before


def test_that_of_a_classifier_on_the_way_is_too(tmp_path):
    path = tmp_path / "run"
    train(3, path, terms=lambda: [rdl.DeepSupervision(["act"], 3)])
    reason = (
        "epochs is 3 there and 4 here, and the alpha of the deep_supervision term, deep_supervision_decay, depends on "
        "the number of epochs (0.006667 there and 0.0075 here for layer 'act' in epoch 3)"
    )
    with refused(path, reason):
        train(4, path, terms=lambda: [rdl.DeepSupervision(["act"], 3)])


COURSES = {
    "CosineAnnealingLR": (lambda o, epochs: lrs.CosineAnnealingLR(o, T_max=epochs), "scheduler.T_max is 2 there"),
    "LinearLR": (lambda o, epochs: lrs.LinearLR(o, total_iters=epochs), "scheduler.total_iters is 2 there"),
    "OneCycleLR": (
        lambda o, epochs: lrs.OneCycleLR(o, max_lr=0.5, total_steps=epochs),
        "scheduler.total_steps is 2 there",
    ),
    "OneCycleLR of updates": (
        lambda o, epochs: lrs.OneCycleLR(o, max_lr=0.5, total_steps=epochs * STEPS),
        "scheduler.total_steps is 8 there",
    ),
    "CosineAnnealingLR of updates": (
        lambda o, epochs: lrs.CosineAnnealingLR(o, T_max=epochs * STEPS),
        "scheduler.T_max is 8 there",
    ),
    "LambdaLR": (
        lambda o, epochs: lrs.LambdaLR(o, lambda epoch: math.cos(epoch / epochs)),
        "scheduler.lr_lambdas.0.1 is 0.8775825618903728 there",
    ),
    "LambdaLR of updates": (
        lambda o, epochs: lrs.LambdaLR(
            o, partial(lambda s, num_training_steps: 1 - s / num_training_steps, num_training_steps=epochs * STEPS)
        ),
        "scheduler has other lr_lambdas",
    ),
}


@pytest.mark.parametrize("kind", list(COURSES))
def test_a_scheduler_that_depends_on_the_number_of_epochs_is_named(kind, tmp_path):
    schedule, difference = COURSES[kind]
    path = tmp_path / "run"
    optimizer = with_scheduler(schedule)
    train(2, path, optimizer=optimizer)
    begins = (
        f"^{path} belongs to a run with another configuration: epochs is 2 there and 3 here, and the learning-rate "
        rf"scheduler, {kind.split()[0]}, is another one, as is one that depends on the number of epochs \(.*\)(; .*)?"
        r"\. Restore the setting to resume it, or name another path to start over$"
    )
    with pytest.raises(ValueError, match=begins) as error:
        train(3, path, optimizer=optimizer)
    assert difference in str(error.value)


def test_a_training_is_not_made_shorter(tmp_path):
    train(3, tmp_path / "run")
    before = (tmp_path / "run").read_bytes()
    with refused(
        tmp_path / "run", "epochs is 3 there and 2 here, and a training run can be made longer, but not shorter"
    ):
        train(2, tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == before


def test_what_else_differs_is_named_in_a_longer_training_too(tmp_path):
    path = tmp_path / "run"
    train(2, path, terms=lambda: [rdl_term(0.5)])
    with refused(path, "seed is 0 there and 1 here"):
        train(3, path, terms=lambda: [rdl_term(0.5)], seed=1)
    with refused(path, "terms.0.alpha.two is 0.5 there and 0.25 here"):
        train(3, path, terms=lambda: [rdl_term({"two": 0.25, "one": 0.5})])


def test_a_damaged_checkpoint_offers_the_one_before_to_a_longer_training_too(tmp_path):
    path = tmp_path / "run"
    train(2, path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"run\.previous, is whole and holds 1 epoch; rename it to run to go on"):
        train(3, path)
