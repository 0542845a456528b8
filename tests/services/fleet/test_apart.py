"""Devices whose fleet and registry are two servers: where they are told to read, whom they trust, and who is let in."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import grpc
from click.testing import CliRunner
from google.protobuf.field_mask_pb2 import FieldMask

import gossamer
from gossamer._proto.v1 import fleet_pb2, fleet_pb2_grpc, registry_pb2, registry_pb2_grpc
from gossamer.cli._app import app
from gossamer_services.common.errors import ServiceError, SettingsError
from tests.services.alone import free_port, identity
from tests.services.common.certificates import Authority
from tests.services.fleet.fleetkit import certificate_request
from tests.services.kit import download, refused, served, upload
from tests.shellkit import PLAIN, small_network

Code = grpc.StatusCode


class Device:
    """An enrolled device."""

    def __init__(self, answer: fleet_pb2.EnrollDeviceResponse, key: bytes) -> None:
        self.name = answer.device.name
        self._credentials = grpc.ssl_channel_credentials(
            answer.authority_pem.encode(), key, answer.certificate_pem.encode()
        )

    @classmethod
    async def enrol(cls, fleet: fleet_pb2_grpc.FleetServiceStub) -> Device:
        key, csr = certificate_request()
        token = (await fleet.CreateEnrollmentToken(fleet_pb2.CreateEnrollmentTokenRequest())).token
        request = fleet_pb2.EnrollDeviceRequest(token=token, certificate_request_pem=csr, request_id="1")
        return cls(await fleet.EnrollDevice(request), key)

    def channel(self, address: str) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(address, self._credentials)


def test_devices_of_a_fleet_whose_registry_is_elsewhere(tmp_path):
    bundle = gossamer.optimize(small_network(), PLAIN, key=False, name="small").data
    digest = hashlib.sha256(bundle).hexdigest()
    port, device_port = free_port(), free_port()
    there = f"localhost:{device_port}"
    at = [f"upstream.registry=127.0.0.1:{port}", f"upstream.registry_device_address={there}"]

    async def main() -> None:
        async with served(tmp_path / "fleet", *at, "server.device_bind=127.0.0.1:0", services=("fleet",)) as server:
            address = f"127.0.0.1:{server.port}"
            mine = [*identity(tmp_path, "localhost"), "upstream.cache_s=0", f"upstream.fleet={address}"]
            mine += [f"server.device_bind=127.0.0.1:{device_port}", f"server.bind=127.0.0.1:{port}"]
            async with served(tmp_path / "registry", *mine), grpc.aio.insecure_channel(address) as people:
                fleet = fleet_pb2_grpc.FleetServiceStub(people)
                async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                    registry = registry_pb2_grpc.RegistryServiceStub(channel)
                    await upload(registry, bundle)
                    wanted = registry_pb2.CreateVersionRequest(bundle="small", version="1", sha256=digest)
                    version = (await registry.CreateVersion(wanted)).version.name
                first, second = await Device.enrol(fleet), await Device.enrol(fleet)
                change = fleet_pb2.Device(name=first.name, desired_version=version)
                mask = FieldMask(paths=["desired_version"])
                request = fleet_pb2.UpdateDeviceRequest(device=change, update_mask=mask)
                while True:  # the fleet found no registry when it started, and tries again after a while
                    try:
                        await fleet.UpdateDevice(request)
                        break
                    except grpc.aio.AioRpcError as e:
                        assert e.code() is Code.UNAVAILABLE, e
                        await asyncio.sleep(0.05)
                async with first.channel(f"localhost:{server.device_port}") as channel:
                    beat = fleet_pb2.HeartbeatRequest(name=first.name)
                    heard = await fleet_pb2_grpc.FleetServiceStub(channel).Heartbeat(beat)
                assert (heard.desired_version, heard.desired_sha256) == (version, digest)
                assert (heard.desired_bytes, heard.registry_address) == (len(bundle), there)
                async with first.channel(there) as channel:
                    mine_there = registry_pb2_grpc.RegistryServiceStub(channel)
                    assert await download(mine_there, digest) == bundle
                    with refused(Code.PERMISSION_DENIED, "SCOPE_MISSING"):
                        await mine_there.CreateVersion(wanted)
                    await fleet.DeleteDevice(fleet_pb2.DeleteDeviceRequest(name=first.name))
                    with refused(Code.UNAUTHENTICATED, "CERTIFICATE_REVOKED"):
                        await download(mine_there, digest)
                async with second.channel(there) as channel:
                    mine_there = registry_pb2_grpc.RegistryServiceStub(channel)
                    assert await download(mine_there, digest) == bundle
                    await server.stop()
                    with refused(Code.UNAVAILABLE, "FLEET_UNREACHABLE") as e:  # nobody is let in on trust
                        await download(mine_there, digest)
                    assert e.metadata["where"] == address

    asyncio.run(main())


def test_wrong_identities(tmp_path):
    async def serve(*settings: str) -> None:
        async with served(tmp_path / "registry", "server.device_bind=127.0.0.1:0", *settings):
            pass

    def refuses(error: type[Exception], message: str, *settings: str) -> None:
        with pytest.raises(error, match=message):
            asyncio.run(serve(*settings))

    ran = CliRunner().invoke(app, ["certificate", "localhost", "-o", str(tmp_path / "x"), "--data", str(tmp_path)])
    assert isinstance(ran.exception, SettingsError) and "no fleet was served" in ran.exception.message

    async def fleet() -> None:
        async with served(tmp_path / "fleet", services=("registry", "fleet")):
            pass

    asyncio.run(fleet())
    pem, authority = identity(tmp_path, "localhost", "127.0.0.1")
    refuses(ServiceError, "devices are known by their certificates", authority)
    refuses(SettingsError, "need the authority that signed them", pem)
    refuses(SettingsError, "the file cannot be read: No such file", 'upstream.device_identity="/no"', authority)
    certificate = authority.partition("=")[2]
    refuses(SettingsError, "no private key and certificate", f"upstream.device_identity={certificate}", authority)
    other = tmp_path / "other.crt"
    other.write_bytes(b"none")
    refuses(SettingsError, "no certificate in PEM", pem, f"server.device_authority={other}")
    other.write_bytes(Authority("other").certificate)
    refuses(SettingsError, "not of server.device_authority", pem, f"server.device_authority={other}")
    asyncio.run(serve(pem, authority))
    for name in ("a b", "-x", ""):
        arguments = ["certificate", "-o", str(tmp_path / "x"), "--data", str(tmp_path / "fleet"), "--", name]
        ran = CliRunner().invoke(app, arguments)
        assert isinstance(ran.exception, SettingsError) and "neither an IP address" in ran.exception.message
    assert not (tmp_path / "x").exists()
