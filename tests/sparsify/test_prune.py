"""One-shot pruning of ONNX graphs: exact sparsity per layer, what stays dense and why, quantised weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from gossamer._errors import ModelError, RecipeError
from gossamer.recipe import LayerRule, SparsifyStep
from gossamer.sparsify import prune
from gossamer.sparsify.layers import find_layers

NET = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[1,3,8,8] x) => (float[1,10] y) {
  stem = Conv<pads=[1,1,1,1]> (x, w_stem)
  dw = Conv<pads=[1,1,1,1], group=16> (stem, w_dw)
  pw = Conv (dw, w_pw)
  group = Conv<group=2> (pw, w_group)
  c3 = Conv<pads=[1,1,1,1]> (group, w_c3)
  pool = GlobalAveragePool (c3)
  flat = Flatten (pool)
  hidden = MatMul (flat, w_mm)
  act = Relu (hidden)
  mid = Gemm<transB=1> (act, w_gemm)
  y = Gemm (mid, w_last)
}
"""
SHAPES = {
    "w_stem": (16, 3, 3, 3),
    "w_dw": (16, 1, 3, 3),
    "w_pw": (24, 16, 1, 1),
    "w_group": (24, 12, 1, 1),
    "w_c3": (12, 24, 3, 3),
    "w_mm": (12, 40),
    "w_gemm": (32, 40),
    "w_last": (32, 10),
}


def net(seed=0, **replace):
    model = ir.from_onnx_text(NET)
    rng = np.random.default_rng(seed)
    for node in model.graph:
        node.name = node.outputs[0].name
        node.metadata_props["gossamer.source"] = f"net.{node.name}"
    for name, shape in SHAPES.items():
        data = replace.get(name, rng.standard_normal(shape).astype(np.float32))
        for node in model.graph:
            for i, value in enumerate(node.inputs):
                if value is not None and value.name == name:
                    tensor = ir.tensor(data, name=name)
                    node.replace_input_with(
                        i, ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
                    )
                    model.graph.register_initializer(node.inputs[i])
    return model


def weights(model):
    return {name: v.const_value.numpy() for name, v in model.graph.initializers.items()}


def by_name(report):
    return {layer.name: layer for layer in report.layers}


def test_default_scope_and_exact_sparsity():
    model = net()
    report = prune(model, SparsifyStep(pattern="1x4", sparsity=0.75))
    layers = by_name(report)
    assert [layer.name for layer in report.layers] == ["stem", "dw", "pw", "group", "c3", "hidden", "mid", "y"]
    assert {n: layer.pattern for n, layer in layers.items()} == {
        "stem": "dense", "dw": "dense", "pw": "1x4", "group": "dense", "c3": "1x4", "hidden": "1x4", "mid": "1x4",
        "y": "dense",
    }  # fmt: skip
    assert "first convolution" in layers["stem"].reason and "depthwise" in layers["dw"].reason
    assert "grouped" in layers["group"].reason and "last classifier" in layers["y"].reason
    for name in ("pw", "c3", "hidden", "mid"):
        assert layers[name].reached == 0.75 and layers[name].wanted == 0.75 and layers[name].reason == ""
    for name, data in weights(model).items():
        node = {"w_mm": "hidden", "w_gemm": "mid", "w_last": "y"}.get(name, name[2:])
        assert np.count_nonzero(data == 0) == layers[node].zeros
        assert data.size == layers[node].weights
    assert report.zeros == sum(layer.zeros for layer in report.layers)
    assert report.sparsity == report.zeros / report.weights
    assert layers["pw"].source == "net.pw" and report.to_dict()["layers"][0]["shape"] == [16, 3, 3, 3]
    assert "first convolution" in report.lines()[0]


def test_blocks_lie_along_input_channels():
    model = net()
    prune(model, SparsifyStep(pattern="1x4", sparsity=0.5))
    w = weights(model)
    c3 = (w["w_c3"] != 0).transpose(0, 2, 3, 1).reshape(12, 9, 6, 4)
    assert (c3.all(axis=-1) | ~c3.any(axis=-1)).all()
    mm = (w["w_mm"] != 0).T.reshape(40, 3, 4)  # MatMul weights are [inputs, outputs]
    assert (mm.all(axis=-1) | ~mm.any(axis=-1)).all()
    gemm = (w["w_gemm"] != 0).reshape(32, 10, 4)
    assert (gemm.all(axis=-1) | ~gemm.any(axis=-1)).all()


def test_what_is_kept_is_unchanged_and_the_largest():
    before, model = weights(net()), net()
    prune(model, SparsifyStep(pattern="unstructured", sparsity=0.6))
    after = weights(model)
    kept = after["w_pw"] != 0
    assert np.array_equal(after["w_pw"][kept], before["w_pw"][kept])
    assert np.abs(before["w_pw"][kept]).min() >= np.abs(before["w_pw"][~kept]).max()
    assert np.array_equal(after["w_stem"], before["w_stem"])


def test_pruned_nodes_carry_their_pattern():
    model = net()
    prune(model, SparsifyStep(pattern="2:4"))
    marks = {n.name: n.metadata_props.get("gossamer.pattern") for n in model.graph if n.op_type in ("Conv", "MatMul")}
    assert marks == {"stem": None, "dw": None, "pw": "2:4", "group": None, "c3": "2:4", "hidden": "2:4"}


def test_include_exclude_and_rules():
    step = SparsifyStep(
        sparsity=0.5,
        include=("stem", "net.dw"),
        exclude=("c*",),
        layers=(
            LayerRule(op="Gemm", pattern="4x4", sparsity=0.25),
            LayerRule(match="y", sparsity=0.8, pattern="unstructured"),
            LayerRule(match="hidden", dense=True),
        ),
    )
    layers = by_name(prune(net(), step))
    assert layers["stem"].pattern == "1x4" and layers["dw"].pattern == "1x4"
    assert "excluded" in layers["c3"].reason
    assert (layers["mid"].pattern, layers["mid"].reached) == ("4x4", 0.25)
    assert (layers["y"].pattern, layers["y"].reached) == ("unstructured", 0.8)
    assert "rule" in layers["hidden"].reason


def test_keep_dense_says_which_kinds_stay():
    layers = by_name(prune(net(), SparsifyStep(sparsity=0.5, keep_dense=("depthwise",))))
    assert layers["stem"].reached == pytest.approx(0.5, abs=0.02) and layers["y"].reached == 0.5
    assert layers["dw"].pattern == "dense" and layers["group"].pattern == "dense"
    layers = by_name(prune(net(), SparsifyStep(sparsity=0.5, keep_dense=())))
    assert [n for n, layer in layers.items() if layer.pattern == "dense"] == ["group"]


def test_rules_by_operator_leave_the_defaults_dense():
    layers = by_name(prune(net(), SparsifyStep(sparsity=0.5, layers=(LayerRule(op="Conv", pattern="4x4"),))))
    assert layers["stem"].pattern == "dense" and layers["pw"].pattern == "4x4"


def test_global_distribution_meets_the_total():
    report = prune(net(), SparsifyStep(pattern="unstructured", sparsity=0.9, distribution="global", min_fraction=0.01))
    shared = [layer for layer in report.layers if layer.name in ("pw", "c3", "hidden", "mid")]
    total = sum(layer.weights for layer in shared)
    assert sum(layer.zeros for layer in shared) == round(0.9 * total)
    assert all(layer.weights - layer.zeros >= 0.01 * total for layer in shared)
    assert len({layer.reached for layer in shared}) > 1


def test_erk_prunes_large_layers_more():
    layers = by_name(prune(net(), SparsifyStep(pattern="unstructured", sparsity=0.5, distribution="erk")))
    assert layers["c3"].reached > layers["mid"].reached > layers["pw"].reached
    shared = [layers[n] for n in ("pw", "c3", "hidden", "mid")]
    assert sum(x.zeros for x in shared) == pytest.approx(0.5 * sum(x.weights for x in shared), abs=4)


def test_quantised_weights_become_their_zero_point():
    rng = np.random.default_rng(0)
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    q (float[1,8] x) => (float[1,4] y) {
      wd = DequantizeLinear<axis=0> (w, s, z)
      h = Gemm<transB=1> (x, wd)
      vd = DequantizeLinear<axis=1> (v, t)
      g = MatMul (h, vd)
      y = MatMul (g, last)
    }
    """
    model = ir.from_onnx_text(text)
    data = {
        "w": rng.integers(100, 156, (16, 8)).astype(np.uint8),
        "s": np.linspace(0.1, 4, 16).astype(np.float32),
        "z": np.full(16, 128, np.uint8),
        "v": (rng.integers(1, 128, (16, 4)) * rng.choice([-1, 1], (16, 4))).astype(np.int8),
        "t": np.array([1, 100, 1, 1], np.float32),
        "last": np.ones((4, 4), np.float32),
    }
    for node in model.graph:
        node.name = node.outputs[0].name
        for i, value in enumerate(list(node.inputs)):
            if value.name in data:
                tensor = ir.tensor(data[value.name], name=value.name)
                fresh = ir.Value(name=value.name, type=ir.TensorType(tensor.dtype), shape=tensor.shape,
                                 const_value=tensor)  # fmt: skip
                node.replace_input_with(i, fresh)
                model.graph.register_initializer(fresh)
    layers = by_name(prune(model, SparsifyStep(pattern="unstructured", sparsity=0.5)))
    w, v = weights(model)["w"], weights(model)["v"]
    assert w.dtype == np.uint8 and np.count_nonzero(w == 128) == layers["h"].zeros == 64
    real = np.abs(data["w"].astype(float) - 128) * data["s"][:, None]
    assert real[w != 128].min() >= real[w == 128].max()  # ranked by the real weight, not by the stored number
    assert np.count_nonzero(v == 0) == 32 and (v[:, 1] != 0).all()  # column 1 has the large scale


def test_shared_and_embedding_weights_are_left():
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    t (int64[4] ids, float[4,8] x) => (float[4,6] y, float[4,8] z, float[4,6] u) {
      e = Gather (table, ids)
      z = Gemm<transB=1> (e, table2)
      a = MatMul (x, twice)
      y = MatMul (x, twice)
      back = MatMul (x, table)
      u = MatMul (back, last)
    }
    """
    model = ir.from_onnx_text(text)
    rng = np.random.default_rng(0)
    shared = {}
    shapes = {"table": (8, 8), "table2": (8, 8), "twice": (8, 6), "last": (8, 6)}
    for node in model.graph:
        node.name = node.outputs[0].name
        for i, value in enumerate(list(node.inputs)):
            if value.name in shapes:
                if value.name not in shared:
                    tensor = ir.tensor(rng.standard_normal(shapes[value.name]).astype(np.float32), name=value.name)
                    shared[value.name] = ir.Value(name=value.name, type=ir.TensorType(tensor.dtype),
                                                  shape=tensor.shape, const_value=tensor)  # fmt: skip
                    model.graph.register_initializer(shared[value.name])
                node.replace_input_with(i, shared[value.name])
    layers = by_name(prune(model, SparsifyStep(sparsity=0.5, include=("*",))))
    assert "feed Gather" in layers["back"].reason
    assert layers["a"].reached == 0.5
    assert "shares its weights with 'a'" in layers["y"].reason and layers["y"].weights == 0


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (SparsifyStep(sparsity=0.5, exclude=("stern",)), "did you mean 'stem'"),
        (SparsifyStep(sparsity=0.5, include=("nothing/*",)), "sparsify.include[0]"),
        (SparsifyStep(sparsity=0.5, layers=(LayerRule(match="hiden", dense=True),)), "did you mean 'hidden'"),
        (SparsifyStep(sparsity=0.5, layers=(LayerRule(op="Convv", sparsity=0.1),)), "did you mean 'Conv'"),
        (SparsifyStep(sparsity=0.5, layers=(LayerRule(op="MatMul", match="pw", sparsity=0.1),)), "no MatMul is called"),
    ],
)
def test_names_of_no_layer(step, says):
    before, model = weights(net()), net()
    with pytest.raises(RecipeError) as caught:
        prune(model, step)
    assert says in str(caught.value)
    after = weights(model)
    assert all(np.array_equal(before[n], after[n]) for n in before)


def test_nan_weights_are_named():
    bad = np.zeros((24, 16, 1, 1), np.float32)
    bad[3, 5] = np.nan
    with pytest.raises(ModelError, match="w_pw") as caught:
        prune(net(w_pw=bad), SparsifyStep(sparsity=0.5))
    assert "[3, 5, 0, 0]" in str(caught.value)


def test_a_model_without_layers():
    model = ir.from_onnx_text(
        '<ir_version: 9, opset_import: ["" : 17]> n (float[1] x) => (float[1] y) { y = Relu (x) }'
    )
    report = prune(model, SparsifyStep(sparsity=0.5))
    assert report.layers == () and report.sparsity == 0.0


def test_the_same_model_prunes_to_the_same_bytes():
    one, two = net(), net()
    step = SparsifyStep(pattern="4x4", sparsity=0.6, distribution="global")
    prune(one, step), prune(two, step)
    assert ir.to_proto(one).SerializeToString(deterministic=True) == ir.to_proto(two).SerializeToString(
        deterministic=True
    )
    again = {layer.name: layer.zeros for layer in find_layers(one)[0]}
    prune(one, step)
    assert {layer.name: layer.zeros for layer in find_layers(one)[0]} == again  # pruning twice changes nothing
