"""A registry elsewhere, as the services know it: cut transfers, leases, errors, and times when it does not answer."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import grpc

import gossamer
from gossamer._errors import KeyFileError, UnreachableError
from gossamer._proto.v1 import fleet_pb2, fleet_pb2_grpc, optimizer_pb2, optimizer_pb2_grpc
from gossamer_services.common.errors import Code, ServiceError, SettingsError
from gossamer_services.common.logs import REQUEST_ID
from gossamer_services.upstream.connection import Upstream, UpstreamError
from gossamer_services.upstream.fleet import RemoteFleet
from gossamer_services.upstream.recent import Recent
from gossamer_services.upstream.registry import RemoteRegistry
from tests.client.proxy import cutting
from tests.services.alone import Alone, free_port
from tests.services.common.certificates import Authority
from tests.services.kit import refused, served
from tests.shellkit import PLAIN, small_network

T = TypeVar("T")
MIB = 1 << 20


class Remote:
    """A registry that runs in a thread, and the folder of its state."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.folder, self._overrides = folder, overrides
        self._ready, self.port = threading.Event(), 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with served(self.folder / "data", "registry.grace_s=0", *self._overrides) as server:
            self.port = server.port
            self._ready.set()
            await self._end.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    found = Remote(tmp_path_factory.mktemp("registry"))
    yield found
    found.stop()


@pytest.fixture
def connect() -> Iterator[Callable[..., RemoteRegistry]]:
    made: list[Upstream] = []

    def connect(port: int, *, cache_s: float = 0.0, ca: Path | None = None) -> RemoteRegistry:
        made.append(Upstream("registry", f"127.0.0.1:{port}", None, ca))
        return RemoteRegistry(made[-1], lease_s=3600.0, cache_s=cache_s)

    yield connect
    for upstream in made:
        upstream.close()


def failing(work: Callable[[], T], code: Code, reason: str) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        work()
    assert (caught.value.code, caught.value.reason) == (code, reason)
    return caught.value


def test_transfers_over_connections_that_break(remote, connect, tmp_path):
    data = random.Random(0).randbytes(6 * MIB)
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / "big").write_bytes(data)
    cuts = [MIB, 2 * MIB, 3 * MIB // 2]
    with cutting(remote.port, cuts, upwards=True) as proxy:
        assert connect(proxy.port).put(tmp_path / "big") == digest
        assert proxy.connections > 3
    with cutting(remote.port, cuts, upwards=False) as proxy:
        connect(proxy.port).fetch(digest, tmp_path / "copy")
        assert proxy.connections > 3
    assert (tmp_path / "copy").read_bytes() == data
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big", "copy"]


def test_blobs(remote, connect, tmp_path):
    registry = connect(remote.port)
    (tmp_path / "file").write_bytes(b"some bytes")
    digest = hashlib.sha256(b"some bytes").hexdigest()
    assert registry.size(digest) is None and not registry.use(digest)
    assert failing(lambda: registry.open(digest), Code.NOT_FOUND, "BLOB_NOT_FOUND").where == digest
    failing(lambda: registry.fetch(digest, tmp_path / "none"), Code.NOT_FOUND, "BLOB_NOT_FOUND")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert registry.put(tmp_path / "file") == registry.put(tmp_path / "file") == digest
    assert registry.size(digest) == 10 and registry.use(digest)
    assert registry.open(digest).read() == b"some bytes"
    failing(lambda: registry.size("short"), Code.INVALID_ARGUMENT, "BAD_FIELD")
    (remote.folder / "data" / "blobs" / digest).write_bytes(b"other byte")
    failing(lambda: registry.fetch(digest, tmp_path / "none"), Code.DATA_LOSS, "DIGEST_MISMATCH")
    failing(lambda: registry.open(digest), Code.DATA_LOSS, "DIGEST_MISMATCH")


def test_versions(remote, connect, tmp_path):
    registry, cached = connect(remote.port), connect(remote.port, cache_s=60.0)
    for i in range(2):
        bundle = gossamer.optimize(small_network(), PLAIN, key=False, name=f"small{i}").data
        (tmp_path / str(i)).write_bytes(bundle)
    first, second = (registry.put(tmp_path / str(i)) for i in range(2))
    assert registry.name_of(first) == cached.name_of(first) == ""
    for _ in range(2):
        made = registry.publish("small", "1", first, request_id="job", description="by a job")
        assert made == "bundles/small/versions/1"
    assert registry.publish("small", "1", first, request_id="another", description="by a job") == made
    failing(
        lambda: registry.publish("small", "1", second, request_id="third", description=""),
        Code.ALREADY_EXISTS,
        "VERSION_EXISTS",
    )
    failing(
        lambda: registry.publish("small", "2", second, request_id="job", description=""),
        Code.FAILED_PRECONDITION,
        "REQUEST_ID_REUSED",
    )
    registry.publish("small", "2", first, request_id="more", description="")
    found = registry.version("small", "1")
    assert (found.bundle, found.version, found.sha256, found.description) == ("small", "1", first, "by a job")
    assert (found.size_bytes, found.model_name) == ((tmp_path / "0").stat().st_size, "small0")
    assert registry.name_of(first) == "bundles/small/versions/2" and cached.name_of(first) == ""
    missing = failing(lambda: registry.version("small", "3"), Code.NOT_FOUND, "VERSION_NOT_FOUND")
    assert missing.where == "bundles/small/versions/3"
    failing(lambda: registry.channel("small", "stable"), Code.NOT_FOUND, "CHANNEL_NOT_FOUND")


def test_one_caller_asks_a_registry_that_does_not_answer(connect):
    registry = connect(free_port())
    error = failing(lambda: registry.size("0" * 64), Code.UNAVAILABLE, "REGISTRY_UNREACHABLE")
    assert isinstance(error, UpstreamError) and error.where == registry.upstream.address
    asked = 0

    async def work(link: object) -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.2)
        raise UnreachableError("the service does not answer: still not")

    def ask(_: int) -> None:
        failing(lambda: registry.upstream.do(work), Code.UNAVAILABLE, "REGISTRY_UNREACHABLE")

    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        for _ in range(4):
            list(pool.map(ask, range(100)))
            time.sleep(0.4)
    # One in 400 asks each second, and all others hear what it heard.
    assert 1 <= asked <= 1 + (time.monotonic() - began)


def test_it_answers_again(connect, tmp_path):
    port = free_port()
    registry = connect(port)
    failing(lambda: registry.size("0" * 64), Code.UNAVAILABLE, "REGISTRY_UNREACHABLE")
    remote = Remote(tmp_path, f"server.bind=127.0.0.1:{port}")
    try:
        end = time.monotonic() + 10
        while True:
            try:
                assert registry.size("0" * 64) is None
                break
            except UpstreamError:
                assert time.monotonic() < end
                time.sleep(0.05)
    finally:
        remote.stop()


def test_ending_aborts_what_runs(remote, connect, tmp_path):
    registry = connect(remote.port)
    held = threading.Event()

    async def for_ever(link: object) -> None:
        held.set()
        await asyncio.sleep(60)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: failing(lambda: registry.upstream.do(for_ever), Code.UNAVAILABLE, "DRAINING"))
        assert held.wait(10)
        registry.upstream.abort()
        assert isinstance(running.result(10), UpstreamError)
    failing(lambda: registry.size("0" * 64), Code.UNAVAILABLE, "DRAINING")


def test_another_server_there(remote):
    fleet = RemoteFleet(Upstream("fleet", f"127.0.0.1:{remote.port}", None, None), cache_s=0)

    async def ask() -> None:
        try:
            await fleet.known("0" * 16)
        finally:
            await fleet.close()

    with pytest.raises(SettingsError, match="no fleet is served there"):
        fleet.check()
    failing(lambda: asyncio.run(ask()), Code.INTERNAL, "FLEET_REFUSES")


def test_a_token_is_read_anew_and_request_ids_go_along(tmp_path):
    with Alone(tmp_path, "registry").start() as one:
        (tmp_path / "token").write_text("goss_wrong\n")
        upstream = Upstream("registry", one.address, tmp_path / "token", None)
        try:
            registry = RemoteRegistry(upstream, lease_s=60.0, cache_s=0.0)
            REQUEST_ID.set("from-above")
            error = failing(lambda: registry.size("0" * 64), Code.INTERNAL, "REGISTRY_REFUSES")
            assert "upstream.registry_token_file" in (error.hint or "")
            (tmp_path / "token").write_text(one.token("reader", "read") + "\n")
            assert registry.size("0" * 64) is None
            failing(lambda: registry.use("0" * 64), Code.INTERNAL, "REGISTRY_REFUSES")
            end = time.monotonic() + 10
            while one.log.count('"request_id": "from-above"') < 3:  # a call is logged after its answer
                assert time.monotonic() < end, one.log
                time.sleep(0.02)
        finally:
            REQUEST_ID.set("")
            upstream.close()


def test_tls(connect, tmp_path):
    people, strangers = Authority("people"), Authority("strangers")
    certificate, key = people.issue("server").write(tmp_path, "server")
    (tmp_path / "people.crt").write_bytes(people.certificate)
    (tmp_path / "strangers.crt").write_bytes(strangers.certificate)
    remote = Remote(tmp_path, f'server.tls_certificate="{certificate}"', f'server.tls_key="{key}"')
    try:
        registry = connect(remote.port, ca=tmp_path / "people.crt")
        assert registry.check(writes=True) is None and registry.size("0" * 64) is None
        registry = connect(remote.port, ca=tmp_path / "strangers.crt")
        error = failing(lambda: registry.size("0" * 64), Code.INTERNAL, "REGISTRY_REFUSES")
        assert "certificate is not trusted" in error.message and "upstream.registry_ca" in (error.hint or "")
        with pytest.raises(SettingsError, match="certificate is not trusted"):
            registry.check(writes=True)
        failing(lambda: connect(remote.port).size("0" * 64), Code.UNAVAILABLE, "REGISTRY_UNREACHABLE")  # not encrypted
    finally:
        remote.stop()
    with pytest.raises(KeyFileError, match="the certificates cannot be read"):
        Upstream("registry", "localhost:1", None, tmp_path / "none.crt")


def test_optimizer_and_fleet_in_one_process(remote, tmp_path):
    async def main() -> None:
        settings = f"upstream.registry=127.0.0.1:{remote.port}"
        async with served(tmp_path / "two", settings, services=("optimizer", "fleet")) as server:
            assert [s.name for s in server.services] == [
                "gossamer.v1.OptimizerService", "google.longrunning.Operations", "gossamer.v1.FleetService"
            ]  # fmt: skip
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                rollout = fleet_pb2.Rollout(version="bundles/none/versions/1")
                with refused(Code.NOT_FOUND, "VERSION_NOT_FOUND"):
                    await fleet_pb2_grpc.FleetServiceStub(channel).CreateRollout(
                        fleet_pb2.CreateRolloutRequest(rollout=rollout)
                    )
                stub = optimizer_pb2_grpc.OptimizerServiceStub(channel)
                spec = optimizer_pb2.JobSpec(display_name="a", model_sha256="0" * 64, recipe="version: 1\n")
                spec.model_format = optimizer_pb2.MODEL_FORMAT_ONNX
                with refused(Code.NOT_FOUND, "BLOB_NOT_FOUND"):
                    await stub.SubmitJob(optimizer_pb2.SubmitJobRequest(spec=spec))

    asyncio.run(main())


def test_recent_answers():
    now, asked = 0.0, []

    def ask() -> int:
        asked.append(now)
        if len(asked) == 2:
            raise ValueError
        return len(asked)

    recent: Recent[int] = Recent(10.0, lambda: now)
    assert (recent.get("a", ask), recent.get("a", ask)) == (1, 1)
    now = 10.0
    with pytest.raises(ValueError):
        recent.get("a", ask)
    assert recent.get("a", ask) == 3 and recent.get("b", ask) == 4
    assert asked == [0.0, 10.0, 10.0, 10.0]
