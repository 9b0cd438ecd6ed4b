"""Facts of a function: its code, and the values it computes with, so that another one under the same name is seen.

Facts are a flat dict of JSON values by place (``task_loss.closure.k`` → 1.0). Code of others (Python's, torch's,
this package's, whatever is installed) goes by its name: an update of a library is not another function.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence, Set
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, final

from torch import nn

from brainrdl.identity import DIGEST, digest
from brainrdl.training.compiled import (
    DEEPEST,
    LONGEST,
    MOST,
    attributes_of,
    constants_in,
    digest_of,
    digest_of_code,
    functions_in,
    is_library,
    name_of,
    names_in,
    overridden,
    parts_of,
    plain,
)

ABSENT = object()

# what an object needs whatever uses it: these hold its computation
_CALLED = frozenset({"__call__", "forward"})


@final
class Facts:
    """Facts found so far: `found` by place, and `untold`, the places of which nothing can be told, with a reason.

    `apart` are objects that are described elsewhere (a student, whose values change), with their names.
    """

    def __init__(self, apart: Iterable[tuple[object, str]] = ()) -> None:
        self.found: dict[str, Any] = {}
        self.untold: dict[str, str] = {}
        self._kept = list(apart)  # held, so that no other object gets the address of one
        self._names = {id(thing): name for thing, name in self._kept}
        self._open: list[int] = []
        self._looked = 0

    def read(self, thing: Any, place: str, used: Set[str] | None = None) -> None:
        """Read the facts of a thing; `used` are the names and strings in the code that refers to it, None for all."""
        self._looked += 1
        if (name := self._names.get(id(thing))) is not None:
            self.found[place] = name
        elif id(thing) in self._open:
            self.found[place] = "itself"
        elif len(self._open) > DEEPEST or self._looked > MOST:
            self.untold[place] = "too much refers to each other"
        else:
            self._open.append(id(thing))
            try:
                self._read(thing, place, used)
            finally:
                self._open.pop()

    def modules(self, model: nn.Module, place: str) -> None:
        """Read code and attributes of all modules of a network that are not a library's; its values are read apart."""
        for name, module in model.named_modules():
            if not is_library(type(module)):
                self._object(module, f"{place}.{name}" if name else place, _CALLED | overridden(type(module)))

    def own(self, thing: Any, place: str, apart: Sequence[str]) -> None:
        """Read what is the user's in an object with a base of this package's or torch's; not the attributes `apart`."""
        kind = type(thing)
        if not is_library(kind):
            self._object(thing, place, _CALLED | overridden(kind))
        for name, value in attributes_of(thing).items():
            if name in apart or id(value) in self._names or isinstance(value, type):
                continue
            if isinstance(value, nn.Module):
                self.modules(value, f"{place}.{name.lstrip('_')}")
            elif callable(value):
                self.read(value, f"{place}.{name.lstrip('_')}")
        if isinstance(thing, nn.Module):
            self.modules(thing, place)

    def _read(self, thing: Any, place: str, used: Set[str] | None) -> None:
        if (value := plain(thing)) is not None:
            self.found[place] = value[0]
        elif isinstance(thing, functools.partial):
            self.read(thing.func, place, used)
            self._entries(thing.args, f"{place}.args", used)
            self._entries(thing.keywords, f"{place}.keywords", None)
        elif isinstance(thing, MethodType):
            function = thing.__func__
            self.read(function, place, used)
            self.read(
                thing.__self__, f"{place}.self", names_in(function) if isinstance(function, FunctionType) else used
            )
        elif isinstance(thing, FunctionType):
            self._function(thing, place)
        elif isinstance(thing, BuiltinFunctionType):
            owner = thing.__self__
            self.found[place] = name_of(thing)
            if owner is not None and not isinstance(owner, ModuleType | type):
                self.read(owner, f"{place}.self", used)
        elif isinstance(thing, type):
            self.found[place] = name_of(thing) if is_library(thing) else thing.__name__
            if not is_library(thing):
                self._methods([thing], place, frozenset(vars(thing)) - frozenset(dir(object)) | {"__init__"})
        elif isinstance(thing, ModuleType):
            self.found[place] = thing.__name__
            if not is_library(thing):
                self._entries({n: v for n, v in vars(thing).items() if n in (used or ())}, place, used)
        elif isinstance(thing, Mapping | list | tuple | set | frozenset):
            self._entries(thing, place, used)
        elif callable(wrapped := getattr(thing, "__wrapped__", None)):  # functools.cache
            self.read(wrapped, place, used)
        else:
            self._instance(thing, place, used)

    def _function(self, function: FunctionType, place: str) -> None:
        if is_library(function):
            self.found[place] = name_of(function)
            return
        code, used = function.__code__, names_in(function)
        self.found[f"{place}.code"] = digest_of_code(code)
        constants = constants_in(code, function.__doc__)
        self.found[f"{place}.constants"] = constants if len(constants) <= 10 else digest_of(constants)
        for kind, values in parts_of(function).items():
            self._entries(values, f"{place}.{kind}", used)

    def _instance(self, thing: Any, place: str, used: Set[str] | None) -> None:
        kind = type(thing)
        self.found[f"{place}.class"] = kind.__name__
        if isinstance(thing, nn.Module):
            state = thing.state_dict()
            if state:
                self.found[f"{place}.values"] = digest(state.items())
            for name, module in thing.named_modules():
                if is_library(type(module)):
                    self.found[f"{place}.layers.{name}"] = f"{type(module).__name__}({module.extra_repr()})"
                    options = {n: v for n, v in vars(module).items() if n[0] != "_" and n != "training"}
                    self._entries(
                        {n: v for n, v in options.items() if plain(v)}, f"{place}.layers.{name}.settings", None
                    )
            self.modules(thing, place)
        elif not is_library(kind):
            entry = _CALLED | overridden(kind) if callable(thing) else frozenset()
            self._object(thing, place, entry | (used or frozenset()))
        elif attributes := attributes_of(thing):
            # of an object that is called all its settings matter; of another those that the code asks for
            wanted = (
                attributes if callable(thing) or used is None else {n: attributes[n] for n in used & set(attributes)}
            )
            self._entries({n: v for n, v in wanted.items() if n[0] != "_"}, f"{place}.settings", None)
        else:
            self.untold[place] = f"a {kind.__name__}"

    def _object(self, thing: Any, place: str, names: Set[str]) -> None:
        """Read the methods of an object of the user's that are used by these names, and the attributes they use."""
        reached = self._methods([k for k in type(thing).__mro__ if not is_library(k)], place, names)
        attributes = {n: v for n, v in attributes_of(thing).items() if n in reached and n not in ("training", "heads")}
        if isinstance(thing, nn.Module):  # whose modules and values are read as such
            attributes = {n: v for n, v in attributes.items() if n[0] != "_" or not isinstance(v, dict)}
        self._entries(attributes, f"{place}.attributes", reached)

    def _methods(self, kinds: Sequence[type], place: str, names: Set[str]) -> frozenset[str]:
        """Read the methods of these names and those that they name; all names that their code uses."""
        reached, read = frozenset(names), set[tuple[type, str]]()
        while new := [(k, n) for k in kinds for n in sorted(reached) if n in vars(k) and (k, n) not in read]:
            read |= set(new)
            for kind, name in new:
                for function in functions_in(vars(kind)[name]):
                    reached |= names_in(function)
        for kind, name in sorted(read, key=lambda both: (kinds.index(both[0]), both[1])):
            value, where = vars(kind)[name], f"{place}.{kind.__name__}.{name}"
            functions = functions_in(value)
            for function in functions:
                self.read(function, where)
            if not functions and not name.startswith("__") and plain(value) is not None:
                self.read(value, where)
        return reached

    def _entries(self, values: Mapping[Any, Any] | Iterable[Any], place: str, used: Set[str] | None) -> None:
        if isinstance(values, Mapping):
            keys = set(map(str, values))
            # of a dict of settings those that the code asks for, where it names any
            wanted = keys & used if used is not None and keys & used else keys
            items = [(str(k), v) for k, v in values.items() if str(k) in wanted]
        else:
            ordered = sorted(values, key=repr) if isinstance(values, Set) else list(values)
            items = [(str(number), value) for number, value in enumerate(ordered)]
        if len(items) > LONGEST:
            apart = Facts(self._kept)
            for name, value in items[:MOST]:
                apart.read(value, name, used)
            self.found[place] = digest_of([len(items), apart.found])
            self.untold |= {f"{place}.{name}": why for name, why in apart.untold.items()}
            return
        for name, value in items:
            self.read(value, f"{place}.{name}", used)


def facts_of(**things: Any) -> dict[str, Any]:
    """Facts of the things in which there is code of the user's, empty where there is none."""
    found: dict[str, Any] = {}
    for place, thing in things.items():
        facts = Facts()
        if isinstance(thing, nn.Module):  # a network, whose values are known apart
            facts.modules(thing, place)
        else:
            facts.read(thing, place)
        if any(name.endswith(".code") for name in facts.found):
            found |= facts.found
    return found


def other_functions(stored: Mapping[str, Any], found: Mapping[str, Any], changing: Iterable[str] = ()) -> list[str]:
    """Name in what facts differ from stored ones, a line each; places that are or lie within `changing` ones do not."""
    lines: list[str] = []
    for place in {**stored, **found}:
        a, b = stored.get(place, ABSENT), found.get(place, ABSENT)
        # a library's object has other settings in another version of it
        of_version = ABSENT in (a, b) and ".settings." in place
        if a != b and not of_version and not any(place == p or place.startswith(f"{p}.") for p in changing):
            lines.append(_line(place, a, b))
    return list(dict.fromkeys(lines))


def _line(place: str, a: Any, b: Any) -> str:
    if ABSENT in (a, b):
        return f"{place} is {'there' if b is ABSENT else 'here'} alone"
    if all(isinstance(side, str) and side.startswith(DIGEST) for side in (a, b)):
        owner, _, part = place.rpartition(".")
        return f"{owner} has other {part}"
    return f"{place} is {a!r} there and {b!r} here"
