"""Which layout an operator without spatial meaning runs in: the one its inputs already have."""

from __future__ import annotations

from collections.abc import Sequence

from gossamer.importers.tflite.builder import AXIS_NCHW, Builder, Form
from gossamer.importers.tflite.reader import Tensor


def choose(b: Builder, inputs: Sequence[Tensor], out: Tensor) -> Form:
    """``nchw`` when some input exists in NCHW only and every other one can be had in it, else ``plain``."""
    if len(out.shape) != 4:
        return "plain"
    live = [t for t in inputs if t.index not in b.folded]
    if any(len(t.shape) != 4 and t.shape not in ((), (1,)) for t in live):
        return "plain"
    four = [t for t in live if len(t.shape) == 4]
    if not four or (all(b.has(t, "plain") for t in four) and not all(b.has(t, "nchw") for t in four)):
        return "plain"
    return "nchw"


def axis_in(b: Builder, axis: int, rank: int, form: Form) -> int:
    """An axis of the plain tensor (negative counts from the end) as an axis of the form."""
    if not -rank <= axis < rank:
        raise b.broken(f"axis {axis} of a tensor of rank {rank}")
    axis %= rank
    return AXIS_NCHW[axis] if form == "nchw" else axis
