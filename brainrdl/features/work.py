"""How much a network computes, as far as its layers tell."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from brainrdl.features.networks import copy_of
from brainrdl.threads import LITTLE, choose_threads

_COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def least_work(network: nn.Module, n_images: int) -> float:
    """Multiply-adds of a network on images if each weight is used once for each."""
    return float(n_images) * sum(parameter.numel() for parameter in network.parameters())


def threads_for(network: nn.Module, n_images: int, device: torch.device | str) -> int:
    """Choose the CPU threads on which a network is shown images."""
    if torch.device(device).type != "cpu":
        return torch.get_num_threads()
    return choose_threads(work=least_work(network, n_images)).number


def work_of(network: nn.Module, images: Tensor) -> float:
    """Estimate the multiply-adds of a network on images (n, ...): those of its convolutions and linear maps.

    A copy sees one image, so that the network is not changed. `least_work` where that is much already, and of networks
    that cannot be copied or shown an image so.
    """
    least = least_work(network, len(images))
    if least >= LITTLE:
        return least
    counts: list[int] = []

    def count(module: nn.Module, _: Any, output: Any) -> None:
        counts.append(output.numel() * cast(Tensor, module.weight)[0].numel())

    try:
        shown = copy_of(network).eval()
        for module in shown.modules():
            if isinstance(module, _COUNTED):
                module.register_forward_hook(count)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            shown(images[:1])
    except Exception:  # whatever a module holds that cannot be copied, or does with one image
        return least
    return max(least, float(len(images)) * sum(counts))
