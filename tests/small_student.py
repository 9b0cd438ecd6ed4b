"""A network that the study's tests name by ``small_student:make``."""

from collections import OrderedDict

from torch import nn


def make() -> nn.Module:
    """8 × 8 grey images, two layers to choose from."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Sequential(nn.Conv2d(6, 12, 3, padding=1), nn.ReLU()),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            linear=nn.Linear(48, 10),
        )
    )


def make_two() -> nn.Module:
    """The same with two outputs, too few for ten digits."""
    network = make()
    network.linear = nn.Linear(48, 2)
    return network


def make_large() -> nn.Module:
    """The same for 16 × 16 images."""
    network = make()
    network.linear = nn.Linear(192, 10)
    return network
