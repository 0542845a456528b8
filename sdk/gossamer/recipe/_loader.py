"""``load_recipe``: a ready-made recipe, a YAML file or a mapping becomes a checked :class:`Recipe`."""

from __future__ import annotations

import contextlib
import difflib
import importlib.resources
import json
import os
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gossamer._errors import RecipeError
from gossamer.recipe._yaml import MAX_BYTES, Document, FieldPath, parse
from gossamer.recipe.schema import PATTERN_NAMES, Recipe


def available() -> dict[str, str]:
    """Names and one-line descriptions of the recipes that ship with the package, sorted by name."""
    found: dict[str, str] = {}
    for name in _names():
        found[name] = load_recipe(name).description.strip().split("\n")[0]
    return found


def _names() -> list[str]:
    folder = importlib.resources.files("gossamer") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def text_of(name: str) -> str:
    """The YAML text, comments included, of a recipe that ships with the package.

    Raises:
        RecipeError: there is none of that name.
    """
    names = _names()
    if name not in names:
        raise RecipeError(f"there is no recipe called '{name}'", hint=_nearest(name, names))
    return (importlib.resources.files("gossamer") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def load_recipe(source: str | os.PathLike[str] | dict[str, Any] | Recipe) -> Recipe:
    """Reads and checks a recipe.

    Args:
        source: the name of a ready-made recipe (:func:`available`), the path of a YAML file, or a mapping of the same
            shape. A :class:`Recipe` is returned as it is.

    Returns:
        The checked, immutable recipe.

    Raises:
        RecipeError: no such recipe or file, not YAML, or fields that are unknown, of a wrong type or impossible
            together. ``where`` holds ``file:line``; the message has the field, and the nearest valid name.
    """
    if isinstance(source, Recipe):
        return source
    if isinstance(source, dict):
        return _check(Document("recipe", source, {(): 0}), lines=False)
    return _check(_document(source))


def parse_recipe(text: str, name: str = "recipe") -> Recipe:
    """Checks a recipe that came as YAML text; unlike :func:`load_recipe` it never opens a file.

    Args:
        name: what errors call the text: ``where`` is ``name:line``.

    Raises:
        RecipeError: as :func:`load_recipe`.
    """
    return _check(parse(text, name))


def _document(source: str | os.PathLike[str]) -> Document:
    """The YAML of a ready-made recipe or of a file, with the lines of its fields."""
    path = Path(source)
    if isinstance(source, str) and not path.suffix and os.sep not in source and not path.is_file():
        return parse(text_of(source), f"{source}.yaml")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError(f"the recipe is larger than {MAX_BYTES} bytes", where=str(path))
        text = path.read_bytes()
    except OSError as error:
        names = [*_names()]
        hint = _nearest(path.stem, names)
        raise RecipeError(f"the recipe cannot be read: {error.strerror}", where=str(path), hint=hint) from error
    return parse(text, str(path))


@contextlib.contextmanager
def placed(source: object) -> Iterator[None]:
    """A :class:`RecipeError` from inside about a field of the recipe ``source`` gets the file and line of the field."""
    try:
        yield
    except RecipeError as error:
        if error.where is None and error.field and isinstance(source, (str, os.PathLike)):
            path = tuple(int(p) if p.isdigit() else p for p in re.findall(r"[^.\[\]]+", error.field))
            error.where = _document(source).where(path)
        raise


def json_schema() -> dict[str, Any]:
    """The JSON schema of a recipe (draft 2020-12), for editors and for services."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Gossamer recipe"
    return schema


def canonical(recipe: Recipe) -> str:
    """The recipe as canonical JSON: every field, keys sorted; equal recipes give equal text."""
    return json.dumps(recipe.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    known = f"one of: {', '.join(names)}"
    return f"did you mean '{near[0]}'? Valid: {known}" if near else f"use {known}"


def _check(document: Document, *, lines: bool = True) -> Recipe:
    if not isinstance(document.value, dict):
        kind = "empty" if document.value is None else f"a {type(document.value).__name__}"
        raise RecipeError(
            f"the recipe is {kind}, not a mapping of fields",
            where=document.where(()) if lines else None,
            hint="start it with `version: 1`",
        )
    try:
        return Recipe.model_validate(document.value)
    except ValidationError as error:
        found = [_explain(document, detail, lines) for detail in _one_per_field(document, error)]
    first_where, first_message, first_hint = found[0]
    if len(found) == 1:
        raise RecipeError(first_message, where=first_where, hint=first_hint)
    text = [f"the recipe has {len(found)} errors"]
    for where, message, hint in found:
        text.append(f"  {where + ': ' if where else ''}{message}{'; ' + hint if hint else ''}")
    raise RecipeError("\n".join(text), where=first_where, hint="correct each field above")


def _one_per_field(document: Document, error: ValidationError) -> list[ErrorDetails]:
    """Errors in the order of the file; of several members of a union the one that lists the valid values."""
    kept: dict[FieldPath, ErrorDetails] = {}
    for detail in error.errors(include_url=False):
        path = _real_path(document, detail["loc"])
        if path not in kept or detail["type"] == "literal_error":
            kept[path] = detail
    return [kept[path] for path in sorted(kept, key=lambda path: document.line(path))]


def _explain(document: Document, detail: ErrorDetails, lines: bool) -> tuple[str | None, str, str | None]:
    """Place, message and hint of one pydantic error."""
    path = _real_path(document, detail["loc"])
    context = detail.get("ctx", {})
    if context.get("field"):
        path = (*path, *(int(p) if p.isdigit() else p for p in str(context["field"]).split(".")))
    name = _dotted(path)
    where = document.where(path) if lines else None
    kind = detail["type"]
    if kind == "extra_forbidden":
        fields = _fields_at(path[:-1])
        near = difflib.get_close_matches(str(path[-1]), fields, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"valid fields: {', '.join(fields)}"
        return where, f"unknown field '{name}'", hint
    if kind == "missing":
        return where, f"field '{name}' is missing", "write `version: 1`" if name == "version" else None
    given = detail["input"]
    if kind == "literal_error":
        valid = [str(v).lower() if isinstance(v, bool) else str(v) for v in _values_at(path)]
        near = difflib.get_close_matches(str(given), valid, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'? Valid: {', '.join(valid)}" if near else f"valid: {', '.join(valid)}"
        return where, f"field '{name}' has the value {_show(given)}", hint
    if kind == "string_pattern_mismatch":
        near = difflib.get_close_matches(str(given), PATTERN_NAMES, n=1, cutoff=0.4)
        valid_text = "valid: unstructured, 1x4, 4x1, 4x4, n:m such as 2:4"
        hint = f"did you mean '{near[0]}'? {valid_text}" if near else valid_text
        return where, f"field '{name}' has the value {_show(given)}, which is no sparsity pattern", hint
    if "message" in context:
        return where, f"field '{name}' {context['message']}" if name else str(context["message"]), None
    if kind == "model_type":
        return where, f"field '{name}' must be a mapping of fields, not {_show(given)}", None
    message = detail["msg"]
    for prefix in ("Input should be ", "Value should be "):
        message = message.removeprefix(prefix)
    return where, f"field '{name}' must be {message}, not {_show(given)}", None


def _show(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _dotted(path: FieldPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _real_path(document: Document, loc: tuple[int | str, ...]) -> FieldPath:
    """``loc`` without the names of union members that pydantic adds to it."""
    path: list[str | int] = []
    value = document.value
    for i, part in enumerate(loc):
        if isinstance(value, dict) and (part in value or (i == len(loc) - 1 and part in _fields_at(tuple(path)))):
            value = value.get(part)
            path.append(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
            path.append(part)
    return tuple(path)


def _annotation_at(path: FieldPath) -> Any:
    """The declared type of the field at ``path``."""
    current: Any = Recipe
    for part in path:
        if isinstance(part, int):
            current = next((a for a in get_args(current) if a is not Ellipsis), Any)
            continue
        model = _model_in(current)
        if model is None or part not in model.model_fields:
            return Any
        current = model.model_fields[part].annotation
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            found = _model_in(member)
            if found is not None:
                return found
    return None


def _fields_at(path: FieldPath) -> list[str]:
    model = _model_in(_annotation_at(path))
    return list(model.model_fields) if model is not None else []


def _values_at(path: FieldPath) -> list[Any]:
    annotation = _annotation_at(path)
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    values: list[Any] = []
    for member in members:
        if get_origin(member) is Literal:
            values.extend(get_args(member))
        elif member is bool:
            values.extend((True, False))
    return values
