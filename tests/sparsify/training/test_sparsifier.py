"""The sparsifier's contract, whatever the method: what it attaches to, saving and resuming, AMP, compile, export."""

from __future__ import annotations

import copy
import doctest
import io
import shutil

import numpy as np
import onnx_ir
import pytest
import torch
from torch import nn

import gossamer
from gossamer import InputError, RecipeError
from gossamer.sparsify import patterns
from gossamer.sparsify.matrix import from_onnx
from gossamer.sparsify.training import METHODS, Sparsifier, get_method, sparsifier
from gossamer.sparsify.training.methods.gradual_magnitude import GradualMagnitude
from tests.sparsify.training.nets import linear

HALF = {"pattern": "1x4", "sparsity": 0.5}
EVERY_STEP = GradualMagnitude(every=1)
DENSE = {
    "stem": "first convolution: dense by default",
    "body.0.depthwise": "depthwise convolution: dense by default",
    "body.2.depthwise": "depthwise convolution: dense by default",
    "grouped": "grouped convolution: no sparse kernel",
    "head": "last classifier: dense by default",
}
SPARSE = ["body.0.pointwise", "body.2.pointwise", "wide", "line", "hidden"]


def _train(run, steps, *, autocast=False, scaler=None, model=None):
    """Steps on inputs and with dropout that depend on the step's number alone."""
    for _ in range(steps):
        torch.manual_seed(run.step_number)
        x = torch.randn(4, 3, 8, 8)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = (run.model if model is None else model)(x).square().mean() + run.penalty()
        run.optimizer.zero_grad()
        (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is None:
            run.optimizer.step()
        else:
            scaler.step(run.optimizer)
            scaler.update()
        run.step()


def _attach(model, target=HALF, method=EVERY_STEP, steps=10, **kwargs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    return Sparsifier(model, target, method, total_steps=steps, optimizer=optimizer, **kwargs)


def test_the_example_in_the_docstring_runs():
    (example,) = [t for t in doctest.DocTestFinder().find(Sparsifier, "Sparsifier", module=sparsifier) if t.examples]
    assert sum(e.source.count("\n") for e in example.examples) <= 11
    torch.manual_seed(0)
    result = doctest.DocTestRunner(verbose=False).run(example)
    assert (result.attempted, result.failed) == (len(example.examples), 0)


def test_nested_modules_of_every_kind_are_attached_and_the_others_have_a_reason(make_net):
    run = _attach(make_net(0))
    assert [layer.name for layer in run.layers] == SPARSE
    assert run.dense == DENSE
    assert [layer.size for layer in run.layers] == [64, 64, 16 * 8 * 9, 12 * 16 * 3, 24 * 12]
    assert all(layer.mask.dtype == torch.bool and bool(layer.mask.all()) for layer in run.layers)
    assert run.sparsity == 0.0
    assert run.penalty() == 0.0


def test_attaching_changes_nothing_before_the_first_step(make_net):
    x = torch.randn(2, 3, 8, 8)
    plain, attached = make_net(0).eval(), make_net(0).eval()
    _attach(attached)
    assert torch.equal(plain(x), attached(x))


def test_a_module_may_itself_be_the_layer():
    layer = linear([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    run = Sparsifier(layer, {**HALF, "keep_dense": []}, total_steps=1)
    run.step()
    assert run.finish() == {"": 0.5}
    assert layer.weight.tolist() == [[0.0, 0.0, 0.0, 0.0, 5.0, 6.0, 7.0, 8.0]]


def test_include_exclude_and_rules_say_which_layers_and_how_far(make_net):
    target = {
        **HALF,
        "include": ["head"],
        "exclude": ["line", "body.0.*"],
        "layers": [
            {"op": "Gemm", "sparsity": 0.75},
            {"match": "wide", "pattern": "2:4"},
            {"match": "body.2.pointwise", "dense": True},
            {"match": "grouped", "pattern": "unstructured", "sparsity": 0.25},
        ],
    }
    model = make_net(0)
    run = Sparsifier(model, target, "sr-ste", total_steps=1)
    assert {x.name: (x.pattern.name, x.own) for x in run.layers} == {
        "wide": ("2:4", 0.5),
        "grouped": ("unstructured", 0.25),
        "hidden": ("1x4", 0.75),
        "head": ("1x4", 0.75),
    }
    assert run.dense["line"] == "excluded by the recipe"
    assert run.dense["body.2.pointwise"] == "dense by a rule of the recipe"
    run.penalty()
    run.step()
    assert run.finish() == {"wide": 0.5, "grouped": 0.25, "hidden": 0.75, "head": pytest.approx(0.75, abs=0.04)}


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"include": ["wide", "widest"]}, "include[1]"),
        ({"exclude": ["widest"]}, "exclude[0]"),
        ({"layers": [{"match": "widest", "dense": True}]}, "layers[0]"),
    ],
)
def test_a_name_that_is_not_there_is_an_error_with_the_nearest(make_net, extra, field):
    with pytest.raises(RecipeError) as caught:
        _attach(make_net(0), {**HALF, **extra})
    assert f"field 'sparsify.{field}' names no layer of this model: 'widest'" in str(caught.value)
    assert "nearest layers: wide" in str(caught.value.hint)


def test_a_recipe_that_prunes_nothing_says_why(make_net):
    with pytest.raises(RecipeError, match="the recipe prunes no layer of this model") as caught:
        _attach(make_net(0), {**HALF, "exclude": ["*"]})
    assert "wide: excluded by the recipe" in str(caught.value.where)
    with pytest.raises(RecipeError, match="prunes no layer"):
        _attach(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


def test_a_recipe_that_leaves_a_layer_empty_is_an_error_that_names_it():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(4, 4))
    target = {"pattern": "4x4", "sparsity": 0.5, "keep_dense": [], "layers": [{"match": "2", "sparsity": 0.9}]}
    run = Sparsifier(model, target, EVERY_STEP, total_steps=2)
    before = run.layers[2].mask.clone()
    with pytest.raises(RecipeError) as caught:
        for _ in range(2):
            run.step()
    assert "the recipe leaves layer '2' empty: none of its 16 weights would stay" in str(caught.value)
    assert caught.value.where == "2"
    assert "lower its sparsity, give it a rule of its own, or exclude it" in str(caught.value.hint)
    assert torch.equal(run.layers[2].mask, before)


def test_methods_that_cannot_make_a_pattern_and_other_bad_settings(make_net):
    with pytest.raises(RecipeError, match="method 'gradual-magnitude' cannot make pattern 2:4") as caught:
        _attach(make_net(0), {"pattern": "2:4"})
    assert caught.value.where == SPARSE[0]
    with pytest.raises(InputError, match="a run has at least 1 step, not 0"):
        Sparsifier(make_net(0), HALF, total_steps=0)
    with pytest.raises(RecipeError, match="no training method 'gradual'") as caught:
        Sparsifier(make_net(0), HALF, "gradual", total_steps=1)
    assert "gradual-magnitude" in str(caught.value.hint)
    with pytest.raises(RecipeError, match="method 'gradual-magnitude', option 'evry'") as caught:
        get_method("gradual-magnitude", {"evry": 3})
    assert caught.value.field == "options.evry"
    with pytest.raises(RecipeError, match="the recipe has no sparsify step"):
        Sparsifier(make_net(0), "dense-int8", total_steps=1)


def test_a_shipped_recipe_is_a_target(make_net):
    run = Sparsifier(make_net(0), "1x4-75-int8", total_steps=1)
    assert (run.target.wanted, {x.pattern.name for x in run.layers}) == (0.75, {"1x4"})


def test_shared_weights_are_pruned_once():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    run = Sparsifier(model, {**HALF, "keep_dense": []}, total_steps=1)
    assert [x.name for x in run.layers] == ["0"]
    assert run.dense == {"1": "shares its weights with '0'"}


def test_every_method_describes_itself():
    for name, method in METHODS.items():
        assert method.name == name
        assert method.title and method.source and method.rule and method.__doc__
        assert set(method.patterns) <= {"blocks", "n:m"}
        assert "Source" in method.__doc__ and "efault" in method.__doc__, name
        for field, about in method.model_fields.items():
            assert about.description, (name, field)
        assert method().settings()["method"] == name  # all defaults


def test_masked_weights_are_zero_forward_and_get_no_gradient(make_net):
    run = _attach(make_net(0))
    _train(run, 6)
    run.optimizer.zero_grad()
    run.model(torch.randn(2, 3, 8, 8)).sum().backward()
    for layer in run.layers:
        assert bool((layer.module.weight[~layer.mask] == 0).all())
        assert bool((layer.weight.grad[~layer.mask] == 0).all())
        assert bool((layer.weight[~layer.mask] != 0).any())


def _bytes(run):
    buffer = io.BytesIO()
    torch.save([run.model.state_dict(), run.state_dict(), run.optimizer.state_dict()], buffer)
    return buffer.getvalue()


def test_a_run_saved_in_mid_schedule_and_resumed_ends_bit_for_bit_like_an_uninterrupted_one(make_net):
    whole = _attach(make_net(0))
    _train(whole, 10)
    first = _attach(make_net(0))
    _train(first, 4)
    assert 0.1 < first.sparsity < 0.5
    model_state, run_state, optimizer_state = torch.load(io.BytesIO(_bytes(first)), weights_only=True)
    second = _attach(make_net(1))
    second.model.load_state_dict(model_state)
    second.load_state_dict(run_state)
    second.optimizer.load_state_dict(optimizer_state)
    assert (second.step_number, second.sparsity) == (4, first.sparsity)
    _train(second, 6)
    for (name, a), b in zip(whole.model.state_dict().items(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert whole.finish() == second.finish()
    for (name, a), b in zip(whole.model.state_dict().items(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_saved_state_does_not_change_when_the_run_goes_on(make_net):
    run = _attach(make_net(0), method=get_method("group-envelope", {"end": 0.5}))
    _train(run, 2)
    state = run.state_dict()
    other = _attach(make_net(0), method=get_method("group-envelope", {"end": 0.5}))
    other.load_state_dict(state)
    _train(other, 8)
    assert float(other.memory["strength"]) == 0.0
    assert float(state["memory"]["strength"]) == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("target", "method", "steps", "differs"),
    [
        ({**HALF, "sparsity": 0.6}, EVERY_STEP, 10, r"sparsify.sparsity was 0.5, is 0.6"),
        ({**HALF, "pattern": "4x1"}, EVERY_STEP, 10, r"sparsify.pattern was '1x4', is '4x1'"),
        (HALF, GradualMagnitude(every=2), 10, r"every was 1, is 2"),
        (HALF, EVERY_STEP, 11, r"total_steps was 10, is 11"),
        (HALF, get_method("sr-ste"), 10, r"method was 'gradual-magnitude', is 'sr-ste'"),
    ],
)
def test_resuming_with_another_recipe_is_an_error_that_names_the_difference(make_net, target, method, steps, differs):
    run = _attach(make_net(0))
    _train(run, 3)
    other = _attach(make_net(0), target, method, steps)
    with pytest.raises(InputError, match=f"the saved run has another recipe: {differs}") as caught:
        other.load_state_dict(run.state_dict())
    assert "resume with the recipe it was started with" in str(caught.value.hint)
    assert other.step_number == 0
    with pytest.raises(InputError, match="another recipe: method was None"):
        other.load_state_dict({})


def test_bfloat16_autocast_trains_masked_float_weights(make_net):
    run = _attach(make_net(0))
    _train(run, 10, autocast=True)
    for layer in run.layers:
        assert layer.weight.dtype == layer.module.weight.dtype == torch.float32
        assert layer.sparsity == pytest.approx(0.5, abs=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert run.model(torch.randn(1, 3, 8, 8)).dtype == torch.bfloat16


def test_a_gradient_scaler_changes_nothing(make_net):
    plain = _attach(make_net(0), method=get_method("sr-ste", {"decay": 0.1}))
    _train(plain, 6)
    scaled = _attach(make_net(0), method=get_method("sr-ste", {"decay": 0.1}))
    _train(scaled, 6, scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    for a, b in zip(plain.layers, scaled.layers, strict=True):
        torch.testing.assert_close(a.weight, b.weight, rtol=1e-4, atol=1e-5)
        assert torch.equal(a.mask, b.mask)


def test_a_compiled_model_follows_the_masks_without_being_compiled_again(make_net):
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    eager, run = _attach(make_net(0)), _attach(make_net(0))
    for dropout in (eager.model.body[1], run.model.body[1]):
        dropout.p = 0.0
    compiled = torch.compile(run.model, backend=counter, fullgraph=True)
    _train(eager, 8)
    _train(run, 8, model=compiled)
    assert counter.frame_count == 1
    assert run.sparsity == eager.sparsity == pytest.approx(0.5, abs=0.02)
    for a, b in zip(eager.layers, run.layers, strict=True):
        torch.testing.assert_close(a.weight, b.weight, rtol=1e-4, atol=1e-5)
        assert torch.equal(a.mask, b.mask)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_inductor_compiles_it():
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
    run = Sparsifier(model, {**HALF, "keep_dense": []}, EVERY_STEP, total_steps=2)
    compiled = torch.compile(model)
    x = torch.randn(2, 4, 8, 8)
    for _ in range(3):
        out = compiled(x)
        torch.testing.assert_close(out, model(x))
        out.sum().backward()
        run.step()
    assert run.sparsity == 0.5


@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "4x1", "4x4", "2:4"])
def test_finish_leaves_plain_zeros_of_the_pattern_that_export(make_net, pattern):
    target = {"pattern": pattern, "layers": [{"match": "*"}]}
    if pattern != "2:4":
        target["sparsity"] = 0.5
    target = {**target, "exclude": ["stem", "head", "*.depthwise", "grouped"], "layers": []}
    run = _attach(make_net(0), target, "sr-ste" if pattern == "2:4" else EVERY_STEP)
    _train(run, 10)
    model, names, count = run.model, [x.name for x in run.layers], len(list(run.model.parameters()))
    masks = {x.name: x.mask.clone() for x in run.layers}
    values = {x.name: x.weight.detach().clone() for x in run.layers}
    reached = run.finish()
    assert run.finish() == reached
    assert list(reached) == names == SPARSE
    assert len(list(model.parameters())) == count
    assert not any("parametrizations" in key for key in model.state_dict())
    weights = {}
    for name in names:
        weight = model.get_submodule(name).weight
        assert type(weight) is nn.Parameter and weight.requires_grad
        assert torch.equal(weight.detach(), values[name] * masks[name])
        weights[name] = weight.detach().numpy()
        matrix, columns = from_onnx(weights[name])
        assert patterns.detect(matrix, columns=columns) == pattern, name
        assert reached[name] == pytest.approx(1.0 - np.count_nonzero(weights[name]) / weights[name].size)
    exported = gossamer.load(model, example_inputs=torch.randn(1, 3, 8, 8))
    constants = _constants(exported)
    for name, weight in weights.items():
        assert any(np.array_equal(weight, c) for c in constants), name  # the same zeros, the same values


def _constants(model: onnx_ir.Model):
    """Initializers of two and more dimensions, and their transposes: a linear layer may become a MatMul."""
    found = [v.const_value.numpy() for v in model.graph.initializers.values() if v.const_value is not None]
    return [c for x in found if x.ndim >= 2 for c in (x, x.T)]


def test_training_goes_on_after_finish_with_a_new_optimizer(make_net):
    run = _attach(make_net(0))
    _train(run, 10)
    run.finish()
    optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1)
    before = run.model.wide.weight.detach().clone()
    run.model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    assert not torch.equal(run.model.wide.weight, before)


def test_a_deep_copy_has_masks_of_its_own(make_net):
    run = _attach(make_net(0))
    _train(run, 10)
    twin = copy.deepcopy(run.model)
    run.layers[2].set_mask(None)
    assert bool((twin.wide.weight == 0).any()) and not bool((run.model.wide.weight == 0).any())


def test_progress_may_be_given_instead_of_counted(make_net):
    run = _attach(make_net(0), method=GradualMagnitude(every=1, end=1.0), steps=1000)
    run.step(progress=0.5)
    assert run.progress == 0.5
    assert run.sparsity == pytest.approx(0.5 * (1 - 0.5**3), abs=0.02)
    run.step(progress=1.0)
    assert run.sparsity == pytest.approx(0.5, abs=0.02)


def test_moments_are_reset_where_asked_and_nowhere_else():
    model = nn.Sequential(linear([1.0, 2.0, 3.0, 4.0]))
    run = _attach(model, {**HALF, "keep_dense": []})
    model(torch.ones(1, 4)).sum().backward()
    run.optimizer.step()
    (layer,) = run.layers
    run.reset_moments(layer, torch.tensor([[True, False, False, True]]))
    state = run.optimizer.state[layer.weight]
    assert (state["exp_avg"] != 0).tolist() == [[False, True, True, False]]
    assert (state["exp_avg_sq"] != 0).tolist() == [[False, True, True, False]]
    assert float(state["step"]) == 1.0


SHAPES = ((8, 16), (5, 6), (7, 3, 3, 3), (4, 8, 1, 1), (6, 5, 3), (1, 4), (72, 64), (40, 30, 3, 3))


@pytest.mark.parametrize("name", ["unstructured", "1x4", "4x1", "4x4", "1:4", "2:4", "3:8", "1:2", "5:16", "7:64"])
@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
def test_tensors_and_arrays_are_projected_alike(name, ties):
    """Training and compiler share the classes; so do their masks, ties included."""
    rng = np.random.default_rng(5)
    pattern = patterns.get(name)
    for shape in SHAPES:
        weight = rng.integers(-2, 3, shape) if ties else rng.normal(size=shape)
        matrix, columns = from_onnx(weight.astype(np.float32))
        tensor, columns_too = from_onnx(torch.from_numpy(weight.astype(np.float32)))
        assert columns == columns_too and np.array_equal(matrix, tensor.numpy())
        for sparsity in (None,) if ":" in name else (0.0, 0.3, 0.5, 0.77, 0.9):
            ours = pattern.project(matrix, sparsity, columns=columns)
            theirs = pattern.project(tensor, sparsity, columns=columns)
            assert isinstance(theirs, torch.Tensor) and theirs.dtype == torch.bool
            assert np.array_equal(ours, theirs.numpy()), (shape, sparsity)
        if ":" not in name:
            ours, theirs = (pattern.project(x, threshold=0.8, columns=columns) for x in (matrix, tensor))
            assert np.array_equal(ours, theirs.numpy())


def test_a_layer_is_masked_by_the_class_that_the_compiler_encodes_from(make_net):
    run = _attach(make_net(0))
    _train(run, 10)
    for layer in run.layers:
        assert layer.pattern is patterns.get("1x4")
        matrix, columns = from_onnx(layer.weight.detach().numpy())
        mask, _ = from_onnx(layer.mask.numpy())
        expected = layer.pattern.project(matrix, 0.5, columns=columns)
        # Masks were chosen at the last refresh; weights have moved since, so only the counts must agree.
        assert int(mask.sum()) == int(expected.sum())
        assert layer.pattern.measure(matrix * mask, columns=columns).fits
        encoded = layer.pattern.encode(matrix * mask)
        assert encoded.blocks == int(layer.kept_units().sum())
