"""Rewrites quantised operators (QLinearConv, QLinearMatMul and ONNX Runtime's QLinear family) as QDQ.

Both spellings mean the same; everything after this pass knows QDQ alone. Runs before shapes are known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gossamer.compile.graph import Array, Graph, Node

_MS = "com.microsoft"


class _Rewrite:
    """Nodes that replace one node."""

    def __init__(self, g: Graph, node: Node) -> None:
        self.g, self.node, self.nodes = g, node, list[Node]()

    def add(self, op: str, inputs: list[str], out: str = "", **attrs: Any) -> str:
        name = out or self.g.fresh(self.node.outputs[0])
        self.nodes.append(Node(op, inputs, [name], attrs, self.node.name, self.node.source))
        return name

    def real(self, x: str, scale: str, zero: str, **attrs: Any) -> str:
        return self.add("DequantizeLinear", [x, scale, zero] if zero else [x, scale], **attrs)

    def quantize(self, x: str, scale: str, zero: str) -> None:
        self.add("QuantizeLinear", [x, scale, zero] if zero else [x, scale], self.node.outputs[0])


def _conv(w: _Rewrite) -> bool:
    x, xs, xz, k, ks, kz, ys, yz = w.node.inputs[:8]
    inputs = [w.real(x, xs, xz), w.real(k, ks, kz, axis=0)]
    bias, sx, sk = w.node.input(8), w.g.const(xs), w.g.const(ks)
    if bias:
        if sx is None or sk is None:
            return False
        inputs.append(w.real(bias, _scale(w, sx, sk), "", axis=0))
    w.quantize(w.add("Conv", inputs, **w.node.attrs), ys, yz)
    return True


def _scale(w: _Rewrite, a: Array, b: Array) -> str:
    product = (a.astype(np.float64).reshape(-1) * b.astype(np.float64).reshape(-1)).astype(np.float32)
    return w.g.add_const(f"{w.node.name}.bias_scale", product if product.size > 1 else product[0])


def _matmul(w: _Rewrite) -> bool:
    a, sa, za, b, sb, zb, ys, yz = w.node.inputs[:8]
    w.quantize(w.add("MatMul", [w.real(a, sa, za), w.real(b, sb, zb, axis=1)]), ys, yz)
    return True


def _gemm(w: _Rewrite) -> bool:
    a, sa, za, b, sb, zb = w.node.inputs[:6]
    bias, ys, yz = w.node.input(6), w.node.input(7), w.node.input(8)
    scale_a, scale_b = w.g.const(sa), w.g.const(sb)
    if not ys or float(w.node.attrs.get("alpha", 1.0)) != 1.0:
        return False
    if bias and (scale_a is None or scale_b is None):
        return False
    trans = int(w.node.attrs.get("transB", 0))
    inputs = [w.real(a, sa, za), w.real(b, sb, zb, axis=0 if trans else 1)]
    if bias and scale_a is not None and scale_b is not None:
        inputs.append(w.real(bias, _scale(w, scale_a, scale_b), "", axis=0))
    w.quantize(w.add("Gemm", inputs, transA=int(w.node.attrs.get("transA", 0)), transB=trans), ys, yz)
    return True


def _binary(op: str) -> Callable[[_Rewrite], bool]:
    def rule(w: _Rewrite) -> bool:
        a, sa, za, b, sb, zb, ys, yz = [*w.node.inputs, ""][:8]
        w.quantize(w.add(op, [w.real(a, sa, za), w.real(b, sb, zb)]), ys, yz)
        return True

    return rule


def _unary(op: str, *kept: str) -> Callable[[_Rewrite], bool]:
    def rule(w: _Rewrite) -> bool:
        if int(w.node.attrs.get("channels_last", 0)):
            return False
        x, xs, xz, ys, yz = [*w.node.inputs, ""][:5]
        attrs = {k: v for k, v in w.node.attrs.items() if k in kept}
        w.quantize(w.add(op, [w.real(x, xs, xz)], **attrs), ys, yz)
        return True

    return rule


def _concat(w: _Rewrite) -> bool:
    ys, yz, *rest = w.node.inputs
    parts = [w.real(*rest[k : k + 3]) for k in range(0, len(rest), 3)]
    w.quantize(w.add("Concat", parts, axis=int(w.node.attrs["axis"])), ys, yz)
    return True


_POOL = ("kernel_shape", "strides", "pads", "auto_pad", "ceil_mode", "count_include_pad")
_RULES: dict[tuple[str, str], Callable[[_Rewrite], bool]] = {
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
    (_MS, "QGemm"): _gemm,
    (_MS, "QLinearAdd"): _binary("Add"),
    (_MS, "QLinearMul"): _binary("Mul"),
    (_MS, "QLinearSigmoid"): _unary("Sigmoid"),
    (_MS, "QLinearLeakyRelu"): _unary("LeakyRelu", "alpha"),
    (_MS, "QLinearSoftmax"): _unary("Softmax", "axis"),
    (_MS, "QLinearGlobalAveragePool"): _unary("GlobalAveragePool"),
    (_MS, "QLinearAveragePool"): _unary("AveragePool", *_POOL),
    (_MS, "QLinearConcat"): _concat,
}


def to_qdq(g: Graph) -> int:
    """Rewrites every quantised operator that has a rule, in place; returns how many."""
    changed = 0
    for node in list(g.nodes):
        rule = _RULES.get((node.domain, node.op_type))
        if rule is None:
            continue
        rewrite = _Rewrite(g, node)
        if rule(rewrite):
            g.insert(node, rewrite.nodes)
            g.remove([node])
            changed += 1
    return changed
