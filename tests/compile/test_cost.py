"""Choosing stored forms: by given times, by the model, by real measurements; the cost table on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gossamer._errors import CompileError
from gossamer.bundle.container import build
from gossamer.compile import cost, cost_table, measure
from gossamer.compile.cost import choose
from gossamer.compile.cost_table import CostTable, cache_folder
from gossamer.compile.emit import emit
from gossamer.compile.encode import encode_weights
from gossamer.compile.plan import DType, F, Layout, Op, OpKind, P, Plan, Tensor, Weights
from gossamer.recipe import Target
from gossamer.sparsify.matrix import from_plan, to_plan
from gossamer.sparsify.patterns import get
from gossamer_runtime import _native


def pruned(shape, pattern, sparsity, dtype, seed=0):
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(shape).astype(np.float32)
    if dtype == np.int8:
        w = (rng.integers(1, 128, shape) * rng.choice([-1, 1], shape)).astype(np.int8)
    if pattern == "dense":
        return w
    matrix, columns = from_plan(w)
    mask = get(pattern).project(matrix, None if ":" in pattern else sparsity, columns=columns)
    return to_plan(matrix * mask, shape)


def conv(pattern="1x4", sparsity=0.75, cin=32, cout=32, size=8, dtype=np.int8, name="conv", label="dense", k=1):
    s8 = dtype == np.int8
    kind = DType.S8 if s8 else DType.F32
    x = Tensor(f"{name}.x", kind, (1, cin, size, size), Layout.CB, 0.05 if s8 else 0.0, 3 if s8 else 0)
    y = Tensor(f"{name}.y", kind, (1, cout, size, size), Layout.CB, 0.07 if s8 else 0.0, 0)
    bias = Tensor("b", DType.S32 if s8 else DType.F32, (cout,), data=np.zeros(cout, np.int32 if s8 else np.float32))
    scale = Tensor("s", DType.F32, (cout,), data=np.full(cout, 0.01, np.float32)) if s8 else None
    p = {P.KH: k, P.KW: k, P.SH: 1, P.SW: 1, P.DH: 1, P.DW: 1, P.GROUPS: 1}
    p |= dict.fromkeys((P.PT, P.PL, P.PB, P.PR), k // 2)
    if s8:
        p |= {P.QLO: -128, P.QHI: 127}
    f = {F.LO: -np.inf, F.HI: np.inf}
    w = Weights(pruned((cout, k, k, cin), pattern, sparsity, dtype), label)
    return Op(OpKind.CONV, [x, None, None, bias, scale], [y], p, f, name, "", w)


def gemm(pattern="1x4", sparsity=0.75, k=64, n=32, dtype=np.float32, name="gemm"):
    x, y = Tensor("x", DType.F32, (1, k)), Tensor("y", DType.F32, (1, n))
    w = Weights(pruned((n, k), pattern, sparsity, dtype))
    return Op(OpKind.GEMM, [x, None, None, None, None], [y], {}, {F.LO: -np.inf, F.HI: np.inf}, name, "", w)


@pytest.fixture
def clock(monkeypatch):
    """Replaces measuring by given times; notes what was asked for."""
    asked = []

    def use(times):
        def fake(op, patterns, *, threads=1, isa=None):
            asked.append((op.name, list(patterns)))
            return {p: times[p] for p in patterns}

        monkeypatch.setattr(cost, "measure", fake)
        monkeypatch.setattr(_native, "core_version", lambda: "test")
        monkeypatch.setattr(_native, "detect_isa", lambda: "avx2")
        return asked

    return use


def one(op, **kwargs):
    (choice,) = choose(Plan([op], [], []), kwargs.pop("target", None), **kwargs)
    return choice


def test_the_faster_form_is_taken_and_both_times_are_told(clock):
    clock({"dense": 96.0, "1x4": 41.0})
    op = conv()
    choice = one(op, table=CostTable(None))
    assert op.weights.pattern == choice.pattern == "1x4"
    assert (choice.asked, choice.dense_us, choice.sparse_us, choice.measured) == ("1x4", 96.0, 41.0, True)
    assert choice.reason == "sparse 1x4 41 us beats dense 96 us" and choice.sparsity == 0.75


def test_dense_is_kept_when_it_is_faster(clock):
    clock({"dense": 12.0, "1x4": 14.0})
    op = conv(label="1x4")
    choice = one(op, table=CostTable(None))
    assert op.weights.pattern == choice.pattern == "dense"
    assert choice.reason == "dense kept: 75% zeros in 1x4 cost 14 us, dense 12 us"
    assert op.weights.storage == "1x4"  # runs dense, stays small in the file


def test_equal_times_go_to_the_smaller_form(clock):
    clock({"dense": 100.0, "1x4": 102.0})
    choice = one(conv(), table=CostTable(None))
    assert choice.pattern == "1x4" and "as fast as dense" in choice.reason


def test_compatible_patterns_compete(clock):
    asked = clock({"dense": 90.0, "4x4": 50.0, "1x4": 60.0, "4x1": 30.0})
    choice = one(conv("4x4"), table=CostTable(None))
    assert asked == [("conv", ["dense", "4x4", "1x4", "4x1"])]
    assert (choice.asked, choice.pattern, choice.sparse_us) == ("4x4", "4x1", 30.0)


def test_forms_that_one_kernel_runs_are_timed_once(clock):
    asked = clock({"dense": 90.0, "4x4": 50.0, "1x4": 60.0, "4x1": 51.0})
    choice = one(conv("4x4", dtype=np.float32), table=CostTable(None))
    assert asked == [("conv", ["dense", "4x4", "1x4"])]  # float 4x1 and 4x4 blocks run as columns of four rows
    assert choice.times_us["4x1"] == choice.times_us["4x4"] == 50.0 and choice.pattern == "4x4"


def test_known_times_are_not_measured_again(clock):
    asked = clock({"dense": 90.0, "1x4": 60.0})
    table = CostTable(None)
    first = choose(Plan([conv(name="a"), conv(name="b")], [], []), table=table)
    assert len(asked) == 1 and first[0].times_us == first[1].times_us
    choose(Plan([conv()], [], []), table=table)
    assert len(asked) == 1
    choose(Plan([conv(size=16)], [], []), table=table)
    assert len(asked) == 2  # another shape
    choose(Plan([conv(sparsity=0.5)], [], []), table=table)
    assert len(asked) == 3  # another share of zeros


def test_measure_true_times_every_form_once_a_call(clock):
    asked = clock({"dense": 90.0, "1x4": 60.0})
    table, target = CostTable(None), Target(measure=True)
    for calls in (1, 2):
        choose(Plan([conv(name="a"), conv(name="b")], [], []), target, table=table)
        assert len(asked) == calls


def test_new_times_are_brought_to_the_footing_of_a_known_dense_time(clock):
    table = CostTable(None)
    clock({"dense": 100.0, "1x4": 60.0})
    one(conv(), table=table)
    clock({"dense": 200.0, "1x4": 90.0})  # the machine is slower now
    choice = one(conv(sparsity=0.8125), table=table)
    assert choice.times_us == {"dense": 100.0, "1x4": 45.0}


def test_dense_weights_are_not_measured(clock):
    asked = clock({})
    assert one(conv("dense"), table=CostTable(None)).reason == "dense: no zeros"
    few = conv("unstructured", 0.1)
    assert one(few, table=CostTable(None)).reason == "dense: 10% zeros"
    grouped = conv(cin=8)
    grouped.p[P.GROUPS] = 4
    assert "grouped" in one(grouped, table=CostTable(None)).reason
    assert asked == []


def test_a_pattern_that_leaves_nothing_out_stays_dense(clock):
    clock({})
    op = conv("unstructured", 0.3, label="4x4")
    choice = one(op, table=CostTable(None))
    assert choice.pattern == "dense" and "hardly a block of 4x4 empty" in choice.reason


@pytest.mark.parametrize(
    ("pattern", "sparsity", "dtype", "want"),
    [
        ("1x4", 0.75, np.int8, "1x4"),
        ("1x4", 0.25, np.int8, "dense"),
        ("4x4", 0.5, np.int8, "4x4"),
        ("2:4", None, np.int8, "dense"),
        ("unstructured", 0.9, np.float32, "unstructured"),
        ("unstructured", 0.5, np.float32, "dense"),
    ],
)
def test_without_measuring_a_model_decides_and_says_so(pattern, sparsity, dtype, want):
    op = conv(pattern, sparsity, dtype=dtype)
    choice = one(op, target=Target(measure=False))
    assert choice.pattern == op.weights.pattern == want
    assert "by a model, not measured" in choice.reason and "turns measuring off" in choice.reason
    assert choice.dense_us is None and choice.sparse_us is None and not choice.measured


def test_other_architectures_are_not_measured(monkeypatch):
    monkeypatch.setattr(cost.platform, "machine", lambda: "x86_64")
    choice = one(conv(), target=Target(arch="aarch64"))
    assert "this machine is no aarch64" in choice.reason
    with pytest.raises(CompileError, match="cannot measure for aarch64 on x86_64"):
        one(conv(), target=Target(arch="aarch64", measure=True))


def test_instruction_sets(clock, monkeypatch):
    monkeypatch.setattr(cost.platform, "machine", lambda: "x86_64")
    clock({"dense": 90.0, "1x4": 60.0})
    tables = {isa: CostTable(None) for isa in ("scalar", "avx2", "avx512vnni")}
    for isa, table in tables.items():
        one(conv(), target=Target(isa=isa), table=table)
    machines = {isa: next(iter(table._times)) for isa, table in tables.items()}
    assert ", scalar, " in machines["scalar"]
    assert (
        ", avx2, " in machines["avx2"] and machines["avx512vnni"] == machines["avx2"]
    )  # this machine has avx2 at most
    with pytest.raises(CompileError, match="x86_64 has no neon"):
        one(conv(), target=Target(isa="neon"), table=CostTable(None))


def test_progress(clock):
    clock({"dense": 90.0, "1x4": 60.0})
    seen = []
    choose(Plan([conv(), gemm()], [], []), table=CostTable(None), progress=lambda i, n: seen.append((i, n)))
    assert seen == [(1, 2), (2, 2)]


def test_table_on_disk(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "cost.json"
    one_table, two_table = CostTable(path), CostTable(path)
    assert one_table.put("m", "a", 1.23456) == 1.235
    two_table.put("m", "b", 2.0)
    one_table.save()
    two_table.save()  # keeps what the first one wrote
    document = json.loads(path.read_text())
    assert document == {"format": 1, "unit": "us", "machines": {"m": {"a": 1.235, "b": 2.0}}}
    assert CostTable(path).get("m", "a") == 1.235 and CostTable(path).get("n", "a") is None
    assert [p.name for p in path.parent.iterdir()] == ["cost.json"]
    monkeypatch.setenv("GOSSAMER_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own" and CostTable.default().path == tmp_path / "own" / "cost.json"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 9}', '{"format": 1, "machines": 3}', '{"format":1,"machines":{"m":{"a":-1}}}']
)
def test_a_broken_table_counts_as_empty(tmp_path, text):
    path = tmp_path / "cost.json"
    path.write_text(text)
    table = CostTable(path)
    assert table.get("m", "a") is None
    table.put("m", "a", 2.0)
    table.save()
    assert CostTable(path).get("m", "a") == 2.0


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    table = CostTable(tmp_path / "file" / "cost.json")
    table.put("m", "a", 2.0)
    table.save()


def test_machine_id_names_what_times_depend_on():
    text = cost_table.machine_id("avx2", 2, "0.1.0")
    assert text.endswith(", avx2, 2 threads, core 0.1.0") and cost_table.cpu_model() in text


def bytes_of(ops):
    inputs, outputs, plan_ops = [], [], []
    for op in ops:
        x, y = op.inputs[0], op.outputs[0]
        if x.layout is Layout.CB:
            row_x, row_y = (
                Tensor(f"{t.name}.row", t.dtype, t.shape, Layout.ROW, t.scale, t.zero_point) for t in (x, y)
            )
            plan_ops += [Op(OpKind.LAYOUT, [row_x], [x], {0: 0}), op, Op(OpKind.LAYOUT, [y], [row_y], {0: 0})]
            inputs.append(row_x)
            outputs.append(row_y)
        else:
            plan_ops.append(op)
            inputs.append(x)
            outputs.append(y)
    plan = Plan(plan_ops, inputs, outputs)
    encode_weights(plan)
    made = emit(plan)
    return build(made.plan, made.weights, b"{}")


def network():
    return [
        conv("4x4", 0.75, name="a"),
        conv("1x4", 0.5, name="b"),
        conv("unstructured", 0.9, name="c", dtype=np.float32),
        gemm("4x1", 0.75, name="d"),
        conv("1x4", 0.75, name="e", k=3),
    ]


def test_measuring_through_the_core(tmp_path):
    path = tmp_path / "cost.json"
    first_ops = network()
    first = choose(Plan(first_ops, [], []), table=CostTable(path))
    for choice in first:
        assert choice.measured and all(us > 0 for us in choice.times_us.values())
        assert "dense" in choice.times_us and choice.asked in choice.times_us
    second_ops = network()
    assert choose(Plan(second_ops, [], []), table=CostTable(path)) == first
    assert bytes_of(second_ops) == bytes_of(first_ops)  # the same table gives the same bundle


@pytest.mark.parametrize("pattern", ["dense", "1x4", "4x4", "4x1", "unstructured"])
@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_every_stored_form_computes_the_same(pattern, dtype):
    from gossamer_runtime import Session

    op = conv("4x4", 0.6, cin=20, cout=18, dtype=dtype, k=3)
    rng = np.random.default_rng(0)
    shape = (1, 20, 8, 8)
    x = rng.integers(-128, 128, shape).astype(np.int8) if dtype == np.int8 else rng.random(shape, np.float32)
    with Session(measure.bundle_of(op, "dense"), verify=False) as dense:
        want = dense.run(x)
    with Session(measure.bundle_of(op, pattern), verify=False) as other:
        got = other.run(x)
    if dtype == np.int8:
        assert np.array_equal(want, got) and len(np.unique(want)) > 10
    else:
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("storage", ["1x4", "4x4", "4x1", "unstructured"])
@pytest.mark.parametrize("dtype", [np.int8, np.float32])
@pytest.mark.parametrize("k", [1, 3])
def test_stored_in_blocks_and_run_dense(storage, dtype, k):
    from gossamer_runtime import Session

    def bundle(stored):
        op = conv("4x4", 0.75, cin=22, cout=19, dtype=dtype, k=k)
        op.weights.storage = stored
        return bytes_of([op])

    rng = np.random.default_rng(0)
    shape = (1, 22, 8, 8)
    x = rng.integers(-128, 128, shape).astype(np.int8) if dtype == np.int8 else rng.random(shape, np.float32)
    whole, small = bundle("dense"), bundle(storage)
    assert len(small) < len(whole)
    with Session(whole, verify=False) as dense, Session(small, verify=False) as spread:
        assert np.array_equal(dense.run(x), spread.run(x))
        ours, theirs = (next(o for o in s.profile(runs=1).ops if o.name == "conv") for s in (spread, dense))
    assert (ours.kernel, ours.pattern, ours.sparsity_percent) == (theirs.kernel, "dense", theirs.sparsity_percent)


def test_the_core_refuses_repeated_columns_of_weights_that_run_dense():
    from gossamer._errors import BundleError
    from gossamer_runtime import Session

    op = conv(k=1)
    op.weights.dense = op.weights.dense.astype(np.int16)
    op.weights.dense[0, 0, 0, 0] = 200
    plan_bytes = bytes_of([op])
    with Session(plan_bytes, verify=False):
        pass
    op = conv(k=1)
    op.weights.dense = op.weights.dense.astype(np.int16)
    op.weights.dense[0, 0, 0, 0] = 200
    encode_weights(Plan([op], [], []))
    op.p[P.WLABEL] = 0
    with pytest.raises(BundleError, match="run dense repeat a column"):
        Session(bytes_of([op]), verify=False)


def test_the_baseline_is_dense_whatever_the_zeros():
    plan = Plan([conv("1x4", 0.75, label="1x4"), gemm("unstructured", 0.9)], [], [])
    choices = choose(plan, Target(kernels="dense"))
    assert [c.pattern for c in choices] == ["dense", "dense"]
    assert choices[0].asked == "1x4" and choices[0].reason == "dense: the recipe asks for it"
    for layer in encode_weights(plan):
        assert layer.pattern == "dense" and layer.blocks == 0 and layer.stored_bytes == layer.dense_bytes
