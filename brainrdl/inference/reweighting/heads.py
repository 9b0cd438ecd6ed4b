"""Heads on a frozen network, of so few parameters (or kept so close to the network) that few stimuli can fit them."""

from copy import deepcopy
from typing import Self, SupportsIndex, final

import torch
from torch import Tensor, nn

from brainrdl.arguments import whole_number
from brainrdl.features.recorder import Recorder, capture


@final
class Gains(nn.Module):
    """One non-negative gain per channel: what the features are is kept, how much each counts is fitted.

    A gain is the magnitude of its parameter, so that it cannot become negative however it is trained.

    Parameters
    ----------
    n_channels : int
        Number of channels: dimension 1 of the features.

    Attributes
    ----------
    gains : Tensor (n_channels,)
        Gains of at least 0; 1 at the start, which changes nothing.

    Examples
    --------
    >>> from brainrdl.inference.reweighting import Gains
    >>> head = Gains(2)
    >>> head(torch.tensor([[3.0, 4.0]])).detach(), head.deviation().item()
    (tensor([[3., 4.]]), 0.0)
    """

    def __init__(self, n_channels: SupportsIndex) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(whole_number(n_channels, "n_channels", at_least=1)))

    @property
    def gains(self) -> Tensor:
        """The gains, which carry the gradient."""
        return self.weight.abs()

    @classmethod
    def of(cls, gains: Tensor) -> "Gains":
        """The head with these gains (n_channels,), as float32."""
        head = cls(len(gains))
        head.weight = nn.Parameter(gains.detach().float())
        return head

    def forward(self, features: Tensor) -> Tensor:
        """Scale the channels of features (n, n_channels, ...)."""
        n_channels = len(self.weight)
        if features.ndim < 2 or features.shape[1] != n_channels:
            raise ValueError(
                f"features have shape {tuple(features.shape)}, expected (stimuli, {n_channels}, …): one gain for each "
                f"of {n_channels} channels"
            )
        return features * self.gains.reshape(1, -1, *[1] * (features.ndim - 2))

    def deviation(self) -> Tensor:
        """Distance from changing nothing: the mean of (gain − 1)² over channels."""
        return (self.gains - 1).square().mean()


@final
class Readout(nn.Module):
    """A linear map of the flattened features that starts as the identity: ``z = x (I + A B)``.

    Parameters
    ----------
    n_units : int
        Number of units of the flattened features, before and after.
    rank : int, optional
        Inner dimension of A B. If absent: a full map, whose A is the identity: n_units² parameters.

    Examples
    --------
    >>> from brainrdl.inference.reweighting import Readout
    >>> head = Readout(4, rank=1)
    >>> head(torch.ones(1, 2, 2)).detach(), head.deviation().item()
    (tensor([[1., 1., 1., 1.]]), 0.0)
    """

    down: nn.Parameter | None

    def __init__(self, n_units: SupportsIndex, rank: SupportsIndex | None = None) -> None:
        super().__init__()
        n_units = whole_number(n_units, "n_units", at_least=1)
        if rank is None:
            self.register_parameter("down", None)
            self.up = nn.Parameter(torch.zeros(n_units, n_units))
        else:
            rank = whole_number(rank, "rank", at_least=1)
            # with both factors at 0 there would be no gradient
            self.down = nn.Parameter(torch.randn(n_units, rank) / n_units**0.5)
            self.up = nn.Parameter(torch.zeros(rank, n_units))

    @classmethod
    def of(cls, down: Tensor, up: Tensor) -> "Readout":
        """The head with these factors A (n_units, rank) and B (rank, n_units), as float32."""
        head = cls(len(down), rank=len(up))
        head.down, head.up = (nn.Parameter(factor.detach().float().contiguous()) for factor in (down, up))
        return head

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, ...) to (n, n_units)."""
        flat, n_units = features.flatten(1), self.up.shape[1]
        if flat.shape[1] != n_units:
            raise ValueError(
                f"features have shape {tuple(features.shape)}, which is {flat.shape[1]} units each; the readout is of "
                f"{n_units}"
            )
        return flat + (flat if self.down is None else flat @ self.down) @ self.up

    def deviation(self) -> Tensor:
        """Distance from changing nothing: ``‖W − I‖²``, the sum over all entries of the map W."""
        if self.down is None:
            return self.up.square().sum()
        return ((self.down.T @ self.down) * (self.up @ self.up.T)).sum()  # trace(AᵀA BBᵀ): never units × units


@final
class PositionMean(nn.Module):
    """The mean of each channel over its positions: (n, C, ...) → (n, C)."""

    def forward(self, features: Tensor) -> Tensor:
        """Average features (n, C, ...)."""
        return features.flatten(2).mean(dim=2) if features.ndim > 2 else features


@final
class UnitPatterns(nn.Module):
    """Each stimulus's pattern, all its units together, centred if asked for, and brought to length 1.

    Half the squared Euclidean distance of such patterns is the cosine (if centred: the correlation) distance.
    """

    def __init__(self, *, centred: bool) -> None:
        super().__init__()
        self.centred = centred

    def forward(self, features: Tensor) -> Tensor:
        """Scale features (n, ...); a pattern without length stays 0."""
        flat = features.flatten(1)
        if self.centred:
            flat = flat - flat.mean(dim=1, keepdim=True)
        length = flat.norm(dim=1, keepdim=True)
        return (flat / torch.where(length > 0, length, 1.0)).reshape(features.shape)

    def extra_repr(self) -> str:
        """The arguments to print."""
        return f"centred={self.centred}"


@final
class Headed(nn.Module):
    """A frozen network with a head on one of its layers: images → head(features of the layer).

    The layer ``head`` is one like any other: `layer_rdms`, `capture` and terms take it by that name, and the network's
    own layers as ``backbone.<name>``. Trained, only the head changes.

    Parameters
    ----------
    backbone : nn.Module
        Network, of which a copy is held: in eval mode, whatever mode the whole is in, and without gradients.
    layer : str
        Name of one of its layers, as in `list_layers`.
    head : nn.Module
        Module on top of it, such as `Gains`; it gets the features in the layer's own shape.

    Raises
    ------
    TypeError
        If backbone or head is no module.
    ValueError
        If the backbone has no such layer, or is compiled.
    TypeError, RuntimeError
        From the forward pass, as `Recorder`: if the layer did not answer once, with a tensor.

    Examples
    --------
    Saved, and loaded in three lines:

    >>> import tempfile, brainrdl as rdl
    >>> from brainrdl.inference.reweighting import Gains, Headed
    >>> from brainrdl.models import mnist_cnn
    >>> model = Headed(mnist_cnn(), "conv2", Gains(64))
    >>> path = tempfile.mkdtemp() + "/model.safetensors"
    >>> rdl.save_model(model, path, {"fitted to": "human IT"})
    >>> model = rdl.load_model(path, lambda: Headed(mnist_cnn(), "conv2", Gains(64)))
    >>> model(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 64, 10, 10])
    """

    def __init__(self, backbone: nn.Module, layer: str, head: nn.Module) -> None:
        super().__init__()
        for value, name in ((backbone, "backbone"), (head, "head")):
            if not isinstance(value, nn.Module):
                raise TypeError(f"{name} is a {type(value).__name__}, expected a torch.nn.Module")
        self.backbone = deepcopy(backbone).eval().requires_grad_(False)
        Recorder(self.backbone, [layer]).remove()  # finds out now whether there is such a layer
        self.layer = layer
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Answer a batch of images."""
        with torch.no_grad():
            _, features = capture(self.backbone, [self.layer], images, flatten=False)
        answer: Tensor = self.head(features[self.layer])
        return answer

    def train(self, mode: bool = True) -> Self:
        """Put the head into training mode or out of it; the network stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def extra_repr(self) -> str:
        """The arguments to print."""
        return f"layer={self.layer!r}"
