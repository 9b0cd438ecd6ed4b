"""Learning-rate schedulers that count updates, and those that count epochs."""

import re
import warnings
from functools import partial

import pytest
import torch
from torch.optim import SGD, lr_scheduler as lrs

import brainrdl as rdl
from small_network import assert_same, assert_same_history, loader, network, raises, weights

EPOCHS, STEPS = 3, 4
UPDATES = EPOCHS * STEPS


def made(schedule, *said):
    def make(parameters):
        optimizer = SGD(parameters, lr=0.1, momentum=0.9)
        return optimizer, schedule(optimizer), *said

    return make


def rates(schedule, *said):
    """The learning rate of every update."""
    seen = []

    def make(parameters):
        optimizer, *others = made(schedule, *said)(parameters)
        optimizer.register_step_pre_hook(lambda o, *_: seen.append(o.param_groups[0]["lr"]))
        return optimizer, *others

    history = rdl.Trainer(network(), optimizer=make).fit(loader(), epochs=EPOCHS)
    return seen, history


def by_hand(schedule, steps):
    """The learning rate at each step of a scheduler."""
    optimizer = SGD(network().parameters(), lr=0.1, momentum=0.9)
    scheduler, found = schedule(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def warm_up(optimizer):
    parts = [lrs.LinearLR(optimizer, total_iters=3), lrs.CosineAnnealingLR(optimizer, T_max=UPDATES - 3)]
    return lrs.SequentialLR(optimizer, parts, milestones=[3])


OF_UPDATES = {
    "OneCycleLR": lambda o: lrs.OneCycleLR(o, max_lr=0.5, total_steps=UPDATES),
    "OneCycleLR of epochs and batches": lambda o: lrs.OneCycleLR(o, max_lr=0.5, epochs=EPOCHS, steps_per_epoch=STEPS),
    "CosineAnnealingLR": lambda o: lrs.CosineAnnealingLR(o, T_max=UPDATES),
    "LinearLR": lambda o: lrs.LinearLR(o, total_iters=UPDATES),
    "PolynomialLR": lambda o: lrs.PolynomialLR(o, total_iters=UPDATES),
    "SequentialLR": warm_up,
    "ChainedScheduler": lambda o: lrs.ChainedScheduler(
        [lrs.ConstantLR(o, total_iters=2), lrs.CosineAnnealingLR(o, T_max=UPDATES)]
    ),
    "CyclicLR": lambda o: lrs.CyclicLR(o, 0.01, 0.1, step_size_up=UPDATES // 2),
    "LambdaLR of transformers": lambda o: lrs.LambdaLR(
        o, partial(lambda step, *, num_training_steps: 1 - step / num_training_steps, num_training_steps=UPDATES)
    ),
}
OF_EPOCHS = {
    "OneCycleLR": lambda o: lrs.OneCycleLR(o, max_lr=0.5, total_steps=EPOCHS),
    "CosineAnnealingLR": lambda o: lrs.CosineAnnealingLR(o, T_max=EPOCHS),
    "CosineAnnealingLR beyond": lambda o: lrs.CosineAnnealingLR(o, T_max=200),
    "StepLR": lambda o: lrs.StepLR(o, 1),
    "MultiStepLR": lambda o: lrs.MultiStepLR(o, [1, 30]),
    "LambdaLR": lambda o: lrs.LambdaLR(o, lambda epoch: 1 / (1 + epoch)),
    "ExponentialLR": lambda o: lrs.ExponentialLR(o, 0.5),
    "CosineAnnealingWarmRestarts": lambda o: lrs.CosineAnnealingWarmRestarts(o, T_0=2),
}


@pytest.mark.parametrize("name", list(OF_UPDATES))
def test_a_scheduler_that_counts_updates_steps_once_an_update(name):
    seen, history = rates(OF_UPDATES[name])
    expected = by_hand(OF_UPDATES[name], UPDATES)
    assert seen == expected
    assert len(set(seen)) > EPOCHS
    assert history["lr"].tolist() == expected[::STEPS]
    assert history.attrs["configuration"]["scheduler"]["interval"] == "update"


@pytest.mark.parametrize("name", list(OF_EPOCHS))
def test_any_other_steps_once_an_epoch(name):
    seen, history = rates(OF_EPOCHS[name])
    expected = by_hand(OF_EPOCHS[name], EPOCHS)
    assert seen == [rate for rate in expected for _ in range(STEPS)]
    assert history["lr"].tolist() == expected
    assert "interval" not in history.attrs["configuration"]["scheduler"]


@pytest.mark.parametrize(("said", "steps"), [("update", UPDATES), ("epoch", EPOCHS)])
@pytest.mark.parametrize("name", ["LambdaLR", "CosineAnnealingLR", "CosineAnnealingLR beyond", "StepLR"])
def test_the_optimizer_function_says_which(name, said, steps):
    seen, _ = rates(OF_EPOCHS[name], said)
    expected = by_hand(OF_EPOCHS[name], steps)
    assert seen == (expected if said == "update" else [rate for rate in expected for _ in range(STEPS)])


@pytest.mark.parametrize("total", [EPOCHS + 1, UPDATES + 1, 2])
def test_a_number_of_steps_that_is_neither(total):
    with raises(
        ValueError,
        f"OneCycleLR counts {total} steps, which are neither the training's 3 epochs nor its 12 updates; give it "
        "total_steps=12 to step it once an update, or 3 for once an epoch",
    ):
        rates(lambda o: lrs.OneCycleLR(o, max_lr=0.5, total_steps=total))


def test_a_part_that_ends_too_early():
    def schedule(optimizer):
        parts = [lrs.ConstantLR(optimizer, total_iters=2), lrs.OneCycleLR(optimizer, max_lr=0.5, total_steps=4)]
        return lrs.SequentialLR(optimizer, parts, milestones=[2])

    with raises(
        ValueError,
        "SequentialLR counts 6 steps, which are neither the training's 3 epochs nor its 12 updates; give it "
        "total_steps=12 to step it once an update, or 3 for once an epoch",
    ):
        rates(schedule)


def test_what_is_said_and_what_the_scheduler_counts():
    with raises(
        ValueError, "OneCycleLR ends after 3 steps, and stepped once an update it makes 12; give it total_steps=12"
    ):
        rates(OF_EPOCHS["OneCycleLR"], "update")
    seen, _ = rates(OF_UPDATES["OneCycleLR"], "epoch")  # the beginning of a longer one
    assert seen == [rate for rate in by_hand(OF_UPDATES["OneCycleLR"], EPOCHS) for _ in range(STEPS)]
    with raises(
        ValueError,
        "the optimizer function returned 'batch' behind the scheduler; expected 'epoch' or 'update', which says how "
        "often it steps",
    ):
        rates(OF_EPOCHS["LambdaLR"], "batch")


COUNTS = (
    "{} counts {} steps and is stepped once an epoch, 3 times in this training of 12 updates. If it counts updates, "
    "let the optimizer function return (optimiser, scheduler, 'update'); if epochs, (optimiser, scheduler, 'epoch')"
)


@pytest.mark.parametrize(
    ("name", "steps", "schedule"),
    [
        ("CosineAnnealingLR", 10, lambda o: lrs.CosineAnnealingLR(o, T_max=10)),
        ("StepLR", 4, lambda o: lrs.StepLR(o, 4)),
        ("MultiStepLR", 6, lambda o: lrs.MultiStepLR(o, [6, 9])),
        ("SequentialLR", 4, lambda o: lrs.SequentialLR(o, [lrs.LinearLR(o), lrs.ExponentialLR(o, 0.9)], [4])),
        ("CosineAnnealingWarmRestarts", 4, lambda o: lrs.CosineAnnealingWarmRestarts(o, T_0=4)),
    ],
)
def test_a_scheduler_that_may_count_either_is_named(name, steps, schedule):
    with pytest.warns(UserWarning, match=f"^{re.escape(COUNTS.format(name, steps))}$") as warned:
        rates(schedule)
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates(schedule, "epoch")


@pytest.mark.parametrize("name", ["OneCycleLR", "SequentialLR"])
def test_a_run_with_such_a_scheduler_goes_on_within_its_epoch(tmp_path, name):
    class StopError(Exception):
        pass

    def run(path, stop):
        def make(parameters):
            optimizer, scheduler = made(OF_UPDATES[name])(parameters)
            done = []

            def hook(*_):
                done.append(1)
                if len(done) == stop:
                    raise StopError

            optimizer.register_step_pre_hook(hook)
            return optimizer, scheduler

        student = network()
        history = rdl.Trainer(student, optimizer=make).fit(
            loader(), epochs=EPOCHS, checkpoint=path, checkpoint_every=1 if path else None
        )
        return weights(student), history

    path = tmp_path / "run"
    with pytest.raises(StopError):
        run(path, 7)
    assert torch.load(path, weights_only=True)["progress"]["updates"] == 2
    (got, resumed), (expected, history) = run(path, None), run(None, None)
    assert_same(got, expected)
    assert_same_history(resumed, history)


def test_functions_of_the_update_are_told_apart_by_their_values(tmp_path):
    def run(factor):
        schedule = made(lambda o: lrs.LambdaLR(o, lambda update: factor**update), "update")
        rdl.Trainer(network(), optimizer=schedule).fit(loader(), epochs=1, checkpoint=tmp_path / "run")

    run(0.5)
    run(0.5)
    with raises(
        ValueError,
        f"{tmp_path / 'run'} belongs to a run with another configuration: scheduler has other lr_lambdas. Restore the "
        "setting to resume it, or name another path to start over",
    ):
        run(0.25)
