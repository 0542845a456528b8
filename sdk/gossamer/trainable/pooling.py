"""Pooling, reductions and Resize."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gossamer.compile.graph import Node
from gossamer.trainable.step import Builder, CannotTrainError, merged, require, split, text
from gossamer.trainable.windows import Window, window_of


def _max_pool(x: Tensor, window: Window) -> Tensor:
    flat = merged(x)
    if any(window.before) or any(window.after):
        flat = functional.pad(flat, window.torch_pad(), value=-math.inf)
    run = functional.max_pool2d if len(window.kernel) == 2 else functional.max_pool1d
    return split(run(flat, window.kernel, window.stride, 0, window.dilation), x)


def max_pool(b: Builder, node: Node) -> None:
    require(len([o for o in node.outputs if o]) == 1, "its indices as a second output")
    require(b.rank(node.inputs[0]) in (3, 4), f"rank {b.rank(node.inputs[0])}")
    window = window_of(b.g, node, node.attrs["kernel_shape"])
    b.step(node, partial(_max_pool, window=window), node.inputs[:1])


def _average_pool(x: Tensor, shares: Tensor | None, window: Window) -> Tensor:
    flat = merged(x)
    if any(window.before) or any(window.after):
        flat = functional.pad(flat, window.torch_pad())
    if len(window.kernel) == 2:
        y = functional.avg_pool2d(flat, window.kernel, window.stride)
    else:
        y = functional.avg_pool1d(flat, window.kernel, window.stride)
    return split(y if shares is None else y * shares[0], x)


def average_pool(b: Builder, node: Node) -> None:
    """Averages; where padding does not count, they are rescaled by the share of taps that count."""
    require(b.rank(node.inputs[0]) in (3, 4), f"rank {b.rank(node.inputs[0])}")
    window = window_of(b.g, node, node.attrs["kernel_shape"])
    require(all(d == 1 for d in window.dilation), "dilation")
    shares = ""
    if any(window.before) or any(window.after):
        counted = bool(int(node.attrs.get("count_include_pad", 0)))
        total = np.ones((), np.float64)
        for i, size in enumerate(b.shape(node.inputs[0])[2:]):
            low, high = (-window.before[i], size + window.asked[i]) if counted else (0, size)
            starts = np.arange(b.shape(node.outputs[0])[2 + i]) * window.stride[i] - window.before[i]
            inside = np.minimum(starts + window.kernel[i], high) - np.maximum(starts, low)
            total = total[..., None] * (window.kernel[i] / inside)
        if not (total == 1).all():
            shares = f"{node.name}.shares"
            b.constants[shares] = torch.from_numpy(total.astype(np.float32))[None]
    b.step(node, partial(_average_pool, window=window), [node.inputs[0], shares])


def _reduce(x: Tensor, function: Callable[..., Tensor], axes: tuple[int, ...], keep: bool) -> Tensor:
    return function(x, dim=axes, keepdim=keep)


def _norm2(x: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.square().sum(dim, keepdim=keepdim).sqrt()


def _norm1(x: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.abs().sum(dim, keepdim=keepdim)


def _squares(x: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    return x.square().sum(dim, keepdim=keepdim)


_REDUCE: dict[str, Callable[..., Tensor]] = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceL1": _norm1,
    "ReduceL2": _norm2,
    "ReduceSumSquare": _squares,
}


def reduction(b: Builder, node: Node) -> None:
    rank = b.rank(node.inputs[0])
    axes = b.numbers(node, 1, "axes")
    if not axes:
        require(not int(node.attrs.get("noop_with_empty_axes", 0)), "noop_with_empty_axes")
        axes = list(range(rank))
    found = tuple(sorted(int(a) % rank + 1 for a in axes))
    keep = bool(int(node.attrs.get("keepdims", 1)))
    b.step(node, partial(_reduce, function=_REDUCE[node.op_type], axes=found, keep=keep), node.inputs[:1])


def whole_pool(b: Builder, node: Node) -> None:
    """GlobalAveragePool and GlobalMaxPool."""
    axes = tuple(range(3, b.rank(node.inputs[0]) + 1))
    function = torch.mean if node.op_type == "GlobalAveragePool" else torch.amax
    b.step(node, partial(_reduce, function=function, axes=axes, keep=True), node.inputs[:1])


def _resize(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return torch.matmul(torch.matmul(rows[0], x), columns[0].transpose(-1, -2))


def resize(b: Builder, node: Node) -> None:
    """Resize of the last two axes of ``[N, C, H, W]``, nearest or linear, as two constant matrix products."""
    from gossamer.compile.layout import UnsupportedNodeError
    from gossamer.compile.lower_shape import _positions, _taps

    shape, target = b.shape(node.inputs[0]), b.shape(node.outputs[0])
    require(len(shape) == 4 and shape[:2] == target[:2], "resizing other than the last two axes of [N, C, H, W]")
    mode = text(node.attrs.get("mode", "nearest"))
    require(mode in ("nearest", "linear"), f"mode {mode}")
    require(not int(node.attrs.get("antialias", 0)), "antialias")
    scales = b.array(node.input(2)) if node.input(2) else None
    stretch = text(node.attrs.get("keep_aspect_ratio_policy", "stretch")) == "stretch"
    transform = text(node.attrs.get("coordinate_transformation_mode", "half_pixel"))
    pick = text(node.attrs.get("nearest_mode", "round_prefer_floor"))
    axes = [int(a) % 4 for a in node.attrs.get("axes", range(4))]
    names = []
    for axis in (2, 3):
        scale = target[axis] / shape[axis]
        if scales is not None and scales.size and stretch and axis in axes:
            scale = float(scales.reshape(-1)[axes.index(axis)])
        try:
            at = _positions(transform, target[axis], shape[axis], scale)
            index, weights = _taps(at, shape[axis], mode == "linear", pick, False)
        except UnsupportedNodeError as reason:
            raise CannotTrainError(str(reason)) from reason
        matrix = np.zeros((target[axis], shape[axis]), np.float32)
        pairs = index.reshape(-1, 2)
        for k in (0, 1) if mode == "linear" else (0,):
            share = weights.reshape(-1, 2)[:, k] if mode == "linear" else 1.0
            np.add.at(matrix, (np.arange(target[axis]), pairs[:, k]), share)
        names.append(f"{node.name}.taps{axis}")
        b.constants[names[-1]] = torch.from_numpy(matrix)[None]
    b.step(node, _resize, [node.inputs[0], *names])


OPERATORS = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), whole_pool),
    **dict.fromkeys(_REDUCE, reduction),
    "Resize": resize,
}
