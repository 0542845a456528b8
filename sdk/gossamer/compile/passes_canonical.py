"""Rewrites ONNX's many spellings into few canonical nodes.

Canonical nodes of domain ``gossamer``: ``Reshape`` (shape from the output's type), ``Slice`` (start, step per axis),
``Pad`` (mode, before, after, value), ``Linear`` (x, weight, bias; attribute transB). The rest are plain ONNX nodes.
"""

from __future__ import annotations

import numpy as np

from gossamer.compile import passes_decompose
from gossamer.compile.graph import Graph, Node
from gossamer.compile.rewrite import OWN, Build, Rule, ints
from gossamer.compile.unary import real, scalar_of


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
    const = name
    if maker is not None:
        scale = g.const(maker.inputs[1]) if maker.op_type == "DequantizeLinear" and not maker.domain else None
        if scale is None or (scale.size != 1 and int(maker.attrs.get("axis", 0)) != 0):
            return None
        const = maker.inputs[0]
    w = g.const(const)
    if w is None:
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


_RULES: dict[str, Rule] = {
    **passes_decompose.RULES,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), _rank3_window),
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": _pad,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
