"""A QDQ graph that trains: where and how it quantises, what comes back, and that the bundle decides the same."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import gossamer
from gossamer.compile.lower import LowerReport, lower
from gossamer.quantize import quantize
from gossamer.recipe import QuantizeStep
from tests.compile.support import model, node, normal
from tests.qat.support import bits, on_device, person_model, shipped, small, small_samples, train

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gossamer[torch]'")


def prepared(step: QuantizeStep | None = None, **options: Any) -> Any:
    from gossamer.quantize.qat import prepare_qat

    return prepare_qat(ir.from_proto(small()), small_samples(8), step, **options)


def constants(made: ir.Model) -> dict[str, np.ndarray]:
    return {n: v.const_value.numpy() for n, v in made.graph.initializers.items()}  # type: ignore[union-attr]


@pytest.mark.parametrize("step", [QuantizeStep(), QuantizeStep(per_channel=False)], ids=["channels", "tensors"])
def test_untrained_it_is_the_statically_quantised_model(step: QuantizeStep) -> None:
    """Names, places, scales and integers, bit for bit."""
    from gossamer.quantize.qat import prepare_qat

    x = np.random.default_rng(0).random((4, 3, 96, 96), dtype=np.float32)
    want = quantize(person_model("v2-0.35"), step, list(x[:, None]))
    made = prepare_qat(person_model("v2-0.35"), x, step).to_onnx()
    a, b = constants(want), constants(made)
    assert list(a) == list(b)
    assert [(n.op_type, n.name) for n in want.graph] == [(n.op_type, n.name) for n in made.graph]
    different = [n for n in a if a[n].tobytes() != b[n].tobytes()]
    assert not different


@pytest.mark.parametrize("bias", [np.float32(0.3), normal(4, seed=5)], ids=["scalar", "vector"])
def test_factors_of_gemm_train_as_they_run(bias: np.ndarray) -> None:
    """alpha and beta are folded, so that the layer trains in int8 as any other and is int8 in the bundle."""
    from gossamer.quantize.qat import prepare_qat
    from gossamer.quantize.qat.weight import QuantizedLinear

    consts = {"w": normal(4, 8, seed=4), "b": bias}
    proto = model([node("Gemm", ["x", "w", "b"], ["y"], transB=1, alpha=0.5, beta=3.0)], {"x": (1, 8)}, ["y"], consts)
    samples = normal(16, 8, seed=6)
    q = prepare_qat(ir.from_proto(proto), samples)
    assert isinstance(q.Gemm_y, QuantizedLinear)
    np.testing.assert_array_equal(q.Gemm_y.weight.detach().numpy(), np.float32(0.5) * consts["w"])
    np.testing.assert_allclose(q.Gemm_y.bias.detach().numpy(), np.full(4, 3.0) * bias, rtol=1e-6)
    with torch.no_grad():
        q.Gemm_y.weight.mul_(1.3)
    x = torch.from_numpy(samples)
    step = q.quantizers.y.parameters_now()[0]
    assert float((q.eval()(x).detach() - q.exact(x)).abs().max()) <= 1.01 * step


def test_every_layer_and_place_is_there() -> None:
    q = prepared()
    assert q.names == {"Conv_c1": "Conv_c1", "Conv_c2": "Conv_c2", "Gemm_y": "Gemm_y"}
    assert isinstance(q.Conv_c1, torch.nn.Conv2d) and isinstance(q.Gemm_y, torch.nn.Linear)
    np.testing.assert_array_equal(q.Conv_c1.weight.detach().numpy(), normal(8, 3, 3, 3) * np.float32(0.3))
    placed = {n for n, _ in q.quantizers.named_children()}
    assert placed == {"x", "r1", "c2", "s", "h", "p", "y"}  # the flattened values share those of the pool
    groups = q.parameter_groups(0.1, weight_decay=0.01)
    assert [(g["name"], len(g["params"]), g["weight_decay"], g["lr"]) for g in groups] == [
        ("weights", 3, 0.01, 0.1),
        ("others", 3, 0.0, 0.1),
    ]


def test_the_fake_forward_is_near_the_device_and_exact_is_the_device() -> None:
    q = prepared()
    x = small_samples(16, seed=9)
    losses = train(q, x, steps=8)
    assert losses[-1] < losses[0]
    q.eval()
    with torch.no_grad():
        fake = q(torch.from_numpy(x))
    exact = q.exact(torch.from_numpy(x), batch=5)
    assert np.array_equal(bits(exact), bits(on_device(q.to_onnx(), x)))
    assert torch.equal(exact, q(torch.from_numpy(x), exact=True))
    step = float(q.quantizers.y.scale)
    assert float((fake - exact).abs().max()) <= 1.01 * step
    assert float((fake - exact).abs().mean()) <= 0.1 * step


@pytest.mark.parametrize("scales", ["learned", "observed"])
@pytest.mark.parametrize("learn_weights", [False, True])
def test_moving_scales_end_exactly_in_the_bundle(scales: Any, learn_weights: bool) -> None:
    q = prepared(activation_scales=scales, learn_weight_scales=learn_weights, momentum=0.5)
    before = {n: m.parameters_now() for n, m in q.quantizers.named_children()}
    x = small_samples(16, seed=9) * np.float32(1.5)
    train(q, x, steps=4, lr=0.01, scale_lr=0.002)
    after = {n: m.parameters_now() for n, m in q.quantizers.named_children()}
    assert all(before[n][0] != after[n][0] for n in before)
    assert after["r1"][1] == before["r1"][1] == -128  # the Relu that the range stands for
    groups = {g["name"]: len(g["params"]) for g in q.parameter_groups()}
    assert groups.get("scales", 0) == (7 if scales == "learned" else 0) + (3 if learn_weights else 0)
    made = q.to_onnx()
    assert np.array_equal(bits(q.exact(torch.from_numpy(x))), bits(on_device(made, x)))
    stored = constants(made)
    for name, (scale, zero) in after.items():
        assert float(stored[f"{name}_scale"]) == scale and int(stored[f"{name}_zero_point"]) == zero


def test_pruned_weights_stay_exactly_zero_through_training_and_into_the_bundle() -> None:
    """One-shot pruning first, then training with kept zeros: no zero is lost, in torch, in ONNX, in the plan."""
    from gossamer.quantize.qat import prepare_qat
    from gossamer.recipe import SparsifyStep
    from gossamer.sparsify import prune

    work = ir.serde.deserialize_model(ir.serde.serialize_model(shipped()))
    layers = prune(work, SparsifyStep(pattern="1x4", sparsity=0.75)).layers
    pruned = {layer.name for layer in layers if layer.pattern != "dense"}
    zeros = {n: constants(work)[f"{n}.weight"] == 0 for n in pruned}
    assert len(pruned) > 20 and all(z.mean() > 0.7 for z in zeros.values())
    x = np.random.default_rng(0).random((4, 3, 96, 96), dtype=np.float32)
    q = prepare_qat(work, x, keep_zeros=True)
    train(q, x, steps=2, lr=0.05)
    plan = lower(q.to_onnx())
    dense = {op.name: op.weights.dense for op in plan.ops if op.weights is not None}
    for name, zero in zeros.items():
        w = q.get_submodule(name).weight.detach().numpy()
        assert not w[zero].any() and np.count_nonzero(w[~zero]) > 0.99 * (~zero).sum()
        assert not dense[name].transpose(0, 3, 1, 2)[zero].any()


def test_a_sparsifier_attaches_and_its_masks_are_in_the_exact_result() -> None:
    from gossamer.sparsify.training import Sparsifier

    q = prepared()
    target = {"pattern": "1x4", "sparsity": 0.5, "include": ["Conv_c1", "Gemm_y"], "keep_dense": ["depthwise"]}
    sparsifier = Sparsifier(q, target, "gradual-magnitude", total_steps=4)
    assert [layer.name for layer in sparsifier.layers] == ["Conv_c1", "Gemm_y"]
    x = small_samples(8)
    for _ in range(4):
        train(q, x, steps=1)
        sparsifier.step()
    masked = q.exact(torch.from_numpy(x))
    assert np.array_equal(bits(masked), bits(on_device(q.to_onnx(), x)))
    reached = sparsifier.finish()
    assert torch.equal(q.exact(torch.from_numpy(x)), masked)
    assert type(q.Conv_c1).__name__ == "QuantizedConv2d"
    made = constants(q.to_onnx())
    assert np.mean(made["w1_quantized"] == 0) >= reached["Conv_c1"] > 0.4


def test_nodes_left_in_float_stay_float_on_the_device_and_here() -> None:
    q = prepared(QuantizeStep(exclude=("Conv_c2", "Add_s")))
    assert type(q.Conv_c1).__name__ == "QuantizedConv2d" and type(q.Conv_c2) is torch.nn.Conv2d
    x = small_samples(8)
    train(q, x)
    report = LowerReport()
    made = q.to_onnx()
    lower(made, report=report)
    assert {name for note in report.fallbacks for name in note.nodes} >= {"Conv_c2"}
    exact, device = q.exact(torch.from_numpy(x)).numpy(), on_device(made, x)
    step = float(q.quantizers.y.scale)
    assert np.abs(exact - device).max() <= 1.01 * step  # float sums differ in their last bits, so a step may
    assert np.mean(exact != device) < 0.05


def test_seven_bit_activations() -> None:
    q = prepared(QuantizeStep(activation_bits=7))
    x = small_samples(8)
    train(q, x)
    made = q.to_onnx()
    assert np.array_equal(bits(q.exact(torch.from_numpy(x))), bits(on_device(made, x)))
    assert all(0 <= m.parameters_now()[1] <= 127 for m in q.quantizers.children())


def test_optimize_takes_the_model_without_quantising_again() -> None:
    q = prepared()
    train(q, small_samples(8))
    recipe = {"version": 1, "quantize": {}, "target": {"measure": False}}
    result = gossamer.optimize(q.to_onnx(), recipe, key=False)
    assert "the model is quantised already: the quantize step did nothing" in result.notes
    assert {layer["dtype"] for layer in result.manifest["layers"]} == {"int8"}


def test_layers_that_share_a_bias_or_weights_are_written_apart() -> None:
    """Two convolutions of other settings read one weight and one bias of zeros: after training both differ."""
    from gossamer.quantize.qat import prepare_qat

    nodes = [
        node("Conv", ["x", "w", "b"], ["c1"], pads=[1, 1, 1, 1]),
        node("Conv", ["c1", "w", "b"], ["y"], pads=[0, 0, 0, 0]),
    ]
    consts = {"w": normal(4, 4, 3, 3) * np.float32(0.3), "b": np.zeros(4, np.float32)}
    proto = model(nodes, {"x": (1, 4, 6, 6)}, ["y"], consts)
    samples = normal(4, 4, 6, 6)
    q = prepare_qat(ir.from_proto(proto), samples)
    optimiser = torch.optim.SGD(q.parameters(), lr=0.05)
    for _ in range(2):
        optimiser.zero_grad()
        q(torch.from_numpy(samples)).square().sum().backward()
        optimiser.step()
    assert not torch.equal(q.Conv_c1.weight, q.Conv_y.weight)
    made = q.to_onnx()
    exact = q.exact(torch.from_numpy(samples))
    assert np.array_equal(bits(exact), bits(on_device(made, samples)))
    with torch.no_grad():
        assert float((q(torch.from_numpy(samples)) - exact).abs().max()) <= 2.01 * float(q.quantizers.y.scale)


def test_a_quantised_model_trains_on_from_its_own_weights() -> None:
    from gossamer.quantize.qat import prepare_qat

    static = quantize(ir.from_proto(small()), QuantizeStep(), list(small_samples(4)[:, None]))
    q = prepare_qat(static)
    x = small_samples(6, seed=3)
    assert np.array_equal(bits(q.exact(torch.from_numpy(x))), bits(on_device(static, x)))
    train(q, x)
    assert np.array_equal(bits(q.exact(torch.from_numpy(x))), bits(on_device(q.to_onnx(), x)))


def test_state_dicts_resume_and_copies_stand_alone() -> None:
    x = small_samples(8)
    q = prepared(activation_scales="learned", keep_zeros=True)
    train(q, x)
    twin = copy.deepcopy(q)
    again = prepared(activation_scales="learned", keep_zeros=True)
    again.load_state_dict(q.state_dict())
    want = q.exact(torch.from_numpy(x))
    assert torch.equal(again.exact(torch.from_numpy(x)), want)
    train(q, x, scale_lr=0.01)
    assert torch.equal(twin.exact(torch.from_numpy(x)), want)
    assert not torch.equal(q.exact(torch.from_numpy(x)), want)


def test_no_part_of_a_training_step_waits_for_the_device() -> None:
    """Tensors on the meta device have no numbers: whatever asks for one fails."""
    for options in ({}, {"activation_scales": "learned", "learn_weight_scales": True, "keep_zeros": True}):
        q = prepared(**options).to("meta")
        q(torch.empty(4, 3, 8, 8, device="meta")).sum().backward()
        assert q.Conv_c1.weight.grad.device.type == "meta"


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own compiler does
def test_it_compiles_as_one_graph() -> None:
    """``fullgraph`` refuses breaks; the plain formula under the compiler agrees with torch's fused kernel."""
    x = torch.from_numpy(small_samples(4))
    for options in ({}, {"activation_scales": "learned", "learn_weight_scales": True}):
        q = prepared(**options)
        compiled = torch.compile(q, backend="aot_eager", fullgraph=True)
        made, want = compiled(x), q(x)
        assert float((made - want).detach().abs().max()) <= 1.01 * float(q.quantizers.y.scale.detach())
        made.sum().backward()
        assert bool(torch.isfinite(q.Conv_c1.weight.grad).all()) and bool(q.Conv_c1.weight.grad.any())


def test_integers_may_be_given_where_the_model_takes_them() -> None:
    from gossamer.quantize.qat import prepare_qat

    static = quantize(ir.from_proto(small()), QuantizeStep(), list(small_samples(4)[:, None]))
    entry = next(n for n in static.graph if n.op_type == "QuantizeLinear" and n.inputs[0] is static.graph.inputs[0])
    scale, zero = (v.const_value.numpy() for v in entry.inputs[1:])  # type: ignore[union-attr]
    x = static.graph.inputs[0]
    ir.convenience.replace_all_uses_with(entry.outputs[0], x)
    static.graph.remove(entry)
    x.type = ir.TensorType(ir.DataType.INT8)
    q = prepare_qat(static)
    whole = np.random.default_rng(0).integers(-128, 128, (4, 3, 8, 8)).astype(np.int8)
    real = (whole.astype(np.float32) - np.float32(zero)) * np.float32(scale)
    exact = q.exact(torch.from_numpy(whole))
    assert torch.equal(q.exact(torch.from_numpy(real)), exact)
    assert np.array_equal(bits(exact), bits(on_device(q.to_onnx(), whole)))
    with torch.no_grad():
        assert torch.equal(q(torch.from_numpy(whole)), q(torch.from_numpy(real)))
