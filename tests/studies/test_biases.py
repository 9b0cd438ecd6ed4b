"""Biases before batch normalisation: left out of training, they are missed by nothing."""

import copy

import pytest
import torch
from lightning_fabric import Fabric

from brainrdl.models import mnist_cnn, nin
from brainrdl.studies.paper import training
from brainrdl.studies.paper.cifar100 import cifar100_study
from brainrdl.studies.paper.training import Context, biases_left_out, initialised


def trained(network, *, updates=3):
    """A few steps of SGD on random images, in float64 so that rounding is far below what is compared."""
    network = network.double().train()
    draws = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for step in range(updates):
        images = torch.randn(8, 3, 32, 32, generator=draws, dtype=torch.float64)
        torch.manual_seed(step)  # dropout
        loss = torch.nn.functional.cross_entropy(network(images), torch.arange(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def test_training_is_the_same_without_them():
    torch.manual_seed(0)
    with_them = nin(10)
    without = copy.deepcopy(with_them)
    names = list(without.state_dict())
    trained(with_them)
    with biases_left_out(without):
        assert sum("conv" in name and name.endswith("0.bias") for name in without.state_dict()) == 0
        trained(without)
    assert list(without.state_dict()) == names
    for name, value in without.state_dict().items():
        if name.endswith("0.bias") and name != "readout.bias":
            assert not value.any()
        torch.testing.assert_close(value, with_them.state_dict()[name], rtol=1e-7, atol=1e-9)
    images = torch.randn(5, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(without(images), with_them(images), rtol=1e-7, atol=1e-7)


def test_they_come_back_whatever_happens_within_and_are_trained_again():
    network = nin(10)
    own = dict(network.named_parameters())
    with pytest.raises(KeyboardInterrupt), biases_left_out(network):
        assert network.conv1[0].bias is None
        raise KeyboardInterrupt
    assert {name: id(p) for name, p in network.named_parameters()} == {name: id(p) for name, p in own.items()}
    assert all(p.requires_grad for p in network.parameters())


def test_a_bias_that_is_not_zero_in_one_network_stays_in_all():
    student, teacher = nin(100), nin(10)
    with torch.no_grad():
        teacher.conv2[0].bias[3] = 0.5
    images = torch.randn(2, 3, 32, 32)
    before = teacher.eval()(images)
    with biases_left_out(student, teacher):
        assert student.conv2[0].bias is not None
        assert teacher.conv2[0].bias is not None
        assert student.conv1[0].bias is None
        assert teacher.mlp3_2[0].bias is None
        torch.testing.assert_close(teacher(images), before, rtol=0, atol=0)


def test_biases_that_no_norm_takes_away_stay():
    network = mnist_cnn()
    torch.nn.init.zeros_(network.conv1[0].bias)
    with biases_left_out(network):
        assert network.conv1[0].bias is not None
        assert network.linear.bias is not None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_they_are_left_out_on_a_gpu_alone(device, monkeypatch, tmp_path):
    seen = []

    def fit(arm, student, context, setting, folder):
        seen.extend(network.conv1[0].bias is None for network in (student, context.teacher))

    monkeypatch.setattr(training, "_fit", fit)
    study = cifar100_study()
    fabric = Fabric(accelerator="cpu", devices=1)
    monkeypatch.setattr(type(fabric), "device", property(lambda self: torch.device(device)))
    context = Context(study.recipe, lambda: nin(100), None, None, None, nin(10), study.batches, fabric, 0)
    student, _ = training.train(study.arm("rdl"), context, {}, tmp_path)
    assert seen == [device == "cuda"] * 2
    assert student.conv1[0].bias is not None
    assert context.teacher.conv1[0].bias is not None
    assert not student.training
    assert torch.equal(student.conv1[0].weight, initialised(lambda: nin(100), 0).conv1[0].weight)
