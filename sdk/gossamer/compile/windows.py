"""Window parameters of convolution and pooling: kernel, stride, dilation and explicit padding from ONNX attributes."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.compile.graph import Graph, Node
from gossamer.compile.plan import P
from gossamer.compile.rules import require


@dataclass(frozen=True)
class Window:
    """Per axis (height, width). ``extra`` is what ceil_mode adds behind the padding that the model asked for."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]
    extra: tuple[int, int] = (0, 0)

    def slots(self, groups: int) -> dict[int, int]:
        return {
            P.KH: self.kernel[0], P.KW: self.kernel[1],
            P.SH: self.stride[0], P.SW: self.stride[1],
            P.DH: self.dilation[0], P.DW: self.dilation[1],
            P.PT: self.before[0], P.PL: self.before[1],
            P.PB: self.after[0] + self.extra[0], P.PR: self.after[1] + self.extra[1],
            P.GROUPS: groups,
        }  # fmt: skip


def _pair(node: Node, key: str) -> tuple[int, int]:
    a, b = node.attrs.get(key) or (1, 1)
    return int(a), int(b)


def window_of(g: Graph, node: Node, kernel: tuple[int, int]) -> Window:
    """The window of a rank-4 Conv or pooling node. ``after`` is cut or extended to give exactly the node's output."""
    x, y = g.shape(node.inputs[0])[2:], g.shape(node.outputs[0])[2:]
    stride, dilation = _pair(node, "strides"), _pair(node, "dilations")
    auto = node.attrs.get("auto_pad", "NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    pads = [int(p) for p in node.attrs.get("pads") or (0, 0, 0, 0)]
    before, after, extra = [0, 0], [0, 0], [0, 0]
    for i in range(2):
        need = (y[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - x[i]
        if auto == "NOTSET":
            before[i], after[i] = pads[i], pads[i + 2]
            require(before[i] >= 0 and after[i] >= 0, "negative padding")
            extra[i] = max(0, need - before[i] - after[i])
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            total = max(0, need)
            before[i] = total // 2 if auto == "SAME_UPPER" else total - total // 2
            after[i] = total - before[i]
        else:
            require(auto == "VALID", f"auto_pad {auto}")
            extra[i] = max(0, need)
    # Padding behind the last window is never read; leaving it would only make the output shape disagree.
    for i in range(2):
        need = (y[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - x[i] - before[i]
        if after[i] + extra[i] - need >= stride[i]:
            after[i] = max(0, need)
    return Window(kernel, stride, dilation, (before[0], before[1]), (after[0], after[1]), (extra[0], extra[1]))
