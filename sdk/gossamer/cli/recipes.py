"""``gossamer recipes``."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import click

from gossamer.cli._common import json_option, print_json

if TYPE_CHECKING:
    from gossamer.sparsify.techniques import Technique

_EPILOG = """\b
Examples:
  gossamer recipes show 1x4-75-int8 > my-recipe.yaml
  gossamer recipes show granet
"""


@click.group("recipes", epilog=_EPILOG)
def command() -> None:
    """List and show ready-made recipes, training methods and techniques."""


@command.command("list", epilog="\b\nExample:\n  gossamer recipes list\n")
@json_option
def list_(as_json: bool) -> None:
    """List the ready-made recipes, the training methods, and the techniques beside them."""
    from gossamer._tables import columns
    from gossamer.recipe import available
    from gossamer.sparsify import techniques

    recipes = available()
    found = list(techniques.every())
    if as_json:
        fields = ("name", "kind", "title", "source")
        print_json(
            {
                "recipes": [{"name": n, "kind": "recipe", "description": d} for n, d in recipes.items()],
                "methods": [{f: getattr(t, f) for f in fields} for t in found if t.kind == "training"],
                "techniques": [{f: getattr(t, f) for f in fields} for t in found if t.kind != "training"],
            }
        )
        return
    rows = [[name, "recipe", text, ""] for name, text in recipes.items()]
    rows += [[t.name, t.kind, t.title, t.source.split(";")[0]] for t in found]
    click.echo(columns(["name", "kind", "what it does", "source"], rows, left={0, 1, 2, 3}, widest={2: 80, 3: 60}))


@command.command("show", epilog="\b\nExamples:\n  gossamer recipes show 1x4-75-int8\n  gossamer recipes show dsnot\n")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Print the recipe NAME (ready-made, or a file) as YAML, with --json checked and complete; or describe the training
    method or technique NAME: rule, source, patterns, options.
    """
    from pathlib import Path

    from gossamer._errors import RecipeError
    from gossamer.recipe import available, load_recipe, text_of
    from gossamer.sparsify import techniques

    path = Path(name)
    known = [*available(), *techniques.names()]
    if name in techniques.names():
        found = techniques.describe(name)
        if as_json:
            print_json(found.to_dict())
        else:
            click.echo(_described(found))
        return
    if name not in known and not path.is_file() and not path.suffix and path.name == name:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise RecipeError(
            f"there is no recipe, training method or technique called '{name}'",
            hint=f"{hint}`gossamer recipes list` shows them",
        )
    loaded = load_recipe(name)
    if as_json:
        print_json(loaded.model_dump(mode="json"))
        return
    click.echo(path.read_text(encoding="utf-8") if path.is_file() else text_of(name), nl=False)


def _described(found: Technique) -> str:
    import textwrap

    from gossamer._tables import columns

    def row(label: str, text: str) -> str:
        return textwrap.fill(text, 100, initial_indent=f"{label:<10}", subsequent_indent=" " * 10)

    lines = [f"{found.name} ({found.kind})", found.title, ""]
    lines += [row("rule", found.rule), row("source", found.source), row("patterns", ", ".join(found.patterns))]
    lines += [f"{'use' if i == 0 else '':<10}{text}" for i, text in enumerate(found.use)]
    if found.options:
        cells = []
        for option in found.options:
            wrapped = textwrap.wrap(option.description, 70) or [""]
            cells.append([option.name, option.default, wrapped[0]])
            cells += [["", "", line] for line in wrapped[1:]]
        lines += ["", columns(["option", "default", "what it means"], cells, left={0, 1, 2})]
    return "\n".join([*lines, "", found.doc])


@command.command("schema", epilog="\b\nExample:\n  gossamer recipes schema > recipe.schema.json\n")
@json_option
def schema(as_json: bool) -> None:
    """Print the JSON schema of recipes, for editors."""
    from gossamer.recipe import json_schema

    print_json(json_schema())
