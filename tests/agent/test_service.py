"""The agent over gRPC as a real process: flash, resume, kill -9, refusals by status, memory and time."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from gossamer._errors import UnreachableError
from gossamer.device.book import Place
from gossamer.device.remote import Remote
from gossamer_runtime import BundleError, InputError, Session, SignatureError
from gossamer_runtime._errors import OlderBundleError, SlotError
from gossamer_runtime.agent import _status, active_bundle
from gossamer_runtime.agent._proto import device_pb2 as pb
from gossamer_runtime.agent._proto import device_pb2_grpc
from tests.agent.agentkit import Agent, CuttingProxy, agent, cpu_seconds, rss_bytes
from tests.agent.conftest import digest


@pytest.fixture
def served(tmp_path, work):
    with agent(tmp_path / "slots") as made:
        yield made


def remote(address: str, **options) -> Remote:
    return Remote(Place("test", address=address), **options)


def put(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / f"{digest(data)[:8]}.goss"
    path.write_bytes(data)
    return path


def test_life_of_a_device(served, tmp_path, bundles):
    device = remote(served.address)
    info = device.info()
    assert [s["status"] for s in info["slots"]] == ["empty", "empty"] and info["rollback_counter"] == 0
    assert len(info["trusted_keys"]) >= 1 and info["isa"] and info["disk_free_bytes"] > 0
    with pytest.raises(SlotError, match="no bundle runs"):
        device.run([])
    first, second = put(tmp_path, bundles("1", 2)), put(tmp_path, bundles("2", 2))
    seen = []
    done = device.flash(first, progress=lambda at, total: seen.append((at, total)))
    assert (done.status, done.slot, done.resumed_at) == ("committed", "a", 0) and done.trial_us > 0
    size = first.stat().st_size
    assert seen[-1] == (size, size)
    assert device.flash(first).status == "unchanged"
    assert device.flash(second, stage_only=True).status == "staged"
    assert [s["status"] for s in device.info()["slots"]] == ["active", "staged"]
    assert device.activate().slot == "b"
    assert device.rollback().slot == "a"
    x = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    us, (out,) = device.run([x.tobytes()])
    with Session(first) as session:
        want = session.run(x)
    assert us > 0 and (out.name, out.dtype, out.shape) == ("scores", "float32", (1, 5))
    np.testing.assert_array_equal(np.frombuffer(out.data, np.float32).reshape(1, 5), want)
    with pytest.raises(InputError, match="has 4 bytes, float32"):
        device.run([b"1234"])
    found, text, trace = device.profile(runs=3, warmup=1, trace=True)
    assert '"runs": 3' in found and "median us" in text and "traceEvents" in trace
    messages = [r["message"] for r in device.logs()]
    assert sum("committed" in m for m in messages) == 3
    assert [r["message"] for r in device.logs(limit=1)] == messages[-1:]
    info = device.info(manifest=True)
    assert '"version":"1"' in info["manifest_json"] and info["rollback_counter"] == 2
    device.close()
    assert served.stop() == 0
    assert Path(active_bundle(served.root)).read_bytes() == first.read_bytes()


def test_refusals_have_their_code_reason_and_class(served, tmp_path, bundles, other_key):
    device = remote(served.address)
    device.flash(put(tmp_path, bundles("1", 5)))
    before = device.info()["slots"]
    flipped = bytearray(bundles("2", 5))
    flipped[len(flipped) // 2] ^= 1
    cases = [
        (bundles("2", 4), OlderBundleError, "OLDER_BUNDLE", grpc.StatusCode.FAILED_PRECONDITION),
        (bundles("2", 5, key=other_key), SignatureError, "SIGNATURE_REFUSED", grpc.StatusCode.PERMISSION_DENIED),
        (bytes(flipped), SignatureError, "SIGNATURE_REFUSED", grpc.StatusCode.PERMISSION_DENIED),
        (b"not a bundle at all", BundleError, "BAD_BUNDLE", grpc.StatusCode.INVALID_ARGUMENT),
    ]
    for data, kind, reason, code in cases:
        with pytest.raises(kind) as caught:
            device.flash(put(tmp_path, data))
        assert caught.value.reason == reason
        assert caught.value.__cause__.code() is code
        assert caught.value.where == f"device test ({served.address})"
    with pytest.raises(SlotError, match="no bundle to go back to"):
        device.rollback()
    assert device.info()["slots"] == before
    assert sorted(p.name for p in served.root.iterdir()) == ["lock", "pointer", "slot-a.goss"]
    assert sum("REFUSED" in r["message"] for r in device.logs()) == 2
    device.close()


def header(**fields) -> pb.FlashRequest:
    return pb.FlashRequest(header=pb.FlashHeader(**fields))


@pytest.mark.parametrize(
    ("messages", "reason", "code"),
    [
        ([], "BAD_STREAM", "INVALID_ARGUMENT"),
        ([pb.FlashRequest(chunk=b"x")], "BAD_STREAM", "INVALID_ARGUMENT"),
        ([header(sha256="../../x", total_bytes=5)], "BAD_DIGEST", "INVALID_ARGUMENT"),
        ([header(sha256="0" * 64, total_bytes=10 << 30)], "TOO_LARGE", "RESOURCE_EXHAUSTED"),
        ([header(sha256="0" * 64)], "TOO_LARGE", "RESOURCE_EXHAUSTED"),
        ([header(sha256="0" * 64, total_bytes=9, offset=3)], "BAD_OFFSET", "OUT_OF_RANGE"),
        ([header(sha256="0" * 64, total_bytes=2), pb.FlashRequest(chunk=b"xyz")], "BAD_STREAM", "INVALID_ARGUMENT"),
        ([header(sha256="0" * 64, total_bytes=3)] * 2, "BAD_STREAM", "INVALID_ARGUMENT"),
        ([header(sha256="0" * 64, total_bytes=3), pb.FlashRequest(chunk=b"ab")], "BAD_STREAM", "INVALID_ARGUMENT"),
        ([header(sha256="0" * 64, total_bytes=3), pb.FlashRequest(chunk=b"abc")], "DIGEST_MISMATCH", "DATA_LOSS"),
    ],
)
def test_streams_that_are_wrong(shared, messages, reason, code):
    stub = device_pb2_grpc.DeviceServiceStub(shared)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Flash(iter(messages), timeout=10)
    assert caught.value.code() is grpc.StatusCode[code]
    detail = dict(caught.value.trailing_metadata())[_status.TRAILER]
    assert _status.error_info(detail)[:2] == (reason, "gossamer.device")


@pytest.fixture(scope="module")
def shared(tmp_path_factory, _made):
    """A channel to one agent that several tests send nonsense to."""
    with agent(tmp_path_factory.mktemp("shared") / "slots") as made, grpc.insecure_channel(made.address) as channel:
        yield channel


def test_a_message_over_the_limit(shared):
    stub = device_pb2_grpc.DeviceServiceStub(shared)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Run(pb.RunRequest(inputs=[bytes(9 << 20)]), timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_status_details_are_googles(shared):
    """What is written by hand is what googleapis' own messages read."""
    status_pb2 = pytest.importorskip("google.rpc.status_pb2", reason="googleapis-common-protos is not installed")
    from google.rpc import error_details_pb2

    data = _status.encode(9, "ein Gerät", "OLDER_BUNDLE", "gossamer.device", {"hint": "x" * 300, "where": ""})
    status = status_pb2.Status.FromString(data)
    info = error_details_pb2.ErrorInfo()
    assert status.code == 9 and status.message == "ein Gerät" and status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("OLDER_BUNDLE", "gossamer.device")
    assert dict(info.metadata) == {"hint": "x" * 300, "where": ""}
    assert _status.error_info(data) == ("OLDER_BUNDLE", "gossamer.device", {"hint": "x" * 300, "where": ""})
    for end in range(len(data)):
        _status.error_info(data[:end])  # cut anywhere: no exception
    assert _status.error_info(b"") is None


def test_a_connection_cut_at_every_chunk(served, tmp_path, bundles):
    """Each connection carries its calls' heads and about a chunk and a half; the upload goes on from what came."""
    data = bundles("1", pad=24_000)
    chunk = 4096
    proxy = CuttingProxy(served.port, allow=chunk * 3 // 2 + 1000)
    device = remote(proxy.address, chunk_bytes=chunk)
    done = device.flash(put(tmp_path, data))
    proxy.close()
    device.close()
    assert done.status == "committed"
    assert proxy.cuts >= len(data) // (2 * chunk)
    assert Path(active_bundle(served.root)).read_bytes() == data


def test_resume_after_the_agent_was_killed(served, tmp_path, bundles):
    data = bundles("1", pad=100_000)
    sha = digest(data)
    held = threading.Event()

    def messages():
        yield header(sha256=sha, total_bytes=len(data))
        for at in range(0, 50_000, 10_000):
            yield pb.FlashRequest(chunk=data[at : at + 10_000])
        held.wait(20)

    with grpc.insecure_channel(served.address) as channel:
        stub = device_pb2_grpc.DeviceServiceStub(channel)
        call = stub.Flash.future(messages())
        deadline = time.monotonic() + 10
        while stub.FlashStatus(pb.FlashStatusRequest(sha256=sha)).offset < 50_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        served.kill()
        held.set()
        assert isinstance(call.exception(10), grpc.RpcError)
    served.start()
    device = remote(served.address)
    done = device.flash(put(tmp_path, data))
    device.close()
    assert (done.status, done.resumed_at, done.sent_bytes) == ("committed", 50_000, len(data) - 50_000)
    assert Path(active_bundle(served.root)).read_bytes() == data


def flash_once(address: str, data: bytes) -> None:
    """One call without tries, going on from what is there; how it ends does not matter."""
    sha = digest(data)

    def messages(offset):
        yield header(sha256=sha, total_bytes=len(data), offset=offset)
        for at in range(offset, len(data), 1 << 14):
            yield pb.FlashRequest(chunk=data[at : at + (1 << 14)])

    with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(address) as channel:
        stub = device_pb2_grpc.DeviceServiceStub(channel)
        stub.Flash(messages(stub.FlashStatus(pb.FlashStatusRequest(sha256=sha)).offset), timeout=20)


def killed_at_random(served: Agent, tmp_path: Path, bundles, rounds: int, seed: int) -> None:
    """After each kill and start the old or the new bundle runs, whole; over all rounds both happen."""
    rng = random.Random(seed)
    known = [bundles(str(i), pad=200_000) for i in (1, 2)]
    device = remote(served.address)
    device.flash(put(tmp_path, known[0]))
    device.close()
    runs, switched = 0, 0
    for _ in range(rounds):
        thread = threading.Thread(target=flash_once, args=(served.address, known[1 - runs]))
        thread.start()
        time.sleep(rng.random() * 0.4)
        served.kill()
        thread.join()
        assert Path(active_bundle(served.root)).read_bytes() in known
        served.start()
        device = remote(served.address)
        us, _ = device.run([])
        assert us > 0
        device.close()
        found = known.index(Path(active_bundle(served.root)).read_bytes())
        switched += found != runs
        runs = found
    if rounds >= 50:
        assert 0 < switched < rounds


def test_killed_at_random_moments(served, tmp_path, bundles):
    killed_at_random(served, tmp_path, bundles, 3, 0)


@pytest.mark.slow
def test_killed_at_random_moments_a_hundred_times(served, tmp_path, bundles):
    killed_at_random(served, tmp_path, bundles, 100, 1)


def test_a_second_flash_waits_its_turn(served, tmp_path, bundles):
    held = threading.Event()

    def messages():
        yield header(sha256="0" * 64, total_bytes=10)
        held.wait(20)

    with grpc.insecure_channel(served.address) as channel:
        stub = device_pb2_grpc.DeviceServiceStub(channel)
        slow = stub.Flash.future(messages())
        time.sleep(0.3)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Rollback(pb.RollbackRequest(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.ABORTED
        slow.cancel()
        held.set()
    device = remote(served.address)
    assert device.flash(put(tmp_path, bundles("1"))).status == "committed"
    device.close()


@pytest.mark.parametrize("how", ["silent", "slow"])
def test_a_client_that_keeps_others_out_is_ended(tmp_path, work, bundles, monkeypatch, how):
    """Silent: nothing comes. Slow: a byte now and then, for ever (a slow loris)."""
    from concurrent.futures import ThreadPoolExecutor

    from gossamer_runtime.agent import _logs, _service, _watch
    from gossamer_runtime.agent._child import Child
    from gossamer_runtime.agent._device import Device
    from gossamer_runtime.agent._slots import open_folder

    monkeypatch.setattr(_watch, "IDLE_SECONDS", 0.2 if how == "silent" else 5.0)
    monkeypatch.setattr(_watch, "PATIENCE_SECONDS", 0.3)
    served_device = Device(open_folder(tmp_path / "slots", Child), Child)
    service = _service.DeviceService(served_device, _logs.install("ERROR"))
    server = grpc.server(ThreadPoolExecutor(4))
    device_pb2_grpc.add_DeviceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    over = threading.Event()

    def messages():
        yield header(sha256="0" * 64, total_bytes=1000)
        while not over.wait(0.05):
            if how == "slow":
                yield pb.FlashRequest(chunk=b"x")

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = device_pb2_grpc.DeviceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Flash(messages(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        over.set()
    device = remote(f"127.0.0.1:{port}")
    assert device.flash(put(tmp_path, bundles("1"))).status == "committed"
    device.close()
    server.stop(0).wait()
    served_device.close()


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    device = remote(f"127.0.0.1:{port}")
    with pytest.raises(UnreachableError, match="does not answer"):
        device.info()
    device.close()


def test_memory_and_time_when_idle(served):
    """Under 45 MB and half a percent of a core; the limit in time has room for the clock's coarse ticks."""
    device = remote(served.address)
    device.info()
    began, cpu = time.monotonic(), cpu_seconds(served.process.pid)
    time.sleep(2)
    share = (cpu_seconds(served.process.pid) - cpu) / (time.monotonic() - began)
    assert rss_bytes(served.process.pid) < 45e6
    assert share <= 0.01
    device.close()


def test_a_flash_of_a_megabyte_takes_no_longer_than_it_should(served, tmp_path, bundles):
    """The goal is 300 ms on an idle machine; the test's limit has room for busy ones."""
    device = remote(served.address)
    path = put(tmp_path, bundles("1", pad=980_000))
    assert 950_000 < path.stat().st_size < 1_050_000
    done = device.flash(path)
    assert done.seconds < 2
    device.close()
