"""α balanced against the task: its value, and that making it leaves the student and the random numbers as they were."""

import pytest
import torch
from torch import nn

import brainrdl as rdl


def networks():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))
    return student, rdl.NetworkTeacher(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2)), ["0", "1"])


IMAGES, LABELS = torch.randn(8, 4, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3


def test_alpha_makes_a_layer_weigh_what_the_task_weighs_in_the_first_batch():
    student, teacher = networks()
    student.eval()  # no dropout: both sides of the equation can be computed here
    term = rdl.RDLTerm(teacher, {"0": "0", "3": "1"}, loss=rdl.RDLoss(compare="mse"))
    alpha = rdl.balanced_alpha(0.5, term, student, IMAGES, LABELS)
    output, features = rdl.capture(student, ["0", "3"], IMAGES)
    e_task = nn.functional.cross_entropy(output, LABELS).item()
    for layer, name in (("0", "0"), ("3", "1")):
        e_m = (rdl.rdm(features[layer], "mse") - teacher(IMAGES, None)[name]).square().mean().item()
        assert alpha[layer] * e_m == pytest.approx(0.5 * e_task, rel=1e-5)


def test_the_student_its_statistics_and_the_random_numbers_stay_as_they_were():
    student, teacher = networks()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    state = torch.random.get_rng_state()
    alpha = rdl.balanced_alpha(1.0, rdl.RDLTerm(teacher, {"0": "0"}, n_pairs=5), student, IMAGES, LABELS)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert student.training
    torch.manual_seed(7)  # dropout is drawn by the seed given, not by what was drawn before
    assert rdl.balanced_alpha(1.0, rdl.RDLTerm(teacher, {"0": "0"}, n_pairs=5), student, IMAGES, LABELS) == alpha
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert all(parameter.grad is None for parameter in student.parameters())


def test_what_has_no_balance_is_refused():
    student, teacher = networks()
    term = rdl.RDLTerm(teacher, {"0": "0"})
    with pytest.raises(ValueError, match=r"^alpha must be a finite number of at least 0, got -1\.0$"):
        rdl.balanced_alpha(-1.0, term, student, IMAGES, LABELS)
    same = rdl.RDLTerm(rdl.NetworkTeacher(student, ["0"]), {"0": "0"})
    message = (
        r"^the rdl term is 0 in layer '0' before the first update, and no α balances it with the task; give other "
        r"images, or leave the layer out$"
    )
    with pytest.raises(ValueError, match=message):
        rdl.balanced_alpha(1.0, same, student.eval(), IMAGES, LABELS)
    with pytest.raises(
        ValueError, match=r"^the task's loss is nan before the first update, and no α balances a term with it$"
    ):
        rdl.balanced_alpha(
            1.0, term, student, IMAGES, LABELS, task_loss=lambda output, labels: output.sum() * torch.nan
        )
