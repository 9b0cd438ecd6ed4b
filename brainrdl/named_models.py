"""Networks by name, as the command line takes them: ``torchvision:resnet18`` or ``package.module:factory``."""

import importlib
import inspect
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from brainrdl.arguments import did_you_mean
from brainrdl.features.networks import mark_random
from brainrdl.files.weights import DamagedWeightsError, check_archive, check_safetensors


class NamedModel(NamedTuple):
    """A network with what goes before it."""

    model: nn.Module
    transform: Callable[[Image.Image], Tensor] | None
    """From a PIL image to the network's input; None: floats in [0, 1]."""
    weights: str
    """Source of its weights."""
    is_random: bool = False
    """True if its weights are known to be random: torchvision's, none named. A factory may load its own."""


def load_named_model(
    name: str, weights: str | os.PathLike[str] | None = None, *, seed: int = 0, untrained: bool = False
) -> NamedModel:
    """Make a network from its name.

    Parameters
    ----------
    name : str
        ``torchvision:NAME``, a model of torchvision, with the preprocessing that its default (or the named) weights
        were trained with; or ``package.module:factory``, a function without arguments that returns a network, or a
        network and its transform. The module is looked for in the working directory too.
    weights : str or path, optional
        A file with a state_dict (``.pt``, ``.pth``; no code in it is run) or ``.safetensors``; or, for torchvision, the
        name of its weights, such as ``IMAGENET1K_V1``, which are then downloaded. Absent: random in torchvision, which
        a warning says.
    seed : int
        Seed of what is drawn while the network is made.
    untrained : bool
        Whether random weights are meant, and need no warning.

    Returns
    -------
    NamedModel
        Model, transform, and what was loaded, in words.

    Raises
    ------
    ValueError
        If there is no such model, module, function or name of weights; if the file does not hold a state_dict, or that
        of another architecture; if the function needs arguments, or does not return a network.
    FileNotFoundError
        If `weights` is not a file.

    Warns
    -----
    UserWarning
        If a network of torchvision is given no weights, unless it is to be `untrained`.

    Examples
    --------
    >>> from brainrdl.named_models import load_named_model
    >>> named = load_named_model("torchvision:resnet18", untrained=True)
    >>> type(named.model).__name__, named.weights
    ('ResNet', 'none loaded')
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the same untrained network each time
        made = _made(name, weights)
    if weights is None and not untrained and name.startswith("torchvision:"):
        warnings.warn(
            f"{name} has random weights: none were named; give weights= a file or one of torchvision's names, such as "
            "'DEFAULT', or untrained=True where random ones are meant",
            stacklevel=2,
        )
    return made


def _made(name: str, weights: str | os.PathLike[str] | None) -> NamedModel:
    source, separator, what = name.partition(":")
    if not (separator and source and what) or source.startswith("."):
        raise ValueError(
            f"model {name!r} is not the name of a model; expected torchvision:NAME or package.module:factory"
        )
    if source == "torchvision":
        return _from_torchvision(what, weights)
    made = _factory(name, source, what)()
    model, transform = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{name} returned a {type(model).__name__}; expected a torch module, or a module and its transform"
        )
    if weights is None:
        return NamedModel(model, transform, "none loaded")
    return NamedModel(model, transform, _load_weights(model, Path(weights)))


def _from_torchvision(name: str, weights: str | os.PathLike[str] | None) -> NamedModel:
    # imported here: it takes as long as torch itself
    from torchvision import models

    known = models.list_models()
    if name not in known:
        raise ValueError(f"torchvision has no model {name!r}{did_you_mean(name, known)}")
    enum = models.get_model_weights(name)
    # a detector's backbone comes with weights, downloaded unasked, where nothing is said of it
    builder = models.get_model_builder(name)
    bare = {"weights_backbone": None} if "weights_backbone" in inspect.signature(builder).parameters else {}
    if weights is None:
        model = models.get_model(name, **bare)
        mark_random(model)
        return NamedModel(model, enum.DEFAULT.transforms(), "none loaded", is_random=True)
    if Path(weights).is_file():
        model = models.get_model(name, **bare)
        return NamedModel(model, enum.DEFAULT.transforms(), _load_weights(model, Path(weights)))
    names = list(enum.__members__)
    if str(weights) not in names:
        raise FileNotFoundError(
            f"there is no file {os.fspath(weights)}, and no weights of that name for {name} in torchvision, which has "
            f"{', '.join(names)}"
        )
    chosen = enum[str(weights)]
    return NamedModel(models.get_model(name, weights=chosen), chosen.transforms(), f"torchvision {chosen}")


def _factory(name: str, module_name: str, function: str) -> Callable[[], Any]:
    place = os.getcwd()
    sys.path.insert(0, place)  # as ``python -m`` has it; an installed command does not
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and what it imports is not
        raise ValueError(
            f"there is no module {module_name!r} for model {name!r}; looked in {place} and where Python looks for "
            "packages"
        ) from error
    finally:
        sys.path.remove(place)
    made = getattr(module, function, None)
    if not callable(made):
        near = did_you_mean(function, [known for known in vars(module) if not known.startswith("_")])
        raise ValueError(f"{getattr(module, '__file__', module_name)} has no function {function!r}{near}")
    try:
        inspect.signature(made).bind()
    except TypeError as error:
        raise ValueError(f"{name} cannot be called without arguments ({error}); name a function that can") from error
    except ValueError:  # written in C, and without a signature
        pass
    factory: Callable[[], Any] = made
    return factory


def _load_weights(model: nn.Module, path: Path) -> str:
    """Load a file's weights into a model, strictly; returns what was loaded."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; name a state_dict (.pt, .pth) or a .safetensors file")
    state = _read_weights(path)
    # checkpoints wrap them, and so does DataParallel
    state = state["state_dict"] if isinstance(state, dict) and isinstance(state.get("state_dict"), dict) else state
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state_dict, a dict of tensors by name; save one with model.state_dict()")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        differences = " ".join(str(error).split())
        short = differences if len(differences) < 500 else f"{differences[:500]} …"
        raise ValueError(f"{path} holds the weights of another architecture: {short}") from error
    return path.name


def _read_weights(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            check_safetensors(path)
            return load_file(path)
        check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's opinion of a file that is refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors, or is not a file of torch's; it is not opened, since that could run "
            "code: save the weights alone with torch.save(model.state_dict(), path)"
        ) from error
    except (OSError, DamagedWeightsError):
        raise
    except Exception as error:  # what torch's reader stumbles over in a damaged file can be anything
        raise ValueError(f"{path} cannot be read as weights ({type(error).__name__}); is it damaged?") from error
