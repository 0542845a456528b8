"""Mean and second moments of what each column of a layer's weight matrix is multiplied with, over calibration data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer.sparsify.layers import Layer
from gossamer.sparsify.matrix import Columns

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the inputs of a layer; padding columns are 0.

    Attributes:
        mean: ``[groups, K]``, E[x], in the activation's own unit.
        variance: ``[groups, K]``, its square.
        second: ``[groups, K, K]``, E[x x^T]; None where only mean and variance were asked for.
        count: positions (samples times output pixels) that they are taken over.
    """

    mean: Doubles
    variance: Doubles
    second: Doubles | None
    count: int

    def by_row(self, values: Doubles, rows: int) -> Doubles:
        """``[groups, K]`` as ``[rows, K]``: what each output sees."""
        return np.repeat(values, rows // values.shape[0], axis=0)

    def squared(self, weights: Doubles) -> Doubles:
        """``E[(w x)^2]`` of each row of ``weights`` ``[R, K]``; inputs count as independent without ``second``."""
        rows = weights.shape[0]
        if self.second is None:
            expected = (weights * self.by_row(self.mean, rows)).sum(axis=1)
            return np.asarray(expected**2 + (weights**2 * self.by_row(self.variance, rows)).sum(axis=1))
        grouped = weights.reshape(self.second.shape[0], -1, weights.shape[1])
        return np.asarray(((grouped @ self.second) * grouped).sum(axis=2).reshape(rows))


class Collector:
    """Adds up the inputs of one layer, sample by sample, in double precision.

    A convolution's column is one tap and channel: its values are those that the tap meets at every output pixel, the
    zeros of the padding included.

    Args:
        layer: whose inputs.
        second: also the products of every two columns, ``8 K^2`` bytes a group.
    """

    def __init__(self, layer: Layer, *, second: bool = False):
        self.layer = layer
        shape = layer.weight.shape
        self.groups = layer.groups
        if len(shape) == 2:
            self.columns = Columns(1, shape[0] if layer.transposed else shape[1])
        else:
            self.columns = Columns(int(np.prod(shape[2:])), shape[1])
        width = self.columns.count
        self.total = np.zeros((self.groups, width))
        self.squares = np.zeros((self.groups, width))
        self.products = np.zeros((self.groups, width, width)) if second else None
        self.count = 0

    def add(self, x: npt.NDArray[Any]) -> None:
        """Takes the layer's input for one sample: ``[N, C, ...]`` of a Conv, ``[..., K]`` else."""
        if self.layer.node.op_type == "Conv":
            taps = [np.moveaxis(window, 1, -1) for window in self._windows(x)]
        else:
            taps = [x.T if self.layer.node.op_type == "Gemm" and _ints(self.layer, "transA") == [1] else x]
        positions = taps[0].size // taps[0].shape[-1]
        wide = np.zeros((self.groups, positions, self.columns.taps, self.columns.padded))
        for tap, values in enumerate(taps):
            split = values.reshape(positions, self.groups, self.columns.channels)
            wide[:, :, tap, : self.columns.channels] = split.transpose(1, 0, 2)
        wide = wide.reshape(self.groups, positions, self.columns.count)
        self.total += wide.sum(axis=1)
        self.squares += np.einsum("gpk,gpk->gk", wide, wide)
        if self.products is not None:
            self.products += wide.transpose(0, 2, 1) @ wide
        self.count += positions

    def finish(self) -> Moments:
        """The moments of all that was added."""
        n = max(1, self.count)
        mean = self.total / n
        variance = np.maximum(self.squares / n - mean**2, 0.0)
        return Moments(mean, variance, None if self.products is None else self.products / n, self.count)

    def _windows(self, x: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """What each tap sees, ``[N, C, output...]``, taps in row-major order."""
        kernel = self.layer.weight.shape[2:]
        strides = _ints(self.layer, "strides") or [1] * len(kernel)
        dilations = _ints(self.layer, "dilations") or [1] * len(kernel)
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        pads = _pads(self.layer, list(x.shape[2:]), reach, strides)
        padded = np.pad(x, [(0, 0), (0, 0), *pads])
        sizes = [(s - r) // t + 1 for s, r, t in zip(padded.shape[2:], reach, strides, strict=True)]
        found = []
        for place in np.ndindex(*kernel):
            cut = tuple(
                slice(p * d, p * d + (n - 1) * t + 1, t)
                for p, d, n, t in zip(place, dilations, sizes, strides, strict=True)
            )
            found.append(padded[(slice(None), slice(None), *cut)])
        return found


def _pads(layer: Layer, size: list[int], reach: list[int], strides: list[int]) -> list[tuple[int, int]]:
    """Zeros before and behind each spatial axis."""
    rank = len(size)
    attribute = layer.node.attributes.get("auto_pad")
    kind = attribute.as_string() if attribute is not None else "NOTSET"
    if kind in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for s, r, t in zip(size, reach, strides, strict=True):
            total = max(0, (-(-s // t) - 1) * t + r - s)
            small, large = total // 2, total - total // 2
            pads.append((small, large) if kind == "SAME_UPPER" else (large, small))
        return pads
    given = (_ints(layer, "pads") or [0] * (2 * rank)) if kind == "NOTSET" else [0] * (2 * rank)
    return list(zip(given[:rank], given[rank:], strict=True))


def _ints(layer: Layer, name: str) -> list[int]:
    """An integer attribute as a list; empty where it is absent."""
    attribute = layer.node.attributes.get(name)
    if attribute is None:
        return []
    value = attribute.value
    return [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
