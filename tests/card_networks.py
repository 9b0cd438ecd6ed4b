"""Networks that the command line makes by name."""

from torch import nn


def tiny():
    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(54, 5))


def any_size():
    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU())
