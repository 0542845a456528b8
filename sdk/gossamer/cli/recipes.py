"""``gossamer recipes``."""

from __future__ import annotations

import click

from gossamer.cli._common import json_option, print_json

_EPILOG = """\b
Example:
  gossamer recipes show 1x4-75-int8 > my-recipe.yaml
"""


@click.group("recipes", epilog=_EPILOG)
def command() -> None:
    """List and show the recipes that come with Gossamer."""


@command.command("list", epilog="\b\nExample:\n  gossamer recipes list\n")
@json_option
def list_(as_json: bool) -> None:
    """List the ready-made recipes."""
    from gossamer._tables import columns
    from gossamer.recipe import available

    found = available()
    if as_json:
        print_json({"recipes": [{"name": n, "description": d} for n, d in found.items()]})
        return
    click.echo(columns(["recipe", "what it does"], [[n, d] for n, d in found.items()], left={0, 1}))


@command.command("show", epilog="\b\nExample:\n  gossamer recipes show 1x4-75-int8\n")
@click.argument("recipe")
@json_option
def show(recipe: str, as_json: bool) -> None:
    """Print RECIPE (a name or a file) as YAML; with --json checked and complete."""
    from pathlib import Path

    from gossamer.recipe import load_recipe, text_of

    loaded = load_recipe(recipe)
    if as_json:
        print_json(loaded.model_dump(mode="json"))
        return
    path = Path(recipe)
    click.echo(path.read_text(encoding="utf-8") if path.is_file() else text_of(recipe), nl=False)


@command.command("schema", epilog="\b\nExample:\n  gossamer recipes schema > recipe.schema.json\n")
@json_option
def schema(as_json: bool) -> None:
    """Print the JSON schema of recipes, for editors."""
    from gossamer.recipe import json_schema

    print_json(json_schema())
