"""Every construct: a random permutation of all that is free leaves the function as it was, and enough is free."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.sparsify.rearrange.follow import follow
from tests.sparsify.rearrange.graphs import assert_same, free, graph, inputs, make, noise, run, scramble

HEAD = '<ir_version: 9, opset_import: ["" : 17]>'
RNG = np.random.default_rng(5)

CONSTRUCTS: dict[str, tuple[str, dict, dict[str, list]]] = {
    # name: graph, constants, what is free of some of them: per axis (size, inner), size 0 and width where fixed
    "residual": (
        """net (float[1,3,6,6] x) => (float[1,5,6,6] y) {
            a = Conv (x, w1, b1)  r = Relu (a)  b = Conv<pads=[1,1,1,1]> (r, w2, b2)
            s = Add (a, b)  t = Relu (s)  y = Conv (t, w3) }""",
        {"w1": (12, 3, 1, 1), "b1": (12,), "w2": (12, 12, 3, 3), "b2": (12,), "w3": (5, 12, 1, 1)},
        {"w2": [[(12, 1)], [(12, 1)], [(0, 3)], [(0, 3)]], "w3": [[(0, 5)], [(12, 1)], [(0, 1)], [(0, 1)]]},
    ),
    "batch norm and depthwise": (
        """net (float[1,3,6,6] x) => (float[1,5,3,3] y) {
            a = Conv (x, w1)  n = BatchNormalization (a, g, b, m, v)  r = Relu (n)
            d = Conv<group=8, pads=[1,1,1,1], strides=[2,2]> (r, wd, bd)  y = Conv (d, w2) }""",
        {"w1": (8, 3, 1, 1), "g": (8,), "b": (8,), "m": (8,), "v": RNG.uniform(0.5, 2, 8).astype(np.float32),
         "wd": (8, 1, 3, 3), "bd": (8,), "w2": (5, 8, 1, 1)},
        {"wd": [[(8, 1)], [(0, 1)], [(0, 3)], [(0, 3)]], "v": [[(8, 1)]]},
    ),
    "depthwise with a multiplier": (
        """net (float[1,3,6,6] x) => (float[1,5,6,6] y) {
            a = Conv (x, w1)  d = Conv<group=4, pads=[1,1,1,1]> (a, wd)  y = Conv (d, w2) }""",
        {"w1": (4, 3, 1, 1), "wd": (12, 1, 3, 3), "w2": (5, 12, 1, 1)},
        {"wd": [[(4, 3)], [(0, 1)], [(0, 3)], [(0, 3)]], "w2": [[(0, 5)], [(4, 3)], [(0, 1)], [(0, 1)]]},
    ),
    "grouped": (
        """net (float[1,3,6,6] x) => (float[1,5,6,6] y) {
            a = Conv (x, w1)  g = Conv<group=2> (a, wg)  y = Conv (g, w2) }""",
        {"w1": (8, 3, 1, 1), "wg": (12, 4, 1, 1), "w2": (5, 12, 1, 1)},
        {"w1": [[(4, 1), (4, 1)], [(0, 3)], [(0, 1)], [(0, 1)]],
         "w2": [[(0, 5)], [(6, 1), (6, 1)], [(0, 1)], [(0, 1)]]},
    ),
    "concat, also of an input": (
        """net (float[1,3,6,6] x) => (float[1,5,6,6] y) {
            a = Conv (x, w1)  b = Conv (x, w2)  c = Concat<axis=1> (a, x, b)  y = Conv (c, w3) }""",
        {"w1": (8, 3, 1, 1), "w2": (6, 3, 1, 1), "w3": (5, 17, 1, 1)},
        {"w3": [[(0, 5)], [(8, 1), (0, 3), (6, 1)], [(0, 1)], [(0, 1)]]},
    ),
    "split and gate": (
        """net (float[1,3,6,6] x) => (float[1,5,6,6] y) {
            a = Conv (x, w1)  b, c = Split<axis=1> (a, cuts)  s = Sigmoid (c)  g = Mul (b, s)  y = Conv (g, w2) }""",
        {"w1": (16, 3, 1, 1), "cuts": np.array([8, 8]), "w2": (5, 8, 1, 1)},
        {"w1": [[(8, 1), (8, 1)], [(0, 3)], [(0, 1)], [(0, 1)]], "w2": [[(0, 5)], [(8, 1)], [(0, 1)], [(0, 1)]]},
    ),
    "slices of channels": (
        """net (float[1,3,6,6] x) => (float[1,5,6,6] y, float[1,5,6,6] z) {
            a = Conv (x, w1)  b = Slice (a, from, to, axes)  c = Slice (a, zero, from, axes)
            y = Conv (b, w2)  z = Conv (c, w3) }""",
        {"w1": (16, 3, 1, 1), "zero": np.array([0]), "from": np.array([4]), "to": np.array([-2]), "axes": np.array([1]),
         "w2": (5, 10, 1, 1), "w3": (5, 4, 1, 1)},
        {"w1": [[(4, 1), (10, 1), (2, 1)], [(0, 3)], [(0, 1)], [(0, 1)]]},
    ),
    "padded channels": (
        """net (float[1,3,6,6] x) => (float[1,5,6,6] y) {
            a = Conv (x, w1)  p = Pad (a, pads)  b = Conv (x, w2)  s = Add (p, b)  y = Conv (s, w3) }""",
        {"w1": (8, 3, 1, 1), "pads": np.array([0, 2, 0, 0, 0, 2, 0, 0]), "w2": (12, 3, 1, 1), "w3": (5, 12, 1, 1)},
        {"w2": [[(0, 2), (8, 1), (0, 2)], [(0, 3)], [(0, 1)], [(0, 1)]]},
    ),
    "padded planes and pools": (
        """net (float[1,3,6,6] x) => (float[1,5,2,2] y) {
            a = Conv (x, w1)  p = Pad (a, pads)  m = MaxPool<kernel_shape=[2,2], strides=[2,2]> (p)
            v = AveragePool<kernel_shape=[2,2], strides=[2,2]> (m)  y = Conv (v, w2) }""",
        {"w1": (8, 3, 1, 1), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "w2": (5, 8, 1, 1)},
        {"w2": [[(0, 5)], [(8, 1)], [(0, 1)], [(0, 1)]]},
    ),
    "flatten and Gemm": (
        """net (float[1,3,4,4] x) => (float[1,5] y) {
            a = Conv (x, w1)  f = Flatten (a)  h = Gemm<transB=1> (f, w2, b2)  r = Relu (h)  y = Gemm (r, w3, b3) }""",
        {"w1": (8, 3, 1, 1), "w2": (12, 128), "b2": (12,), "w3": (12, 5), "b3": (5,)},
        {"w2": [[(12, 1)], [(8, 16)]], "w3": [[(12, 1)], [(0, 5)]]},
    ),
    "channels last, then flattened": (
        """net (float[1,3,4,4] x) => (float[1,5] y) {
            a = Conv (x, w1)  t = Transpose<perm=[0,2,3,1]> (a)  s = Mul (t, scale)  f = Reshape (s, shape)
            y = MatMul (f, w2) }""",
        {"w1": (8, 3, 1, 1), "scale": (8,), "shape": np.array([1, 128]), "w2": (128, 5)},
        {"scale": [[(8, 1)]], "w2": [[(8, 1)] * 16, [(0, 5)]]},
    ),
    "squeeze and excite": (
        """net (float[1,3,6,6] x) => (float[1,5,6,6] y) {
            a = Conv (x, w1)  p = GlobalAveragePool (a)  q = Conv (p, w2)  r = Relu (q)  u = Conv (r, w3)
            h = HardSigmoid (u)  m = Mul (a, h)  y = Conv (m, w4) }""",
        {"w1": (12, 3, 1, 1), "w2": (4, 12, 1, 1), "w3": (12, 4, 1, 1), "w4": (5, 12, 1, 1)},
        {"w2": [[(4, 1)], [(12, 1)], [(0, 1)], [(0, 1)]], "w3": [[(12, 1)], [(4, 1)], [(0, 1)], [(0, 1)]]},
    ),
    "squeeze and excite through vectors": (
        """net (float[1,3,6,6] x) => (float[1,5,6,6] y) {
            a = Conv (x, w1)  p = ReduceMean<axes=[2,3], keepdims=0> (a)  q = Gemm (p, w2)  r = Relu (q)
            u = MatMul (r, w3)  s = Sigmoid (u)  e = Unsqueeze (s, last)  m = Mul (a, e)  y = Conv (m, w4) }""",
        {"w1": (12, 3, 1, 1), "w2": (12, 4), "w3": (4, 12), "last": np.array([2, 3]), "w4": (5, 12, 1, 1)},
        {"w2": [[(12, 1)], [(4, 1)]], "w4": [[(0, 5)], [(12, 1)], [(0, 1)], [(0, 1)]]},
    ),
    "constants per channel": (
        """net (float[1,3,6,6] x) => (float[1,5,6,6] y) {
            a = Conv (x, w1)  p = PRelu (a, slope)  s = Add (p, shift)  m = Mul (half, s)  d = Sub (m, plane)
            c = Clip (d, low, high)  y = Conv (c, w2) }""",
        {"w1": (8, 3, 1, 1), "slope": (8, 1, 1), "shift": (1, 8, 1, 1), "half": np.float32([0.5]), "plane": (8, 6, 6),
         "low": np.float32(-1), "high": np.float32(1), "w2": (5, 8, 1, 1)},
        {"slope": [[(8, 1)], [(0, 1)], [(0, 1)]], "plane": [[(8, 1)], [(0, 6)], [(0, 6)]]},
    ),
    "a weight that two layers share": (
        """net (float[1,8,6,6] x) => (float[1,8,6,6] y) {
            i = Conv (x, w0)  a = Conv (i, w)  r = Relu (a)  b = Conv (r, w)  y = Conv (b, w1) }""",
        {"w0": (8, 8, 1, 1), "w": (8, 8, 1, 1), "w1": (8, 8, 1, 1)},
        {"w": [[(8, 1)], [(8, 1)], [(0, 1)], [(0, 1)]]},
    ),
    "attention": (
        """net (float[1,6,8] x) => (float[1,6,8] y) {
            n = LayerNormalization<axis=-1> (x, g, gb)  p = MatMul (n, wp)  m = LayerNormalization<axis=-1> (p, h, hb)
            q = MatMul (m, wq)  k = MatMul (m, wk)  v = MatMul (m, wv)  kt = Transpose<perm=[0,2,1]> (k)
            s = MatMul (q, kt)  w = Softmax<axis=-1> (s)  o = MatMul (w, v)  u = MatMul (o, wo)  r = Add (p, u)
            f = MatMul (r, w1)  e = Erf (f)  t = MatMul (e, w2)  y = MatMul (t, w3) }""",
        {"g": (8,), "gb": (8,), "wp": (8, 12), "h": (12,), "hb": (12,), "wq": (12, 16), "wk": (12, 16), "wv": (12, 20),
         "wo": (20, 12), "w1": (12, 24), "w2": (24, 12), "w3": (12, 8)},
        {"h": [[(12, 1)]], "wq": [[(12, 1)], [(16, 1)]], "wv": [[(12, 1)], [(20, 1)]], "w2": [[(24, 1)], [(12, 1)]]},
    ),
    "heads of attention": (
        """net (float[1,6,8] x) => (float[1,6,8] y) {
            q = MatMul (x, wq)  k = MatMul (x, wk)  v = MatMul (x, wv)
            q4 = Reshape (q, heads)  k4 = Reshape (k, heads)  v4 = Reshape (v, heads)
            qt = Transpose<perm=[0,2,1,3]> (q4)  kt = Transpose<perm=[0,2,3,1]> (k4)
            vt = Transpose<perm=[0,2,1,3]> (v4)  s = MatMul (qt, kt)  w = Softmax<axis=-1> (s)  o = MatMul (w, vt)
            ot = Transpose<perm=[0,2,1,3]> (o)  flat = Reshape (ot, joined)  y = MatMul (flat, wo) }""",
        {"wq": (8, 16), "wk": (8, 16), "wv": (8, 16), "heads": np.array([1, 6, 4, 4]), "joined": np.array([1, 6, 16]),
         "wo": (16, 8)},
        {"wq": [[(0, 8)], [(4, 4)]], "wo": [[(4, 4)], [(0, 8)]]},
    ),
    "transposed convolution and resizing": (
        """net (float[1,3,4,4] x) => (float[1,5,16,16] y) {
            a = Conv (x, w1)  u = ConvTranspose<strides=[2,2]> (a, wt, bt)
            r = Resize<mode="nearest"> (u, , scales)  y = Conv (r, w2) }""",
        {"w1": (8, 3, 1, 1), "wt": (8, 12, 2, 2), "bt": (12,), "scales": np.float32([1, 1, 2, 2]), "w2": (5, 12, 1, 1)},
        {"wt": [[(8, 1)], [(12, 1)], [(0, 2)], [(0, 2)]]},
    ),
    "an intermediate tensor that is also an output": (
        """net (float[1,3,6,6] x) => (float[1,8,6,6] a, float[1,5,6,6] y) {
            a = Conv (x, w1)  b = Conv (a, w2)  y = Conv (b, w3) }""",
        {"w1": (8, 3, 1, 1), "w2": (12, 8, 1, 1), "w3": (5, 12, 1, 1)},
        {"w1": [[(0, 8)], [(0, 3)], [(0, 1)], [(0, 1)]], "w2": [[(12, 1)], [(0, 8)], [(0, 1)], [(0, 1)]]},
    ),
    "an operator that is not followed": (
        """net (float[1,3,6,6] x) => (float[1,5,6,6] y) {
            a = Conv (x, w1)  s = CumSum (a, one)  b = Conv (s, w2)  y = Conv (b, w3) }""",
        {"w1": (8, 3, 1, 1), "one": np.array(1), "w2": (12, 8, 1, 1), "w3": (5, 12, 1, 1)},
        {"w1": [[(0, 8)], [(0, 3)], [(0, 1)], [(0, 1)]], "w2": [[(12, 1)], [(0, 8)], [(0, 1)], [(0, 1)]]},
    ),
    "shuffled channels": (
        """net (float[1,3,6,6] x) => (float[1,5,6,6] y) {
            a = Conv (x, w1)  r = Reshape (a, apart)  t = Transpose<perm=[0,2,1,3,4]> (r)  s = Reshape (t, whole)
            y = Conv (s, w2) }""",
        {"w1": (8, 3, 1, 1), "apart": np.array([1, 2, 4, 6, 6]), "whole": np.array([1, 8, 6, 6]), "w2": (5, 8, 1, 1)},
        {},
    ),
    "a sum over channels": (
        """net (float[1,3,6,6] x) => (float[1,6,6] y, float[1,1,6,6] z) {
            a = Conv (x, w1)  r = Relu (a)  y = ReduceSum<keepdims=0> (r, one)  z = ReduceMax<axes=[1]> (r) }""",
        {"w1": (8, 3, 1, 1), "one": np.array([1])},
        {"w1": [[(8, 1)], [(0, 3)], [(0, 1)], [(0, 1)]]},
    ),
    "int8 with a scale per channel": (
        """net (float[1,3,6,6] x) => (float[1,5,6,6] y) {
            xq = QuantizeLinear (x, s, z)  xd = DequantizeLinear (xq, s, z)
            w1 = DequantizeLinear<axis=0> (q1, s1, z1)  b1 = DequantizeLinear<axis=0> (qb, sb)
            a = Conv (xd, w1, b1)  aq = QuantizeLinear (a, s, z)  ad = DequantizeLinear (aq, s, z)
            w2 = DequantizeLinear<axis=1> (q2, s2)  y = Conv (ad, w2) }""",
        {"s": np.float32(0.05), "z": np.int8(3), "q1": RNG.integers(-127, 128, (8, 3, 1, 1)).astype(np.int8),
         "s1": RNG.uniform(0.001, 0.01, 8).astype(np.float32), "z1": np.zeros(8, np.int8),
         "qb": RNG.integers(-999, 999, 8).astype(np.int32), "sb": RNG.uniform(1e-4, 1e-3, 8).astype(np.float32),
         "q2": RNG.integers(-127, 128, (5, 8, 1, 1)).astype(np.int8),
         "s2": RNG.uniform(0.001, 0.01, 8).astype(np.float32)},
        {"s1": [[(8, 1)]], "z1": [[(8, 1)]], "qb": [[(8, 1)]], "sb": [[(8, 1)]], "s2": [[(8, 1)]]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_the_function_survives_any_permutation_of_what_is_free(name):
    text, weights, expected = CONSTRUCTS[name]
    model, other = (graph(HEAD + text, weights) for _ in range(2))
    before = follow(model)
    for constant, axes in expected.items():
        assert free(before, model, constant) == axes, constant
    feeds = inputs(model)
    reference = run(model, feeds)
    found, _ = scramble(other)
    assert bool(found) == (name != "shuffled channels")
    assert_same(reference, run(other, feeds))


def test_constants_made_by_nodes():
    w1, w2 = noise((8, 3, 1, 1), RNG), noise((5, 8, 1, 1), RNG)

    def model():
        from onnx import helper, numpy_helper

        return make(
            [
                helper.make_node("Constant", [], ["w1"], value=numpy_helper.from_array(w1, "w1")),
                helper.make_node("Conv", ["x", "w1"], ["a"]),
                helper.make_node("Constant", [], ["w2"], value=numpy_helper.from_array(w2, "w2")),
                helper.make_node("Conv", ["a", "w2"], ["y"]),
            ],
            (1, 3, 4, 4),
            (1, 5, 4, 4),
            {},
        )

    plain, other = model(), model()
    feeds = inputs(plain)
    found, _ = scramble(other)
    assert sorted(found) == ["w1", "w2"]
    assert_same(run(plain, feeds), run(other, feeds))


def test_what_a_subgraph_reads_stays():
    text = """net (float[1,3,6,6] x, bool c) => (float[1,5,6,6] y) {
        a = Conv (x, w1)
        b = If (c) <then_branch = g () => (float[1,8,6,6] t) { t = CumSum (a, one) },
                    else_branch = h () => (float[1,8,6,6] e) { e = Identity (a) }>
        d = Conv (b, w2)  y = Conv (d, w3) }"""
    weights = {"w1": (8, 3, 1, 1), "one": np.array(1), "w2": (12, 8, 1, 1), "w3": (5, 12, 1, 1)}
    model, other = (graph(HEAD + text, weights) for _ in range(2))
    found, axes = scramble(other)
    assert sorted(found) == ["w2", "w3"]
    assert free(axes, other, "w1")[0] == [(0, 8)]
    feeds = inputs(model) | {"c": np.array(True)}
    assert_same(run(model, feeds), run(other, feeds))


def test_reasons_name_the_node_that_fixes():
    text = """net (float[1,3,6,6] x) => (float[1,5,6,6] y) {
        a = Conv (x, w1)  s = CumSum (a, one)  y = Conv (s, w2) }"""
    model = graph(HEAD + text, {"w1": (8, 3, 1, 1), "one": np.array(1), "w2": (5, 8, 1, 1)})
    axes = follow(model)
    outputs, image = axes.resolved(model.graph.initializers["w1"])[:2]
    assert outputs[0].reason == "CumSum 's.1' is not followed"
    assert image[0].reason == "'x' is an input of the graph"


def test_a_dynamic_batch_is_no_obstacle_and_dynamic_channels_stay():
    proto = """<ir_version: 9, opset_import: ["" : 17]>
        net (float[N,3,6,6] x, float[1,C,6,6] u) => (float[N,5] y, float[1,8,6,6] z) {
            a = Conv (x, w1)  f = Flatten (a)  y = Gemm<transB=1> (f, w2)  v = Relu (u)  z = Conv (v, w3) }"""
    import onnx
    from onnx import numpy_helper

    model = onnx.parser.parse_model(proto)
    rng = np.random.default_rng(0)
    for name, shape in (("w1", (8, 3, 1, 1)), ("w2", (5, 288)), ("w3", (8, 8, 1, 1))):
        model.graph.initializer.append(numpy_helper.from_array(noise(shape, rng), name))
    graph_ = ir.from_proto(model)
    axes = follow(graph_)
    assert free(axes, graph_, "w2") == [[(0, 5)], [(8, 36)]]
    assert free(axes, graph_, "w3")[1] == [(0, 8)]
