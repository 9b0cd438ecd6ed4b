"""The public names and the command line are those that were agreed on, wherever the code behind them lies.

`public_surface.json` holds them: signatures, and the options of each command. A change that is meant is accepted by

    python tests/test_public_surface.py
"""

import argparse
import ast
import contextlib
import inspect
import io
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args
from unittest.mock import patch

import pytest

import brainrdl
from brainrdl.cli import main

FROZEN = Path(__file__).with_name("public_surface.json")
_CALLED = ("__call__", "__enter__", "__exit__", "__getitem__", "__iter__", "__len__")
Entry = dict[str, Any]


def surface() -> dict[str, Entry]:
    """What a user sees: each name's signature, and each command's options."""
    return {
        "brainrdl": {"__all__": sorted(brainrdl.__all__), **_names(brainrdl)},
        "brainrdl.fmri": {"__all__": sorted(brainrdl.fmri.__all__), **_names(brainrdl.fmri)},
        "commands": dict(_commands(())),
    }


def differences(before: Any, after: Any, name: str = "") -> list[str]:
    """A line for each name that is not what it was: the name, before, after."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return [
            line
            for key in dict.fromkeys((*before, *after))
            for line in differences(before.get(key), after.get(key), f"{name} / {key}" if name else key)
        ]
    return [] if before == after else [f"{name}\n  before: {_shown(before)}\n  after:  {_shown(after)}"]


def _shown(value: Any) -> str:
    return "(nothing)" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _names(module: Any) -> Entry:
    return {name: _described(getattr(module, name)) for name in module.__all__}


# signatures: annotations as they are written, without the modules that names are of


class _Bare(ast.NodeTransformer):
    """``xr.DataArray``, ``"DataArray"`` and ``"xr.DataArray"`` are all ``DataArray``."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return ast.Name(node.attr)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return self.visit(ast.parse(node.value, mode="eval").body) if isinstance(node.value, str) else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        node.value = self.visit(node.value)
        if not (isinstance(node.value, ast.Name) and node.value.id == "Literal"):
            node.slice = self.visit(node.slice)
        return node


def _bare(annotation: ast.expr) -> str:
    return ast.unparse(ast.fix_missing_locations(_Bare().visit(annotation)))


def _parsed(thing: Any) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def _fields(kind: type) -> dict[str, str]:
    """The annotated attributes of a class, a dataclass's fields among them."""
    found: dict[str, str] = {}
    for base in reversed(_own_bases(kind)):
        for statement in _parsed(base).body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                found[statement.target.id] = _bare(statement.annotation)
    return found


def _signature(function: Callable[..., Any], written: Mapping[str, str] | None = None) -> str:
    """A function's signature, of which `written` gives the annotations where its own source does not."""
    returns = None
    if written is None:
        parsed = _parsed(inspect.unwrap(function))
        given = (*parsed.args.posonlyargs, *parsed.args.args, *parsed.args.kwonlyargs)
        extra = [one for one in (parsed.args.vararg, parsed.args.kwarg) if one is not None]
        written = {one.arg: _bare(one.annotation) for one in (*given, *extra) if one.annotation is not None}
        returns = None if parsed.returns is None else _bare(parsed.returns)
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(
            annotation=_Text(written.get(name)) if name in written else inspect.Parameter.empty,
            default=inspect.Parameter.empty
            if parameter.default is inspect.Parameter.empty
            else _Text(_value(parameter.default)),
        )
        for name, parameter in signature.parameters.items()
        if not name.startswith("_")
    ]
    shown = str(inspect.Signature(parameters))
    return shown if returns is None else f"{shown} -> {returns}"


class _Text:
    """Shown in a signature as it is."""

    def __init__(self, text: str | None) -> None:
        self.text = text or ""

    def __repr__(self) -> str:
        return self.text


def _value(value: Any) -> str:
    """A default, without addresses and modules."""
    if isinstance(value, type) or inspect.isroutine(value):
        return value.__name__
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


# classes


def _own_bases(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if base.__module__.partition(".")[0] == "brainrdl"]


def _described(thing: Any) -> str | Entry:
    """A function's signature; of a class those of its constructor and its public methods too."""
    if not isinstance(thing, type):
        return _signature(thing)
    entry: Entry = {
        "constructor": _constructor(thing),
        "kind of": [base.__name__ for base in thing.__mro__[1:] if base.__name__ in (*brainrdl.__all__, "Module")],
        "attributes": {name: written for name, written in _fields(thing).items() if not name.startswith("_")},
    }
    for base in reversed(_own_bases(thing)):
        for name, member in vars(base).items():
            if name in _CALLED or not name.startswith("_"):
                shown = _member(member)
                if shown is not None:
                    entry[name] = shown
    return entry


def _constructor(kind: type) -> str:
    (defined, *_) = (base for base in kind.__mro__ if "__init__" in vars(base))
    if defined not in _own_bases(kind):
        return f"that of {defined.__name__}"
    made = defined.__init__
    generated = made.__code__.co_filename == "<string>"  # a dataclass's, of its fields
    return _signature(_without_self(made), _fields(kind) if generated else None)


def _without_self(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method as it is called on an object: its first parameter is left out."""
    signature = inspect.signature(function)

    def called() -> None: ...

    called.__wrapped__ = function
    called.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
    return called


def _member(member: Any) -> str | None:
    if isinstance(member, property):
        returns = _parsed(member.fget).returns
        return "property" if returns is None else f"property -> {_bare(returns)}"
    if isinstance(member, staticmethod):
        return f"static {_signature(member.__func__)}"
    if isinstance(member, classmethod):
        return f"of the class {_signature(_without_self(member.__func__))}"
    return _signature(_without_self(member)) if inspect.isfunction(member) else None


# the command line


def _parser(command: tuple[str, ...]) -> argparse.ArgumentParser:
    """The parser that tells a command's help, whenever and wherever it is made."""
    found: list[argparse.ArgumentParser] = []

    def caught(parser: argparse.ArgumentParser, file: Any = None) -> None:
        found.append(parser)

    with (
        patch.object(argparse.ArgumentParser, "print_help", caught),
        contextlib.redirect_stdout(io.StringIO()),
        pytest.raises(SystemExit),
    ):
        main([*command, "--help"])
    return found[-1]


def _commands(command: tuple[str, ...]) -> Iterator[tuple[str, Entry]]:
    """A command's options, and those of the commands below it."""
    parser = _parser(command)
    options = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    yield (
        " ".join(("brainrdl", *command)),
        {", ".join(action.option_strings) or action.dest: _option(action) for action in options},
    )
    for action in options:
        if isinstance(action, argparse._SubParsersAction):
            for name in action.choices:
                yield from _commands((*command, name))


def _option(action: argparse.Action) -> Entry:
    """What can be said with an option, not what its help says of it."""
    entry: Entry = {"action": type(action).__name__.strip("_")}
    if isinstance(action, argparse._VersionAction):
        return entry
    if action.choices is not None:
        entry["choices"] = [str(choice) for choice in action.choices]
    for name in ("nargs", "metavar"):
        if getattr(action, name) is not None:
            entry[name] = getattr(action, name)
    if action.type in (int, float, str, Path):
        entry["type"] = action.type.__name__
    if action.required:
        entry["required"] = True
    if not isinstance(action, argparse._SubParsersAction):
        entry["default"] = _value(action.default)
    if action.option_strings == ["--set"]:  # the help is where the fields are
        entry["fields"] = dict(re.findall(r"(\w+)=(\S+)", action.help or ""))
    return entry


def test_the_public_surface_is_what_it_was() -> None:
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    changed = differences(frozen, json.loads(json.dumps(surface())))
    assert not changed, "\n".join(
        ["the public surface differs from public_surface.json (see this test's module):", *changed]
    )


def test_the_module_of_a_name_is_not_its_surface() -> None:
    def near(a: "UnionType | None", *, b: Mapping[str, "argparse.Action"], c=get_args) -> "argparse.Action": ...
    def far(a: UnionType | None, *, b: Mapping[str, argparse.Action], c=get_args) -> argparse.Action: ...

    shown = "(a: UnionType | None, *, b: Mapping[str, Action], c=get_args) -> Action"
    assert _signature(near) == _signature(far) == shown


def test_a_difference_names_before_and_after() -> None:
    before = {"brainrdl": {"rdm": "(x)", "Trainer": {"fit": "(a)"}, "gone": "()"}}
    after = {"brainrdl": {"rdm": "(x, y)", "Trainer": {"fit": "(a)"}}}
    assert differences(before, after) == [
        "brainrdl / rdm\n  before: (x)\n  after:  (x, y)",
        "brainrdl / gone\n  before: ()\n  after:  (nothing)",
    ]


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(surface(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
