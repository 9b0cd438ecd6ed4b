import re
from math import cos, pi
from types import MappingProxyType

import pytest

import brainrdl as rdl
from brainrdl.terms.alpha import alpha_of, deep_supervision_decay

ALL = [rdl.linear_decay, rdl.constant, rdl.cosine_decay, rdl.step_decay, deep_supervision_decay]


def raises(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def over(schedule, epochs):
    return [schedule(epoch, epochs) for epoch in range(epochs)]


def test_linear_decay():
    """α_t = α_0 (1 − t/t_max), t = 0 … t_max − 1: α_0 serves one epoch, the last has α_0/t_max."""
    assert over(rdl.linear_decay(3.0), 5) == pytest.approx([3.0, 2.4, 1.8, 1.2, 0.6], rel=1e-15)
    assert over(rdl.linear_decay(3.0), 1) == [3.0]


def test_constant():
    assert over(rdl.constant(0.7), 4) == [0.7] * 4


def test_cosine_decay():
    expected = [3 * (1 + cos(pi * t / 6)) / 2 for t in range(6)]
    assert over(rdl.cosine_decay(3.0), 6) == pytest.approx(expected, rel=1e-15)
    assert expected[0] == 3
    assert expected[3] == pytest.approx(1.5)


def test_step_decay():
    assert over(rdl.step_decay(2.0, factor=0.5, every=3), 8) == [2, 2, 2, 1, 1, 1, 0.5, 0.5]
    assert over(rdl.step_decay(2.0), 21) == pytest.approx([2.0] * 10 + [0.2] * 10 + [0.02], rel=1e-15)


def test_deep_supervision_decay():
    """α_{t+1} = α_t · 0.1 · (1 − t/t_max)."""
    alphas = over(deep_supervision_decay(3.0), 10)
    assert alphas[0] == 3
    for t in range(9):
        assert alphas[t + 1] == pytest.approx(alphas[t] * 0.1 * (1 - t / 10), rel=1e-14)
    assert alphas[1] == pytest.approx(0.3, rel=1e-14)
    assert alphas[3] < 1e-3 * alphas[0]


@pytest.mark.parametrize("schedule", ALL)
def test_a_schedule_of_a_dict_answers_by_layer(schedule):
    alpha0 = {"pool1": 2.0, "fc": 0.0}
    made = schedule(alpha0)
    alpha0["pool1"] = 100.0  # the schedule keeps what it was given
    for epoch in range(12):
        assert made(epoch, 12) == {"pool1": pytest.approx(2 * schedule(1.0)(epoch, 12)), "fc": 0.0}


@pytest.mark.parametrize("schedule", ALL)
@pytest.mark.parametrize("alpha0", [-1.0, float("inf"), float("nan")])
def test_alpha_is_finite_and_not_negative(schedule, alpha0):
    for given in (alpha0, {"pool1": 1.0, "fc": alpha0}):
        with raises(ValueError, f"alpha must be a finite number of at least 0, got {alpha0!r}"):
            schedule(given)


@pytest.mark.parametrize("every", [0, -2])
def test_steps_are_at_least_an_epoch_apart(every):
    with raises(ValueError, f"every must be at least 1 epoch, got {every}"):
        rdl.step_decay(1.0, every=every)


def test_alpha_of_a_number_a_dict_and_a_schedule():
    assert alpha_of(2, "fc", 3, 4) == 2.0
    assert isinstance(alpha_of(2, "fc", 3, 4), float)
    assert alpha_of(MappingProxyType({"pool1": 1, "fc": 3}), "fc", 3, 4) == 3.0
    assert alpha_of(rdl.linear_decay(2.0), "fc", 3, 4) == 0.5
    assert alpha_of(rdl.linear_decay({"pool1": 1.0, "fc": 2.0}), "fc", 3, 4) == 0.5
    assert alpha_of(lambda epoch, epochs: 10 * epoch + epochs, "fc", 3, 4) == 34.0


@pytest.mark.parametrize("alpha", [{"pool1": 1.0, "pool2": 2.0}, rdl.constant({"pool1": 1.0, "pool2": 2.0})])
def test_alpha_of_a_layer_that_a_dict_lacks(alpha):
    with raises(ValueError, "alpha has no value for layer 'fc'; it has: 'pool1', 'pool2'"):
        alpha_of(alpha, "fc", 0, 4)
