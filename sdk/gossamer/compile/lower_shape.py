"""Data movement: Reshape, Transpose, Slice, Concat, Pad, Identity and Resize."""

from __future__ import annotations

import numpy as np

from gossamer.compile.graph import Array, Node
from gossamer.compile.layout import NCHW_TO_NHWC, NHWC_TO_NCHW, Form, UnsupportedNodeError
from gossamer.compile.plan import DType, F, OpKind, PadMode
from gossamer.compile.quantized import in_quantized_region, integer_input, match
from gossamer.compile.rules import Context, require

_PAD_MODES = {"constant": PadMode.CONSTANT, "edge": PadMode.EDGE, "reflect": PadMode.REFLECT}


def _kept_form(c: Context, name: str) -> Form:
    return c.v.form(name) if len(c.g.shape(name)) == 4 else Form.ROW


def reshape(c: Context, node: Node) -> None:
    x, out = node.inputs[0], node.outputs[0]
    y = c.v.new(out)
    c.v.emit(OpKind.RESHAPE, [c.v.row(x)], [y])
    c.v.hold(out, y)


def transpose(c: Context, node: Node) -> None:
    x, out = node.inputs[0], node.outputs[0]
    rank = len(c.g.shape(x))
    perm = [int(p) for p in node.attrs.get("perm") or range(rank - 1, -1, -1)]
    kind = c.g.dtype(x)
    blockable = kind in (np.dtype(np.float32), np.dtype(np.int8), np.dtype(np.uint8))
    if perm == NHWC_TO_NCHW and blockable and not c.v.has(x, Form.CB):
        c.v.row(x)
        c.v.hold_nhwc(out, x)  # one conversion, to whichever layout the readers ask for
        return
    y = c.v.new(out)
    blocked = c.v.nhwc(x)
    if perm == NCHW_TO_NHWC and blocked is not None:
        c.v.emit(OpKind.LAYOUT, [blocked], [y], p={0: 1})
    else:
        c.v.emit(OpKind.TRANSPOSE, [c.v.row(x)], [y], p=dict(enumerate(perm)))
    c.v.hold(out, y)


def slice_(c: Context, node: Node) -> None:
    x, out = node.inputs[0], node.outputs[0]
    form = _kept_form(c, x)
    y = c.v.new(out, form)
    p = {i: int(s) for i, s in enumerate(node.attrs["start"])}
    p |= {6 + i: int(s) for i, s in enumerate(node.attrs["step"])}
    p |= {6 + i: 1 for i in range(len(node.attrs["step"]), 6)}
    c.v.emit(OpKind.SLICE, [c.v.get(x, form)], [y], p=p)
    c.v.hold(out, y)


def concat(c: Context, node: Node) -> None:
    out = node.outputs[0]
    require(len(node.inputs) <= 255, f"{len(node.inputs)} inputs (at most 255)")
    if c.g.dtype(out) == np.float32 and in_quantized_region(c.g, node):
        c.fallback(node, "its result is not quantised right after it, and its inputs differ in scale")
    rank = len(c.g.shape(out))
    blocked = rank == 4 and 2 * sum(i not in c.g.consts and c.v.blocked(i) for i in node.inputs) >= len(node.inputs)
    form = Form.CB if blocked else Form.ROW
    y = c.v.new(out, form)
    inputs = [c.v.get(i, form) for i in node.inputs]
    if y.dtype is DType.S8 and y.scale:
        require(
            all((t.scale, t.zero_point) == (y.scale, y.zero_point) for t in inputs),
            "8-bit inputs that differ in scale or zero point",
        )
    c.v.emit(OpKind.CONCAT, list(inputs), [y], p={0: int(node.attrs["axis"]) % rank})
    c.v.hold(out, y)


def pad(c: Context, node: Node) -> None:
    x, out = node.inputs[0], node.outputs[0]
    mode = _PAD_MODES[node.attrs["mode"]]
    widest = [max(b, a) for b, a in zip(node.attrs["before"], node.attrs["after"], strict=True)]
    fits = all(w < d for w, d in zip(widest, c.g.shape(x), strict=True))
    require(fits or mode is not PadMode.REFLECT, f"reflected padding as wide as the axis, of {list(c.g.shape(x))}")
    form = _kept_form(c, x)
    source, y = c.v.get(x, form), c.v.new(out, form)
    p = {0: int(mode)}
    p |= {1 + i: int(b) for i, b in enumerate(node.attrs["before"])}
    p |= {7 + i: int(a) for i, a in enumerate(node.attrs["after"])}
    f: dict[int, float] = {}
    if mode is PadMode.CONSTANT:
        if y.dtype is DType.F32:
            if in_quantized_region(c.g, node):
                c.fallback(node, "its padding value is not on the integer grid")
            f[0] = float(node.attrs["value"])
        else:
            require(y.dtype is DType.S8, f"element type {y.dtype.name}")
            p[13] = int(node.attrs["value"]) - (128 if c.g.dtype(x) == np.uint8 else 0)
    c.v.emit(OpKind.PAD, [source], [y], p=p, f=f)
    c.v.hold(out, y)


def identity(c: Context, node: Node) -> None:
    """A copy, where a graph output is another value unchanged."""
    x, out = node.inputs[0], node.outputs[0]
    source = c.v.get(x, Form.RAW)
    y = c.v.new(out, Form.RAW)
    c.v.emit(OpKind.RESHAPE, [source], [y])
    c.v.hold(out, y)


# --- Resize


def _positions(mode: str, count: int, size: int, scale: float) -> Array:
    """Input coordinate of each output element, as ONNX defines it per coordinate_transformation_mode."""
    x = np.arange(count, dtype=np.float64)
    if mode == "half_pixel":
        return (x + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        adjusted = count / (scale * size)
        return size / 2 * (1 - adjusted) + (x + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return (x + 0.5) / scale - 0.5 if count > 1 else np.zeros(1)
    if mode == "align_corners":
        return x * (size - 1) / (count - 1) if count > 1 else np.zeros(1)
    if mode == "asymmetric":
        return x / scale
    raise UnsupportedNodeError(f"coordinate_transformation_mode {mode}")


def _nearest(x: Array, mode: str) -> Array:
    if mode == "round_prefer_floor":
        return np.ceil(x - 0.5)
    if mode == "round_prefer_ceil":
        return np.floor(x + 0.5)
    if mode == "floor":
        return np.floor(x)
    if mode == "ceil":
        return np.ceil(x)
    raise UnsupportedNodeError(f"nearest_mode {mode}")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def resize(c: Context, node: Node) -> None:
    x, out = node.inputs[0], node.outputs[0]
    shape, target = c.g.shape(x), c.g.shape(out)
    require(len(shape) == 4 and shape[:2] == target[:2], "resizing other than the last two axes of [N, C, H, W]")
    mode = _text(node.attrs.get("mode", "nearest"))
    require(mode in ("nearest", "linear"), f"mode {mode}")
    require(not int(node.attrs.get("antialias", 0)), "antialias")
    policy = _text(node.attrs.get("keep_aspect_ratio_policy", "stretch"))
    transform = _text(node.attrs.get("coordinate_transformation_mode", "half_pixel"))
    scales = c.g.const(node.input(2)) if node.input(2) else None
    pick = _text(node.attrs.get("nearest_mode", "round_prefer_floor"))
    axes = [int(a) % 4 for a in node.attrs.get("axes", range(4))]
    linear = mode == "linear"
    integer = c.g.dtype(out) != np.float32
    found = None
    if linear and not integer:
        q = integer_input(c.g, x)
        found = match(c.v, node) if q is not None else None
        if q is not None and not isinstance(found, str) and found is not None and len(found.covered) == 1:
            x, out, integer = q, found.out, True
        elif in_quantized_region(c.g, node):
            c.fallback(node, found if isinstance(found, str) else "an activation follows before it is quantised")
    source = c.v.cb(x)
    tables = []
    for axis in (2, 3):
        scale = target[axis] / shape[axis]
        if scales is not None and scales.size and policy == "stretch" and axis in axes:
            scale = float(scales.reshape(-1)[axes.index(axis)])
        at = _positions(transform, target[axis], shape[axis], scale)
        tables += list(_taps(at, shape[axis], linear, pick, integer))
    y = c.v.new(out, Form.CB)
    if integer and not linear:
        require((source.scale, source.zero_point) == (y.scale, y.zero_point), "a change of scale")
    ra = float(np.float32(source.scale / (y.scale * 1024 * 1024))) if integer and linear else 0.0
    kinds = [DType.S32, DType.S16 if integer else DType.F32] * 2
    tensors = [c.v.const(f"{node.name}.taps", t, k) for t, k in zip(tables, kinds, strict=True)]
    c.v.emit(OpKind.RESIZE, [source, *tensors], [y], p={0: int(linear)}, f={F.RA: ra})
    c.v.hold(out, y)
    if found is not None and not isinstance(found, str) and out == found.out:
        c.cover(node, found.covered)


def _taps(at: Array, size: int, linear: bool, pick: str, integer: bool) -> tuple[Array, Array]:
    """Index pairs (int32) and weight pairs (float32, or int16 in 1/1024) of one axis, flattened."""
    if linear:
        at = np.clip(at, 0, size - 1)
        low = np.floor(at)
        part = at - low
        high = np.minimum(low + 1, size - 1)
    else:
        low = high = np.clip(_nearest(at, pick), 0, size - 1)
        part = np.zeros_like(at)
    index = np.stack([low, high], axis=1).astype(np.int32).reshape(-1)
    if integer:
        second = np.rint(part * 1024).astype(np.int16)
        weights: Array = np.stack([1024 - second, second], axis=1).astype(np.int16)
    else:
        weights = np.stack([1 - part, part], axis=1).astype(np.float32)
    return index, weights.reshape(-1)


RULES = {
    ("gossamer", "Reshape"): reshape,
    ("gossamer", "Slice"): slice_,
    ("gossamer", "Pad"): pad,
    ("", "Transpose"): transpose,
    ("", "Concat"): concat,
    ("", "Identity"): identity,
    ("", "Resize"): resize,
}
