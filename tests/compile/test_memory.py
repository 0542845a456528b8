"""Memory planning: nothing alive at the same time overlaps, space is reused, the bound holds."""

from __future__ import annotations

import random

import pytest

from gossamer.compile.memory import plan_memory
from gossamer.compile.plan import DType, Layout, Op, OpKind, Plan, Tensor


def _t(name: str, n: int, layout: Layout = Layout.ROW) -> Tensor:
    return Tensor(name, DType.U8, (n,), layout)


def _op(kind: OpKind, inputs: list[Tensor], outputs: list[Tensor]) -> Op:
    return Op(kind, list(inputs), outputs, name="+".join(t.name for t in outputs))


def test_chain_reuses_two_buffers():
    a, b, c, d = _t("a", 128), _t("b", 256), _t("c", 256), _t("d", 128)
    plan = Plan([_op(OpKind.SLICE, [a], [b]), _op(OpKind.SLICE, [b], [c]), _op(OpKind.SLICE, [c], [d])], [a], [d])
    memory = plan_memory(plan)
    assert memory.unshared_bytes == 768
    assert memory.lower_bound_bytes == 512
    assert memory.arena_bytes == 512


def test_reshape_and_unary_run_in_place_but_never_on_a_graph_input():
    a, b, c = _t("a", 64), _t("b", 64), _t("c", 64)
    plan = Plan([_op(OpKind.RESHAPE, [a], [b]), _op(OpKind.LUT, [b], [c])], [a], [c])
    memory = plan_memory(plan)
    assert memory.offsets[b] == memory.offsets[c]
    assert memory.offsets[a] != memory.offsets[b]
    assert memory.arena_bytes == 128


def test_not_in_place_while_the_input_is_still_needed():
    a, b, c, d = _t("a", 64), _t("b", 64), _t("c", 64), _t("d", 64)
    plan = Plan([_op(OpKind.SLICE, [a], [b]), _op(OpKind.LUT, [b], [c]), _op(OpKind.BINARY, [b, c], [d])], [a], [d])
    memory = plan_memory(plan)
    assert memory.offsets[b] != memory.offsets[c]
    assert memory.offsets[d] in (memory.offsets[b], memory.offsets[c])


def test_output_that_is_also_read_later_stays_until_the_end():
    a, b, c, d = _t("a", 64), _t("b", 64), _t("c", 64), _t("d", 64)
    plan = Plan([_op(OpKind.SLICE, [a], [b]), _op(OpKind.SLICE, [b], [c]), _op(OpKind.SLICE, [c], [d])], [a], [b, d])
    memory = plan_memory(plan)
    assert len({memory.offsets[b], memory.offsets[c], memory.offsets[d]}) == 3


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_never_overlap(seed):
    rng = random.Random(seed)
    tensors = [_t("in", 64 * rng.randint(1, 9))]
    ops = []
    for i in range(30):
        inputs = rng.sample(tensors, min(len(tensors), rng.randint(1, 3)))
        out = _t(f"t{i}", 64 * rng.randint(1, 9))
        ops.append(_op(rng.choice([OpKind.SLICE, OpKind.CONCAT]), inputs, [out]))
        tensors.append(out)
    plan = Plan(ops, tensors[:1], [tensors[-1]])
    memory = plan_memory(plan)
    first = {tensors[0]: -1} | {op.outputs[0]: i for i, op in enumerate(ops)}
    last = {t: max([i for i, op in enumerate(ops) if t in op.inputs] + [first[t]]) for t in tensors}
    last[tensors[-1]] = len(ops)
    for i, s in enumerate(tensors):
        assert memory.offsets[s] % 64 == 0
        assert memory.offsets[s] + s.nbytes <= memory.arena_bytes
        for t in tensors[:i]:
            if first[s] <= last[t] and first[t] <= last[s]:
                apart = (
                    memory.offsets[s] + s.nbytes <= memory.offsets[t]
                    or memory.offsets[t] + t.nbytes <= memory.offsets[s]
                )
                assert apart, f"{s.name} and {t.name} share bytes while both are alive"
    assert memory.lower_bound_bytes <= memory.arena_bytes <= memory.unshared_bytes
