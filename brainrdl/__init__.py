"""Fit neural networks to brains, and to each other, by representational geometry."""

from importlib import import_module

import lazy_loader

__version__ = "0.1.0.dev0"  # pyproject.toml reads it here: asking the installed package takes longer than the import

_PACKAGES = (
    "data",
    "exchange",
    "fmri",
    "inference",
    "models",
    "named_models",
    "plots",
    "rdms",
    "studies",
    "teachers",
    "terms",
    "training",
)

# what is exported, and where it is from, stands in __init__.pyi; a name's module is loaded when it is first used
_exported, _, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name in _PACKAGES:
        return import_module(f"brainrdl.{name}")
    if name in __all__:
        return _exported(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})
