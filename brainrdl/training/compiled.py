"""Python's code as it is compiled: what a function refers to, computes with, and whose it is."""

import dis
import functools
import json
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from hashlib import sha256
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brainrdl.identity import DIGEST, digest

PYTHON = f"Python {sys.version_info.major}.{sys.version_info.minor}"
"""Another version compiles the same function to other code."""
LONGEST = 100
"""Characters of a string, entries of a list: longer ones are told apart by their SHA-256."""
MOST = 2_000
"""Places that are looked at."""
DEEPEST = 12
"""How far a place may lie within others."""
# methods that say or keep, and compute nothing
_NOT_COMPUTED = frozenset({"extra_repr", "describe", *dir(object)})
_SIMPLE = (bool, int, str, type(None))


def parts_of(function: FunctionType) -> dict[str, dict[str, Any]]:
    """The values that a function computes with besides its arguments: ``defaults``, ``closure``, ``globals``."""
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    given = function.__defaults__ or ()
    defaults = dict(zip(names[len(names) - len(given) :], given, strict=True)) | (function.__kwdefaults__ or {})
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    closure = {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}
    there = {n: function.__globals__[n] for n in sorted(_globals_in(code)) if n in function.__globals__}
    return {kind: v for kind, v in (("defaults", defaults), ("closure", closure), ("globals", there)) if v}


def find(thing: Any, kinds: tuple[type, ...], place: str) -> dict[str, Any]:
    """Find all objects of some types that a thing refers to, a data set's transform and its closure, say; by place."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    left = [(thing, place, 0)]
    while left and len(seen) < MOST:
        part, where, depth = left.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, kinds):
            found[where] = part
        elif depth < DEEPEST:
            left += [(value, f"{where}.{name}", depth + 1) for name, value in _within(part).items()]
    return dict(sorted(found.items()))


def _within(thing: Any) -> dict[str, Any]:
    """What a thing refers to, by name; nothing of what holds data or is a library's."""
    if isinstance(thing, functools.partial):
        return {"function": thing.func, "args": thing.args, "keywords": thing.keywords}
    if isinstance(thing, MethodType):
        return {"self": thing.__self__, thing.__name__: thing.__func__}
    if isinstance(thing, FunctionType):
        parts = {} if is_library(thing) else parts_of(thing)
        return {f"{kind}.{name}": value for kind, values in parts.items() for name, value in values.items()}
    if isinstance(thing, Mapping):
        return {str(key): value for key, value in thing.items()} if len(thing) <= LONGEST else {}
    if isinstance(thing, list | tuple | set | frozenset):
        return {str(number): value for number, value in enumerate(thing)} if len(thing) <= LONGEST else {}
    if isinstance(thing, type | ModuleType | BuiltinFunctionType) or plain(thing) is not None:
        return {}
    methods = {n: v for k in type(thing).__mro__ if not is_library(k) for n, v in vars(k).items() if functions_in(v)}
    return attributes_of(thing) | {n: v for n, value in methods.items() for v in functions_in(value)}


def attributes_of(thing: Any) -> dict[str, Any]:
    """The attributes of an object, those in slots too."""
    slots = [n for k in type(thing).__mro__ for n in _as_tuple(getattr(k, "__slots__", ())) if not n.startswith("__")]
    return {n: getattr(thing, n) for n in slots if hasattr(thing, n)} | dict(getattr(thing, "__dict__", {}))


def is_library(thing: Any) -> bool:
    """Tell code that is installed (Python's own, this package's) from code of the user's."""
    name = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    if name is None or name == "__main__":
        return False
    if name.partition(".")[0] == __name__.partition(".")[0]:
        return True
    module = sys.modules.get(name)
    if module is None:
        return False
    file = getattr(module, "__file__", None)
    # a module without a file is built in, if it is no notebook's
    return name in sys.builtin_module_names or hasattr(module, "__loader__") if file is None else _is_installed(file)


@functools.cache
def _is_installed(file: str) -> bool:
    paths = sysconfig.get_paths()
    places = [paths[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    places += [*site.getsitepackages(), site.getusersitepackages()]
    resolved = Path(file).resolve()
    return any(resolved.is_relative_to(Path(place).resolve()) for place in places)


def names_in(function: FunctionType) -> frozenset[str]:
    """Names and strings in a function's code, functions within it included."""
    return frozenset(n for code in _codes(function.__code__) for n in (*code.co_names, *_strings(code.co_consts)))


def overridden(kind: type) -> frozenset[str]:
    """Methods that a class of the user's has in place of a library's: those are called, by whatever name."""
    library = [k for k in kind.__mro__ if is_library(k) and k is not object]
    own = {n for k in kind.__mro__ if not is_library(k) for n in vars(k)}
    return frozenset(n for n in own if any(n in vars(k) for k in library)) - _NOT_COMPUTED


def functions_in(value: Any) -> list[FunctionType]:
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        return [part for part in (value.fget,) if isinstance(part, FunctionType)]
    return [value] if isinstance(value, FunctionType) else []


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _globals_in(code: CodeType) -> set[str]:
    operations = ("LOAD_GLOBAL", "LOAD_NAME")
    return {i.argval for part in _codes(code) for i in dis.get_instructions(part) if i.opname in operations}


def _strings(constants: Iterable[Any]) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple | frozenset):
            yield from _strings(constant)


def constants_in(code: CodeType, text: str | None) -> list[Any]:
    """Numbers and words in the code, in their order, those of functions within it behind its own."""
    own = [c for c in code.co_consts if not isinstance(c, CodeType)]
    if text is not None and own and own[0] == text:  # what is written about a function is not part of it
        own = own[1:]
    found = [_constant(c) for c in own if c is not None]
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found += constants_in(inner, None)
    return found


def _constant(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_constant(part) for part in value]
    if isinstance(value, frozenset):  # in another order in every process
        return sorted(map(repr, value))
    found = plain(value)
    return repr(value) if found is None else found[0]


def digest_of_code(code: CodeType) -> str:
    hashed = sha256()
    for part in _codes(code):
        facts = (part.co_argcount, part.co_posonlyargcount, part.co_kwonlyargcount, part.co_names, part.co_freevars)
        hashed.update(part.co_code + part.co_exceptiontable + repr((*facts, part.co_varnames)).encode())
    return DIGEST + hashed.hexdigest()


def plain(value: Any) -> tuple[Any] | None:
    """A value that stands for itself, as JSON has it, in a tuple; None for anything else."""
    if isinstance(value, Enum):
        return (f"{type(value).__name__}.{value.name}",)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return (value if np.isfinite(value) else str(value),)
    if isinstance(value, _SIMPLE):
        return (digest_of(value) if isinstance(value, str) and len(value) > LONGEST else value,)
    if isinstance(value, Tensor):
        return (value.item() if value.numel() == 1 and not value.is_complex() else digest([("", value)]),)
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return None
        return (digest_of([str(value.dtype), value.shape, sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]),)
    if isinstance(value, bytes):
        return (DIGEST + sha256(value).hexdigest(),)
    if isinstance(value, PurePath | complex | range | slice | np.dtype | torch.dtype | torch.device):
        return (str(value),)
    return ("...",) if value is Ellipsis else None


def digest_of(value: Any) -> str:
    return DIGEST + sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def name_of(thing: Any) -> str:
    return f"{getattr(thing, '__module__', None) or 'builtins'}.{getattr(thing, '__qualname__', thing.__name__)}"


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - empty until the variable is assigned
    except ValueError:
        return False
    return True


def _as_tuple(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)
