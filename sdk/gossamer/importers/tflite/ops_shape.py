"""Reshape, transpose, concatenation, splitting, slicing, matrix products: operators that move elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from gossamer.importers.tflite.activations import fused
from gossamer.importers.tflite.builder import TO_NCHW, TO_NHWC, Builder, Form, moves_nothing
from gossamer.importers.tflite.forms import axis_in, choose
from gossamer.importers.tflite.reader import Tensor

SPATIAL = {
    "AVERAGE_POOL_2D",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "DEPTH_TO_SPACE",
    "MAX_POOL_2D",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "SPACE_TO_DEPTH",
}


def _int64(b: Builder, values: Sequence[int], name: str) -> ir.Value:
    return b.const(np.array(list(values), np.int64), name)


def reshape(b: Builder) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the output's declared shape says it all."""
    source, out = b.need(0), b.output()
    if math.prod(source.shape) != math.prod(out.shape):
        raise b.broken(f"a reshape from {list(source.shape)} to {list(out.shape)}")
    x = b.real(source, b.flat_form(source))
    shape, form = out.shape, _direct(b, out)
    if form == "nchw":
        shape = tuple(shape[i] for i in TO_NCHW)
    b.put(out, b.one("Reshape", [x, _int64(b, shape, f"{out.name}/shape")], out.name), form)


def _direct(b: Builder, out: Tensor) -> Form:
    """NCHW when the elements are in the same order there and the readers want it."""
    if len(out.shape) != 4 or not moves_nothing(out.shape) or out.index in b.graph.outputs:
        return "plain"
    readers = b.graph.consumers.get(out.index, [])
    return "nchw" if readers and all(op.kind in SPATIAL for op in readers) else "plain"


def transpose(b: Builder) -> None:
    source, out = b.need(0), b.output()
    rank = len(source.shape)
    perm = [int(p) for p in b.ints(1).reshape(-1)]
    if sorted(perm) != list(range(rank)):
        raise b.broken(f"permutation {perm} of a tensor of rank {rank}")
    form: Form = "nchw" if rank == 4 and not b.has(source, "plain") else "plain"
    if form == "nchw":  # plain = nchw permuted by TO_NHWC; permute that
        perm = [TO_NHWC[p] for p in perm]
    value = b.real(source, form)
    if perm != list(range(rank)):
        value = b.one("Transpose", [value], out.name, perm=perm)
    b.put(out, value)


def concatenation(b: Builder) -> None:
    out = b.output()
    tensors = [b.need(i) for i in range(len(b.op.inputs))]
    form = choose(b, tensors, out)
    axis = axis_in(b, int(b.op.option("axis")), len(out.shape), form)
    value = b.one("Concat", [b.real(t, form) for t in tensors], out.name, axis=axis)
    b.put(out, fused(b, value, out.name), form)


def pack(b: Builder) -> None:
    out = b.output()
    tensors = [b.need(i) for i in range(len(b.op.inputs))]
    axis = axis_in(b, int(b.op.option("axis")), len(out.shape), "plain")
    axes = _int64(b, [axis], f"{out.name}/axes")
    parts = [b.one("Unsqueeze", [b.real(t), axes], f"{out.name}/{i}") for i, t in enumerate(tensors)]
    b.put(out, b.one("Concat", parts, out.name, axis=axis))


def _split(b: Builder, source: Tensor, axis: int, sizes: Sequence[int]) -> None:
    outs = [b.output(i) for i in range(len(b.op.outputs))]
    if len(sizes) != len(outs):
        raise b.broken(f"a split into {len(sizes)} pieces with {len(outs)} outputs")
    form = choose(b, [source], outs[0])
    axis = axis_in(b, axis, len(source.shape), form)
    inputs = [b.real(source, form), _int64(b, sizes, f"{outs[0].name}/split")]
    names = [f"{t.name}/Split" for t in outs]
    for out, value in zip(outs, b.emit("Split", inputs, {"axis": axis}, name=outs[0].name, outputs=names), strict=True):
        b.put(out, value, form)


def split(b: Builder) -> None:
    source = b.need(1)
    axis, pieces = int(b.ints(0).reshape(-1)[0]), len(b.op.outputs)
    length = source.shape[axis_in(b, axis, len(source.shape), "plain")]
    if pieces < 1 or length % pieces:
        raise b.broken(f"a split of {length} entries into {pieces} equal pieces")
    _split(b, source, axis, [length // pieces] * pieces)


def split_v(b: Builder) -> None:
    source = b.need(0)
    sizes = [int(s) for s in b.ints(1).reshape(-1)]
    axis = int(b.ints(2).reshape(-1)[0])
    length = source.shape[axis_in(b, axis, len(source.shape), "plain")]
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = length - sum(s for s in sizes if s >= 0)
    if sum(sizes) != length or min(sizes, default=0) < 0:
        raise b.broken(f"a split of {length} entries into {sizes}")
    _split(b, source, axis, sizes)


def unpack(b: Builder) -> None:
    source = b.need(0)
    outs = [b.output(i) for i in range(len(b.op.outputs))]
    axis = axis_in(b, int(b.op.option("axis")), len(source.shape), "plain")
    if source.shape[axis] != len(outs):
        raise b.broken(f"{source.shape[axis]} entries unpacked into {len(outs)} outputs")
    x, axes = b.real(source), _int64(b, [axis], f"{outs[0].name}/axes")
    sizes = _int64(b, [1] * len(outs), f"{outs[0].name}/split")
    names = [f"{t.name}/Split" for t in outs]
    pieces = b.emit("Split", [x, sizes], {"axis": axis}, name=outs[0].name, outputs=names)
    for out, piece in zip(outs, pieces, strict=True):
        b.put(out, b.one("Squeeze", [piece, axes], out.name))


def _cut(b: Builder, source: Tensor, out: Tensor, cuts: list[slice], kept: tuple[int, ...]) -> None:
    """Slice; ``kept`` is the shape before axes of length one are dropped."""
    rank = len(source.shape)
    form = choose(b, [source], out) if kept == out.shape else "plain"
    order = TO_NCHW if form == "nchw" else tuple(range(rank))
    starts, ends, steps = ([int(getattr(cuts[i], part)) for i in order] for part in ("start", "stop", "step"))
    inputs = [
        b.real(source, form),
        _int64(b, starts, f"{out.name}/starts"),
        _int64(b, ends, f"{out.name}/ends"),
        _int64(b, range(rank), f"{out.name}/axes"),
        _int64(b, steps, f"{out.name}/steps"),
    ]
    value = b.one("Slice", inputs, out.name)
    if kept != out.shape:
        value = b.one("Reshape", [value, _int64(b, out.shape, f"{out.name}/shape")], out.name)
    b.put(out, value, form)


def slice_(b: Builder) -> None:
    source, out = b.need(0), b.output()
    begin, size = b.ints(1).reshape(-1), b.ints(2).reshape(-1)
    if begin.size != len(source.shape) or size.size != len(source.shape):
        raise b.broken(f"slice of {begin.size} dimensions on shape {list(source.shape)}")
    ends = [d if s == -1 else int(a + s) for d, a, s in zip(source.shape, begin, size, strict=True)]
    if any(not 0 <= a < e <= d for a, e, d in zip(begin, ends, source.shape, strict=True)):
        raise b.broken(f"slice {begin.tolist()} .. {ends} of shape {list(source.shape)}")
    cuts = [slice(int(a), e, 1) for a, e in zip(begin, ends, strict=True)]
    _cut(b, source, out, cuts, tuple(c.stop - c.start for c in cuts))


def strided_slice(b: Builder) -> None:
    source, out = b.need(0), b.output()
    if b.op.option("ellipsis_mask") or b.op.option("new_axis_mask"):
        raise b.unsupported("STRIDED_SLICE with an ellipsis or a new axis")
    begin, end, step = (b.ints(i).reshape(-1).tolist() for i in (1, 2, 3))
    rank = len(source.shape)
    if not len(begin) == len(end) == len(step) <= rank or 0 in step:
        raise b.broken(f"strided slice {begin}, {end}, {step} of shape {list(source.shape)}")
    masks = {m: int(b.op.option(m)) for m in ("begin_mask", "end_mask", "shrink_axis_mask")}
    cuts: list[slice] = []
    for i, d in enumerate(source.shape):
        if i >= len(begin):
            cuts.append(slice(0, d, 1))
            continue
        shrink = bool(masks["shrink_axis_mask"] >> i & 1)
        first = None if masks["begin_mask"] >> i & 1 else begin[i]
        last = None if masks["end_mask"] >> i & 1 else end[i]
        if shrink:
            start = begin[i] + d if begin[i] < 0 else begin[i]
            if not 0 <= start < d:
                raise b.broken(f"index {begin[i]} of a dimension of {d}")
            cuts.append(slice(start, start + 1, 1))
            continue
        start, stop, stride = slice(first, last, step[i]).indices(d)
        if not len(range(start, stop, stride)):
            raise b.broken(f"an empty strided slice of dimension {i}")
        # ONNX counts a negative end from the back: "before the first element" is -(d + 1) there.
        cuts.append(slice(start, stop if stop >= 0 else -(d + 1), stride))
    kept = tuple(
        len(range(c.start, c.stop if c.stop > -(d + 1) else -1, c.step))
        for c, d in zip(cuts, source.shape, strict=True)
    )
    if math.prod(kept) != math.prod(out.shape):
        raise b.broken(f"a strided slice of shape {list(kept)} declared as {list(out.shape)}")
    _cut(b, source, out, cuts, kept)


def gather(b: Builder) -> None:
    if b.op.option("batch_dims"):
        raise b.unsupported("GATHER with batch dimensions")
    source, indices, out = b.need(0), b.need(1), b.output()
    axis = axis_in(b, int(b.op.option("axis")), len(source.shape), "plain")
    b.put(out, b.one("Gather", [b.real(source), b.stored(indices)], out.name, axis=axis))


def tile(b: Builder) -> None:
    source, out = b.need(0), b.output()
    repeats = b.ints(1).reshape(-1)
    b.put(out, b.one("Tile", [b.real(source), _int64(b, repeats.tolist(), f"{out.name}/repeats")], out.name))


def broadcast_to(b: Builder) -> None:
    source, out = b.need(0), b.output()
    b.put(out, b.one("Expand", [b.real(source), _int64(b, out.shape, f"{out.name}/shape")], out.name))


def batch_matmul(b: Builder) -> None:
    left, right, out = b.need(0), b.need(1), b.output()
    values = []
    for tensor, flag in ((left, "adj_x"), (right, "adj_y")):
        value, rank = b.real(tensor), len(tensor.shape)
        if rank < 2:
            raise b.broken(f"a matrix product with '{tensor.name}' of shape {list(tensor.shape)}")
        if b.op.option(flag):
            perm = [*range(rank - 2), rank - 1, rank - 2]
            value = b.one("Transpose", [value], f"{out.name}/{flag}", perm=perm)
        values.append(value)
    b.put(out, b.one("MatMul", values, out.name))


CONVERTERS: dict[str, Callable[[Builder], None]] = {
    "BATCH_MATMUL": batch_matmul,
    "BROADCAST_TO": broadcast_to,
    "CONCATENATION": concatenation,
    "EXPAND_DIMS": reshape,
    "GATHER": gather,
    "PACK": pack,
    "RESHAPE": reshape,
    "SLICE": slice_,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "SQUEEZE": reshape,
    "STRIDED_SLICE": strided_slice,
    "TILE": tile,
    "TRANSPOSE": transpose,
    "UNPACK": unpack,
}
