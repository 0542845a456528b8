"""Stride, dilation and explicit padding of a convolution or pooling node over any number of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.compile.graph import Graph, Node
from gossamer.trainable.step import require, text


@dataclass(frozen=True)
class Window:
    """Per spatial axis, first axis first. ``asked`` is the padding behind that the model asked for, ``after`` what is
    needed for exactly its output (``ceil_mode`` adds to it; what no window reads is cut)."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    asked: tuple[int, ...]

    def torch_pad(self) -> tuple[int, ...]:
        """Padding as ``torch.nn.functional.pad`` takes it: last axis first."""
        pairs = zip(reversed(self.before), reversed(self.after), strict=True)
        return tuple(p for pair in pairs for p in pair)


def window_of(g: Graph, node: Node, kernel: Sequence[int]) -> Window:
    """The window of a node whose input and output have known shapes."""
    x, y = g.shape(node.inputs[0])[2:], g.shape(node.outputs[0])[2:]
    axes = len(x)
    stride = tuple(int(s) for s in node.attrs.get("strides") or [1] * axes)
    dilation = tuple(int(d) for d in node.attrs.get("dilations") or [1] * axes)
    auto = text(node.attrs.get("auto_pad", "NOTSET"))
    pads = [int(p) for p in node.attrs.get("pads") or [0] * 2 * axes]
    before, after, asked = [], [], []
    for i in range(axes):
        need = (y[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - x[i]
        if auto == "NOTSET":
            require(pads[i] >= 0 and pads[i + axes] >= 0, "negative padding")
            first, last = pads[i], pads[i + axes]
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            total = max(0, need)
            first = total // 2 if auto == "SAME_UPPER" else total - total // 2
            last = total - first
        else:
            require(auto == "VALID", f"auto_pad {auto}")
            first = last = 0
        needed = need - first
        asked.append(last)
        # Padding that no window reaches is left when it makes no further window: torch then needs no pad of its own.
        if needed > last or last - needed >= stride[i]:
            last = max(0, needed)
        before.append(first)
        after.append(last)
    return Window(
        tuple(int(k) for k in kernel), stride, dilation, tuple(before), tuple(after), tuple(asked)
    )  # fmt: skip
