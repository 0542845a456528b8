"""YAML with places: a document as plain values plus the line of every field."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from gossamer._errors import RecipeError

MAX_BYTES = 1 << 18
MAX_NODES = 20_000
MAX_DEPTH = 32
FieldPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: under YAML 1.1 the pattern ``2:4`` would read as the number 124 and ``no`` as false."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own interface


_NUMBER = list("-+.0123456789")
for _tag, _pattern, _first in (
    ("null", r"^(?:null|Null|NULL|~|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", _NUMBER),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", _NUMBER),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", _NUMBER),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


@dataclass
class Document:
    """``value`` is the document; ``lines`` gives the line, from 1, of every field and list item by its path."""

    name: str
    value: Any
    lines: dict[FieldPath, int] = field(default_factory=dict)

    def line(self, path: FieldPath) -> int:
        """The line of the field, or of the nearest field around it; 0 where lines are unknown."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 0

    def where(self, path: FieldPath) -> str:
        """``file:line`` of the field, or of the nearest field around it."""
        line = self.line(path)
        return f"{self.name}:{line}" if line else self.name


def parse(text: str | bytes, name: str) -> Document:
    """Reads one YAML document.

    Raises:
        RecipeError: not YAML, a key twice, a key that is no text, or a document too large or too deep.
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(f"the recipe has {len(text)} bytes, at most {MAX_BYTES} are read", where=name)
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        loader = _Loader(decoded)
        try:
            node = loader.get_single_node()
            document = Document(name, None)
            if node is not None:
                document.value = _Reader(loader, document).read(node, (), 1)
            document.lines.setdefault((), 1)
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise RecipeError("the recipe is not UTF-8 text", where=name, hint="give a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "unreadable characters"
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        raise RecipeError(f"the recipe is not valid YAML: {problem}", where=where) from error
    except RecursionError as error:
        raise RecipeError(f"the recipe is nested deeper than {MAX_DEPTH} levels", where=name) from error
    return document


class _Reader:
    def __init__(self, loader: _Loader, document: Document) -> None:
        self.loader, self.document, self.seen = loader, document, 0

    def read(self, node: yaml.Node, path: FieldPath, depth: int) -> Any:
        line = node.start_mark.line + 1
        self.document.lines.setdefault(path, line)
        where = f"{self.document.name}:{line}"
        self.seen += 1
        if self.seen > MAX_NODES or depth > MAX_DEPTH:
            raise RecipeError("the recipe is too large or too deeply nested", where=where)
        if isinstance(node, yaml.MappingNode):
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key_line = key_node.start_mark.line + 1
                key = key_node.value
                if not isinstance(key_node, yaml.ScalarNode) or not isinstance(key, str):
                    raise RecipeError("a field name must be text", where=f"{self.document.name}:{key_line}")
                if key in result:
                    raise RecipeError(f"field '{key}' is given twice", where=f"{self.document.name}:{key_line}")
                self.document.lines[(*path, key)] = key_line
                result[key] = self.read(value_node, (*path, key), depth + 1)
            return result
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, i), depth + 1) for i, item in enumerate(node.value)]
        try:
            return self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise RecipeError(f"'{node.value}' cannot be read: {error}", where=where) from error
