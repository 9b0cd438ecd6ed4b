"""Optimisers of the studies, as functions of the parameters."""

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

_HALVINGS = 12  # every 25 of 300 epochs

MakeOptimizer = Callable[[Iterable[nn.Parameter]], tuple[torch.optim.Optimizer, LRScheduler]]
"""What `brainrdl.Trainer` takes as its optimizer."""


def linear_sgd(
    epochs: int, *, learning_rate: float = 0.05, momentum: float = 0.9, weight_decay: float = 0.0
) -> MakeOptimizer:
    """Describe the SGD of the MNIST study: in epoch t the learning rate is ``lr (1 − t/epochs)``.

    Parameters
    ----------
    epochs : int
        Length of the training.
    learning_rate : float
        At its beginning.
    momentum, weight_decay : float
        Of SGD.

    Returns
    -------
    callable
        parameters → (optimiser, scheduler), for `brainrdl.Trainer`.

    Raises
    ------
    ValueError
        If `epochs` is below 1.

    Examples
    --------
    >>> import torch
    >>> from brainrdl.experiments.optimizers import linear_sgd
    >>> optimizer, scheduler = linear_sgd(20)([torch.nn.Parameter(torch.zeros(1))])
    >>> optimizer.defaults["lr"], optimizer.defaults["momentum"]
    (0.05, 0.9)
    """
    return _sgd(
        epochs,
        lambda epoch: 1 - epoch / epochs,
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
    )


def halving_sgd(
    epochs: int, *, learning_rate: float = 1.0, momentum: float = 0.9, weight_decay: float = 5e-4
) -> MakeOptimizer:
    """Describe the SGD of the CIFAR study: dampened momentum, and a learning rate that is halved twelve times.

    In epoch t the learning rate is ``lr · 0.5^⌊12 t/epochs⌋``: the paper's "halved every 25 epochs" of 300, and the
    same course in any other number of epochs.

    Parameters
    ----------
    epochs : int
        Length of the training.
    learning_rate : float
        At its beginning.
    momentum : float
        Of SGD, and its dampening too: ``buf ← momentum · buf + (1 − momentum) · gradient``, so that a learning rate of
        1 is one of about .1 without dampening. The first update is not dampened (``buf = gradient``), in PyTorch as in
        Torch7.
    weight_decay : float
        Times the weight is added to its gradient, biases and batch normalisation included.

    Returns
    -------
    callable
        parameters → (optimiser, scheduler), for `brainrdl.Trainer`.

    Raises
    ------
    ValueError
        If `epochs` is below 1.

    Notes
    -----
    The paper gives the halving only. The rest is the recipe of the public Torch project ``szagoruyko/cifar.torch``,
    whose optimiser dampens by the momentum unless it is told otherwise.

    Examples
    --------
    >>> import torch
    >>> from brainrdl.experiments.optimizers import halving_sgd
    >>> optimizer, scheduler = halving_sgd(300)([torch.nn.Parameter(torch.zeros(1))])
    >>> optimizer.defaults["lr"], optimizer.defaults["dampening"]
    (1.0, 0.9)
    """
    return _sgd(
        epochs,
        lambda epoch: 0.5 ** (_HALVINGS * epoch // epochs),
        learning_rate=learning_rate,
        momentum=momentum,
        dampening=momentum,
        weight_decay=weight_decay,
    )


OPTIMIZERS = {"linear_sgd": linear_sgd, "halving_sgd": halving_sgd}
"""By the name that a recipe gives them."""


def _sgd(
    epochs: int,
    factor: Callable[[int], float],
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    dampening: float = 0.0,
) -> MakeOptimizer:
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")

    def make(parameters: Iterable[nn.Parameter]) -> tuple[torch.optim.Optimizer, LRScheduler]:
        parameters = list(parameters)
        optimizer = torch.optim.SGD(
            parameters,
            lr=learning_rate,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            fused=True if all(parameter.is_cuda for parameter in parameters) else None,
        )
        return optimizer, LambdaLR(optimizer, factor)

    return make
