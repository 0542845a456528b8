"""Session: results, exact types and shapes, trust, closing, threads, errors; nothing but numpy is imported."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from gossamer_runtime import (
    BundleError,
    GossamerError,
    InputError,
    LibraryError,
    OpTime,
    Session,
    SignatureError,
    detect_isa,
)


@pytest.fixture
def x():
    return np.random.default_rng(0).random((1, 3, 16, 16), np.float32)


def test_ports_and_forms_of_run(work, x):
    with Session(work.bundle) as session:
        (port,), (out,) = session.inputs, session.outputs
        assert (port.name, port.dtype, port.shape) == ("image", np.dtype("float32"), (1, 3, 16, 16))
        assert (out.name, out.dtype, out.shape) == ("scores", np.dtype("float32"), (1, 5))
        y = session.run(x)
        assert isinstance(y, np.ndarray) and y.shape == (1, 5)
        np.testing.assert_array_equal(session.run([x]), y)
        by_name = session.run({"image": x})
        assert list(by_name) == ["scores"]
        np.testing.assert_array_equal(by_name["scores"], y)
        np.testing.assert_array_equal(session(x), y)
        assert session.run(x) is not y


def test_path_bytes_and_unaligned_memory_agree(work, x):
    data = work.bundle.read_bytes()
    shifted = bytearray(b"\0" * 3 + data)
    with (
        Session(work.bundle) as a,
        Session(str(work.bundle)) as b,
        Session(data) as c,
        Session(memoryview(shifted)[3:]) as d,
    ):
        want = a.run(x)
        for other in (b, c, d):
            np.testing.assert_array_equal(other.run(x), want)


def test_views_are_taken_by_their_values(work, x):
    with Session(work.bundle) as session:
        want = session.run(x)
        wide = np.zeros((1, 3, 16, 32), np.float32)
        wide[..., ::2] = x
        np.testing.assert_array_equal(session.run(wide[..., ::2]), want)
        nhwc = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(session.run(nhwc.transpose(0, 3, 1, 2)), want)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda x: x.astype(np.float64), ["float32", "float64"]),
        (lambda x: (x * 255).astype(np.uint8), ["float32", "uint8"]),
        (lambda x: x[0], ["(1, 3, 16, 16)", "(3, 16, 16)"]),
        (lambda x: x[:, :, :15], ["(1, 3, 15, 16)"]),
        (lambda x: [x, x], ["2 inputs", "1"]),
        (lambda x: [], ["0 inputs"]),
        (lambda x: {"picture": x}, ["picture", "image"]),
        (lambda x: {}, ["image"]),
        (lambda x: "cat.jpg", ["float32"]),
    ],
)
def test_wrong_inputs(work, x, bad, words):
    with Session(work.bundle) as session:
        with pytest.raises(InputError) as caught:
            session.run(bad(x))
        for word in words:
            assert word in str(caught.value)
        assert isinstance(caught.value, ValueError)
        assert session.run(x).shape == (1, 5)  # still usable


def test_wrong_arguments(work):
    for threads in (0, 65, -1):
        with pytest.raises(InputError, match="threads"):
            Session(work.bundle, threads=threads)
    with pytest.raises(InputError, match="sse9"):
        Session(work.bundle, isa="sse9")
    with pytest.raises(InputError, match="path or bytes"):
        Session(12)  # type: ignore[arg-type]


def test_isa_and_threads_give_the_same_bits(work, x):
    with Session(work.bundle) as session:
        want = session.run(x)
        assert session.isa == detect_isa()
    with Session(work.bundle, isa="scalar") as session:
        assert session.isa == "scalar"
        # The int8 part is equal; the outer float operators are none here but Quantize and Dequantize.
        np.testing.assert_array_equal(session.run(x), want)
    with Session(work.bundle, threads=3) as session:
        np.testing.assert_array_equal(session.run(x), want)


def test_close(work, x):
    session = Session(work.bundle)
    assert not session.closed and "small.goss" in repr(session)
    session.close()
    session.close()
    assert session.closed and "closed" in repr(session)
    for use in (
        lambda: session.run(x),
        lambda: session.profile(1),
        lambda: session.arena_bytes,
        lambda: session.partitions,
    ):
        with pytest.raises(GossamerError, match="closed"):
            use()


@pytest.mark.parametrize("threads", [0, 65, -1, "2", 1.5, None])
def test_thread_counts_that_make_no_sense(work, threads):
    with pytest.raises(InputError, match="whole number from 1 to 64"):
        Session(work.bundle, threads=threads)


def test_shared_by_threads(work, x):
    with Session(work.bundle) as session:
        want = session.run(x)
        wrong = []

        def many():
            wrong.extend(i for i in range(200) if not np.array_equal(session.run(x), want))

        workers = [threading.Thread(target=many) for _ in range(4)]
        for t in workers:
            t.start()
        for t in workers:
            t.join()
        assert wrong == []


def test_manifest_and_sizes(work):
    with Session(work.bundle) as session:
        assert session.manifest["name"] == "small"
        assert session.manifest["arena_bytes"] == session.arena_bytes
        assert session.arena_bytes % 64 == 0
        assert session.session_bytes > session.arena_bytes
        assert session.partitions == 0


def test_trust(work, home, tmp_path, x):
    from gossamer.bundle import keys
    from gossamer.bundle.verify import signer

    data = work.bundle.read_bytes()
    public = signer(data).public
    with pytest.raises(SignatureError):
        Session(data)  # nobody is trusted in an empty home
    line = keys.public_line(public, "me")
    path = tmp_path / "me.pub"
    path.write_text(line)
    for key in (public, line, path, str(path)):
        Session(data, trusted_keys=[key]).close()
    other = keys.new_key("other")
    with pytest.raises(SignatureError):
        Session(data, trusted_keys=[other.public])
    with pytest.raises(SignatureError):
        Session(data, trusted_keys=[])
    with pytest.raises(SignatureError, match="32 bytes"):
        Session(data, trusted_keys=[b"short"])
    Session(data, verify=False).close()


def test_unsigned_and_forged(work):
    data = work.bundle.read_bytes()
    unsigned = data[:-96] + bytes(96)
    with pytest.raises(SignatureError):
        Session(unsigned)
    # A key of small order would accept forged signatures; with no key trusted nothing may pass.
    with pytest.raises(SignatureError):
        Session(unsigned, trusted_keys=[])
    with pytest.raises(SignatureError):
        Session(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("cut", [0, 1, 63, 64, 200, -1])
def test_truncated(work, cut):
    with pytest.raises(BundleError):
        Session(work.bundle.read_bytes()[:cut], verify=False)


def test_missing_empty_and_folder(tmp_path):
    (tmp_path / "empty.goss").touch()
    for name in ("none.goss", "empty.goss", "."):
        with pytest.raises(BundleError) as caught:
            Session(tmp_path / name)
        assert caught.value.where == str(tmp_path / name)


def test_profile(work, x):
    with Session(work.bundle) as session:
        profile = session.profile(runs=7, warmup=1, inputs=x)
    assert profile.latency.runs == 7
    assert profile.latency.min_us <= profile.latency.median_us <= profile.latency.p90_us <= profile.latency.max_us
    assert sum(op.share_percent for op in profile.ops) == pytest.approx(100.0)
    by_name = {op.name: op for op in profile.ops}
    mid = by_name["mid"]
    assert isinstance(mid, OpTime)
    assert (mid.kind, mid.macs) == ("Conv", 8 * 8 * 16 * 32)
    assert mid.sparsity_percent == pytest.approx(75.0, abs=1.0)
    assert mid.source
    assert 0 < mid.min_us <= mid.median_us <= mid.p90_us
    value = profile.to_json()
    units = ("_us", "_bytes", "_percent", "_runs")
    for row in value["ops"]:
        numbers = [k for k, v in row.items() if isinstance(v, float)]
        assert all(k.endswith(units) for k in numbers), numbers
    assert "count=7" in profile.summary() and "us" in profile.summary()
    table = profile.table()
    assert len(table.splitlines()) == len(profile.ops) + 2
    assert len(profile.table(sort="time", limit=2).splitlines()) == 5
    with pytest.raises(InputError):
        profile.table(sort="name")


def test_profile_arguments(work):
    with Session(work.bundle) as session:
        for runs, warmup in ((0, 1), (1, -1)):
            with pytest.raises(InputError):
                session.profile(runs=runs, warmup=warmup)


def test_missing_library_says_what_to_do(tmp_path):
    code = "import gossamer_runtime as g\ntry: g.Session('x.goss')\nexcept g.LibraryError as e: print(e, e.exit_code)"
    env = {"GOSSAMER_LIB": str(tmp_path / "none.so")}
    for make in (lambda: None, lambda: (tmp_path / "none.so").write_text("no library")):
        make()
        out = subprocess.run(
            [sys.executable, "-c", code], env={**_environment(), **env}, capture_output=True, text=True, check=True
        ).stdout
        assert "none.so" in out and "build_native" in out and out.strip().endswith("15")
    assert LibraryError.exit_code == 15


def test_runtime_imports_numpy_alone(work):
    code = (
        "import sys; before = set(sys.modules); import numpy; base = set(sys.modules)\n"
        f"import numpy as np; from gossamer_runtime import Session; s = Session({str(work.bundle)!r})\n"
        "s.run(np.zeros((1,3,16,16), np.float32)); s.profile(2); s.manifest\n"
        "new = {m.split('.')[0] for m in set(sys.modules) - base}\n"
        "print(sorted(m for m in new if m not in sys.stdlib_module_names))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], env=_environment(), capture_output=True, text=True, check=True
    ).stdout
    found = {name for name in ast.literal_eval(out) if "cython" not in name}  # numpy.random's own
    assert found <= {"gossamer_runtime", "numpy"}


def _environment():
    return dict(os.environ)
