"""Optimisers of the studies, as functions of the parameters."""

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

_HALVINGS = 12  # every 25 of 300 epochs

MakeOptimizer = Callable[[Iterable[nn.Parameter]], tuple[torch.optim.Optimizer, LRScheduler]]
"""What `brainrdl.Trainer` takes as its optimizer."""


def linear_sgd(
    epochs: int, *, learning_rate: float = 0.05, momentum: float = 0.9, weight_decay: float = 0.0, warmup: int = 0
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
    warmup : int
        Epochs in which the learning rate rises: in epoch t < `warmup` it is times (t + 1)/(warmup + 1).

    Returns
    -------
    callable
        parameters → (optimiser, scheduler), for `brainrdl.Trainer`.

    Raises
    ------
    ValueError
        If `epochs` is below 1, or `warmup` below 0.

    Examples
    --------
    >>> import torch
    >>> from brainrdl.studies.optimizers import linear_sgd
    >>> optimizer, scheduler = linear_sgd(20)([torch.nn.Parameter(torch.zeros(1))])
    >>> optimizer.defaults["lr"], optimizer.defaults["momentum"]
    (0.05, 0.9)
    """
    return _sgd(
        epochs,
        _warmed(lambda epoch: 1 - epoch / epochs, warmup),
        learning_rate=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
    )


def halving_sgd(
    epochs: int, *, learning_rate: float = 1.0, momentum: float = 0.9, weight_decay: float = 5e-4, warmup: int = 0
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
    warmup : int
        Epochs in which the learning rate rises: in epoch t < `warmup` it is times (t + 1)/(warmup + 1).

    Returns
    -------
    callable
        parameters → (optimiser, scheduler), for `brainrdl.Trainer`.

    Raises
    ------
    ValueError
        If `epochs` is below 1, or `warmup` below 0.

    Notes
    -----
    The paper gives the halving only. The rest is the recipe of the public Torch project ``szagoruyko/cifar.torch``,
    whose optimiser dampens by the momentum unless it is told otherwise.

    Examples
    --------
    >>> import torch
    >>> from brainrdl.studies.optimizers import halving_sgd
    >>> optimizer, scheduler = halving_sgd(300)([torch.nn.Parameter(torch.zeros(1))])
    >>> optimizer.defaults["lr"], optimizer.defaults["dampening"]
    (1.0, 0.9)
    """
    return _sgd(
        epochs,
        _warmed(lambda epoch: 0.5 ** (_HALVINGS * epoch // epochs), warmup),
        learning_rate=learning_rate,
        momentum=momentum,
        dampening=momentum,
        weight_decay=weight_decay,
    )


def clipped(make: MakeOptimizer, norm: float) -> MakeOptimizer:
    """Describe an optimiser that shortens the gradient before each update, where it is longer than `norm`.

    Parameters
    ----------
    make : callable
        parameters → (optimiser, scheduler).
    norm : float
        The greatest Euclidean length of the gradient of all parameters together, above 0.

    Returns
    -------
    callable
        The same with clipping; the optimiser's groups hold `norm` as ``clip``, so that checkpoints know of it.

    Raises
    ------
    ValueError
        If `norm` is not a finite number above 0.

    References
    ----------
    Pascanu, Mikolov & Bengio (2013). On the difficulty of training recurrent neural networks. ICML.

    Examples
    --------
    >>> import torch
    >>> from brainrdl.studies.optimizers import clipped, linear_sgd
    >>> weight = torch.nn.Parameter(torch.zeros(2))
    >>> optimizer, scheduler = clipped(linear_sgd(20, learning_rate=1.0), 1.0)([weight])
    >>> weight.grad = torch.tensor([30.0, 40.0])
    >>> optimizer.step()
    >>> weight.data
    tensor([-0.6000, -0.8000])
    """
    if not 0 < norm < float("inf"):
        raise ValueError(f"norm must be a finite number above 0, got {norm}")

    def clip(optimizer: torch.optim.Optimizer, *_: object) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(parameters, norm)

    def make_clipped(parameters: Iterable[nn.Parameter]) -> tuple[torch.optim.Optimizer, LRScheduler]:
        optimizer, scheduler = make(parameters)
        for group in optimizer.param_groups:
            group["clip"] = norm
        optimizer.register_step_pre_hook(clip)
        return optimizer, scheduler

    return make_clipped


OPTIMIZERS = {"linear_sgd": linear_sgd, "halving_sgd": halving_sgd}
"""By the name that a recipe gives them."""


def _warmed(factor: Callable[[int], float], warmup: int) -> Callable[[int], float]:
    if warmup < 0:
        raise ValueError(f"warmup must be at least 0, got {warmup}")
    if not warmup:
        return factor
    return lambda epoch: min(1.0, (epoch + 1) / (warmup + 1)) * factor(epoch)


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
