"""No text of any request of any service may hold NUL, which PostgreSQL does not store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gossamer._proto.v1 import fleet_pb2, optimizer_pb2, profile_pb2, registry_pb2
from gossamer_services.common.texts import check_texts
from tests.services.kit import refused, served

SERVICES = ("registry", "optimizer", "fleet")


def with_nul(kind: Descriptor) -> Iterator[tuple[str, bytes]]:
    """A message for each text that may be in it, at any depth: the path of that text, and the message's bytes."""
    for field in kind.fields:
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            for entry in ({"k\0": "v"}, {"k": "v\0"}):
                message = message_factory.GetMessageClass(kind)()
                getattr(message, field.name).update(entry)
                yield field.name, message.SerializeToString()
        elif inner is not None:
            for path, data in with_nul(inner):
                message = message_factory.GetMessageClass(kind)()
                value = getattr(message, field.name)
                (value.add() if field.is_repeated else value).ParseFromString(data)
                at = f"{field.name}[0]" if field.is_repeated else field.name
                yield f"{at}.{path}", message.SerializeToString()
        elif field.type == FieldDescriptor.TYPE_STRING:
            message = message_factory.GetMessageClass(kind)()
            if field.is_repeated:
                getattr(message, field.name).extend(["", "\0"])
            else:
                setattr(message, field.name, "a\0b")
            yield field.name + ("[1]" if field.is_repeated else ""), message.SerializeToString()


def test_every_text_of_every_call(tmp_path):
    """None comes as far as to be asked whether it makes sense. Devices' calls: in the fleet's tests."""
    asked: set[str] = set()

    async def ask(channel: grpc.aio.Channel, service: str, method) -> None:
        kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        call = getattr(channel, kind)(f"/{service}/{method.name}")
        for path, data in with_nul(method.input_type):
            with refused(grpc.StatusCode.INVALID_ARGUMENT, "BAD_FIELD") as e:
                made = call(iter([data]) if method.client_streaming else data)
                async for _ in made if method.server_streaming else _once(made):
                    pass
            assert (e.fields, e.message) == ([path], f"{path}: has a NUL character"), (method.full_name, path)
            asked.add(f"{method.name}.{path}")

    async def main():
        async with (
            served(tmp_path, services=SERVICES) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            for service in server.services:
                for method in descriptor_pool.Default().FindServiceByName(service.name).methods:
                    if service.scopes[method.name] != "device":
                        await ask(channel, service.name, method)

    asyncio.run(main())
    assert {"UpdateDevice.device.display_name", "ListProfiles.kernel", "UpdateVersion.version.description"} <= asked
    assert {"SubmitJob.spec.labels", "WriteBlob.ref", "UpdateDevice.update_mask.paths[1]"} <= asked


async def _once(call):
    yield await call


def test_zeros_that_are_no_text_pass():
    record = profile_pb2.ProfileRecord(bundle_sha256="c" * 64, notes=["", "ä\n"], init_us=1.0)
    record.ops.add(name="layer", median_us=1.0)
    check_texts(fleet_pb2.CreateProfileRequest(profile=record))
    check_texts(registry_pb2.WriteBlobRequest(ref="ref", data=b"\0\0", total=1 << 40))
    check_texts(optimizer_pb2.SubmitJobRequest(spec=optimizer_pb2.JobSpec(labels={"": ""})))
