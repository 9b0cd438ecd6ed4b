"""Features: the answers of named layers to a batch of stimuli."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from brainrdl.arguments import did_you_mean
from brainrdl.features.networks import refuse_compiled, refuse_scripted

_OF_SHAPES = re.compile(r"shape|size|channel|dimension|height|width|\dD input", re.IGNORECASE)
_WRAPPERS = ("module", "_orig_mod", "_forward_module", "_original_module")

Selector = int | str | Callable[[Any], Tensor]


def list_layers(model: nn.Module) -> list[str]:
    """List the names of a model's layers, in the order in which they are registered.

    Parameters
    ----------
    model : nn.Module
        Any module, bare or wrapped (DistributedDataParallel, ``torch.compile``, Lightning Fabric).

    Returns
    -------
    list of str
        Dotted names as ``model.named_modules()`` gives them, without a wrapper's prefix; a shared module's names all.

    Examples
    --------
    >>> import brainrdl as rdl
    >>> from torch import nn
    >>> rdl.list_layers(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    ['0', '1']
    """
    return list(_named_layers(model))


def layer_names(layers: Iterable[str]) -> tuple[str, ...]:
    """Return names of layers as a tuple; ValueError for a single string, or a layer named twice."""
    if isinstance(layers, str):
        raise ValueError(f"layers must be a list of names, got the single string {layers!r}; write [{layers!r}]")
    names = tuple(layers)
    if len(set(names)) != len(names):
        raise ValueError(f"layers names a layer twice: {', '.join(map(repr, names))}")
    return names


def capture(
    model: nn.Module,
    layers: Iterable[str],
    x: Any,
    *,
    select: Mapping[str, Selector] | None = None,
    flatten: bool = True,
) -> tuple[Any, dict[str, Tensor]]:
    """Run a model once and keep what the named layers answered.

    Parameters
    ----------
    model : nn.Module
        Model; its mode (train or eval) is left as it is.
    layers : iterable of str
        Names as in `list_layers`.
    x : Tensor (n, ...) or whatever the model takes
        Input, handed on as it is.
    select : dict, optional
        Layer whose output is a tuple or dict → index, key or function that picks the tensor.
    flatten : bool
        Whether features become ``(n, units)``; otherwise they keep the layer's own shape.

    Returns
    -------
    output : object
        Output of the model.
    features : dict of Tensor (n, units)
        One entry per layer, differentiable.

    Raises
    ------
    ValueError, RuntimeError, TypeError
        As `Recorder`. ValueError too if the model writes to `x`; if a layer's first dimension is not that of `x`; and,
        of a model that is in eval mode throughout, if a layer's answer to a stimulus depends on others or on chance.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True))
    >>> output, features = rdl.capture(model, ["0"], torch.zeros(2, 1, 5, 5))
    >>> features["0"].shape
    torch.Size([2, 36])
    """
    with Recorder(model, layers, select=select, flatten=flatten) as recorder:
        output = run_model(model, x, type(model).__name__)
        features = recorder.features()
    if isinstance(x, Tensor) and x.ndim:
        for layer, value in features.items():
            if value.shape[0] != x.shape[0]:
                raise ValueError(
                    f"layer {layer!r} returned {value.shape[0]} rows to {x.shape[0]} stimuli; its first dimension "
                    "must be the stimuli: give select={layer: function} to move it there"
                )
        if not any(module.training for module in model.modules()):
            from brainrdl.features.answers import check_answers  # which records by this module

            # a function that selects may count the stimuli it was written for
            plain = [layer for layer in features if not callable((select or {}).get(layer))]
            check_answers(model, plain, x, select={k: v for k, v in (select or {}).items() if k in plain})
    return output, features


class Recorder:
    """Keep what named layers answer, at every forward pass of a model.

    The hooks are installed once, at construction: before the model is compiled and before Fabric wraps it. They are
    removed at the end of the ``with`` block, or by `remove`.

    Parameters
    ----------
    model : nn.Module
        Model that will be called; whole forward passes only.
    layers : iterable of str
        Names as in `list_layers`, with or without a wrapper's prefix (``module.``, ``_orig_mod.``).
    select : dict, optional
        Layer whose output is a tuple or dict → index, key or function that picks the tensor.
    flatten : bool
        Whether features become ``(n, units)``.

    Raises
    ------
    ValueError
        If a layer is not in the model (with near matches) or named twice, or the model is already compiled.
    RuntimeError
        From `features`: if a layer did not run, or ran more than once, in the last forward pass.
    TypeError
        From the forward pass: if a layer's output is not a tensor and `select` does not say which part is meant.

    Examples
    --------
    >>> import torch, brainrdl as rdl
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
    >>> with rdl.Recorder(model, ["0"]) as recorder:
    ...     output = model(torch.ones(5, 2))
    ...     recorder.features()["0"].shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[str],
        *,
        select: Mapping[str, Selector] | None = None,
        flatten: bool = True,
    ) -> None:
        self.layers = layer_names(layers)
        self._select = dict(select or {})
        self._flatten = flatten
        self._recording = False
        self._features: dict[str, Tensor] = {}
        self._runs: dict[str, int] = {}
        self._handles: list[Any] = []
        unknown = [name for name in self._select if name not in self.layers]
        if unknown:
            raise ValueError(f"select names {unknown[0]!r}, which is not among the layers {list(self.layers)}")
        if self.layers:
            refuse_compiled(model)
        modules = [(name, _find(model, name)) for name in self.layers]
        refuse_scripted(model, modules)
        if not modules:
            return
        self._handles.append(model.register_forward_pre_hook(self._begin, prepend=True))
        for name, module in modules:
            self._handles.append(module.register_forward_hook(partial(self._keep, name)))
        self._handles.append(model.register_forward_hook(self._end, always_call=True))

    def features(self) -> dict[str, Tensor]:
        """Hand over the features of the last forward pass and forget them.

        Returns
        -------
        dict of Tensor (n, units)
            One entry per layer, in the order of `layers`.

        Raises
        ------
        RuntimeError
            If there was no forward pass since the last call, or a layer did not run in it or ran more than once.
        """
        features, self._features = self._features, {}
        runs, self._runs = self._runs, {}
        if self._recording:  # an interrupt (Ctrl-C) ends a forward pass without its last hook
            self._recording = False
            raise RuntimeError(
                "the last forward pass was interrupted, so that its features are not whole; call the model again"
            )
        if not runs and self.layers:
            raise RuntimeError(
                f"none of the layers {list(self.layers)} has run since features were last taken; call the model (the "
                "very one that the Recorder was given, or its wrapper) before features()"
            )
        for layer in self.layers:
            if runs.get(layer, 0) == 0:
                raise RuntimeError(
                    f"layer {layer!r} did not run in the last forward pass; name a layer that the model's forward calls"
                )
            if runs[layer] > 1:
                raise RuntimeError(
                    f"layer {layer!r} ran {runs[layer]} times in one forward pass, so that its features are ambiguous; "
                    "give each use a module of its own, or name a layer behind it"
                )
        return {layer: features[layer] for layer in self.layers}

    def remove(self) -> None:
        """Take the hooks off the model, and let go of what was recorded."""
        self._recording, self._features, self._runs = False, {}, {}
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave an inert recorder in a copied or pickled model, which touches nothing of the original."""
        return _inert_recorder, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    def _begin(self, module: nn.Module, args: Any) -> None:
        self._recording, self._features, self._runs = True, {}, {}

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        # activation checkpointing runs layers again during backward: those runs are not ours
        self._recording = False

    def _keep(self, layer: str, module: nn.Module, args: Any, output: Any) -> None:
        if not self._recording:
            return
        self._runs[layer] = self._runs.get(layer, 0) + 1
        value = _tensor_of(output, layer, self._select.get(layer))
        # a copy: an in-place operation behind the layer would change what it answered
        value = value.clone()
        self._features[layer] = value.flatten(1) if self._flatten else value


def layer_shapes(model: nn.Module, example: Tensor) -> dict[str, tuple[int, ...] | None]:
    """Find each layer's answer to a stimulus, `example` (1, ...): layer → shape, None where it gives no one tensor."""
    answers: dict[nn.Module, list[Any]] = {}

    def note(module: nn.Module, args: Any, output: Any) -> None:
        tensor = isinstance(output, Tensor) and output.ndim > 0 and len(output) == len(example)
        answers.setdefault(module, []).append(tuple(output.shape[1:]) if tensor else None)

    modules = dict(model.named_modules(remove_duplicate=False))
    handles = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with kept_modes(model), torch.no_grad():
            model.eval()
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    shapes = {}
    for layer in list_layers(model):
        found = answers.get(modules[layer], []) if layer in modules else []
        shapes[layer] = found[0] if len(found) == 1 else None
    return shapes


def run_model(model: nn.Module, images: Any, who: str, *, own_input: bool = False) -> Any:
    """Call a model on `images` (n, ...), which it may write to if they are its own; `who` names it in errors."""
    version = _version(images)
    try:
        output = model(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        if not isinstance(images, Tensor):
            raise
        if "more than 1 value per channel" in str(error):
            raise ValueError(
                f"{who} normalises over the batch, and one of {len(images)} image has no spread ({error}); choose "
                "another batch size, or leave out the incomplete last batch (drop_last=True)"
            ) from error
        expected = next((p.dtype for p in model.parameters() if p.is_floating_point()), images.dtype)
        if images.dtype != expected and "type" in str(error):
            scaled = " / 255" if images.dtype == torch.uint8 else ""
            # the student, in whose type it is trained, is left as it is
            network = f", or the network, as in network.to({images.dtype})" if _is_another(who, images) else ""
            raise TypeError(
                f"{who} has parameters of {expected} and got images of {images.dtype} ({error}); convert the images, "
                f"as in images.to({expected}){scaled}{network}"
            ) from error
        # not of a subclass: memory that is too small is told by sizes as well; of `capture`, callers say it themselves
        kind = type(error)
        of_shapes = kind in (RuntimeError, ValueError, AssertionError) and _OF_SHAPES.search(str(error))
        if who in ("the student", "the teacher") and images.ndim and of_shapes:
            own = "; NetworkTeacher(…, preprocess=function) changes them for the teacher alone"
            raise kind(
                f"{who} failed on {len(images)} images of shape {tuple(images.shape[1:])} ({error}); give images of "
                f"the shape that it takes: (channels, height, width){own if who == 'the teacher' else ''}"
            ) from error
        raise
    if not own_input and _version(images) != version:
        raise ValueError(
            f"{who} writes to its input: whatever is given the images after it gets others, and a loader that hands "
            "out its own tensors has other data from then on; let its first layers make new tensors (x = x - mean "
            "where it says x -= mean or x.sub_(mean); inplace=False)"
        )
    return output


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Leave every module in the mode (train or eval) it was in, however the block ends."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _is_another(who: str, images: Tensor) -> bool:
    return who != "the student" and images.is_floating_point()


def _version(value: Any) -> int | None:
    """Number of writes to a tensor, None for anything that does not count them."""
    return value._version if isinstance(value, Tensor) and not value.is_inference() else None


def _inert_recorder() -> Recorder:
    """A recorder of no layers on no model; its hooks, where a copy has them, do nothing."""
    inert = object.__new__(Recorder)
    inert.layers, inert._select, inert._flatten = (), {}, True
    inert._recording, inert._features, inert._runs, inert._handles = False, {}, {}, []
    return inert


def _tensor_of(output: Any, layer: str, selector: Selector | None) -> Tensor:
    value = output
    if selector is not None:
        try:
            value = selector(output) if callable(selector) else output[selector]
        except (KeyError, IndexError, TypeError) as error:
            parts = list(output) if isinstance(output, Mapping) else f"a {type(output).__name__}"
            raise TypeError(f"select[{layer!r}] = {selector!r} finds nothing in the layer's output: {parts}") from error
    if not isinstance(value, Tensor):
        parts = f"keys {list(value)}" if isinstance(value, Mapping) else f"a {type(value).__name__}"
        raise TypeError(
            f"layer {layer!r} returns {parts}, not a tensor; say which part is meant: "
            f"select={{{layer!r}: index, key or function}}"
        )
    if value.ndim == 0:
        raise TypeError(f"layer {layer!r} returns a single number; features need shape (stimuli, …)")
    return value if value.ndim > 1 else value[:, None]


def _strip(name: str) -> str:
    parts = name.split(".")
    while parts and parts[0] in _WRAPPERS:
        parts = parts[1:]
    return ".".join(parts)


def _named_layers(model: nn.Module) -> dict[str, nn.Module]:
    # a wrapper has no other child: a network of its own with a child `module` among others is none
    while (children := dict(model.named_children())) and set(children) <= set(_WRAPPERS):
        model = next(iter(children.values()))
    # shared modules count under each of their names
    layers = dict(model.named_modules(remove_duplicate=False))
    layers.pop("", None)
    return layers


def _find(model: nn.Module, name: str) -> nn.Module:
    layers = _named_layers(model)
    module = layers.get(name, layers.get(_strip(name)))
    if module is None:
        hint = did_you_mean(_strip(name), layers) or "; list_layers(model) lists them all"
        raise ValueError(f"{type(model).__name__} has no layer {name!r}{hint}")
    return module
