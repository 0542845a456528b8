"""Recognises functions that exporters write as several nodes: HardSwish, SiLU, GELU (both forms), LayerNormalization.

Constants are compared to 1e-4 relative, since exporters round them to float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gossamer.compile.graph import Graph, Node
from gossamer.compile.report import LowerReport
from gossamer.compile.rewrite import Build
from gossamer.compile.unary import clip_bounds, scalar_of


def fuse(g: Graph, report: LowerReport) -> int:
    changed = 0
    for node in list(g.nodes):
        if node.domain or node not in g.nodes:
            continue
        for rule in _RULES.get(node.op_type, ()):
            if rule(g, node):
                report.fuse(rule.__name__.strip("_"), node.name)
                changed += 1
                break
    if changed:
        g.remove_dead()
        g.sort()
    return changed


def _near(value: float | None, target: float) -> bool:
    return value is not None and math.isclose(value, target, rel_tol=1e-4)


def _by_const(g: Graph, node: Node | None, op: str) -> tuple[str, float] | None:
    """(activation, constant) of a commutative binary node with a scalar constant; of Div, Sub and Pow: right side."""
    if node is None or node.domain or node.op_type != op or len(node.inputs) != 2:
        return None
    for k in (1, 0) if op in ("Add", "Mul") else (1,):
        c = scalar_of(g, node.inputs[k])
        if c is not None and scalar_of(g, node.inputs[1 - k]) is None:
            return node.inputs[1 - k], c
    return None


def _times(g: Graph, node: Node | None) -> tuple[str, float] | None:
    """Multiplication by a scalar constant, also written as division."""
    by = _by_const(g, node, "Mul")
    if by is not None:
        return by
    by = _by_const(g, node, "Div")
    return (by[0], 1.0 / by[1]) if by is not None and by[1] else None


def _replace(g: Graph, node: Node, op: str, x: str, **attrs: Any) -> bool:
    build = Build(g, node)
    build(op, [x], g.shape(x), out=node.outputs[0], **attrs)
    return build.done()


def hardsigmoid(g: Graph, node: Node) -> bool:
    """clip(x + 3, 0, 6) / 6"""
    by = _times(g, node)
    if by is None or not _near(by[1], 1 / 6):
        return False
    clip = g.producer(by[0])
    if clip is None or clip_bounds(g, clip) != (0.0, 6.0):
        return False
    add = _by_const(g, g.producer(clip.inputs[0]), "Add")
    return add is not None and _near(add[1], 3) and _replace(g, node, "HardSigmoid", add[0], alpha=1 / 6, beta=0.5)


def hardswish(g: Graph, node: Node) -> bool:
    """x * HardSigmoid(x), and x * clip(x + 3, 0, 6) / 6 in either order"""
    by = _times(g, node)
    if by is not None and _near(by[1], 1 / 6):
        inner = g.producer(by[0])
        if inner is not None and inner.op_type == "Mul" and not inner.domain:
            for k in (0, 1):
                clip = g.producer(inner.inputs[k])
                if clip is not None and clip_bounds(g, clip) == (0.0, 6.0):
                    add = _by_const(g, g.producer(clip.inputs[0]), "Add")
                    if add is not None and _near(add[1], 3) and add[0] == inner.inputs[1 - k]:
                        return _replace(g, node, "HardSwish", add[0])
        return False
    if node.op_type != "Mul":
        return False
    for k in (0, 1):
        gate = g.producer(node.inputs[k])
        if gate is None or gate.domain or gate.op_type != "HardSigmoid" or gate.inputs[0] != node.inputs[1 - k]:
            continue
        if _near(float(gate.attrs.get("alpha", 0.2)), 1 / 6) and _near(float(gate.attrs.get("beta", 0.5)), 0.5):
            return _replace(g, node, "HardSwish", gate.inputs[0])
    return False


def silu(g: Graph, node: Node) -> bool:
    """x * Sigmoid(x)"""
    for k in (0, 1):
        gate = g.producer(node.inputs[k])
        if gate is not None and not gate.domain and gate.op_type == "Sigmoid" and gate.inputs[0] == node.inputs[1 - k]:
            return _replace(g, node, "Swish", gate.inputs[0], alpha=1.0)
    return False


def _product(g: Graph, name: str, depth: int = 4) -> tuple[list[str], float]:
    """Factors of a product that only this expression reads, and its constant factor."""
    node = g.producer(name)
    if node is None or depth == 0:
        return [name], 1.0
    by = _times(g, node)
    if by is not None:
        factors, c = _product(g, by[0], depth - 1)
        return factors, c * by[1]
    if node.op_type == "Mul" and not node.domain:
        left, a = _product(g, node.inputs[0], depth - 1)
        right, b = _product(g, node.inputs[1], depth - 1)
        return left + right, a * b
    return [name], 1.0


def gelu(g: Graph, node: Node) -> bool:
    """0.5 * x * (1 + erf(x / sqrt 2)), 0.5 * x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))), factors in any order"""
    factors, c = _product(g, node.outputs[0])
    if len(factors) != 2 or not _near(c, 0.5):
        return False
    for k in (0, 1):
        x = factors[1 - k]
        one = _by_const(g, g.producer(factors[k]), "Add")
        if one is None or not _near(one[1], 1.0):
            continue
        curve = g.producer(one[0])
        if curve is None or curve.domain:
            continue
        if curve.op_type == "Erf":
            inside, scale = _product(g, curve.inputs[0])
            if inside == [x] and _near(scale, 1 / math.sqrt(2)):
                return _replace(g, node, "Gelu", x, approximate="none")
        if curve.op_type == "Tanh":
            inside, scale = _product(g, curve.inputs[0])
            if len(inside) == 1 and _near(scale, math.sqrt(2 / math.pi)) and _cubic(g, inside[0], x):
                return _replace(g, node, "Gelu", x, approximate="tanh")
    return False


def _cubic(g: Graph, name: str, x: str) -> bool:
    """x + 0.044715 * x^3"""
    add = g.producer(name)
    if add is None or add.op_type != "Add" or x not in add.inputs:
        return False
    rest = add.inputs[1 - add.inputs.index(x)]
    factors, c = _product(g, rest)
    if not _near(c, 0.044715):
        return False
    if factors == [x, x, x]:
        return True
    power = _by_const(g, g.producer(factors[0]), "Pow") if len(factors) == 1 else None
    return power == (x, 3.0)


def _last_axes(g: Graph, node: Node | None) -> tuple[str, int] | None:
    """(input, first axis) of a ReduceMean over all axes from one on, keeping them."""
    if node is None or node.domain or node.op_type != "ReduceMean" or not int(node.attrs.get("keepdims", 1)):
        return None
    rank = len(g.shape(node.inputs[0]))
    axes = node.attrs.get("axes")
    if node.input(1):
        const = g.const(node.input(1))
        axes = None if const is None else const.reshape(-1).tolist()
    if not axes:
        return None
    found = sorted(int(a) % rank for a in axes)
    return (node.inputs[0], found[0]) if found == list(range(found[0], rank)) else None


def layernorm(g: Graph, node: Node) -> bool:
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon), [* gamma], [+ beta]"""
    if node.op_type == "Add":
        return _norm_beta(g, node)
    if node.op_type == "Mul":
        return _norm_gamma(g, node)
    centred = g.producer(node.inputs[0])
    root = g.producer(node.inputs[1])
    if centred is None or centred.op_type != "Sub" or root is None or root.op_type != "Sqrt":
        return False
    plus = _by_const(g, g.producer(root.inputs[0]), "Add")
    variance = _last_axes(g, g.producer(plus[0])) if plus is not None else None
    mean = _last_axes(g, g.producer(centred.inputs[1]))
    if plus is None or variance is None or mean is None or mean != (centred.inputs[0], variance[1]):
        return False
    square = g.producer(variance[0])
    if square is None:
        return False
    is_square = _by_const(g, square, "Pow") == (centred.outputs[0], 2.0) or (
        square.op_type == "Mul" and square.inputs == [centred.outputs[0]] * 2
    )
    if not is_square:
        return False
    x = centred.inputs[0]
    build = Build(g, node)
    ones = build.const(np.ones(g.shape(x)[mean[1] :]))
    build("LayerNormalization", [x, ones], g.shape(x), out=node.outputs[0], axis=mean[1], epsilon=plus[1])
    return build.done()


def _norm_part(g: Graph, node: Node) -> tuple[Node, str, tuple[int, ...]] | None:
    for k in (0, 1):
        norm = g.producer(node.inputs[k])
        const = g.const(node.inputs[1 - k])
        if norm is None or norm.op_type != "LayerNormalization" or norm.domain or const is None:
            continue
        if g.sole_consumer(norm.outputs[0]) is not node or const.dtype != np.float32:
            continue
        shape = g.shape(norm.inputs[0])
        axis = int(norm.attrs.get("axis", -1)) % len(shape)
        if const.shape == shape[axis:]:
            return norm, node.inputs[1 - k], shape
    return None


def _norm_gamma(g: Graph, node: Node) -> bool:
    part = _norm_part(g, node)
    if part is None or part[0].input(2):
        return False
    norm, name, _ = part
    gamma = g.const(norm.inputs[1])
    if gamma is None or not bool((gamma == 1).all()):
        return False
    return _absorb(g, norm, node, [norm.inputs[0], name])


def _norm_beta(g: Graph, node: Node) -> bool:
    part = _norm_part(g, node)
    if part is None or part[0].input(2):
        return False
    norm, name, _ = part
    return _absorb(g, norm, node, [*norm.inputs[:2], name])


def _absorb(g: Graph, norm: Node, node: Node, inputs: list[str]) -> bool:
    norm.inputs, norm.outputs = inputs, [node.outputs[0]]
    g.remove([node])
    return True


_RULES = {
    "Mul": (hardsigmoid, hardswish, silu, gelu, layernorm),
    "Div": (hardsigmoid, hardswish, layernorm),
    "Add": (layernorm,),
}
