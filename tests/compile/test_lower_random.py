"""Random networks: every mixture of operators, layouts and quantised regions must agree with ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.compile.support import (
    assert_close,
    feeds_of,
    lowered,
    model,
    node,
    onnxruntime,
    quantized,
    session,
    step_of,
)


def network(seed: int) -> tuple[onnx.ModelProto, list[str], tuple[str, ...]]:
    """A network of 6 to 14 operators on [N, C, H, W]; also its inner values and its weights."""
    g = np.random.default_rng(seed)
    shape = (int(g.integers(1, 3)), int(g.integers(1, 9)), int(g.integers(5, 12)), int(g.integers(5, 12)))
    values: dict[str, tuple[int, ...]] = {"x": shape}
    nodes: list[onnx.NodeProto] = []
    consts: dict[str, np.ndarray] = {}
    weights: list[str] = []

    def const(array: np.ndarray) -> str:
        name = f"k{len(consts)}"
        consts[name] = array
        return name

    def weight(*dims: int) -> str:
        name = const((g.standard_normal(dims) / np.sqrt(np.prod(dims[1:]))).astype(np.float32))
        weights.append(name)
        return name

    def add(op: str, inputs: list[str], out_shape: tuple[int, ...], **attrs: object) -> None:
        out = f"v{len(nodes)}"
        nodes.append(node(op, inputs, [out], **attrs))
        values[out] = out_shape

    def convolution(x: str) -> None:
        n, c, h, w = values[x]
        k, s = int(g.choice([1, 3])), int(g.choice([1, 1, 2]))
        out_hw = ((h - 1) // s + 1, (w - 1) // s + 1)
        attrs = {"pads": [k // 2] * 4, "strides": [s, s]}
        if g.random() < 0.4:
            add("Conv", [x, weight(c, 1, k, k)], (n, c, *out_hw), group=c, **attrs)
        else:
            rows = int(g.integers(1, 13))
            bias = [const(g.standard_normal(rows).astype(np.float32))] if g.random() < 0.5 else []
            add("Conv", [x, weight(rows, c, k, k), *bias], (n, rows, *out_hw), **attrs)

    def function(x: str) -> None:
        op = str(g.choice(["Relu", "HardSwish", "Sigmoid", "Tanh", "LeakyRelu", "Abs"]))
        add(op, [x], values[x])

    def pair(x: str) -> None:
        same = [v for v, s in values.items() if s == values[x]]
        add(str(g.choice(["Add", "Mul", "Sub"])), [x, str(g.choice(same))], values[x])

    def gate(x: str) -> None:
        n, c, _, _ = values[x]
        add("GlobalAveragePool", [x], (n, c, 1, 1))
        add("Mul", [x, f"v{len(nodes) - 1}"], values[x])

    def join(x: str) -> None:
        n, c, h, w = values[x]
        others = [v for v, s in values.items() if (s[0], *s[2:]) == (n, h, w)]
        other = str(g.choice(others))
        add("Concat", [x, other], (n, c + values[other][1], h, w), axis=1)

    def pool(x: str) -> None:
        n, c, h, w = values[x]
        if min(h, w) < 3:
            return function(x)
        out = (n, c, (h - 3) // 2 + 1, (w - 3) // 2 + 1)
        return add(str(g.choice(["MaxPool", "AveragePool"])), [x], out, kernel_shape=[3, 3], strides=[2, 2])

    def cut(x: str) -> None:
        n, c, h, w = values[x]
        first = int(g.integers(0, c))
        bounds = [const(np.array([v], np.int64)) for v in (first, c, 1)]
        add("Slice", [x, *bounds], (n, c - first, h, w))

    def pad(x: str) -> None:
        n, c, h, w = values[x]
        pads = const(np.array([0, 0, 1, 0, 0, 0, 0, 2], np.int64))
        modes = ["constant", "edge", "reflect"] if h > 1 and w > 2 else ["constant", "edge"]
        add("Pad", [x, pads], (n, c, h + 1, w + 2), mode=str(g.choice(modes)))

    def turn(x: str) -> None:
        n, c, h, w = values[x]
        add("Transpose", [x], (n, h, w, c), perm=[0, 2, 3, 1])
        add("Relu", [f"v{len(nodes) - 1}"], (n, h, w, c))
        add("Transpose", [f"v{len(nodes) - 1}"], (n, c, h, w), perm=[0, 3, 1, 2])

    def affine(x: str) -> None:
        c = values[x][1]
        add("Mul", [x, const((g.random((c, 1, 1)) + 0.5).astype(np.float32))], values[x])
        add("Add", [f"v{len(nodes) - 1}", const(g.standard_normal((1, c, 1, 1)).astype(np.float32))], values[x])

    makers = [convolution, convolution, convolution, function, function, pair, gate, join, pool, cut, pad, turn, affine]
    for _ in range(int(g.integers(6, 15))):
        recent = list(values)[-4:]
        picked = str(g.choice([v for v in recent if len(values[v]) == 4]))
        makers[int(g.integers(len(makers)))](picked)
    outputs = list(values)[-2:] if len(values) > 3 else list(values)[-1:]
    return model(nodes, {"x": shape}, outputs, consts), [v for v in values if v != "x"], tuple(weights)


@pytest.mark.parametrize("seed", range(40))
def test_random_network_f32(seed: int) -> None:
    proto, _, _ = network(seed)
    feeds = feeds_of(proto, seed)
    made = session(lowered(proto)[0]).run(list(feeds.values()))
    for a, b in zip(made, onnxruntime(proto, feeds), strict=True):
        assert_close(a, b, 1e-4)


@pytest.mark.parametrize("seed", range(40))
def test_random_network_partly_quantized(seed: int) -> None:
    """Random values are quantised, others are not: int8 and f32 meet everywhere."""
    proto, inner, weights = network(seed)
    g = np.random.default_rng(1000 + seed)
    feeds = feeds_of(proto, seed)
    outputs = [o.name for o in proto.graph.output]
    share = float(g.choice([0.3, 0.8, 1.0]))
    chosen = tuple(v for v in inner if v in outputs or g.random() < share)
    per_channel = dict.fromkeys(weights, 0) if g.random() < 0.5 else None
    qdq = quantized(
        proto, feeds, unsigned=bool(g.random() < 0.5), weights=weights, per_channel=per_channel, after=chosen
    )
    made = session(lowered(qdq)[0]).run(list(feeds.values()))
    for name, a, b in zip(outputs, made, onnxruntime(qdq, feeds), strict=True):
        off = np.abs(a.astype(np.float64) - b) / step_of(qdq, name)
        assert off.max() <= 3.001, name
        assert np.mean(off > 0.5) <= 0.1, name
