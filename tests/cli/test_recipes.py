"""``gossamer recipes``: every recipe, training method and technique is listed and described, without torch."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

from gossamer.recipe import available
from gossamer.sparsify import techniques
from gossamer.sparsify.training.registry import METHODS

TECHNIQUES = [
    "squarehead", "model-soups", "activation-thresholds", "one-shot-knee", "dsnot", "exact-swaps", "bias-correction",
    "rearrange",
]  # fmt: skip


def test_list_names_everything(cli):
    listed = cli("recipes", "list", "--json").json
    assert [r["name"] for r in listed["recipes"]] == list(available())
    assert [r["name"] for r in listed["methods"]] == list(METHODS)
    assert [r["name"] for r in listed["techniques"]] == TECHNIQUES
    for row in listed["methods"] + listed["techniques"]:
        assert row["title"] and row["source"] and row["kind"]
    assert {r["kind"] for r in listed["methods"]} == {"training"}
    assert all(r["kind"] == "recipe" and r["description"] for r in listed["recipes"])


def test_list_in_a_terminal(cli):
    lines = cli("recipes", "list").out.splitlines()
    assert lines[0].split() == ["name", "kind", "what", "it", "does", "source"]
    named = {line.split()[0]: line for line in lines[2:]}
    assert set(named) == {*available(), *METHODS, *TECHNIQUES}
    assert "2310.06927" in named["squarehead"] and "distillation" in named["squarehead"]
    assert "1710.01878" in named["gradual-magnitude"] and "training" in named["gradual-magnitude"]


def test_ready_made_recipes_are_shown_as_yaml(cli):
    name = next(iter(available()))
    assert cli("recipes", "show", name).out.lstrip().startswith(("#", "version"))
    assert cli("recipes", "show", name, "--json").json["version"] == 1


@pytest.mark.parametrize("name", [*METHODS, *TECHNIQUES])
def test_show_describes(cli, name):
    found = cli("recipes", "show", name, "--json").json
    assert set(found) == {"name", "kind", "title", "source", "rule", "patterns", "use", "options", "doc"}
    assert found["name"] == name and found["rule"] and found["source"] and found["patterns"] and found["use"]
    for option in found["options"]:
        assert option["description"], f"{name}: option {option['name']} has no description"
    text = cli("recipes", "show", name).out
    assert text.startswith(f"{name} ({found['kind']})\n{found['title']}\n")
    assert " ".join(found["rule"].split()) in " ".join(text.split())
    for option in found["options"]:
        assert option["name"] in text and option["default"] in text
    assert ":func:`" not in text and ":class:`" not in text


def test_a_method_is_described_by_its_own_class(cli):
    method = METHODS["gradual-magnitude"]
    found = cli("recipes", "show", "gradual-magnitude", "--json").json
    assert (found["title"], found["source"], found["rule"]) == (method.title, method.source, method.rule)
    options = {o["name"]: o for o in found["options"]}
    assert list(options) == list(method.model_fields)
    assert options["every"]["default"] == "32" and options["end"]["default"] == "0.6"
    assert options["every"]["description"] == method.model_fields["every"].description
    assert found["patterns"] == ["unstructured", "1x4", "4x1", "4x4"]


def test_a_technique_is_described_by_its_own_signature(cli):
    from gossamer.sparsify import dsnot

    found = cli("recipes", "show", "dsnot", "--json").json
    assert (found["title"], found["source"], found["rule"]) == (dsnot.TITLE, dsnot.SOURCE, dsnot.RULE)
    signature = inspect.signature(dsnot.repair)
    defaults = {n: repr(p.default) for n, p in signature.parameters.items() if p.default is not p.empty}
    assert {o["name"]: o["default"] for o in found["options"]} == defaults
    assert found["patterns"][-1] == "n:m" and found["use"] == ["from gossamer.sparsify.dsnot import repair"]
    described = {o["name"]: o["description"] for o in found["options"]}
    assert described["max_cycles"] == "at most this many swaps in each row."


def test_options_of_several_functions_come_together():
    options = {o.name: o for o in techniques.describe("one-shot-knee").options}
    assert {"grid", "slope", "max_drop", "prepare"} <= set(options)
    assert options["slope"].default == "0.1" and options["slope"].description.startswith("accuracy lost per unit")


def test_wrapped_arguments_become_one_line():
    options = {o.name: o for o in techniques.describe("squarehead").options}
    assert options["run_teacher"].description.endswith("the caller does before asking for the term.")
    assert "\n" not in options["run_teacher"].description


def test_show_says_how_a_technique_is_called(cli):
    for use in cli("recipes", "show", "squarehead", "--json").json["use"]:
        module, name = use.removeprefix("from ").split(" import ")
        assert hasattr(__import__(module, fromlist=[name]), name)


@pytest.mark.parametrize(
    ("wrong", "right"), [("persn-demo", "person-demo"), ("gradual-magnitud", "gradual-magnitude"), ("dsnott", "dsnot")]
)
def test_the_nearest_name_is_offered(cli, wrong, right):
    ran = cli("recipes", "show", wrong)
    assert ran.code == 5 and f"did you mean '{right}'" in ran.err
    ran = cli("recipes", "show", wrong, "--json")
    assert json.loads(ran.err)["error"]["type"] == "RecipeError"


def test_a_file_that_is_not_there(cli, tmp_path):
    ran = cli("recipes", "show", tmp_path / "none.yaml")
    assert ran.code == 5 and "cannot be read" in ran.err


def test_an_unknown_technique_is_refused():
    from gossamer._errors import RecipeError

    with pytest.raises(RecipeError, match="no method or technique 'rigle'") as caught:
        techniques.describe("rigle")
    assert "did you mean 'rigl'" in caught.value.hint


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["show", "squarehead"], ["show", "granet"]])
def test_torch_is_not_loaded(arguments):
    code = (
        f"import sys; from gossamer.cli._main import run; code = run({['recipes', *arguments]!r});"
        "heavy = {'torch', 'onnxruntime', 'matplotlib'} & set(sys.modules);"
        "assert code == 0 and not heavy, (code, heavy)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
