"""Emission and container: bytes are reproducible, equal constants are stored once, broken plans are refused."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer._errors import BundleError, CompileError
from gossamer.bundle import container
from gossamer.compile import plan as pl
from gossamer.compile.emit import emit


def _plan() -> pl.Plan:
    x, y = pl.Tensor("x", pl.DType.F32, (1, 4)), pl.Tensor("y", pl.DType.F32, (1, 4))
    values = np.arange(4, dtype=np.float32)
    slope = [pl.Tensor(f"slope{i}", pl.DType.F32, (4,), data=values.copy()) for i in range(2)]
    mid = pl.Tensor("mid", pl.DType.F32, (1, 4))
    ops = [
        pl.Op(pl.OpKind.PRELU, [x, slope[0]], [mid], name="first", source="node one"),
        pl.Op(pl.OpKind.PRELU, [mid, slope[1]], [y], name="second", source="node one"),
    ]
    return pl.Plan(ops, [x], [y])


def test_records_hold_what_the_plan_says():
    emitted = emit(_plan())
    header = np.frombuffer(emitted.plan[:64], pl.PLAN_HEADER)[0]
    assert (header["n_tensors"], header["n_ops"], header["n_refs"]) == (5, 2, 6)
    tensors = np.frombuffer(emitted.plan[64:], pl.TENSOR, count=5)
    ops = np.frombuffer(emitted.plan[64 + tensors.nbytes :], pl.OP, count=2)
    strings = emitted.plan[-int(header["strings_size"]) :]
    assert [strings[o:].split(b"\0")[0] for o in ops["name"]] == [b"first", b"second"]
    assert ops["source"][0] == ops["source"][1] != 0
    assert [int(p) for p in tensors["place"]] == [0, 1, 0, 1, 0]
    assert np.frombuffer(emitted.weights, "<f4").tolist() == [0, 1, 2, 3]
    assert tensors["offset"][1] == tensors["offset"][3] == 0


def test_same_plan_gives_the_same_bytes():
    a, b = emit(_plan()), emit(_plan())
    assert container.build(a.plan, a.weights, b"{}") == container.build(b.plan, b.weights, b"{}")


def test_container_sections_are_found_again():
    data = container.build(b"p" * 70, b"", b"{}", [(pl.Backend.TVM, b"payload")])
    found = container.sections(data)
    assert [(s.kind, s.tag, s.size) for s in found] == [
        (pl.Section.PLAN, 0, 70),
        (pl.Section.WEIGHTS, 0, 0),
        (pl.Section.MANIFEST, 0, 2),
        (pl.Section.EXTERN, 3, 7),
        (pl.Section.SIGNATURE, 0, 96),
    ]
    assert bytes(container.section_bytes(data, found[3])) == b"payload"
    assert bytes(container.section_bytes(data, found[4])) == bytes(96)
    assert len(data) == found[4].offset + 96


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d[:40], "too short"),
        (lambda d: b"GOSSAMEX" + d[8:], "not a Gossamer bundle"),
        (lambda d: d[:8] + b"\x02" + d[9:], "bundle format 2"),
        (lambda d: d[:-1], "header says"),
        (lambda d: d[:12] + b"\x63" + d[13:], "sections in the table"),
        (lambda d: d[:72] + b"\xff\xff" + d[74:], "outside the file"),
    ],
)
def test_damaged_containers_are_named(damage, message):
    data = container.build(b"p" * 70, b"w", b"{}")
    with pytest.raises(BundleError, match=message):
        container.sections(damage(data))


def test_tensor_read_before_it_is_made_is_refused():
    plan = _plan()
    plan.ops.reverse()
    with pytest.raises(CompileError, match="before any operator makes it"):
        emit(plan)


def test_nan_parameter_and_unencoded_weights_are_refused():
    plan = _plan()
    plan.ops[0].f[0] = float("nan")
    with pytest.raises(CompileError, match="NaN"):
        emit(plan)
    plan = _plan()
    plan.ops[0].weights = pl.Weights(np.zeros((1, 1, 1, 1), np.int8))
    with pytest.raises(CompileError, match="not encoded"):
        emit(plan)
