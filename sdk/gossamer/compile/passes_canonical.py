"""Rewrites ONNX's many spellings into few canonical nodes.

Canonical nodes of domain ``gossamer``: ``Reshape`` (shape from the output's type), ``Slice`` (start, step per axis),
``Pad`` (mode, before, after, value), ``Linear`` (x, weight, bias; attribute transB). The rest are plain ONNX nodes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.compile.graph import Array, Graph, Node, Type
from gossamer.compile.report import LowerReport
from gossamer.compile.unary import real, scalar_of

OWN = "gossamer"


class Build:
    """Makes the nodes that replace one node; they inherit its name and source."""

    def __init__(self, g: Graph, like: Node) -> None:
        self.g, self.like, self.nodes = g, like, list[Node]()

    def __call__(
        self,
        op: str,
        inputs: list[str],
        shape: tuple[int, ...],
        *,
        dtype: npt.DTypeLike | None = None,
        domain: str = "",
        out: str = "",
        **attrs: Any,
    ) -> str:
        kind = np.dtype(dtype) if dtype is not None else self.g.dtype(inputs[0])
        name = out or self.g.add_value(self.like.outputs[0], kind, shape)
        self.g.types[name] = Type(kind, tuple(shape))
        self.nodes.append(Node(op, inputs, [name], attrs, self.like.name, self.like.source, domain))
        return name

    def reshape(self, x: str, shape: tuple[int, ...], out: str = "") -> str:
        return self("Reshape", [x], shape, domain=OWN, out=out)

    def const(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        return self.g.add_const(self.like.name or self.like.op_type, value, dtype)

    def done(self) -> bool:
        self.g.insert(self.like, self.nodes)
        self.g.remove([self.like])
        return True


def canonicalise(g: Graph) -> int:
    changed = 0
    for node in list(g.nodes):
        if node.domain == "com.microsoft" and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = ""
        rule = _RULES.get(node.op_type) if not node.domain else None
        if rule is not None and node.outputs[0] and rule(g, node):
            changed += 1
    if changed:
        g.remove_dead()
        g.sort()
    return changed


def ints(g: Graph, node: Node, index: int, attr: str) -> list[int] | None:
    """Integers given as attribute (older opsets) or constant input; ``None`` when absent or not constant."""
    name = node.input(index)
    if name:
        value = g.const(name)
        return None if value is None else [int(v) for v in value.reshape(-1)]
    value = node.attrs.get(attr)
    return None if value is None else [int(v) for v in value]


def _reshape(g: Graph, node: Node) -> bool:
    build = Build(g, node)
    build.reshape(node.inputs[0], g.shape(node.outputs[0]), out=node.outputs[0])
    return build.done()


def make_slice(build: Build, x: str, start: list[int], step: list[int], shape: tuple[int, ...], out: str = "") -> str:
    return build("Slice", [x], shape, domain=OWN, out=out, start=start, step=step)


def _slice(g: Graph, node: Node) -> bool:
    x = node.inputs[0]
    shape = g.shape(x)
    starts, ends = ints(g, node, 1, "starts"), ints(g, node, 2, "ends")
    if starts is None or ends is None or (node.input(3) and g.const(node.input(3)) is None):
        return False
    axes = ints(g, node, 3, "axes") or list(range(len(starts)))
    steps = ints(g, node, 4, "steps")
    if steps is None:
        if node.input(4):
            return False
        steps = [1] * len(starts)
    start, step = [0] * len(shape), [1] * len(shape)
    for s, e, a, p in zip(starts, ends, axes, steps, strict=True):
        start[a], _, step[a] = slice(s, e if not (p < 0 and e < -shape[a]) else None, p).indices(shape[a])
    if 0 in g.shape(node.outputs[0]):
        return False
    build = Build(g, node)
    make_slice(build, x, start, step, g.shape(node.outputs[0]), node.outputs[0])
    return build.done()


def _split(g: Graph, node: Node) -> bool:
    x = node.inputs[0]
    rank = len(g.shape(x))
    axis = int(node.attrs.get("axis", 0)) % rank
    build, at = Build(g, node), 0
    for out in node.outputs:
        if out:
            start = [at if i == axis else 0 for i in range(rank)]
            make_slice(build, x, start, [1] * rank, g.shape(out), out)
        at += g.shape(out)[axis] if out else 0
    if any(not o for o in node.outputs):
        return False
    return build.done()


def _gather(g: Graph, node: Node) -> bool:
    x, index = node.inputs[0], g.const(node.inputs[1])
    shape = g.shape(x)
    if index is None or x in g.consts or not shape:
        return False
    axis = int(node.attrs.get("axis", 0)) % len(shape)
    flat = [int(i) % shape[axis] for i in index.reshape(-1)]
    runs = _runs(flat)
    if not flat or len(runs) > 64:
        return False
    build = Build(g, node)
    parts = []
    for first, step, count in runs:
        start = [first if i == axis else 0 for i in range(len(shape))]
        steps = [step if i == axis else 1 for i in range(len(shape))]
        cut = (*shape[:axis], count, *shape[axis + 1 :])
        parts.append(make_slice(build, x, start, steps, cut))
    if len(parts) > 1:
        joined = (*shape[:axis], len(flat), *shape[axis + 1 :])
        parts = [build("Concat", parts, joined, axis=axis)]
    build.reshape(parts[0], g.shape(node.outputs[0]), out=node.outputs[0])
    return build.done()


def _runs(index: list[int]) -> list[tuple[int, int, int]]:
    """Cuts a list of indices into arithmetic runs (first, step, count)."""
    runs: list[tuple[int, int, int]] = []
    at = 0
    while at < len(index):
        step, count = 1, 1
        if at + 1 < len(index) and index[at + 1] != index[at]:
            step = index[at + 1] - index[at]
            while at + count < len(index) and index[at + count] == index[at] + step * count:
                count += 1
        runs.append((index[at], step, count))
        at += count
    return runs


def _pad(g: Graph, node: Node) -> bool:
    x = node.inputs[0]
    shape = g.shape(x)
    pads = ints(g, node, 1, "pads")
    mode = node.attrs.get("mode", "constant")
    if pads is None or mode not in ("constant", "edge", "reflect"):
        return False
    value: float | None = float(node.attrs.get("value", 0.0))
    if node.input(2):
        value = scalar_of(g, node.input(2))
    if value is None:
        return False
    axes = ints(g, node, 3, "axes") if node.input(3) else list(range(len(shape)))
    if axes is None:
        return False
    before, after = [0] * len(shape), [0] * len(shape)
    for k, a in enumerate(axes):
        before[a], after[a] = pads[k], pads[k + len(axes)]
    build = Build(g, node)
    if any(v < 0 for v in before + after):
        start = [max(0, -b) for b in before]
        cut = tuple(d - s - max(0, -a) for d, s, a in zip(shape, start, after, strict=True))
        x = make_slice(build, x, start, [1] * len(shape), cut)
        before, after = [max(0, v) for v in before], [max(0, v) for v in after]
    build("Pad", [x], g.shape(node.outputs[0]), domain=OWN, out=node.outputs[0],
          mode=mode, before=before, after=after, value=value)  # fmt: skip
    return build.done()


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


def _fold_nary(op: str) -> Any:
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


def _rank3_window(g: Graph, node: Node) -> bool:
    """Conv and pooling over one spatial axis become the two-axis ones with height 1."""
    x = node.inputs[0]
    if len(g.shape(x)) != 3 or (len(node.outputs) > 1 and node.outputs[1]):
        return False
    build = Build(g, node)
    inputs = [node.inputs[0], *node.inputs[1:]]
    n, c, length = g.shape(x)
    inputs[0] = build.reshape(x, (n, c, 1, length))
    if node.op_type == "Conv":
        weight = _unsqueeze_weight(g, build, node.inputs[1])
        if weight is None:
            return False
        inputs[1] = weight
    attrs = dict(node.attrs)
    for key in ("kernel_shape", "strides", "dilations"):
        if key in attrs:
            attrs[key] = [1, *attrs[key]]
    if "pads" in attrs:
        attrs["pads"] = [0, attrs["pads"][0], 0, attrs["pads"][1]]
    on, oc, ol = g.shape(node.outputs[0])
    y = build(node.op_type, inputs, (on, oc, 1, ol), **attrs)
    build.reshape(y, (on, oc, ol), out=node.outputs[0])
    return build.done()


def _unsqueeze_weight(g: Graph, build: Build, name: str) -> str | None:
    maker = g.producer(name)
    const = name if maker is None else maker.inputs[0]
    w = g.const(const)
    if w is None or (maker is not None and (maker.op_type != "DequantizeLinear" or int(maker.attrs.get("axis", 0)) != 0)
                     and g.const(maker.inputs[1]).size != 1):  # type: ignore[union-attr]  # fmt: skip
        return None
    new = g.add_const(const, w[:, :, None, :], w.dtype)
    if maker is None:
        return new
    return build("DequantizeLinear", [new, *maker.inputs[1:]], g.shape(new), dtype=np.float32, **maker.attrs)


def _gemm(g: Graph, node: Node) -> bool:
    a, b = node.inputs[0], node.inputs[1]
    alpha, beta = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0))
    if int(node.attrs.get("transA", 0)) or a in g.consts:
        return _gemm_general(g, node, alpha, beta)
    w = real(g, b)
    if w is None or (alpha != 1.0 and g.const(b) is None):
        return _gemm_general(g, node, alpha, beta)
    build = Build(g, node)
    trans = int(node.attrs.get("transB", 0))
    if alpha != 1.0:
        b = g.add_const(b, w * alpha, np.float32)
    n = g.shape(node.outputs[0])[-1]
    inputs, bias = [a, b], node.input(2)
    late = ""
    if bias and beta != 0.0:
        value = real(g, bias)
        if value is None or value.size not in (1, n) or (value.ndim == 2 and value.shape[0] != 1):
            late = bias
        elif beta != 1.0:
            inputs.append(build.const(np.broadcast_to(value.reshape(-1) * beta, (n,))))
        else:
            inputs.append(bias)
    if late and beta != 1.0:
        return False
    shape = g.shape(node.outputs[0])
    y = build("Linear", inputs, shape, domain=OWN, out="" if late else node.outputs[0], transB=trans)
    if late:
        build("Add", [y, late], shape, out=node.outputs[0])
    return build.done()


def _gemm_general(g: Graph, node: Node, alpha: float, beta: float) -> bool:
    """Gemm of two activations: Transpose, MatMul, scalings and Add."""
    build = Build(g, node)
    sides = []
    for name, key in ((node.inputs[0], "transA"), (node.inputs[1], "transB")):
        if int(node.attrs.get(key, 0)):
            name = build("Transpose", [name], g.shape(name)[::-1], perm=[1, 0])
        sides.append(name)
    shape = g.shape(node.outputs[0])
    y = build("MatMul", sides, shape)
    if alpha != 1.0:
        y = build("Mul", [y, build.const(alpha)], shape)
    if node.input(2) and beta != 0.0:
        c = node.inputs[2]
        if beta != 1.0:
            c = build("Mul", [c, build.const(beta)], g.shape(c))
        y = build("Add", [y, c], shape)
    build.nodes[-1].outputs = [node.outputs[0]]
    return build.done()


def _matmul(g: Graph, node: Node) -> bool:
    a, b = node.inputs
    if real(g, b) is None or len(g.shape(b)) != 2 or len(g.shape(a)) < 2 or a in g.consts:
        return False
    build = Build(g, node)
    build("Linear", [a, b], g.shape(node.outputs[0]), domain=OWN, out=node.outputs[0], transB=0)
    return build.done()


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


_RULES = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), _rank3_window),
    **dict.fromkeys(("SpaceToDepth", "DepthToSpace"), _space),
    **dict.fromkeys(("Tile", "Expand"), _repeat),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceSumSquare"), _reduce_norm),
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": _pad,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LpNormalization": _lp_norm,
    "Sum": _fold_nary("Add"),
    "Mean": _fold_nary("Add"),
    "Max": _fold_nary("Max"),
    "Min": _fold_nary("Min"),
    "Gemm": _gemm,
    "MatMul": _matmul,
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


def merge_pads(g: Graph, report: LowerReport) -> int:
    """Zero padding of the spatial axes before Conv becomes the convolution's own, also through DequantizeLinear."""
    changed = 0
    for conv in list(g.nodes):
        if conv.domain or conv.op_type != "Conv" or conv.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", b"NOTSET"):
            continue
        dq = g.producer(conv.inputs[0])
        pad = dq
        if dq is not None and dq.op_type == "DequantizeLinear":
            pad = g.producer(dq.inputs[0])
        else:
            dq = None
        if pad is None or pad.op_type != "Pad" or pad.domain != OWN or pad.attrs["mode"] != "constant":
            continue
        before, after = pad.attrs["before"], pad.attrs["after"]
        zero = 0.0
        if dq is not None:
            params = g.qparams.get(pad.outputs[0])
            if params is None:
                continue
            zero = float(params.zero_point)
        if len(before) != 4 or before[0] or before[1] or after[0] or after[1] or pad.attrs["value"] != zero:
            continue
        pads = [int(v) for v in conv.attrs.get("pads", [0, 0, 0, 0])]
        conv.attrs["pads"] = [pads[0] + before[2], pads[1] + before[3], pads[2] + after[2], pads[3] + after[3]]
        source = pad.inputs[0]
        if dq is not None:
            build = Build(g, dq)
            source = build("DequantizeLinear", [source, *dq.inputs[1:]], g.shape(source), dtype=np.float32)
            g.insert(dq, build.nodes)
        conv.inputs[0] = source
        g.touch()
        report.fuse("Pad into Conv", conv.name, pad.name)
        changed += 1
    if changed:
        g.remove_dead()
        g.sort()
    return changed
