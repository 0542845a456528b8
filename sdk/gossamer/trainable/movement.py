"""Operators that only move data: reshapes, transposes, slices, joins and padding."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gossamer.compile.graph import Node
from gossamer.trainable.step import Builder, merged, require, text
from gossamer.trainable.step import split as split_groups


def _reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x.reshape(x.shape[0], *shape)


def reshape(b: Builder, node: Node) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze: the output's shape is known."""
    b.step(node, partial(_reshape, shape=b.shape(node.outputs[0])), node.inputs[:1])


def _identity(x: Tensor) -> Tensor:
    return x


def identity(b: Builder, node: Node) -> None:
    b.step(node, _identity, node.inputs[:1])


def _permute(x: Tensor, order: tuple[int, ...]) -> Tensor:
    return x.permute(order)


def transpose(b: Builder, node: Node) -> None:
    rank = b.rank(node.inputs[0])
    order = [int(p) for p in node.attrs.get("perm") or range(rank - 1, -1, -1)]
    b.step(node, partial(_permute, order=(0, *(p + 1 for p in order))), node.inputs[:1])


def _concat(*tensors: Tensor, axis: int) -> Tensor:
    groups = max(t.shape[0] for t in tensors)
    return torch.cat([t if t.shape[0] == groups else t.expand(groups, *t.shape[1:]) for t in tensors], axis)


def concat(b: Builder, node: Node) -> None:
    axis = int(node.attrs["axis"]) % b.rank(node.outputs[0]) + 1
    b.step(node, partial(_concat, axis=axis), node.inputs)


def _split(x: Tensor, sizes: list[int], axis: int) -> tuple[Tensor, ...]:
    return torch.split(x, sizes, axis)


def split(b: Builder, node: Node) -> None:
    axis = int(node.attrs.get("axis", 0)) % b.rank(node.inputs[0])
    require(all(node.outputs), "an unused output")
    sizes = [b.shape(o)[axis] for o in node.outputs]
    b.step(node, partial(_split, sizes=sizes, axis=axis + 1), node.inputs[:1], outputs=len(sizes))


def _select(x: Tensor, cuts: tuple[tuple[int, int, int, int], ...]) -> Tensor:
    for axis, start, count, step in cuts:
        index: list[slice] = [slice(None)] * x.dim()
        last = start + (count - 1) * step
        index[axis] = slice(min(start, last), max(start, last) + 1, abs(step))
        x = x[tuple(index)]
        x = x if step > 0 else x.flip(axis)
    return x


def slice_(b: Builder, node: Node) -> None:
    shape, out = b.shape(node.inputs[0]), b.shape(node.outputs[0])
    starts, ends = b.numbers(node, 1, "starts"), b.numbers(node, 2, "ends")
    if starts is None or ends is None:
        require(False, "no starts or ends")
        return
    axes = b.numbers(node, 3, "axes") or list(range(len(starts)))
    steps = b.numbers(node, 4) or [1] * len(starts)
    require(0 not in out, "an empty result")
    cuts = []
    for s, e, a, p in zip(starts, ends, axes, steps, strict=True):
        a = int(a) % len(shape)
        start = slice(int(s), int(e) if not (p < 0 and e < -shape[a]) else None, int(p)).indices(shape[a])[0]
        cuts.append((a + 1, start, out[a], int(p)))
    b.step(node, partial(_select, cuts=tuple(cuts)), node.inputs[:1])


def _gather(x: Tensor, index: Tensor, axis: int, shape: tuple[int, ...]) -> Tensor:
    return x.index_select(axis, index[0]).reshape(x.shape[0], *shape)


def gather(b: Builder, node: Node) -> None:
    """Gather with constant indices."""
    index = b.array(node.inputs[1])
    if index is None:
        require(False, "its indices are computed")
        return
    shape = b.shape(node.inputs[0])
    axis = int(node.attrs.get("axis", 0)) % len(shape)
    places = f"{node.name}.places"
    b.constants[places] = torch.from_numpy(index.reshape(-1).astype(np.int64) % shape[axis])[None]
    run = partial(_gather, axis=axis + 1, shape=b.shape(node.outputs[0]))
    b.step(node, run, [node.inputs[0], places])


def _pad(x: Tensor, pads: tuple[int, ...], mode: str, value: float) -> Tensor:
    if mode == "constant":
        return functional.pad(x, pads, value=value)
    return split_groups(functional.pad(merged(x), pads, mode=mode), x)


def pad(b: Builder, node: Node) -> None:
    """Pad: constant over any axes, edge and reflect over the last ones."""
    rank = b.rank(node.inputs[0])
    pads = b.numbers(node, 1, "pads")
    if pads is None:
        require(False, "no pads")
        return
    mode = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}.get(
        text(node.attrs.get("mode", "constant"))
    )
    axes = [int(a) % rank for a in b.numbers(node, 3) or range(rank)]
    fill: Any = b.numbers(node, 2) if node.input(2) else [node.attrs.get("value", 0.0)]
    if mode is None:
        require(False, f"mode {text(node.attrs['mode'])}")
        return
    sides = [(0, 0)] * rank
    for k, axis in enumerate(axes):
        sides[axis] = (int(pads[k]), int(pads[k + len(axes)]))
    if mode != "constant":
        require(rank in (3, 4) and sides[0] == sides[1] == (0, 0), "padding of batch or channels from within")
        sides = sides[2:]
    flat = tuple(v for side in reversed(sides) for v in side)
    b.step(node, partial(_pad, pads=flat, mode=mode, value=float((fill or [0.0])[0])), node.inputs[:1])


def _repeat(x: Tensor, lead: tuple[int, ...], target: tuple[int, ...]) -> Tensor:
    x = x.reshape(x.shape[0], *lead)
    return x.repeat(1, *(t // s for s, t in zip(lead, target, strict=True)))


def repeat(b: Builder, node: Node) -> None:
    """Tile and Expand."""
    shape, target = b.shape(node.inputs[0]), b.shape(node.outputs[0])
    lead = (1,) * (len(target) - len(shape)) + shape
    require(all(t % s == 0 for s, t in zip(lead, target, strict=True)), "a shape that is no multiple")
    b.step(node, partial(_repeat, lead=lead, target=target), node.inputs[:1])


def _shuffle(x: Tensor, inner: tuple[int, ...], order: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    return x.reshape(x.shape[0], *inner).permute(order).reshape(x.shape[0], *shape)


def space(b: Builder, node: Node) -> None:
    """SpaceToDepth and DepthToSpace."""
    n, c, h, w = b.shape(node.inputs[0])
    k = int(node.attrs["blocksize"])
    inner: tuple[int, ...]
    if node.op_type == "SpaceToDepth":
        inner, order = (n, c, h // k, k, w // k, k), (0, 1, 4, 6, 2, 3, 5)
    elif text(node.attrs.get("mode", "DCR")) == "DCR":
        inner, order = (n, k, k, c // (k * k), h, w), (0, 1, 4, 5, 2, 6, 3)
    else:
        inner, order = (n, c // (k * k), k, k, h, w), (0, 1, 2, 5, 3, 6, 4)
    assert math.prod(inner) == n * c * h * w
    b.step(node, partial(_shuffle, inner=inner, order=order, shape=b.shape(node.outputs[0])), node.inputs[:1])


OPERATORS = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    "Identity": identity,
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Pad": pad,
    **dict.fromkeys(("Tile", "Expand"), repeat),
    **dict.fromkeys(("SpaceToDepth", "DepthToSpace"), space),
}
