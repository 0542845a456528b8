"""Operators that the core has no kernel for, as several that it has: norms, n-ary arithmetic, pixel shuffles."""

from __future__ import annotations

import math

import numpy as np

from gossamer.compile.graph import Array, Graph, Node
from gossamer.compile.rewrite import Build, Rule
from gossamer.compile.unary import real


def _batch_norm(g: Graph, node: Node) -> bool:
    gamma, beta, mean, var = (real(g, i) for i in node.inputs[1:5])
    if gamma is None or beta is None or mean is None or var is None or int(node.attrs.get("training_mode", 0)):
        return False
    scale = gamma / np.sqrt(var + float(node.attrs.get("epsilon", 1e-5)))
    shift = beta - mean * scale
    shape = g.shape(node.inputs[0])
    view = [-1] + [1] * (len(shape) - 2)
    build = Build(g, node)
    y = build("Mul", [node.inputs[0], build.const(scale.reshape(view))], shape)
    build("Add", [y, build.const(shift.reshape(view))], shape, out=node.outputs[0])
    return build.done()


def _instance_norm(g: Graph, node: Node) -> bool:
    gamma, beta = real(g, node.inputs[1]), real(g, node.inputs[2])
    shape = g.shape(node.inputs[0])
    if gamma is None or beta is None or len(shape) < 3:
        return False
    return _group_norm_as_layers(g, node, shape[1], gamma, beta)


def _group_norm(g: Graph, node: Node) -> bool:
    gamma, beta = real(g, node.inputs[1]), real(g, node.inputs[2])
    shape, groups = g.shape(node.inputs[0]), int(node.attrs["num_groups"])
    if gamma is None or beta is None:
        return False
    if gamma.size == groups != shape[1]:  # opset 18 gave one value per group
        gamma, beta = np.repeat(gamma, shape[1] // groups), np.repeat(beta, shape[1] // groups)
    return _group_norm_as_layers(g, node, groups, gamma, beta)


def _group_norm_as_layers(g: Graph, node: Node, groups: int, gamma: Array, beta: Array) -> bool:
    shape = g.shape(node.inputs[0])
    build = Build(g, node)
    flat = (shape[0], groups, math.prod(shape[1:]) // groups)
    x = build.reshape(node.inputs[0], flat)
    ones = build.const(np.ones(flat[2]))
    x = build("LayerNormalization", [x, ones], flat, axis=2, epsilon=float(node.attrs.get("epsilon", 1e-5)))
    x = build.reshape(x, shape)
    view = [-1] + [1] * (len(shape) - 2)
    x = build("Mul", [x, build.const(gamma.reshape(view))], shape)
    build("Add", [x, build.const(beta.reshape(view))], shape, out=node.outputs[0])
    return build.done()


def _fold_nary(op: str) -> Rule:
    def rule(g: Graph, node: Node) -> bool:
        if len(node.inputs) <= 2 and (node.op_type == op or len(node.inputs) < 2):
            return False
        build = Build(g, node)
        x, last = node.inputs[0], len(node.inputs) - 1
        mean = node.op_type == "Mean"
        for k, other in enumerate(node.inputs[1:], 1):
            shape = tuple(np.broadcast_shapes(g.shape(x), g.shape(other)))
            x = build(op, [x, other], shape, out=node.outputs[0] if k == last and not mean else "")
        if mean:
            build("Mul", [x, build.const(1.0 / len(node.inputs))], g.shape(x), out=node.outputs[0])
        return build.done()

    return rule


def _space(g: Graph, node: Node) -> bool:
    n, c, h, w = g.shape(node.inputs[0])
    b = int(node.attrs["blocksize"])
    build = Build(g, node)
    if node.op_type == "SpaceToDepth":
        x = build.reshape(node.inputs[0], (n, c, h // b, b, w // b, b))
        x = build("Transpose", [x], (n, b, b, c, h // b, w // b), perm=[0, 3, 5, 1, 2, 4])
    elif node.attrs.get("mode", "DCR") in ("DCR", b"DCR"):
        x = build.reshape(node.inputs[0], (n, b, b, c // (b * b), h, w))
        x = build("Transpose", [x], (n, c // (b * b), h, b, w, b), perm=[0, 3, 4, 1, 5, 2])
    else:
        x = build.reshape(node.inputs[0], (n, c // (b * b), b, b, h, w))
        x = build("Transpose", [x], (n, c // (b * b), h, b, w, b), perm=[0, 1, 4, 2, 5, 3])
    build.reshape(x, g.shape(node.outputs[0]), out=node.outputs[0])
    return build.done()


def _repeat(g: Graph, node: Node) -> bool:
    """Tile and Expand of an activation: copies along each repeated axis; Expand before a broadcasting operator goes."""
    x, out = node.inputs[0], node.outputs[0]
    shape, target = g.shape(x), g.shape(out)
    if node.op_type == "Expand":
        users = g.consumers(out)
        if not g.is_output(out) and users and all(_broadcasts(g, u, out, shape) for u in users):
            g.replace_uses(out, x)
            g.remove([node])
            return True
    lead = (1,) * (len(target) - len(shape)) + shape
    if any(t % s or t // s > 255 for s, t in zip(lead, target, strict=True)):
        return False
    build = Build(g, node)
    x = build.reshape(x, lead)
    for axis, t in enumerate(target):
        times = t // lead[axis]
        if times > 1:
            grown = (*target[: axis + 1], *lead[axis + 1 :])
            x = build("Concat", [x] * times, grown, axis=axis)
    build.nodes[-1].outputs = [out]
    return build.done()


def _broadcasts(g: Graph, user: Node, name: str, shape: tuple[int, ...]) -> bool:
    if user.domain or user.op_type not in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow") or len(user.inputs) != 2:
        return False
    shapes = [shape if i == name else g.shape(i) for i in user.inputs]
    return np.broadcast_shapes(*shapes) == g.shape(user.outputs[0])


def _reduce_norm(g: Graph, node: Node) -> bool:
    """ReduceL1, ReduceL2, ReduceSumSquare, ReduceLogSum(Exp without shift) as elementwise and ReduceSum."""
    x, out = node.inputs[0], node.outputs[0]
    build = Build(g, node)
    if node.op_type == "ReduceL1":
        x = build("Abs", [x], g.shape(x))
    elif node.op_type in ("ReduceL2", "ReduceSumSquare"):
        x = build("Mul", [x, x], g.shape(x))
    root = node.op_type == "ReduceL2"
    y = build("ReduceSum", [x, *node.inputs[1:]], g.shape(out), out="" if root else out, **node.attrs)
    if root:
        build("Sqrt", [y], g.shape(out), out=out)
    return build.done()


def _lp_norm(g: Graph, node: Node) -> bool:
    x, out, p = node.inputs[0], node.outputs[0], int(node.attrs.get("p", 2))
    shape = g.shape(x)
    axis = int(node.attrs.get("axis", -1)) % len(shape)
    build = Build(g, node)
    kept = tuple(1 if i == axis else d for i, d in enumerate(shape))
    a = build("Abs", [x], shape) if p == 1 else build("Mul", [x, x], shape)
    s = build("ReduceSum", [a, build.const([axis], np.int64)], kept, dtype=np.float32, keepdims=1)
    if p == 2:
        s = build("Sqrt", [s], kept)
    build("Div", [x, s], shape, out=out)
    return build.done()


RULES: dict[str, Rule] = {
    **dict.fromkeys(("SpaceToDepth", "DepthToSpace"), _space),
    **dict.fromkeys(("Tile", "Expand"), _repeat),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceSumSquare"), _reduce_norm),
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LpNormalization": _lp_norm,
    "Sum": _fold_nary("Add"),
    "Mean": _fold_nary("Add"),
    "Max": _fold_nary("Max"),
    "Min": _fold_nary("Min"),
}


def expand_functions(g: Graph) -> int:
    """Functions that the core has no f32 operator for, as several that it has. Runs after int8 tables are made."""
    changed = 0
    for node in list(g.nodes):
        if not node.domain and node.op_type in _FUNCTIONS and g.dtype(node.outputs[0]) == np.float32:
            build = Build(g, node)
            if _FUNCTIONS[node.op_type](build, node):
                build.nodes[-1].outputs = [node.outputs[0]]
                changed += build.done()
    return changed


def _mish(build: Build, node: Node) -> bool:
    x, shape = node.inputs[0], build.g.shape(node.inputs[0])
    build("Mul", [x, build("Tanh", [build("Softplus", [x], shape)], shape)], shape)
    return True


def _softsign(build: Build, node: Node) -> bool:
    x, shape = node.inputs[0], build.g.shape(node.inputs[0])
    build("Div", [x, build("Add", [build("Abs", [x], shape), build.const(1.0)], shape)], shape)
    return True


def _selu(build: Build, node: Node) -> bool:
    x, shape = node.inputs[0], build.g.shape(node.inputs[0])
    y = build("Elu", [x], shape, alpha=float(node.attrs.get("alpha", 1.6732632)))
    build("Mul", [y, build.const(float(node.attrs.get("gamma", 1.0507010)))], shape)
    return True


def _celu(build: Build, node: Node) -> bool:
    x, shape, alpha = node.inputs[0], build.g.shape(node.inputs[0]), float(node.attrs.get("alpha", 1.0))
    y = build("Elu", [build("Mul", [x, build.const(1.0 / alpha)], shape)], shape, alpha=1.0)
    build("Mul", [y, build.const(alpha)], shape)
    return True


def _swish(build: Build, node: Node) -> bool:
    x, shape, alpha = node.inputs[0], build.g.shape(node.inputs[0]), float(node.attrs.get("alpha", 1.0))
    if alpha == 1.0:
        return False
    gate = build("Sigmoid", [build("Mul", [x, build.const(alpha)], shape)], shape)
    build("Mul", [x, gate], shape)
    return True


_FUNCTIONS = {"Mish": _mish, "Softsign": _softsign, "Selu": _selu, "Celu": _celu, "Swish": _swish}
