"""The paper's networks, and a small one of our own, layer names and all."""

from collections import OrderedDict
from copy import deepcopy

import torch
from torch import nn

_INITIAL_SD = 0.05  # of the NiN's weights
_BATCH_NORM_EPSILON = 1e-3


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
        Padding of the convolutions: 2 keeps the size ("same"), 0 is none.
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
    shapes = deepcopy(nn.Sequential(layers)).to("meta")  # sizes only: nothing is computed
    units = shapes(torch.empty(1, in_channels, image_size, image_size, device="meta")).shape[1]
    layers["fc"] = nn.Sequential(nn.Linear(units, 200), nn.ReLU())
    layers["dropout"] = nn.Dropout(0.5)
    layers["linear"] = nn.Linear(200, n_classes)
    return nn.Sequential(layers)


def nin(n_units: int = 100, *, readout: int | None = None) -> nn.Sequential:
    """Build the "Network in Network" with batch normalisation of Table 4.

    Three blocks of one 5 × 5 convolution and two 1 × 1 convolutions over its features, each followed by batch
    normalisation and ReLU, and each block by pooling: maximum (3 × 3, stride 2), average (3 × 3, stride 2) and the
    average over what is left (8 × 8 of 32 × 32 images). Dropout .5 stands before the second and the third block, on the
    pooled input. Features are read behind the ReLU, or behind the pool, and before dropout:
    ``conv1, mlp1_1, mlp1_2, pool1, conv2, mlp2_1, mlp2_2, pool2, conv3, mlp3_1, mlp3_2, pool3``.

    Parameters
    ----------
    n_units : int
        Features of the last MLPConv layer: the number of classes, unless there is a `readout`.
    readout : int, optional
        Classes of a linear layer ``readout`` behind ``pool3``: ``nin(100, readout=100)`` is the paper's RDL student,
        ``nin(10, readout=100)`` its fine-tuned one. Its weights are drawn last: with one seed all others are equal.

    Returns
    -------
    nn.Sequential
        Takes images (n, 3, 32, 32). Children ``conv1, mlp1_1, mlp1_2, pool1, dropout1, conv2, mlp2_1, mlp2_2, pool2,
        dropout2, conv3, mlp3_1, mlp3_2, pool3, flatten`` and, where asked for, ``readout``.

    Raises
    ------
    ValueError
        If `n_units` or `readout` is below 1.

    Notes
    -----
    Convolutions keep the size ("same" padding) and pooling windows may reach over the border (ceiling: 32 → 16 → 8),
    as the last, 8 × 8 pool needs. That gives 1,577,196 parameters for 100 classes and 1,559,646 for 10, biases and
    batch normalisation included. What Table 4 leaves out (weights from N(0, .05), biases 0, ε = 1e-3 in batch
    normalisation, dropout on the pooled input) follows the public Torch project ``szagoruyko/cifar.torch``, whose
    network differs from it in a 3 × 3 ``conv3`` only.

    References
    ----------
    McClure & Kriegeskorte (2016), Table 4. Lin, Chen & Yan (2013), arXiv:1312.4400.

    Examples
    --------
    >>> from brainrdl.models import nin
    >>> sum(p.numel() for p in nin(100).parameters()), sum(p.numel() for p in nin(10).parameters())
    (1577196, 1559646)
    """
    for name, value in (("n_units", n_units), ("readout", readout)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=_convolution(3, 192, 5),
        mlp1_1=_convolution(192, 160, 1),
        mlp1_2=_convolution(160, 96, 1),
        pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
        dropout1=nn.Dropout(0.5),
        conv2=_convolution(96, 192, 5),
        mlp2_1=_convolution(192, 192, 1),
        mlp2_2=_convolution(192, 192, 1),
        pool2=nn.AvgPool2d(3, 2, ceil_mode=True),
        dropout2=nn.Dropout(0.5),
        conv3=_convolution(192, 192, 5),
        mlp3_1=_convolution(192, 192, 1),
        mlp3_2=_convolution(192, n_units, 1),
        pool3=nn.AvgPool2d(8, ceil_mode=True),
        flatten=nn.Flatten(),
    )
    if readout is not None:
        layers["readout"] = _drawn(nn.Linear(n_units, readout))
    return nn.Sequential(layers)


def cifar_cnn(n_classes: int = 10, *, width: int = 32) -> nn.Sequential:
    """Build a small network for 32 × 32 colour images, for studies that train many of them.

    Three blocks of two 3 × 3 convolutions with batch normalisation and ReLU, of `width`, 2 `width` and 4 `width`
    features, each block followed by maximum pooling (2 × 2), and a linear readout.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    width : int
        Features of the first block.

    Returns
    -------
    nn.Sequential
        Takes images (n, 3, 32, 32). Children ``conv1, conv2, pool1, conv3, conv4, pool2, conv5, conv6, pool3, flatten,
        linear``; features of a convolution are read behind its ReLU.

    Raises
    ------
    ValueError
        If `n_classes` or `width` is below 1.

    Examples
    --------
    >>> from brainrdl.models import cifar_cnn
    >>> sum(p.numel() for p in cifar_cnn().parameters())
    307946
    """
    for name, value in (("n_classes", n_classes), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    n_in = 3
    for block, n_out in enumerate((width, 2 * width, 4 * width), 1):
        layers[f"conv{2 * block - 1}"] = _normalised_convolution(n_in, n_out)
        layers[f"conv{2 * block}"] = _normalised_convolution(n_out, n_out)
        layers[f"pool{block}"] = nn.MaxPool2d(2)
        n_in = n_out
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(4 * 4 * n_in, n_classes)
    return nn.Sequential(layers)


def _normalised_convolution(n_in: int, n_out: int) -> nn.Sequential:
    # the batch's mean is subtracted behind it: a bias would be without effect
    convolution = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.ReLU())


def _convolution(n_in: int, n_out: int, size: int) -> nn.Sequential:
    convolution = _drawn(nn.Conv2d(n_in, n_out, size, padding=size // 2))
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out, eps=_BATCH_NORM_EPSILON), nn.ReLU())


def _drawn(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """Draw weights from N(0, .05); biases are 0."""
    nn.init.normal_(layer.weight, std=_INITIAL_SD)
    nn.init.zeros_(layer.get_parameter("bias"))
    return layer
