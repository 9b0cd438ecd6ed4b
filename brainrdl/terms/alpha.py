"""Schedules of α, the weight of a term in Eq. 5: called with (epoch, epochs), they answer α, or one per layer."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, inf, pi

from torch import Tensor

from brainrdl.rdms.distances import rdm
from brainrdl.teachers.network import NetworkTeacher

Alpha = float | Mapping[str, float]
Schedule = Callable[[int, int], Alpha]


def linear_decay(alpha0: Alpha) -> Schedule:
    """Decay α linearly, the paper's schedule: ``α_t = α_0 (1 − t/t_max)``, t = 0 … t_max − 1.

    Parameters
    ----------
    alpha0 : float or dict of float
        α of the first epoch, for all layers or for each.

    Returns
    -------
    callable (epoch, epochs) -> float or dict of float
        A schedule, the alpha of any term.

    Raises
    ------
    ValueError
        If α is negative or not finite.

    Examples
    --------
    >>> import brainrdl as rdl
    >>> [rdl.linear_decay(2.0)(epoch, 4) for epoch in range(4)]
    [2.0, 1.5, 1.0, 0.5]
    """
    return _Scaled(check_alpha(alpha0), lambda epoch, epochs: 1 - epoch / epochs)


def constant(alpha0: Alpha) -> Schedule:
    """Keep α at α_0.

    Takes and returns what `linear_decay` does.

    Examples
    --------
    >>> import brainrdl as rdl
    >>> rdl.constant({"fc": 0.5})(3, 4)
    {'fc': 0.5}
    """
    return _Scaled(check_alpha(alpha0), lambda epoch, epochs: 1.0)


def cosine_decay(alpha0: Alpha) -> Schedule:
    """Decay α along half a cosine: ``α_t = α_0 (1 + cos(π t/t_max))/2``.

    Takes and returns what `linear_decay` does.

    Examples
    --------
    >>> import brainrdl as rdl
    >>> [round(rdl.cosine_decay(1.0)(epoch, 4), 3) for epoch in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    return _Scaled(check_alpha(alpha0), lambda epoch, epochs: (1 + cos(pi * epoch / epochs)) / 2)


def step_decay(alpha0: Alpha, *, factor: float = 0.1, every: int = 10) -> Schedule:
    """Multiply α by a factor every so many epochs: ``α_t = α_0 · factor^⌊t/every⌋``.

    Parameters
    ----------
    alpha0 : float or dict of float
        α of the first epoch, as for `linear_decay`.
    factor : float
        Factor of one step.
    every : int
        Number of epochs between two steps, at least 1.

    Returns
    -------
    callable (epoch, epochs) -> float or dict of float

    Raises
    ------
    ValueError
        As `linear_decay`, or if `every` is below 1.

    Examples
    --------
    >>> import brainrdl as rdl
    >>> [rdl.step_decay(1.0, factor=0.5, every=2)(epoch, 4) for epoch in range(4)]
    [1.0, 1.0, 0.5, 0.5]
    """
    if every < 1:
        raise ValueError(f"every must be at least 1 epoch, got {every}")
    return _Scaled(check_alpha(alpha0), lambda epoch, epochs: factor ** (epoch // every))


def deep_supervision_decay(alpha0: Alpha) -> Schedule:
    """Decay α as deeply supervised networks do: ``α_{t+1} = α_t · 0.1 · (1 − t/t_max)``; gone after three epochs.

    Takes and returns what `linear_decay` does.

    References
    ----------
    Lee et al. (2014), Deeply-supervised nets, as McClure & Kriegeskorte (2016) use it.

    Examples
    --------
    >>> from brainrdl.terms import deep_supervision_decay
    >>> [round(deep_supervision_decay(1.0)(epoch, 4), 6) for epoch in range(4)]
    [1.0, 0.1, 0.0075, 0.000375]
    """

    def factor(epoch: int, epochs: int) -> float:
        # α_{t+1} = α_t · 0.1 · (1 − t/t_max)
        product = 1.0
        for t in range(epoch):
            product *= 0.1 * (1 - t / epochs)
        return product

    return _Scaled(check_alpha(alpha0), factor)


def relative_alpha(
    alpha0: float, teacher: NetworkTeacher, images: Tensor, layers: Mapping[str, str]
) -> dict[str, float]:
    """Make α comparable between layers: ``α_m = α_0/s_m²``, s_m the teacher's mean distance in layer m.

    The same as dividing both RDMs of each layer by s_m in the loss.

    Parameters
    ----------
    alpha0 : float
        Relative α, one for all layers.
    teacher : NetworkTeacher
        Teacher, whose metric the distances are measured in.
    images : Tensor (n, ...)
        Sample of training images; a few hundred are enough.
    layers : dict of str
        Student layer → teacher layer, as for `RDLTerm`.

    Returns
    -------
    dict of float
        Student layer → α.

    Raises
    ------
    ValueError
        If `alpha0` is negative or not finite, or all images are alike to the teacher in a layer.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> teacher = rdl.NetworkTeacher(torch.nn.Sequential(torch.nn.Identity()), ["0"])
    >>> rdl.relative_alpha(1.0, teacher, torch.tensor([[0.0], [2.0]]), {"fc": "0"})
    {'fc': 0.0625}
    """
    check_alpha(alpha0)
    features = teacher.features(images, list(dict.fromkeys(layers.values())))
    alphas = {}
    for student_layer, teacher_layer in layers.items():
        mean = rdm(features[teacher_layer], teacher.metric).mean().item()
        if mean == 0:
            raise ValueError(
                f"the teacher's layer {teacher_layer!r} responds identically to all {len(images)} images, so that its "
                "mean distance is 0; give other images, or leave the layer out"
            )
        # α_m = α_0/s_m²
        alphas[student_layer] = alpha0 / mean**2
    return alphas


@dataclass(frozen=True)
class _Scaled:
    """α₀ times a factor of (epoch, epochs)."""

    alpha0: Alpha
    factor: Callable[[int, int], float]

    def __call__(self, epoch: int, epochs: int) -> Alpha:
        factor = self.factor(epoch, epochs)
        if isinstance(self.alpha0, Mapping):
            return {layer: alpha0 * factor for layer, alpha0 in self.alpha0.items()}
        return self.alpha0 * factor


def alpha_of(alpha: Alpha | Schedule, layer: str, epoch: int, epochs: int) -> float:
    """Value of an α (number, dict or schedule) for a layer in an epoch; ValueError for none, or a negative one."""
    value = alpha(epoch, epochs) if callable(alpha) else alpha
    if isinstance(value, Mapping):
        if layer not in value:
            raise ValueError(f"alpha has no value for layer {layer!r}; it has: {', '.join(map(repr, value))}")
        value = value[layer]
    number = _number(value)
    if number is None:
        raise ValueError(
            f"alpha of layer {layer!r} is {value!r} in epoch {epoch + 1} of {epochs}; a schedule, which is called with "
            f"({epoch}, {epochs}) there, returns finite numbers of at least 0"
        )
    return number


def schedule_name(alpha: Alpha | Schedule) -> str:
    """Name a schedule as its user does: ``linear_decay``, or the function's own name."""
    made = alpha.factor if isinstance(alpha, _Scaled) else alpha
    name = str(getattr(made, "__qualname__", type(made).__name__))
    # a function of this module's is made within the one that its user called
    return name.split(".<locals>")[0] if isinstance(alpha, _Scaled) else name


def check_alpha(alpha0: Alpha) -> Alpha:
    """Hand an α on, a dict as a copy; ValueError unless every value is finite and at least 0."""
    values = alpha0.values() if isinstance(alpha0, Mapping) else [alpha0]
    for value in values:
        if _number(value) is None:
            raise ValueError(f"alpha must be a finite number of at least 0, got {value!r}")
    return dict(alpha0) if isinstance(alpha0, Mapping) else alpha0


def check_schedule(alpha: Schedule) -> Schedule:
    """Hand a schedule on; TypeError unless it can be called with (epoch, epochs)."""
    try:
        parameters = inspect.signature(alpha)
    except ValueError:  # some built-in functions have no signature
        return alpha
    try:
        parameters.bind(0, 1)
    except TypeError as error:
        raise TypeError(
            f"a schedule is called with (epoch, epochs), and alpha takes {parameters} ({error}); write "
            "lambda epoch, epochs: …"
        ) from error
    return alpha


def _number(value: object) -> float | None:
    """The value as a float, None unless it is a finite number of at least 0."""
    try:
        number = float(value)  # type: ignore[arg-type] # a user's schedule may answer anything
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < inf and not isinstance(value, str) else None
