"""The loader refuses every bundle that breaks a rule of FORMAT.md, and says which."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable

import numpy as np
import pytest

from gossamer.bundle import container
from gossamer.compile.plan import SECTION, Backend, DType, OpKind, Un
from gossamer_runtime import _native
from tests.native.goss import FORMAT, OK, UNSUPPORTED, VERSION, Parts, aligned, core, open_and_run, open_model
from tests.native.plans import PLANS, Builder, bundle, sample


@pytest.fixture(scope="module")
def network() -> bytes:
    return sample("network_s8")


@pytest.mark.parametrize("name", PLANS)
def test_every_sample_opens_and_runs(name: str) -> None:
    status, result = open_and_run(sample(name))
    assert status == OK, result
    assert all(len(output) > 0 for output in result)


def test_model_and_result_do_not_depend_on_alignment(network: bytes) -> None:
    block = ctypes.create_string_buffer(len(network) + 128)
    shift = (-ctypes.addressof(block) % 64) + 1
    odd = (ctypes.c_char * len(network)).from_buffer(block, shift)
    odd.raw = network
    assert open_model(network, odd) == (OK, "")


def test_null_pointers_are_arguments_errors(network: bytes) -> None:
    lib, model, error = core(), ctypes.c_void_p(), _native.ErrorStruct()
    block = aligned(network)
    assert lib.gs_model_open(None, 100, ctypes.byref(model), ctypes.byref(error)) == 1
    assert lib.gs_model_open(ctypes.addressof(block), len(network), None, ctypes.byref(error)) == 1
    assert lib.gs_session_open(None, None, ctypes.byref(model), ctypes.byref(error)) == 1
    assert b"null" in error.message
    lib.gs_model_close(None)
    lib.gs_session_close(None)


# ---- container ----


def _container_cases() -> dict[str, tuple[Callable[[bytearray], bytearray | None], int, str]]:
    def table(data: bytearray, row: int, field: str, value: int) -> None:
        records = np.frombuffer(data, SECTION, count=int(data[12]), offset=64)
        records[row][field] = value

    def put(offset: int, value: int, size: int) -> Callable[[bytearray], None]:
        def change(data: bytearray) -> None:
            data[offset : offset + size] = value.to_bytes(size, "little")

        return change

    def swap_kinds(data: bytearray) -> None:
        table(data, 2, "kind", 2)

    def gap(data: bytearray) -> None:
        infos = container.sections(data)
        end = infos[2].offset + infos[2].size
        assert infos[3].offset > end
        data[end] = 1

    def longer(data: bytearray) -> bytearray:
        return data + b"\0"

    def longer_and_said(data: bytearray) -> bytearray:
        data += b"\0" * 64
        put(16, len(data), 8)(data)
        return data

    return {
        "empty": (lambda d: bytearray(), FORMAT, "empty"),
        "magic": (put(0, 0, 1), FORMAT, "does not start with"),
        "other file": (lambda d: bytearray(b"\x89PNG\r\n\x1a\n" * 30), FORMAT, "not a Gossamer bundle"),
        "version 2": (put(8, 2, 4), VERSION, "newer than this runtime"),
        "version 0": (put(8, 0, 4), FORMAT, "does not exist"),
        "file size": (put(16, 5, 8), FORMAT, "truncated or has been added to"),
        "one byte more": (longer, FORMAT, "truncated or has been added to"),
        "padding after the end": (longer_and_said, FORMAT, "the last section ends at"),
        "reserved": (put(24, 1, 1), FORMAT, "reserved"),
        "3 sections": (put(12, 3, 4), FORMAT, "3 sections"),
        "65 sections": (put(12, 65, 4), FORMAT, "65 sections"),
        "64 sections": (put(12, 64, 4), FORMAT, "section"),
        "unknown kind": (lambda d: table(d, 0, "kind", 9), FORMAT, "unknown kind 9"),
        "two of a kind": (swap_kinds, FORMAT, "a second WEIGHTS"),
        "tag": (lambda d: table(d, 1, "tag", 1), FORMAT, "tag 1, expected 0"),
        "backend": (lambda d: (table(d, 2, "kind", 4), table(d, 2, "tag", 9))[0], FORMAT, "unknown backend 9"),
        "no manifest": (lambda d: (table(d, 2, "kind", 4), table(d, 2, "tag", 1))[0], FORMAT, "no MANIFEST"),
        "section reserved": (lambda d: table(d, 1, "reserved", 1), FORMAT, "reserved field"),
        "overlap": (lambda d: table(d, 1, "offset", 192), FORMAT, "no overlap, no holes"),
        "offset beyond": (lambda d: table(d, 1, "offset", 1 << 40), FORMAT, "no overlap, no holes"),
        "size beyond": (lambda d: table(d, 1, "size", 1 << 63), FORMAT, "run past the end"),
        "size wraps": (lambda d: table(d, 1, "size", (1 << 64) - 1), FORMAT, "run past the end"),
        "gap": (gap, FORMAT, "gap before it is not zero"),
        "signature size": (lambda d: table(d, 3, "size", 95), FORMAT, "SIGNATURE has 95 bytes"),
        "signature not last": (lambda d: table(d, 2, "kind", 5), FORMAT, "must be SIGNATURE"),
        "last not signature": (
            lambda d: (table(d, 3, "kind", 4), table(d, 3, "tag", 1))[0],
            FORMAT,
            "must be SIGNATURE",
        ),
    }


@pytest.mark.parametrize("case", _container_cases())
def test_container_rule(case: str, network: bytes) -> None:
    change, status, message = _container_cases()[case]
    data = bytearray(network)
    result = change(data)
    data = result if isinstance(result, bytearray) else data
    found, text = open_model(bytes(data) or b"", aligned(bytes(data)) if data else aligned(b"x"))
    assert found == status, text
    assert re.search(message, text), text


def test_empty_manifest_is_refused(network: bytes) -> None:
    parts = Parts.of(network)
    parts.manifest = b""
    status, text = open_model(parts.bytes())
    assert (status, text) == (FORMAT, "section 2 (MANIFEST) is empty")


# ---- plan ----

PlanChange = Callable[[Parts], None]


def _set(record: str, row: int, field: str, value: object) -> PlanChange:
    def change(p: Parts) -> None:
        getattr(p, record)[row][field] = value

    return change


def _dim(row: int, axis: int, value: int) -> PlanChange:
    def change(p: Parts) -> None:
        p.tensors[row]["dims"][axis] = value

    return change


def _ref(position: int, value: int) -> PlanChange:
    def change(p: Parts) -> None:
        p.refs[position] = value

    return change


def _const(p: Parts) -> int:
    return int(np.flatnonzero(p.tensors["place"] == 1)[0])


def _output_position(p: Parts, op: int) -> int:
    return int(p.ops[op]["refs"]) + int(p.ops[op]["n_in"])


def _many(field: str, count: int) -> PlanChange:
    def change(p: Parts) -> None:
        p.header[0][field] = count

    return change


def _no_output(p: Parts) -> None:
    p.outputs = p.outputs[:0]
    p.count()


def _unmade_tensor(p: Parts) -> None:
    extra = p.tensors[:1].copy()
    p.tensors = np.concatenate([p.tensors, extra])
    p.count()


def _read_later(p: Parts) -> None:
    p.refs[int(p.ops[0]["refs"])] = p.refs[_output_position(p, 3)]


def _made_twice(p: Parts) -> None:
    p.refs[_output_position(p, 1)] = p.refs[_output_position(p, 0)]


def _same_output_twice(p: Parts) -> None:
    first = _output_position(p, 0)
    p.refs = np.concatenate([p.refs, p.refs[first - 1 : first + 1], p.refs[first : first + 1]])
    p.ops[0]["refs"], p.ops[0]["n_in"], p.ops[0]["n_out"] = len(p.refs) - 3, 1, 2
    p.count()


def _write_const(p: Parts) -> None:
    p.refs[_output_position(p, 0)] = _const(p)


def _input_const(p: Parts) -> None:
    p.inputs[0] = _const(p)


def _input_twice(p: Parts) -> None:
    p.inputs = np.concatenate([p.inputs, p.inputs])
    p.count()


def _const_cb(p: Parts) -> None:
    t = p.tensors[_const(p)]
    t["rank"], t["layout"], t["dtype"], t["scale"] = 4, 1, 1, 0
    t["dims"][:4] = 1
    t["pstride"], t["size"] = 1, 4


def _const_past_end(p: Parts) -> None:
    p.tensors[_const(p)]["offset"] = (len(p.weights) + 63) // 64 * 64


def _strings_tail(p: Parts) -> None:
    p.strings[-1] = 65


def _strings_head(p: Parts) -> None:
    p.strings[0] = 65


def _strings_latin1(p: Parts) -> None:
    p.strings[1] = 0xE9


def _middle_string(p: Parts) -> None:
    p.ops[0]["name"] = int(p.ops[0]["name"]) + 1


def _overwritten(p: Parts) -> None:
    """The second operator's output lands on its own input."""
    x = p.refs[int(p.ops[1]["refs"])]
    y = p.refs[_output_position(p, 1)]
    p.tensors[y]["offset"] = p.tensors[x]["offset"]


def _clobbered(p: Parts) -> None:
    """The last two operators' outputs are placed at the start of the arena, one on the other."""
    last = p.refs[_output_position(p, len(p.ops) - 2)]
    p.tensors[last]["offset"] = 0
    p.tensors[p.outputs[0]]["offset"] = 0


_PLAN_CASES: dict[str, tuple[PlanChange, int, str]] = {
    "header reserved": (_set("header", 0, "reserved", b"\1" * 28), FORMAT, "reserved"),
    "tensor cap": (_many("n_tensors", 65537), FORMAT, r"number of tensors is 65537, above the limit of 65536"),
    "operator cap": (_many("n_ops", 65537), FORMAT, "number of operators is 65537"),
    "operand cap": (_many("n_refs", 1048577), FORMAT, "number of operands is 1048577"),
    "input cap": (_many("n_inputs", 257), FORMAT, "number of inputs is 257"),
    "output cap": (_many("n_outputs", 257), FORMAT, "number of outputs is 257"),
    "string cap": (_many("strings_size", (1 << 24) + 1), FORMAT, "size of strings"),
    "arena cap": (_many("arena_size", (1 << 30) + 64), FORMAT, "the arena is 1073741888"),
    "arena alignment": (_many("arena_size", 65), FORMAT, "not a multiple of 64"),
    "arena too small": (_many("arena_size", 0), FORMAT, "runs past the arena"),
    "one tensor more": (_many("n_tensors", 3), FORMAT, "counts need"),
    "no outputs": (_no_output, FORMAT, "no outputs"),
    "externs": (_many("n_externs", 1), FORMAT, "names 1 external partitions, the bundle carries 0"),
    "strings end": (_strings_tail, FORMAT, "end with a NUL"),
    "strings begin": (_strings_head, FORMAT, "begin with the empty string"),
    "strings utf-8": (_strings_latin1, FORMAT, "not UTF-8"),
    "string inside": (_middle_string, FORMAT, "no string starts at"),
    "string beyond": (_set("tensors", 0, "name", 1 << 30), FORMAT, "no string starts at"),
    "dtype 0": (_set("tensors", 0, "dtype", 0), FORMAT, "unknown dtype"),
    "dtype 8": (_set("tensors", 0, "dtype", 8), FORMAT, "unknown dtype"),
    "layout": (_set("tensors", 0, "layout", 2), FORMAT, "unknown layout"),
    "place": (_set("tensors", 0, "place", 2), FORMAT, "unknown place"),
    "rank": (_set("tensors", 0, "rank", 7), FORMAT, "rank above 6"),
    "tensor reserved": (_set("tensors", 0, "reserved", 1), FORMAT, "reserved field"),
    "dimension 0": (_dim(0, 1, 0), FORMAT, "a dimension is 0 or above"),
    "dimension cap": (_dim(0, 1, (1 << 24) + 1), FORMAT, "a dimension is 0 or above"),
    "dimension beyond rank": (_dim(0, 5, 1), FORMAT, "beyond its rank"),
    "elements cap": (_dim(0, 1, 1 << 24), FORMAT, "more than 2\\^28 elements"),
    "size": (_set("tensors", 0, "size", 271), FORMAT, "size does not follow"),
    "row pstride": (_set("tensors", 0, "pstride", 16), FORMAT, "pstride of a ROW tensor"),
    "cb pstride small": (_set("tensors", 1, "pstride", 80), FORMAT, "pstride is wrong"),
    "cb pstride odd": (_set("tensors", 1, "pstride", 97), FORMAT, "pstride is wrong"),
    "cb pstride huge": (_set("tensors", 1, "pstride", 0xFFFFFFF0), FORMAT, "size does not follow"),
    "cb rank": (lambda p: (_dim(1, 3, 0)(p), _set("tensors", 1, "rank", 3)(p))[0], FORMAT, "must have rank 4"),
    "cb dtype": (_set("tensors", 1, "dtype", 3), FORMAT, "must be S8 or F32"),
    "cb constant": (_const_cb, FORMAT, "a constant must be ROW"),
    "scale nan": (_set("tensors", 0, "scale", np.nan), FORMAT, "scale nan"),
    "scale negative": (_set("tensors", 0, "scale", -1.0), FORMAT, "scale -1"),
    "scale tiny": (_set("tensors", 0, "scale", 1e-31), FORMAT, "within 1e-30"),
    "scale infinite": (_set("tensors", 0, "scale", np.inf), FORMAT, "scale inf"),
    "zero point": (_set("tensors", 0, "zero_point", 128), FORMAT, "zero point 128 is outside -128..127"),
    "offset alignment": (_set("tensors", 0, "offset", 32), FORMAT, "not a multiple of 64"),
    "offset beyond": (_set("tensors", 0, "offset", 1 << 40), FORMAT, "runs past the arena"),
    "offset wraps": (_set("tensors", 0, "offset", (1 << 64) - 64), FORMAT, "runs past the arena"),
    "constant beyond": (_const_past_end, FORMAT, "runs past the weights"),
    "kind 0": (_set("ops", 0, "kind", 0), FORMAT, "unknown kind 0"),
    "kind 24": (_set("ops", 0, "kind", 24), FORMAT, "unknown kind 24"),
    "float nan": (lambda p: p.ops[0]["f"].__setitem__(3, np.nan), FORMAT, "float parameter 3 is NaN"),
    "no output of op": (_set("ops", 0, "n_out", 0), FORMAT, "has no output"),
    "operands beyond": (_set("ops", 0, "refs", 0xFFFFFFFF), FORMAT, "run past the list of operands"),
    "operand number": (_ref(0, 100000), FORMAT, "tensor 100000 does not exist"),
    "absent output": (lambda p: _ref(_output_position(p, 0), 0xFFFFFFFF)(p), FORMAT, "does not exist"),
    "read before made": (_read_later, FORMAT, "before any operator has made it"),
    "made twice": (_made_twice, FORMAT, "which was made before"),
    "one output twice": (_same_output_twice, FORMAT, "as an output twice"),
    "constant written": (_write_const, FORMAT, "writes the constant"),
    "input is constant": (_input_const, FORMAT, "must be a ROW tensor in the arena"),
    "input twice": (_input_twice, FORMAT, "is listed twice"),
    "input number": (lambda p: p.inputs.__setitem__(0, 1 << 20), FORMAT, "input 0: tensor 1048576 does not exist"),
    "output number": (lambda p: p.outputs.__setitem__(0, 1 << 20), FORMAT, "output 0: tensor 1048576 does not exist"),
    "unmade tensor": (_unmade_tensor, FORMAT, "is made by no operator"),
    "output on input": (_overwritten, FORMAT, "overlaps input"),
    "overlap": (_clobbered, FORMAT, "overlap"),
}


@pytest.mark.parametrize("case", _PLAN_CASES)
def test_plan_rule(case: str, network: bytes) -> None:
    change, status, message = _PLAN_CASES[case]
    parts = Parts.of(network)
    change(parts)
    found, text = open_model(parts.bytes())
    assert found == status, text
    assert re.search(message, text), text


def _chain() -> Parts:
    """relu -> sigmoid -> relu + sigmoid, every value with its own place in the arena."""
    b = Builder(0)
    x = b.input((1, 40))
    relu = b.op(OpKind.UNARY, [x], (1, 40), DType.F32, p={0: Un.CLIP}, f={0: 0.0, 1: 6.0})
    sigmoid = b.op(OpKind.UNARY, [relu], (1, 40), DType.F32, p={0: Un.SIGMOID})
    y = b.op(OpKind.BINARY, [relu, sigmoid], (1, 40), DType.F32, f={0: -np.inf, 1: np.inf})
    parts = Parts.of(bundle(b.plan(y)))
    for row in range(4):
        parts.tensors[row]["offset"] = 192 * row
    parts.header[0]["arena_size"] = 192 * 4
    return parts


def test_overwritten_operand_is_named() -> None:
    parts = _chain()
    status, expected = open_and_run(parts.bytes())
    assert status == OK
    parts.tensors[1]["offset"] = 0  # relu in place of the input
    assert open_and_run(parts.bytes()) == (OK, expected)
    parts.tensors[2]["offset"] = 0  # sigmoid in place of relu, which the addition still needs
    message = "Binary 'binary_2' (model.py:3): reads tensor 1 '', which tensor 2 '' has overwritten in the arena"
    assert open_model(parts.bytes()) == (FORMAT, message)


def test_partly_overwritten_operand_is_noticed() -> None:
    parts = _chain()
    parts.tensors[2]["offset"] = parts.tensors[1]["offset"] + 128
    status, text = open_model(parts.bytes())
    assert status == FORMAT
    assert "output 0 (tensor 2) overlaps input 0 (tensor 1)" in text


def test_output_must_survive_to_the_end() -> None:
    parts = _chain()
    parts.outputs = np.array([1], "<u4")  # the graph's output is now relu, and the addition lands on it
    parts.tensors[3]["offset"] = parts.tensors[1]["offset"]
    assert open_model(parts.bytes()) == (FORMAT, "plan: output '' (tensor 1) is overwritten by tensor 3 before the end")


def test_inputs_must_not_overlap() -> None:
    b = Builder(0)
    x, y = b.input((1, 40)), b.input((1, 40))
    total = b.op(OpKind.BINARY, [x, y], (1, 40), DType.F32, f={0: -np.inf, 1: np.inf})
    parts = Parts.of(bundle(b.plan(total)))
    parts.tensors[1]["offset"] = parts.tensors[0]["offset"] + 64
    parts.header[0]["arena_size"] += 64
    assert open_model(parts.bytes()) == (FORMAT, "plan: inputs 'input0' and 'input1' overlap in the arena")


def test_extern_partition_must_exist() -> None:
    parts = Parts.of(sample("extern"))
    parts.ops[0]["p"][0] = 1
    assert open_model(parts.bytes()) == (
        FORMAT,
        "Extern 'extern_0' (model.py:1): external partition 1 does not exist (1 carried)",
    )
    parts.ops[0]["p"][0] = -1
    assert open_model(parts.bytes())[0] == FORMAT
    parts.ops[0]["p"][:2] = [0, int(Backend.TVM)]
    status, text = open_model(parts.bytes())
    assert status == FORMAT
    assert "backend 3 does not match" in text


def test_extern_without_a_backend_is_unsupported() -> None:
    lib, data = core(), sample("extern")
    block, model, session, error = aligned(data), ctypes.c_void_p(), ctypes.c_void_p(), _native.ErrorStruct()
    assert lib.gs_model_open(ctypes.addressof(block), len(data), ctypes.byref(model), ctypes.byref(error)) == OK
    assert lib.gs_session_open(model, None, ctypes.byref(session), ctypes.byref(error)) == UNSUPPORTED
    lib.gs_model_close(model)


@pytest.mark.parametrize(
    ("field", "value", "status"), [("threads", 0, 1), ("threads", 65, 1), ("isa_cap", 20, 1), ("isa_cap", 77, 1)]
)
def test_session_options_are_checked(network: bytes, field: str, value: int, status: int) -> None:
    options = {"threads": 1, "isa": _native.ISA_BEST}
    options["isa" if field == "isa_cap" else field] = value
    if field == "isa_cap" and value == 20 and core().gs_isa_name(core().gs_detect_isa()).startswith(b"neon"):
        pytest.skip("this machine's build has NEON kernels, so NEON is a valid cap")
    found, text = open_and_run(network, **options)
    assert found == status, text


def test_threads_give_the_same_bits() -> None:
    for name in ("network_s8", "network_f32", "shapes_s8"):
        data = sample(name)
        assert open_and_run(data, threads=3) == open_and_run(data, threads=1)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 100])
def test_short_files_are_refused(network: bytes, size: int) -> None:
    assert open_model(network[:size])[0] == FORMAT
