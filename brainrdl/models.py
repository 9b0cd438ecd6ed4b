"""The paper's networks, layer names and all."""

from collections import OrderedDict

import torch
from torch import nn


def mnist_cnn(
    n_classes: int = 10, *, in_channels: int = 1, image_size: int = 28, padding: int = 2, ceil_mode: bool = True
) -> nn.Sequential:
    """Build the convolutional network of Table 1.

    Two 5 × 5 convolutions (32 and 64 features) with max pooling (3 × 3 stride 3, 2 × 2 stride 2), a fully connected
    layer of 200 units with dropout .5, and a linear readout. Each layer's features are read behind its ReLU and
    before dropout: ``conv1, pool1, conv2, pool2, fc, linear``.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    in_channels : int
        Image channels.
    image_size : int
        Height and width of the images in pixels.
    padding : int
        Of the convolutions: 2 keeps the size ("same"), 0 is none.
    ceil_mode : bool
        Whether pooling windows may reach over the border. Table 1's "1500" inputs of the fully connected layer fit
        no choice; same padding and ceiling give 1600 (374,306 parameters for 28 × 28 images and 10 classes).

    Returns
    -------
    nn.Sequential
        Children ``conv1, pool1, conv2, pool2, flatten, fc, dropout, linear``.

    References
    ----------
    McClure & Kriegeskorte (2016), Table 1.

    Examples
    --------
    >>> from brainrdl.models import mnist_cnn
    >>> sum(p.numel() for p in mnist_cnn().parameters())
    374306
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Sequential(nn.Conv2d(in_channels, 32, 5, padding=padding), nn.ReLU()),
        pool1=nn.MaxPool2d(3, 3, ceil_mode=ceil_mode),
        conv2=nn.Sequential(nn.Conv2d(32, 64, 5, padding=padding), nn.ReLU()),
        pool2=nn.MaxPool2d(2, 2, ceil_mode=ceil_mode),
        flatten=nn.Flatten(),
    )
    with torch.device("meta"):  # sizes only: no memory, and no draw from the random generator
        shapes = nn.Sequential(
            nn.Conv2d(in_channels, 32, 5, padding=padding),
            layers["pool1"],
            nn.Conv2d(32, 64, 5, padding=padding),
            layers["pool2"],
            nn.Flatten(),
        )
        units = shapes(torch.empty(1, in_channels, image_size, image_size)).shape[1]
    layers["fc"] = nn.Sequential(nn.Linear(units, 200), nn.ReLU())
    layers["dropout"] = nn.Dropout(0.5)
    layers["linear"] = nn.Linear(200, n_classes)
    return nn.Sequential(layers)
