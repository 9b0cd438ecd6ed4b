"""A YAML file read as plain data, within limits: a stranger's may be written to exhaust the machine."""

from pathlib import Path
from typing import Any

import yaml

_MOST_BYTES = 200_000
_MOST_NODES = 10_000
"""Values in a file, those of an alias counted each time it is used: a study has some hundreds."""


_MOST_DIGITS = 1_000


class _TooLargeError(yaml.YAMLError):
    """More than a study needs."""


class _Loader(yaml.SafeLoader):
    """Refuses aliases that blow a file up, and a field that stands there twice, of which YAML would take the last."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._left = _MOST_NODES

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # while they are made: 200 kB are room for 100,000
        self._left -= 1
        if self._left < 0:
            mark: yaml.Mark = self.get_mark()
            raise _TooLargeError(f"more than {_MOST_NODES:,} values by line {mark.line + 1}")
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Refuse what no setting is: in YAML 1:1:1 is a number to the base of 60, of any length."""
        if ":" in node.value and len(node.value) > _MOST_DIGITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"a number of {len(node.value):,} characters", node.start_mark
            )
        return int(super().construct_yaml_int(node))

    def get_single_node(self) -> yaml.Node | None:
        # before anything is made of the nodes: an alias costs nothing until somebody walks through what it stands for
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _count(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":  # <<: *other, whose fields give way to those named here
                continue
            name = self.construct_object(key, deep=True)
            try:
                twice = name in seen
            except TypeError:  # a list or fields as a name: refused below
                continue
            if twice:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} stands there twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _count(node: yaml.Node, counted: dict[int, int | None]) -> int:
    """Count the values below a node, aliases written out; YAMLError for too many, or an alias within itself."""
    if id(node) in counted:
        known = counted[id(node)]
        if known is None:
            raise yaml.constructor.ConstructorError(None, None, "an alias stands within itself", node.start_mark)
        return known
    counted[id(node)] = None
    below = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    n = 1 if isinstance(node, yaml.ScalarNode) else 1 + sum(_count(part, counted) for part in below)
    if n > _MOST_NODES:
        raise _TooLargeError(f"more than {_MOST_NODES:,} values by line {node.start_mark.line + 1}")
    counted[id(node)] = n
    return n


def read_yaml(path: Path) -> Any:
    """Read a YAML file; ValueError if it is not one, holds a field twice, or is too large once written out."""
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{path} has more than {_MOST_BYTES:,} bytes, which no study needs; is it another file?")
    try:
        return yaml.load(content.decode("utf-8"), _Loader)
    except _TooLargeError as error:
        raise ValueError(
            f"{path} holds {error}, each alias (*name) written out, which no study needs; is it another file?"
        ) from error
    # besides YAML's own errors those of values that look like a date or a number and are none
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        fault = " ".join(str(error).replace('in "<unicode string>", ', "in ").split())
        raise ValueError(f"{path} is not YAML: {fault}") from error
