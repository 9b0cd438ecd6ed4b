"""Optimisers of the studies, as functions of the parameters."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from brainrdl.known import OPTIMIZERS as _NAMES

_HALVINGS = 12  # the paper's "halved every 25 epochs" of 300, and the same course in any other number of epochs

MakeOptimizer = Callable[[Iterable[nn.Parameter]], tuple[torch.optim.Optimizer, LRScheduler]]
"""An optimizer as `brainrdl.Trainer` takes it: parameters → (optimiser, scheduler)."""


def linear_sgd(
    epochs: int, *, learning_rate: float = 0.05, momentum: float = 0.9, weight_decay: float = 0.0, warmup: int = 0
) -> MakeOptimizer:
    """Describe the SGD of the MNIST study: in epoch t the learning rate is ``lr (1 − t/epochs)``.

    In epoch t < `warmup` it is times (t + 1)/(warmup + 1).
    """
    sgd = partial(torch.optim.SGD, lr=learning_rate, momentum=momentum, weight_decay=weight_decay)
    return _scheduled(sgd, epochs, lambda epoch: 1 - epoch / epochs, warmup)


def halving_sgd(
    epochs: int, *, learning_rate: float = 1.0, momentum: float = 0.9, weight_decay: float = 5e-4, warmup: int = 0
) -> MakeOptimizer:
    """Describe the SGD of the CIFAR study: dampened momentum, and a learning rate that is halved twelve times.

    In epoch t the learning rate is ``lr · 0.5^⌊12 t/epochs⌋``, and in epoch t < `warmup` times (t + 1)/(warmup + 1).
    """
    # the paper gives the halving only; the rest is the recipe of the public Torch project szagoruyko/cifar.torch, whose
    # optimiser dampens by the momentum unless another dampening is given: buf ← momentum · buf + (1 − momentum) ·
    # gradient, so that a learning rate of 1 is one of about .1 without dampening (the first update is not dampened, in
    # PyTorch as in Torch7), and decays all weights, biases and batch normalisation included
    sgd = partial(torch.optim.SGD, lr=learning_rate, momentum=momentum, dampening=momentum, weight_decay=weight_decay)
    return _scheduled(sgd, epochs, lambda epoch: 0.5 ** (_HALVINGS * epoch // epochs), warmup)


def clipped(make: MakeOptimizer, norm: float) -> MakeOptimizer:
    """Describe an optimiser that shortens the gradient before each update, where it is longer than `norm`.

    That is the Euclidean length of the gradient of all parameters together (Pascanu, Mikolov & Bengio, 2013, ICML).
    """
    if not 0 < norm < float("inf"):
        raise ValueError(f"norm must be a finite number above 0, got {norm}")

    def clip(optimizer: torch.optim.Optimizer, *_: object) -> None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(parameters, norm)

    def make_clipped(parameters: Iterable[nn.Parameter]) -> tuple[torch.optim.Optimizer, LRScheduler]:
        optimizer, scheduler = make(parameters)
        for group in optimizer.param_groups:
            group["clip"] = norm  # so that checkpoints know of it
        optimizer.register_step_pre_hook(clip)
        return optimizer, scheduler

    return make_clipped


OPTIMIZERS = dict(zip(_NAMES, (linear_sgd, halving_sgd), strict=True))
"""By the name that a recipe gives them."""


def _scheduled(
    sgd: Callable[..., torch.optim.Optimizer], epochs: int, factor: Callable[[int], float], warmup: int
) -> MakeOptimizer:
    """Describe an optimiser whose learning rate is that of `sgd` times `factor`, to which it rises in the warm-up."""
    for name, value, least in (("warmup", warmup, 0), ("epochs", epochs, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")

    def warmed(epoch: int) -> float:
        return min(1.0, (epoch + 1) / (warmup + 1)) * factor(epoch)

    def make(parameters: Iterable[nn.Parameter]) -> tuple[torch.optim.Optimizer, LRScheduler]:
        parameters = list(parameters)
        # one kernel for all parameters; None leaves the choice to torch
        fused = True if all(parameter.is_cuda for parameter in parameters) else None
        optimizer = sgd(parameters, fused=fused)
        return optimizer, LambdaLR(optimizer, warmed)

    return make
