import pytest
import torch
from torch import nn

import brainrdl as rdl
from brainrdl.models import mnist_cnn

LAYERS = ["conv1", "pool1", "conv2", "pool2", "fc", "dropout", "linear"]


def shapes(model, image):
    return {name: tuple(value.shape[1:]) for name, value in rdl.capture(model, LAYERS, image, flatten=False)[1].items()}


def test_the_shapes_of_table_1():
    assert shapes(mnist_cnn(), torch.zeros(2, 1, 28, 28)) == {
        "conv1": (32, 28, 28),
        "pool1": (32, 10, 10),
        "conv2": (64, 10, 10),
        "pool2": (64, 5, 5),
        "fc": (200,),
        "dropout": (200,),
        "linear": (10,),
    }


def test_the_parameters_of_table_1():
    model = mnist_cnn()
    assert {name: tuple(value.shape) for name, value in model.named_parameters()} == {
        "conv1.0.weight": (32, 1, 5, 5),
        "conv1.0.bias": (32,),
        "conv2.0.weight": (64, 32, 5, 5),
        "conv2.0.bias": (64,),
        "fc.0.weight": (200, 1600),
        "fc.0.bias": (200,),
        "linear.weight": (10, 200),
        "linear.bias": (10,),
    }
    assert sum(p.numel() for p in model.parameters()) == 374_306
    assert all(p.device.type == "cpu" and p.requires_grad for p in model.parameters())


def test_without_padding_the_fully_connected_layer_has_256_inputs():
    for ceil_mode in (True, False):
        model = mnist_cnn(padding=0, ceil_mode=ceil_mode)
        assert model.fc[0].in_features == 256
        assert shapes(model, torch.zeros(2, 1, 28, 28))["pool2"] == (64, 2, 2)


def test_pooling_without_the_border():
    model = mnist_cnn(ceil_mode=False)
    assert shapes(model, torch.zeros(2, 1, 28, 28))["pool1"] == (32, 9, 9)
    assert model.fc[0].in_features == 64 * 4 * 4


@pytest.mark.parametrize(("image_size", "in_channels", "n_classes"), [(8, 1, 10), (32, 3, 100)])
def test_other_images_and_classes(image_size, in_channels, n_classes):
    model = mnist_cnn(n_classes, in_channels=in_channels, image_size=image_size)
    assert model(torch.zeros(3, in_channels, image_size, image_size)).shape == (3, n_classes)


def test_layers_in_order_and_kind():
    children = dict(mnist_cnn().named_children())
    assert list(children) == ["conv1", "pool1", "conv2", "pool2", "flatten", "fc", "dropout", "linear"]
    assert (children["pool1"].kernel_size, children["pool1"].stride) == (3, 3)
    assert (children["pool2"].kernel_size, children["pool2"].stride) == (2, 2)
    assert children["dropout"].p == 0.5
    assert [type(children[name][1]) for name in ("conv1", "conv2", "fc")] == [nn.ReLU] * 3


def test_features_are_behind_the_relu_and_before_dropout():
    torch.manual_seed(0)
    model, x = mnist_cnn().train(), torch.randn(4, 1, 28, 28)
    features = rdl.capture(model, LAYERS, x)[1]
    for name in ("conv1", "conv2", "fc"):
        assert features[name].min() == 0 < features[name].max()
    again = rdl.capture(model, LAYERS, x)[1]
    assert torch.equal(features["fc"], again["fc"])
    assert not torch.equal(features["dropout"], again["dropout"])


@pytest.mark.parametrize("image_size", [28, 32])
def test_finding_the_sizes_draws_no_random_number(image_size):
    units = {28: 1600, 32: 64 * 6 * 6}[image_size]
    torch.manual_seed(7)
    model = mnist_cnn(image_size=image_size)
    after = torch.rand(3)
    torch.manual_seed(7)
    by_hand = [nn.Conv2d(1, 32, 5), nn.Conv2d(32, 64, 5), nn.Linear(units, 200), nn.Linear(200, 10)]
    assert torch.equal(after, torch.rand(3))
    built = [model.conv1[0], model.conv2[0], model.fc[0], model.linear]
    for a, b in zip(built, by_hand, strict=True):
        assert torch.equal(a.weight, b.weight)
        assert torch.equal(a.bias, b.bias)
