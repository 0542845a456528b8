"""The shared server: who may call, TLS and certificates, health and draining, limits, errors, metrics, logs."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import urllib.request

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gossamer._errors import ModelError, RecipeError
from gossamer._proto.v1 import registry_pb2 as pb
from gossamer._proto.v1 import registry_pb2_grpc as rpc
from gossamer_services.common import logs
from gossamer_services.common.database import open_database
from gossamer_services.common.errors import Code, ServiceError, SettingsError, to_status
from gossamer_services.common.settings import is_loopback
from gossamer_services.common.tokens import TABLES, TokenStore
from tests.services.common.certificates import DAY, NOW, Authority
from tests.services.kit import download, refused, registry, served, upload

ASK = pb.FindMissingBlobsRequest(sha256=["0" * 64])
COLLECT = pb.CollectGarbageRequest()


def tokens_of(folder, clock=None) -> TokenStore:
    folder.mkdir(exist_ok=True)
    engine = open_database(f"sqlite:///{folder / 'registry.db'}", TABLES)
    return TokenStore(engine, **({} if clock is None else {"clock": clock}))


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def test_tokens_and_scopes(tmp_path):
    data = tmp_path / "data"
    store = tokens_of(data)
    read, submit, admin, gone = (store.create(n, [n]) for n in ("read", "submit", "admin", "flash"))
    late = tokens_of(data, lambda: 1000.0).create("late", ["admin"], 60.0)
    store.revoke("flash")

    async def main():
        async with registry(data, "server.tokens=required") as stub:
            with refused(Code.UNAUTHENTICATED, "TOKEN_MISSING"):
                await stub.FindMissingBlobs(ASK)
            for bad, reason in (
                (bearer("goss_" + "A" * 43), "TOKEN_UNKNOWN"),
                (bearer(gone), "TOKEN_REVOKED"),
                (bearer(late), "TOKEN_EXPIRED"),
                (bearer(read[:-1]), "TOKEN_UNKNOWN"),
                (bearer(""), "TOKEN_MALFORMED"),
                (bearer("x" * 257), "TOKEN_MALFORMED"),
                ((("authorization", f"Basic {admin}"),), "TOKEN_MALFORMED"),
                (bearer(admin) + bearer(read), "TOKEN_MALFORMED"),
            ):
                with refused(Code.UNAUTHENTICATED, reason):
                    await stub.FindMissingBlobs(ASK, metadata=bad)
            await stub.FindMissingBlobs(ASK, metadata=bearer(read))
            with refused(Code.PERMISSION_DENIED, "SCOPE_MISSING") as e:
                await stub.WriteBlob(iter([]), metadata=bearer(read))
            assert e.metadata["scope"] == "submit"
            assert "WriteBlob needs the scope 'submit'; tokens/read has read" in e.message
            with refused(Code.PERMISSION_DENIED, "SCOPE_MISSING"):
                await stub.CollectGarbage(COLLECT, metadata=bearer(submit))
            with refused(Code.PERMISSION_DENIED, "SCOPE_MISSING"):
                await stub.FindMissingBlobs(ASK, metadata=bearer(submit))
            await stub.FindMissingBlobs(ASK, metadata=bearer(admin))
            await stub.CollectGarbage(COLLECT, metadata=bearer(admin))
            store.revoke("admin")  # while the server runs
            with refused(Code.UNAUTHENTICATED, "TOKEN_REVOKED"):
                await stub.CollectGarbage(COLLECT, metadata=bearer(admin))

    asyncio.run(main())
    for token in (read, submit, admin):
        for file in data.iterdir():
            assert not file.is_file() or token.encode() not in file.read_bytes()


def test_token_store_refusals(tmp_path):
    store = tokens_of(tmp_path)
    store.create("a", ["read"])
    for arguments, field in (
        (("a", ["read"]), "name"),
        (("../a", ["read"]), "name"),
        (("b", []), "scopes"),
        (("b", ["root"]), "scopes"),
        (("b", ["read"], 0.0), "lifetime"),
    ):
        with pytest.raises(ServiceError) as caught:
            store.create(*arguments)
        assert [f for f, _ in caught.value.fields] == [field]
    with pytest.raises(ServiceError, match="no token called 'b'"):
        store.revoke("b")
    assert [(t.name, sorted(t.scopes), t.revoked, t.expires_s) for t in store.list()] == [("a", ["read"], False, None)]


@pytest.fixture
def people():
    return Authority("people")


def test_a_certificate_without_a_name_is_nobody_where_people_need_no_token(tmp_path, people):
    """People on loopback may do everything; whoever comes to the devices' address is no such person."""
    devices = Authority("devices")
    certificate, key = people.issue("server").write(tmp_path, "server")
    (tmp_path / "devices.crt").write_bytes(devices.certificate)
    overrides = [
        f'server.tls_certificate="{certificate}"',
        f'server.tls_key="{key}"',
        "server.device_bind=127.0.0.1:0",
        f'server.device_authority="{tmp_path / "devices.crt"}"',
    ]

    async def main():
        async with served(tmp_path / "data", *overrides) as server:
            for name, code, reason in (
                ("", Code.UNAUTHENTICATED, "CERTIFICATE_UNNAMED"),
                ("camera-1", Code.PERMISSION_DENIED, "SCOPE_MISSING"),
            ):
                pair = devices.issue(name)
                mine = grpc.ssl_channel_credentials(people.certificate, pair.key, pair.certificate)
                async with grpc.aio.secure_channel(f"127.0.0.1:{server.device_port}", mine) as channel:
                    with refused(code, reason):
                        await rpc.RegistryServiceStub(channel).CollectGarbage(COLLECT, timeout=5)

    asyncio.run(main())


def test_tls_and_device_certificates(tmp_path, people):
    devices, strangers = Authority("devices"), Authority("strangers")
    certificate, key = people.issue("server").write(tmp_path, "server")
    (tmp_path / "devices.crt").write_bytes(devices.certificate)
    token = tokens_of(tmp_path / "data").create("reader", ["read"])
    overrides = [
        f'server.tls_certificate="{certificate}"',
        f'server.tls_key="{key}"',
        "server.device_bind=127.0.0.1:0",
        f'server.device_authority="{tmp_path / "devices.crt"}"',
        "server.tokens=required",
    ]

    async def ask(port: int, credentials, metadata=()):
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            return await rpc.RegistryServiceStub(channel).FindMissingBlobs(ASK, metadata=metadata, timeout=5)

    async def read(port: int, credentials):
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            return await download(rpc.RegistryServiceStub(channel), "0" * 64)

    def device(pair) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(people.certificate, pair.key, pair.certificate)

    async def main():
        plain = grpc.ssl_channel_credentials(people.certificate)
        async with served(tmp_path / "data", *overrides) as server:
            assert (await ask(server.port, plain, bearer(token))).missing_sha256 == ["0" * 64]
            with refused(Code.UNAUTHENTICATED, "TOKEN_MISSING"):
                await ask(server.port, plain)
            async with grpc.aio.secure_channel(
                f"127.0.0.1:{server.port}", plain
            ) as channel:  # load balancers have none
                health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
                assert health.status == health_pb2.HealthCheckResponse.SERVING
            mine = device(devices.issue("camera-1"))
            with refused(Code.NOT_FOUND, "BLOB_NOT_FOUND"):
                await read(server.device_port, mine)
            with refused(Code.PERMISSION_DENIED, "SCOPE_MISSING") as e:
                await ask(server.device_port, mine)
            assert "devices/camera-1 has device, pull" in e.message
            with refused(Code.UNAUTHENTICATED, "TOKEN_MISSING"):  # a certificate is nothing on the people's port
                await ask(server.port, mine)
            for bad in (
                plain,
                device(strangers.issue("camera-1")),
                device(devices.issue("camera-1", ends=NOW - DAY)),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await ask(server.device_port, bad, bearer(token))
                assert caught.value.code() is Code.UNAVAILABLE  # the handshake fails: no call comes through
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(server.port, grpc.ssl_channel_credentials(strangers.certificate))
            assert caught.value.code() is Code.UNAVAILABLE

    asyncio.run(main())


def start_error(data, *overrides, services=("registry",)) -> ServiceError | SettingsError:
    async def main():
        async with served(data, *overrides, services=services):
            pass

    with pytest.raises((ServiceError, SettingsError)) as caught:
        asyncio.run(main())
    return caught.value


def test_refuses_to_serve_others_without_tls(tmp_path, people):
    assert start_error(tmp_path, "server.bind=0.0.0.0:0").reason == "TLS_NEEDED"
    assert start_error(tmp_path, 'server.bind="[::]:0"').reason == "TLS_NEEDED"
    assert start_error(tmp_path, "server.device_bind=127.0.0.1:0").reason == "TLS_NEEDED"
    assert start_error(tmp_path, "server.tls_key=/nowhere").reason == "BAD_TLS"
    missing = ["server.tls_key=/nowhere/a", "server.tls_certificate=/nowhere/b"]
    assert "cannot be read: No such file" in start_error(tmp_path, *missing).message
    loopback = ("localhost:1", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "unix:/tmp/x")
    assert all(is_loopback(bind) for bind in loopback)
    others = ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1", ":1", "localhost.example.org:1")
    assert not any(is_loopback(bind) for bind in others)


def test_port_and_folder_in_use(tmp_path):
    async def main():
        async with served(tmp_path / "a") as server:
            with pytest.raises(ServiceError) as caught:
                async with served(tmp_path / "b", f"server.bind=127.0.0.1:{server.port}"):
                    pass
            assert caught.value.reason == "CANNOT_BIND"
            assert caught.value.where == f"127.0.0.1:{server.port}"
            with pytest.raises(SettingsError, match="another server uses the data folder"):
                async with served(tmp_path / "a"):
                    pass
        async with served(tmp_path / "a"):  # free again
            pass
        with socket.create_server(("127.0.0.1", 0)) as taken:
            metrics = f"server.metrics_bind=127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(ServiceError, match="metrics cannot be served"):
                async with served(tmp_path / "c", metrics):
                    pass

    asyncio.run(main())


def test_data_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    error = start_error(tmp_path / "file")
    assert isinstance(error, SettingsError)
    assert "the data folder cannot be used" in error.message
    for name in ("lock", "jobs", "fleet", "blobs", "uploads"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).mkdir() if name == "lock" else (tmp_path / name / name).write_text("")
        error = start_error(tmp_path / name, services=("registry", "optimizer", "fleet"))
        assert isinstance(error, SettingsError)
        assert "the data folder cannot be used" in error.message


def test_health_says_not_serving_before_calls_are_refused(tmp_path):
    async def main():
        seen = []
        async with served(tmp_path, "server.drain_delay_s=0.3") as server:
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
            health, stub = health_pb2_grpc.HealthStub(channel), rpc.RegistryServiceStub(channel)
            for service in ("", "gossamer.v1.RegistryService"):
                found = await health.Check(health_pb2.HealthCheckRequest(service=service))
                assert found.status == health_pb2.HealthCheckResponse.SERVING
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING

            async def look():
                seen.append((await watch.read()).status)
                seen.append(list((await stub.FindMissingBlobs(ASK)).missing_sha256))

            looking = asyncio.create_task(look())
        await looking
        await channel.close()
        assert seen == [health_pb2.HealthCheckResponse.NOT_SERVING, ["0" * 64]]

    asyncio.run(main())


def test_draining_lets_an_upload_end(tmp_path):
    data = bytes(5000)

    async def main():
        async with served(tmp_path, "server.drain_s=10") as server:
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
            stub = rpc.RegistryServiceStub(channel)
            first = asyncio.Event()

            async def slow():
                from tests.services.kit import messages

                for i, message in enumerate(messages(data)):
                    yield message
                    first.set()
                    if i:
                        await asyncio.sleep(0.05)

            call = asyncio.create_task(_await(stub.WriteBlob(slow())))
            await first.wait()
            await asyncio.sleep(0.1)
        assert (await call).size_bytes == 5000
        await channel.close()

    asyncio.run(main())


async def _await(call):
    return await call


def test_reflection_lists_the_services(tmp_path):
    async def main():
        async with served(tmp_path) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            async for answer in stub.ServerReflectionInfo(iter([request])):
                names = {s.name for s in answer.list_services_response.service}
                assert {"gossamer.v1.RegistryService", "grpc.health.v1.Health"} <= names

    asyncio.run(main())


def test_message_limit_and_unknown_method(tmp_path):
    async def main():
        async with (
            served(tmp_path, "server.max_message_bytes=100000") as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            stub = rpc.RegistryServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await upload(stub, bytes(200_000), chunk=200_000)
            assert caught.value.code() is Code.RESOURCE_EXHAUSTED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/gossamer.v1.RegistryService/Nothing")(b"")
            assert caught.value.code() is Code.UNIMPLEMENTED
            await stub.FindMissingBlobs(ASK)

    asyncio.run(main())


def test_metrics_and_request_ids(tmp_path):
    async def main():
        async with (
            served(tmp_path, "server.metrics_bind=127.0.0.1:0") as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            stub = rpc.RegistryServiceStub(channel)
            call = stub.FindMissingBlobs(ASK, metadata=(("x-request-id", "mine-1"),))
            await call
            assert ("x-request-id", "mine-1") in tuple(await call.trailing_metadata())
            call = stub.FindMissingBlobs(ASK, metadata=(("x-request-id", 'forged" id'),))
            await call
            made = dict(await call.trailing_metadata())["x-request-id"]
            assert len(made) == 16
            with refused(Code.NOT_FOUND, "BLOB_NOT_FOUND") as e:
                await stub.GetBlob(pb.GetBlobRequest(sha256="0" * 64), metadata=(("x-request-id", "mine-2"),))
            assert e.metadata["request_id"] == "mine-2"
            url = f"http://127.0.0.1:{server.metrics_port}/metrics"
            text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
            counted = 'gossamer_grpc_calls_total{code="%s",method="/gossamer.v1.RegistryService/%s"} %s'
            assert counted % ("OK", "FindMissingBlobs", "2.0") in text
            assert counted % ("NOT_FOUND", "GetBlob", "1.0") in text
            assert "gossamer_grpc_active_calls 0.0" in text

    asyncio.run(main())


def test_logs_are_json_lines_that_nobody_forges():
    stream = io.StringIO()
    handler = logs.install("INFO", "json", stream)
    try:
        logs.REQUEST_ID.set("abc")
        logging.getLogger("gossamer_services.x").info("two\nlines", extra={"peer": "p", "empty": ""})
        logging.getLogger("gossamer_services.x").debug("not logged")
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("gossamer_services.x").exception("failed")
    finally:
        logs.remove(handler)
        logs.REQUEST_ID.set("")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["message"], first["level"], first["request_id"], first["peer"]) == ("two\nlines", "INFO", "abc", "p")
    assert "empty" not in first
    assert "ValueError: why" in second["exception"]


def details(status) -> tuple[error_details_pb2.ErrorInfo, list[tuple[str, str]]]:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    return info, [(v.field, v.description) for v in bad.field_violations]


def test_errors_become_statuses():
    status = to_status(RecipeError("no such field", where="recipe.yaml:3", hint="remove it"), "id")
    info, fields = details(status)
    assert (status.code, status.message) == (Code.INVALID_ARGUMENT.value[0], "no such field")
    assert (info.reason, info.domain) == ("BAD_RECIPE", "gossamer.dev")
    assert dict(info.metadata) == {"request_id": "id", "where": "recipe.yaml:3", "hint": "remove it"}
    assert fields == [("recipe.yaml:3", "no such field")]

    class SpecialError(ModelError):
        pass

    assert details(to_status(SpecialError("x")))[0].reason == "BAD_MODEL"
    status = to_status(KeyError("/secret/path"), "id")
    assert status.code == Code.INTERNAL.value[0]
    assert "secret" not in str(status)
    assert "request id id" in status.message
    assert to_status(MemoryError()).code == Code.RESOURCE_EXHAUSTED.value[0]
