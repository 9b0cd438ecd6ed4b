import pytest
import torch
from torch import nn

import brainrdl as rdl
from brainrdl.data import normalize_contrast
from brainrdl.models import mnist_cnn, nin

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


NIN_LAYERS = ["conv1", "mlp1_1", "mlp1_2", "pool1", "conv2", "mlp2_1", "mlp2_2", "pool2", "conv3", "mlp3_1", "mlp3_2"]
NIN_POOLS = {"pool1": (nn.MaxPool2d, 3, 2), "pool2": (nn.AvgPool2d, 3, 2), "pool3": (nn.AvgPool2d, 8, 8)}


def test_the_shapes_of_table_4(cifar100):
    images = normalize_contrast(cifar100[0].images[:2])
    layers = [*NIN_LAYERS, "pool3", "readout"]
    features = rdl.capture(nin(100, readout=100), layers, images, flatten=False)[1]
    assert {name: tuple(value.shape[1:]) for name, value in features.items()} == {
        "conv1": (192, 32, 32),
        "mlp1_1": (160, 32, 32),
        "mlp1_2": (96, 32, 32),
        "pool1": (96, 16, 16),
        "conv2": (192, 16, 16),
        "mlp2_1": (192, 16, 16),
        "mlp2_2": (192, 16, 16),
        "pool2": (192, 8, 8),
        "conv3": (192, 8, 8),
        "mlp3_1": (192, 8, 8),
        "mlp3_2": (100, 8, 8),
        "pool3": (100, 1, 1),
        "readout": (100,),
    }


@pytest.mark.parametrize(
    ("n_units", "readout", "n_parameters"),
    [
        (100, None, 1_577_196),
        (10, None, 1_559_646),
        (100, 100, 1_577_196 + 100 * 100 + 100),
        (10, 100, 1_559_646 + 10 * 100 + 100),
    ],
)
def test_the_parameters_of_table_4(n_units, readout, n_parameters):
    model = nin(n_units, readout=readout)
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    for name in NIN_LAYERS:
        if not name.startswith("pool"):
            size = 5 if name.startswith("conv") else 1
            convolution = model.get_submodule(name)[0]
            assert (convolution.kernel_size, convolution.stride) == ((size, size), (1, 1))


def test_the_pools_and_dropouts_of_table_4():
    children = dict(nin().named_children())
    assert list(children) == [
        *NIN_LAYERS[:4], "dropout1", *NIN_LAYERS[4:8], "dropout2", *NIN_LAYERS[8:], "pool3", "flatten",
    ]  # fmt: skip
    kinds = {name: (type(children[name]), children[name].kernel_size, children[name].stride) for name in NIN_POOLS}
    assert kinds == NIN_POOLS
    assert children["dropout1"].p == children["dropout2"].p == 0.5


def test_weights_start_as_the_public_recipe_says():
    torch.manual_seed(0)
    model = nin(100, readout=100)
    weights = [model.readout, *(child[0] for child in model.children() if isinstance(child, nn.Sequential))]
    assert len(weights) == 10
    for layer in weights:
        n = layer.weight.numel()
        assert abs(layer.weight.mean()) < 4 * 0.05 / n**0.5
        assert layer.weight.std().item() == pytest.approx(0.05, rel=4 / (2 * n) ** 0.5)
        assert not layer.bias.any()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [norm.eps for norm in norms] == [1e-3] * 9
    assert all(bool((norm.weight == 1).all()) and not norm.bias.any() for norm in norms)


def test_a_readout_shifts_no_other_weight():
    torch.manual_seed(3)
    plain = nin(100).state_dict()
    torch.manual_seed(3)
    with_readout = nin(100, readout=100).state_dict()
    assert set(with_readout) - set(plain) == {"readout.weight", "readout.bias"}
    assert all(torch.equal(with_readout[name], value) for name, value in plain.items())


def test_features_of_the_nin_are_behind_the_relu_and_before_dropout():
    torch.manual_seed(0)
    model, x = nin(10).train(), torch.randn(4, 3, 32, 32)
    layers = [*NIN_LAYERS, "dropout1"]
    once, again = (rdl.capture(model, layers, x)[1] for _ in range(2))
    for name in NIN_LAYERS[:4]:
        assert torch.equal(once[name], again[name])
        assert once[name].min() >= 0
    assert not torch.equal(once["dropout1"], again["dropout1"])
    assert not torch.equal(once["conv2"], again["conv2"])


@pytest.mark.parametrize(
    ("n_units", "readout", "message"),
    [(0, None, "n_units must be at least 1, got 0"), (10, 0, "readout must be at least 1, got 0")],
)
def test_a_nin_without_units_is_refused(n_units, readout, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        nin(n_units, readout=readout)
