"""Pooling, padding, resizing, space/depth: operators with spatial axes, converted in NCHW."""

from __future__ import annotations

import numpy as np

from gossamer.importers.tflite.activations import fused
from gossamer.importers.tflite.builder import TO_NCHW, Builder, Form
from gossamer.importers.tflite.forms import choose
from gossamer.importers.tflite.ops_conv import window
from gossamer.importers.tflite.reader import Tensor


def _spatial(b: Builder) -> tuple[Tensor, Tensor]:
    source = b.need(0)
    if len(source.shape) != 4 or min(source.shape) < 1:
        raise b.broken(f"expected a tensor of rank 4, got shape {list(source.shape)}")
    return source, b.output()


def _pool(b: Builder, op_type: str, rounding: str | None = None) -> None:
    source, out = _spatial(b)
    kernel = (int(b.op.option("filter_height", 1)), int(b.op.option("filter_width", 1)))
    attributes = window(b, source.shape[1], source.shape[2], kernel)
    del attributes["dilations"]
    attributes["kernel_shape"] = list(kernel)
    (value,) = b.emit(op_type, [b.real(source, "nchw")], attributes, name=out.name)
    if rounding is not None:
        # What a quantised average does with ties is not for ONNX to say: the compiler reads it here.
        b.nodes[-1].metadata_props["gossamer.rounding"] = rounding
    b.put(out, fused(b, value, out.name), "nchw")


def average_pool_2d(b: Builder) -> None:
    _pool(b, "AveragePool", rounding="integer")  # count_include_pad = 0: it divides by the pixels inside the image


def max_pool_2d(b: Builder) -> None:
    _pool(b, "MaxPool")


def paddings(b: Builder, rank: int, form: Form) -> list[int]:
    """ONNX pads (all begins, then all ends) from the constant [rank, 2] second input."""
    rows = b.ints(1)
    if rows.shape != (rank, 2) or (rows < 0).any() or (rows > 1 << 20).any():
        raise b.broken(f"paddings {rows.tolist()} for a tensor of rank {rank}")
    if form == "nchw":
        rows = rows[list(TO_NCHW)]
    return [int(v) for v in rows.T.reshape(-1)]


def _pad(b: Builder, mode: str) -> None:
    source, out = b.need(0), b.output()
    form = choose(b, [source], out)
    pads = b.const(np.array(paddings(b, len(source.shape), form), np.int64), f"{out.name}/pads")
    inputs = [b.real(source, form), pads]
    if b.op.kind == "PADV2":
        fill = b.need(2)
        if fill.index not in b.folded:
            raise b.unsupported(f"padding value '{fill.name}' is computed at run time")
        value = b.folded[fill.index].reshape(-1)[:1]
        if fill.quant is not None:
            real = (float(value[0]) - float(fill.quant.zero_point[0])) * float(fill.quant.scale[0])
            value = np.array([real], np.float32)
        inputs.append(b.const(value[0], f"{out.name}/value"))
    b.put(out, b.one("Pad", inputs, out.name, mode=mode), form)


def pad(b: Builder) -> None:
    _pad(b, "constant")


def mirror_pad(b: Builder) -> None:
    if b.op.option("mode") != 0:
        raise b.unsupported("MIRROR_PAD in mode SYMMETRIC")
    _pad(b, "reflect")


def _resize(b: Builder, linear: bool) -> None:
    source, out = _spatial(b)
    size = b.ints(1).reshape(-1)
    if size.size != 2 or (size < 1).any() or (size > 1 << 15).any():
        raise b.broken(f"a resize to {size.tolist()}")
    align, half = bool(b.op.option("align_corners")), bool(b.op.option("half_pixel_centers"))
    attributes: dict[str, object] = {
        "mode": "linear" if linear else "nearest",
        "coordinate_transformation_mode": "align_corners" if align else "half_pixel" if half else "asymmetric",
    }
    if not linear:
        # TFLite rounds halves up with aligned corners; its half-pixel nearest is floor((i + 0.5) * scale).
        attributes["nearest_mode"] = "round_prefer_ceil" if align or half else "floor"
    shape = np.array([source.shape[0], source.shape[3], *size], np.int64)
    inputs = [b.real(source, "nchw"), None, None, b.const(shape, f"{out.name}/sizes")]
    (value,) = b.emit("Resize", inputs, attributes, name=out.name)
    b.put(out, value, "nchw")


def resize_bilinear(b: Builder) -> None:
    _resize(b, linear=True)


def resize_nearest_neighbor(b: Builder) -> None:
    _resize(b, linear=False)


def _blocks(b: Builder, op_type: str) -> None:
    source, out = _spatial(b)
    block = int(b.op.option("block_size"))
    if not 1 <= block <= 1024:
        raise b.broken(f"block size {block}")
    (value,) = b.emit(op_type, [b.real(source, "nchw")], {"blocksize": block}, name=out.name)
    b.put(out, value, "nchw")


def depth_to_space(b: Builder) -> None:
    _blocks(b, "DepthToSpace")


def space_to_depth(b: Builder) -> None:
    _blocks(b, "SpaceToDepth")


CONVERTERS = {
    "AVERAGE_POOL_2D": average_pool_2d,
    "MAX_POOL_2D": max_pool_2d,
    "PAD": pad,
    "PADV2": pad,
    "MIRROR_PAD": mirror_pad,
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest_neighbor,
    "DEPTH_TO_SPACE": depth_to_space,
    "SPACE_TO_DEPTH": space_to_depth,
}
