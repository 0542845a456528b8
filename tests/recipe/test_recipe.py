"""Recipes: what is accepted, and what every kind of mistake says and where."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gossamer._errors import RecipeError
from gossamer.recipe import SparsifyStep, available, canonical, json_schema, load_recipe, text_of

READY = ["1x4-75-global-int8", "1x4-75-int8", "2-4-int8", "4x4-75-int8", "dense-int8", "person-demo"]


def refused(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    error = caught.value
    line = error.where.removeprefix(f"{path}:") if error.where else None
    return error, int(line) if line and line.isdigit() else None


def test_ready_made_recipes_load_and_say_what_they_are():
    found = available()
    assert set(READY) | {"unstructured-90-f32"} <= set(found)
    assert all(found.values())
    for name in found:
        assert load_recipe(name).name == name
        assert text_of(name).startswith("# ")


def test_a_recipe_reads_as_written():
    recipe = load_recipe("1x4-75-int8")
    assert (recipe.sparsify.pattern, recipe.sparsify.sparsity, recipe.sparsify.distribution) == ("1x4", 0.75, "uniform")
    assert (recipe.quantize.calibrate, recipe.quantize.samples) == ("minmax", 100)
    assert recipe.target.measure == "cached" and recipe.policy.fallback == ()
    assert load_recipe(recipe) is recipe
    assert load_recipe({"version": 1}).sparsify is None


def test_a_pattern_such_as_2_4_is_text_and_not_the_number_124(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("version: 1\nsparsify:\n  pattern: 2:4\n")
    step = load_recipe(path).sparsify
    assert step.pattern == "2:4" and step.wanted == 0.5
    assert yaml.safe_load("2:4") == 124  # why the loader has its own scalars


def test_every_field_of_a_full_recipe(tmp_path):
    path = tmp_path / "full.yaml"
    path.write_text(
        """\
version: 1
name: full
sparsify:
  pattern: 4x4
  sparsity: 5e-1
  distribution: global
  min_fraction: 0.001
  include: [head]
  exclude: ["stem/*"]
  layers:
    - {match: "block1*", sparsity: 0.25}
    - {op: Gemm, pattern: 2:4}
    - {match: last, dense: true}
quantize:
  calibrate: percentile
  percentile: 99.9
  per_channel: false
  activation_bits: 7
  samples: 7
  preprocess: {resize: stretch, colour: bgr, mean: [1, 2, 3], std: 2}
  exclude: [softmax]
target: {arch: aarch64, isa: neondot, threads: 4, measure: false}
policy: {fallback: [litert, onnxruntime]}
"""
    )
    r = load_recipe(path)
    assert r.sparsify.include == ("head",) and r.sparsify.layers[1].pattern == "2:4" and r.sparsify.layers[2].dense
    assert r.quantize.preprocess.mean == (1.0, 2.0, 3.0) and r.quantize.preprocess.std == (2.0,)
    assert (r.target.threads, r.target.measure) == (4, False)
    assert r.policy.fallback == ("litert", "onnxruntime")
    assert load_recipe(json.loads(canonical(r))) == r


def test_recipes_are_immutable():
    with pytest.raises(ValidationError):
        load_recipe("dense-int8").version = 2


@pytest.mark.parametrize(
    ("text", "line", "field", "says"),
    [
        ("version: 1\nsparsify:\n  patern: 1x4\n  sparsity: 0.5\n", 3, "sparsify.patern", "did you mean 'pattern'"),
        ("version: 1\nsparsfy:\n  sparsity: 0.5\n", 2, "sparsfy", "did you mean 'sparsify'"),
        ("version: 1\nxyz: 1\n", 2, "xyz", "valid fields: version, name"),
        ("version: 1\nsparsify:\n  sparsity: 1.0\n", 3, "sparsify.sparsity", "below 1"),
        ("version: 1\nsparsify:\n  sparsity: -1\n", 3, "sparsify.sparsity", "at least 0"),
        ("version: 1\nsparsify:\n  sparsity: .nan\n", 3, "sparsify.sparsity", "not nan"),
        ("version: 1\nsparsify:\n  sparsity: 75\n", 3, "sparsify.sparsity", "not 75"),
        ("version: 1\nsparsify:\n  sparsity: true\n", 3, "sparsify.sparsity", "must be a number"),
        ("version: 1\nsparsify:\n  sparsity: lots\n", 3, "sparsify.sparsity", "valid number"),
        ("version: 1\nsparsify:\n  pattern: 4x4\n", 2, "sparsify.sparsity", "is missing"),
        ("version: 1\nsparsify:\n  pattern: 1x5\n  sparsity: .5\n", 3, "sparsify.pattern", "did you mean '1x4'"),
        ("version: 1\nsparsify:\n  pattern: 4:2\n", 3, "sparsify.pattern", "1 <= n < m"),
        (
            "version: 1\nsparsify:\n  pattern: 2:4\n  sparsity: 0.75\n",
            4,
            "sparsify.sparsity",
            "makes a sparsity of 0.5",
        ),
        ("version: 1\nsparsify: {pattern: 2:4, distribution: erk}\n", 2, "sparsify.distribution", "cannot apply"),
        ("version: 1\nsparsify:\n  sparsity: 0.5\n  distribution: globl\n", 4, "sparsify.distribution", "'global'"),
        ("version: 1\nquantize:\n  calibrate: percentile\n", 2, "quantize.percentile", "is missing"),
        ("version: 1\nquantize:\n  percentile: 99.9\n", 3, "quantize.percentile", "no meaning"),
        ("version: 1\nquantize:\n  calibrate: entropi\n", 3, "quantize.calibrate", "did you mean 'entropy'"),
        ("version: 1\nquantize:\n  activation_bits: 6\n", 3, "quantize.activation_bits", "valid: 8, 7"),
        ("version: 1\nquantize:\n  samples: 0\n", 3, "quantize.samples", "greater than or equal to 1"),
        ("version: 1\nquantize: int8\n", 2, "quantize", "a mapping of fields"),
        ("version: 1\nquantize:\n  preprocess: {std: 0}\n", 3, "quantize.preprocess.std", "above 0"),
        ("version: 1\nquantize:\n  preprocess: {mean: [1, 2]}\n", 3, "quantize.preprocess.mean", "1 or 3 values"),
        ("version: 1\ntarget:\n  measure: sometimes\n", 3, "target.measure", "valid: true, false, cached"),
        ("version: 1\ntarget: {arch: aarch64, isa: avx2}\n", 2, "target.isa", "neondot"),
        ("version: 1\npolicy:\n  fallback:\n    - onnxruntime\n    - tflite\n", 5, "policy.fallback[1]", "'litert'"),
        ("version: 1\npolicy: {fallback: [tvm, tvm]}\n", 2, "policy.fallback", "twice"),
        ("version: 2\n", 1, "version", "valid: 1"),
        ("name: x\n", 1, "version", "is missing"),
        ("version: 1\nname: a\nname: b\n", 3, "name", "given twice"),
        ("version: 1\nsparsify:\n  sparsity: .5\n  layers:\n    - dense: true\n", 5, "layers[0]", "names no layers"),
        (
            "version: 1\nsparsify:\n  sparsity: .5\n  layers:\n    - match: a\n      dense: true\n      pattern: 1x4\n",
            6,
            "sparsify.layers[0].dense",
            "cannot be dense",
        ),
    ],
)
def test_mistakes_have_a_line_a_field_and_a_way_out(tmp_path, text, line, field, says):
    error, found = refused(tmp_path, text)
    assert found == line
    assert field in str(error)
    assert says in str(error)
    assert "Traceback" not in str(error) and error.exit_code == 5


def test_several_mistakes_are_told_together_in_the_order_of_the_file(tmp_path):
    error, line = refused(
        tmp_path, "version: 1\ntarget:\n  thread: 2\nsparsify:\n  sparsity: 2\nquantize:\n  samples: x\n"
    )
    text = str(error)
    assert line == 3 and "3 errors" in text
    assert text.index("target.thread") < text.index("sparsify.sparsity") < text.index("quantize.samples")
    assert "did you mean 'threads'" in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version: [1\n", "not valid YAML"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"", "empty"),
        (b"- 1\n", "not a mapping"),
        (b"just text", "not a mapping"),
        (b"version: 1\n? [a, b]\n: 1\n", "must be text"),
        (b"version: !!python/object/apply:os.getcwd []\n", "version"),
        (b"version: 1\nname: &a [*a]\n", "deep"),
        (b"{" * 900, "nested|valid YAML|deep"),
        (b"a: " + b"x" * (1 << 18), "larger than"),
    ],
)
def test_files_that_are_no_recipe(tmp_path, content, says):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=says):
        load_recipe(path)


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(RecipeError, match="did you mean '1x4-75-int8'"):
        load_recipe("1x4-75-int")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "absent.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)
    with pytest.raises(RecipeError) as caught:
        load_recipe({"version": 1, "sparsify": {"sparsity": 3}})
    assert caught.value.where is None and "sparsify.sparsity" in str(caught.value)


def test_json_schema_is_complete():
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert set(schema["properties"]) == {
        "version",
        "name",
        "description",
        "sparsify",
        "train",
        "quantize",
        "target",
        "policy",
    }
    assert schema["additionalProperties"] is False
    for definition in schema["$defs"].values():
        assert all("description" in field or "$ref" in field for field in definition["properties"].values())


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["version", "sparsify", "quantize", "target", "policy", "sparsity", "layers", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_mapping_is_accepted_or_refused_with_a_recipe_error(value):
    if not isinstance(value, dict):
        value = {"version": value}
    try:
        load_recipe(value)
    except RecipeError as error:
        assert str(error)


@given(st.floats(0.0, 1.0, exclude_max=True))
def test_every_sparsity_below_one_is_taken(value):
    assert SparsifyStep(sparsity=value).wanted == value
