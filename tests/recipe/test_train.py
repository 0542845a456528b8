"""The train step of a recipe: what it may say, and what every mistake says and where."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gossamer._errors import RecipeError
from gossamer.recipe import canonical, load_recipe

HEAD = "version: 1\nsparsify:\n  pattern: 1x4\n  sparsity: 0.75\n"


def write(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


def test_every_field_reads_as_written(tmp_path):
    text = HEAD + (
        "quantize: {}\ntrain:\n  method: rigl\n  options:\n    every: 8\n  epochs: 5\n  batch: 16\n"
        "  learning_rate: 3e-4\n  weight_decay: 0\n  distill:\n    weight: 1\n    temperature: 4\n"
        "  squarehead: 0.5\n  quantization_aware: 2\n  mirror: true\n  seed: 7\n"
    )
    train = load_recipe(write(tmp_path, text)).train
    assert (train.method, train.options, train.epochs, train.batch) == ("rigl", {"every": 8}, 5, 16)
    assert (train.learning_rate, train.weight_decay, train.squarehead) == (3e-4, 0.0, 0.5)
    assert (train.distill.weight, train.distill.temperature) == (1.0, 4.0)
    assert (train.quantization_aware, train.mirror, train.seed) == (2, True, 7)
    assert train.made().name == "rigl" and train.made().every == 8


def test_defaults_and_absence(tmp_path):
    assert load_recipe(write(tmp_path, HEAD)).train is None
    train = load_recipe(write(tmp_path, HEAD + "train: {}\n")).train
    assert (train.method, train.epochs, train.distill, train.quantization_aware) == ("gradual-magnitude", 20, None, 0)


def test_the_ready_recipe():
    recipe = load_recipe("1x4-75-gradual-int8")
    assert (recipe.sparsify.sparsity, recipe.train.method) == (0.75, "gradual-magnitude")
    assert recipe.train.distill.weight == 0.9 and recipe.train.quantization_aware == 3
    assert '"train":{' in canonical(recipe)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("train:\n  metod: rigl\n", 6, r"unknown field 'train\.metod'"),
        (
            "train:\n  method: rigel\n",
            6,
            r"field 'train\.method' is wrong: no training method 'rigel'.*did you mean 'rigl'",
        ),
        ("train:\n  options:\n    evry: 8\n", 7, r"field 'train\.options\.evry' is wrong: .*options: initial"),
        (
            "train:\n  options:\n    every: 0\n",
            7,
            r"field 'train\.options\.every' is wrong: .*greater than or equal to 1",
        ),
        ("train:\n  epochs: 0\n", 6, r"field 'train\.epochs' must be greater than or equal to 1"),
        ("train:\n  epochs: 1.5\n", 6, r"field 'train\.epochs' must be a valid integer"),
        ("train:\n  learning_rate: 0\n", 6, r"field 'train\.learning_rate' must be greater than 0"),
        ("train:\n  learning_rate: true\n", 6, r"field 'train\.learning_rate' must be a number"),
        ("train:\n  learning_rate: .nan\n", 6, r"field 'train\.learning_rate'"),
        ("train:\n  distill:\n    weight: 2\n", 7, r"field 'train\.distill\.weight' must be less than or equal to 1"),
        ("train:\n  distill:\n    temprature: 2\n", 7, r"unknown field 'train\.distill\.temprature'.*"),
        ("train:\n  quantization_aware: 2\n", 6, r"field 'train\.quantization_aware' needs a quantize step"),
        ("train:\n  method: bdwp\n", 6, r"field 'train\.method' cannot make pattern 1x4: bdwp takes n:m"),
    ],
)
def test_mistakes(tmp_path, text, line, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(write(tmp_path, HEAD + text))
    assert caught.value.where == f"{tmp_path / 'r.yaml'}:{line}"


def test_a_method_needs_something_to_make_sparse(tmp_path):
    assert load_recipe({"version": 1, "train": {"epochs": 2}}).train.epochs == 2  # dense training
    with pytest.raises(RecipeError, match=r"field 'train\.method' has nothing to do: there is no sparsify step"):
        load_recipe({"version": 1, "train": {"method": "rigl"}})


def test_a_rule_with_a_pattern_that_the_method_cannot_make(tmp_path):
    rules = "  layers:\n  - match: a\n    pattern: 2:4\n"
    with pytest.raises(RecipeError, match=r"cannot make pattern 2:4: gradual-magnitude takes blocks"):
        load_recipe(write(tmp_path, HEAD + rules + "train: {}\n"))


def test_checking_loads_no_torch():
    code = "import sys; from gossamer.recipe import load_recipe; load_recipe('1x4-75-gradual-int8')"
    code += "; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
