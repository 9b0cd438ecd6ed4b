"""Fit neural networks to brains, and to each other, by representational geometry."""

from pathlib import Path

import lazy_loader

__version__ = "0.1.0.dev0"  # pyproject.toml reads it here: asking the installed package takes longer than the import

# a name's package is loaded when the name is first used; `__init__.pyi` says which it is, also to type checkers
_exported, _, _offered = lazy_loader.attach_stub(__name__, __file__)

# packages are offered too, but ``from brainrdl import *`` takes the names alone
_modules = {path.stem for path in Path(__file__).parent.iterdir()}
__all__ = [name for name in _offered if name not in _modules]


def __getattr__(name: str) -> object:
    if name in _offered:
        return _exported(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_offered})
