"""Static memory planning: one arena, every activation at a fixed offset, space reused as soon as it is free.

Greedy by size with best fit ("Efficient Memory Management for Deep Neural Net Inference", arXiv 2001.03288, section 5):
tensors are placed largest first at the lowest offset where no tensor alive at the same time overlaps.
"""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.compile.plan import ALIGN, Layout, Op, OpKind, Plan, Tensor

_IN_PLACE = {OpKind.UNARY, OpKind.LUT, OpKind.BINARY}


@dataclass(frozen=True)
class MemoryPlan:
    """Offsets of the arena tensors.

    ``arena_bytes`` is the peak with reuse, ``unshared_bytes`` the sum without it, ``lower_bound_bytes`` the largest
    total alive at one operator: no plan can be smaller.
    """

    offsets: dict[Tensor, int]
    arena_bytes: int
    unshared_bytes: int
    lower_bound_bytes: int


@dataclass
class _Buffer:
    """One or more tensors that share storage (operators that run in place), alive from ``first`` to ``last``."""

    tensors: list[Tensor]
    size: int
    first: int
    last: int
    offset: int = -1


def plan_memory(plan: Plan) -> MemoryPlan:
    """Place every activation of ``plan``; weights stay in the bundle and cost no arena.

    Graph inputs live from before the first operator, graph outputs until after the last, since the run copies from and
    to the user's buffers there.
    """
    buffers = _lifetimes(plan)
    placed: list[_Buffer] = []
    for buffer in sorted(buffers, key=lambda b: (-b.size, b.first)):
        buffer.offset = _lowest_fit(buffer, placed)
        placed.append(buffer)
    arena = max((b.offset + b.size for b in buffers), default=0)
    alive = [sum(b.size for b in buffers if b.first <= i <= b.last) for i in range(-1, len(plan.ops) + 1)]
    return MemoryPlan(
        offsets={t: b.offset for b in buffers for t in b.tensors},
        arena_bytes=arena,
        unshared_bytes=sum(_aligned(t.nbytes) for b in buffers for t in b.tensors),
        lower_bound_bytes=max(alive, default=0),
    )


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _lifetimes(plan: Plan) -> list[_Buffer]:
    last_use: dict[Tensor, int] = {}
    for i, op in enumerate(plan.ops):
        for t in op.inputs:
            if t is not None and not t.is_const:
                last_use[t] = i
    end = len(plan.ops)
    for t in plan.outputs:
        last_use[t] = end
    _keep_depthwise_inputs(plan, last_use)

    owner: dict[Tensor, _Buffer] = {}
    buffers: list[_Buffer] = []

    def new(t: Tensor, first: int) -> None:
        if t in owner:
            return
        owner[t] = _Buffer([t], _aligned(max(t.nbytes, 1)), first, last_use.get(t, first))
        buffers.append(owner[t])

    for t in plan.inputs:
        new(t, -1)
    for i, op in enumerate(plan.ops):
        reused = _in_place_input(op, i, last_use, plan)
        for k, t in enumerate(op.outputs):
            if k == 0 and reused is not None:
                buffer = owner[reused]
                buffer.tensors.append(t)
                buffer.last = max(buffer.last, last_use.get(t, i))
                owner[t] = buffer
            else:
                new(t, i)
    return buffers


def _keep_depthwise_inputs(plan: Plan, last_use: dict[Tensor, int]) -> None:
    """What a depthwise operator reads stays until the pointwise one behind it has written.

    The core then runs the pair tile by tile (native/src/fuse.c), which it can only while the input is still there.
    """
    for i, (op, following) in enumerate(zip(plan.ops, plan.ops[1:], strict=False)):
        if op.kind is OpKind.DWCONV and following.kind is OpKind.CONV and following.inputs[0] is op.outputs[0]:
            x = op.inputs[0]
            if x is not None and not x.is_const and last_use[op.outputs[0]] == i + 1:
                last_use[x] = max(last_use[x], i + 1)


def _in_place_input(op: Op, index: int, last_use: dict[Tensor, int], plan: Plan) -> Tensor | None:
    """The input whose storage the output may take: dead afterwards, same size, and an operator that allows it."""
    y = op.outputs[0]
    if op.kind is OpKind.RESHAPE:
        candidates = op.inputs[:1]
    elif op.kind in _IN_PLACE:
        candidates = [t for t in op.inputs[:2] if t is not None and t.shape == y.shape and t.layout is y.layout]
    else:
        return None
    for x in candidates:
        if x is None or x.is_const or x in plan.inputs or last_use[x] != index or x.nbytes != y.nbytes:
            continue
        if op.kind is OpKind.RESHAPE and (x.layout is not Layout.ROW or y.layout is not Layout.ROW):
            continue
        return x
    return None


def _lowest_fit(buffer: _Buffer, placed: list[_Buffer]) -> int:
    busy = sorted((b.offset, b.offset + b.size) for b in placed if b.first <= buffer.last and buffer.first <= b.last)
    best, best_gap, at = -1, 0, 0
    for start, stop in busy:
        gap = start - at
        if gap >= buffer.size and (best < 0 or gap < best_gap):
            best, best_gap = at, gap
        at = max(at, stop)
    return best if best >= 0 else at
