"""The fleet over gRPC: enrolment by a one-time token, devices by their certificates, desired state, profiles."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

import gossamer
from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer._proto.v1 import fleet_pb2_grpc as rpc
from gossamer._proto.v1 import profile_pb2, registry_pb2
from gossamer._proto.v1 import registry_pb2_grpc as registry_rpc
from gossamer_services.common.database import open_database
from gossamer_services.common.tokens import TABLES, TokenStore
from tests.services.common.certificates import Authority
from tests.services.kit import download, refused, served
from tests.shellkit import PLAIN, small_network

Code = grpc.StatusCode


def certificate_request() -> tuple[bytes, str]:
    """A key, and a PKCS #10 request for it that claims to be somebody."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "admin")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, request.public_bytes(serialization.Encoding.PEM).decode()


class World:
    """A fleet server with TLS, and its clients."""

    def __init__(self, folder) -> None:
        self.folder, self.people = folder, Authority("people")
        certificate, key = self.people.issue("server").write(folder, "server")
        (folder / "data").mkdir()
        tokens = TokenStore(open_database(f"sqlite:///{folder / 'data' / 'registry.db'}", TABLES))
        self.admin = (("authorization", f"Bearer {tokens.create('admin', ['admin'])}"),)
        self.reader = (("authorization", f"Bearer {tokens.create('reader', ['read'])}"),)
        tokens.close()
        self.overrides = [f'server.tls_certificate="{certificate}"', f'server.tls_key="{key}"']
        self.overrides += ["server.device_bind=127.0.0.1:0", "server.tokens=required"]

    def serve(self):
        return served(self.folder / "data", *self.overrides, services=("registry", "fleet"))

    def channel(self, server) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(self.people.certificate)
        return grpc.aio.secure_channel(f"127.0.0.1:{server.port}", credentials)

    def device_channel(self, server, key: bytes, certificate: str) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(self.people.certificate, key, certificate.encode())
        return grpc.aio.secure_channel(f"127.0.0.1:{server.device_port}", credentials)

    async def enrol(self, stub, **labels) -> tuple[str, bytes, str]:
        """Name, key and certificate of a new device."""
        made = await stub.CreateEnrollmentToken(pb.CreateEnrollmentTokenRequest(labels=labels), metadata=self.admin)
        key, csr = certificate_request()
        facts = pb.DeviceFacts(arch="aarch64", cpu="cortex-a76")
        request = pb.EnrollDeviceRequest(token=made.token, certificate_request_pem=csr, request_id="1", facts=facts)
        answer = await stub.EnrollDevice(request)
        assert (await stub.EnrollDevice(request)).certificate_pem == answer.certificate_pem  # the answer was lost
        with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
            request.request_id = "2"
            await stub.EnrollDevice(request)
        return answer.device.name, key, answer.certificate_pem


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_enrolment_heartbeats_and_desired_state(world, tmp_path):
    bundle = gossamer.optimize(small_network(), PLAIN, key=False, name="small").data

    async def main():
        async with world.serve() as server, world.channel(server) as channel:
            fleet, registry = rpc.FleetServiceStub(channel), registry_rpc.RegistryServiceStub(channel)
            with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
                await fleet.EnrollDevice(pb.EnrollDeviceRequest(token="guess", request_id="1"))
            with refused(Code.PERMISSION_DENIED, "SCOPE_MISSING"):
                await fleet.CreateEnrollmentToken(pb.CreateEnrollmentTokenRequest(), metadata=world.reader)
            for seconds in (-1, 31 * 86400):
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD"):
                    wrong = pb.CreateEnrollmentTokenRequest(time_to_live=Duration(seconds=seconds))
                    await fleet.CreateEnrollmentToken(wrong, metadata=world.admin)
            name, key, certificate = await world.enrol(fleet, site="lab")
            other, *_ = await world.enrol(fleet, site="roof")
            parsed = x509.load_pem_x509_certificate(certificate.encode())
            assert parsed.subject.rfc4514_string() == f"CN={name.removeprefix('devices/')}"

            metadata = world.admin
            parts = registry.WriteBlob(_messages(bundle), metadata=metadata)
            sha = (await parts).sha256
            made = registry_pb2.CreateVersionRequest(bundle="small", version="1", sha256=sha)
            version = (await registry.CreateVersion(made, metadata=metadata)).version.name

            async with world.device_channel(server, key, certificate) as mine:
                me = rpc.FleetServiceStub(mine)
                beat = pb.HeartbeatRequest(name=name, status=pb.DeviceStatus(state=pb.DEVICE_STATE_EMPTY))
                heard = await me.Heartbeat(beat)
                assert (heard.desired_version, heard.interval.seconds) == ("", 60)
                with refused(Code.PERMISSION_DENIED, "NOT_THIS_DEVICE"):
                    await me.Heartbeat(pb.HeartbeatRequest(name=other))
                with refused(Code.PERMISSION_DENIED, "SCOPE_MISSING"):
                    await me.UpdateDevice(pb.UpdateDeviceRequest())
                with refused(Code.PERMISSION_DENIED, "SCOPE_MISSING"):  # tokens of people speak for no device
                    await fleet.Heartbeat(beat, metadata=world.admin)

                device = (await fleet.GetDevice(pb.GetDeviceRequest(name=name), metadata=world.reader)).device
                assert (device.labels["site"], device.facts.cpu) == ("lab", "cortex-a76")
                device.desired_version = version
                change = pb.UpdateDeviceRequest(device=device, update_mask=FieldMask(paths=["desired_version"]))
                with refused(Code.PERMISSION_DENIED, "SCOPE_MISSING"):
                    await fleet.UpdateDevice(change, metadata=world.reader)
                await fleet.UpdateDevice(change, metadata=metadata)
                with refused(Code.ABORTED, "ETAG_MISMATCH"):
                    await fleet.UpdateDevice(change, metadata=metadata)
                heard = await me.Heartbeat(beat)
                assert (heard.desired_version, heard.desired_sha256) == (version, sha)
                assert heard.desired_bytes == len(bundle)
                assert await download(registry_rpc.RegistryServiceStub(mine), sha) == bundle

                listing = pb.ListDevicesRequest(selector="cpu=cortex-a76,site!=lab")
                listed = await fleet.ListDevices(listing, metadata=world.reader)
                assert [d.name for d in listed.devices] == [other]
                page = await fleet.ListDevices(pb.ListDevicesRequest(page_size=1), metadata=world.reader)
                rest = pb.ListDevicesRequest(page_size=1, page_token=page.next_page_token)
                last = await fleet.ListDevices(rest, metadata=world.reader)
                assert [page.devices[0].name, last.devices[0].name, last.next_page_token] == [name, other, ""]

                await fleet.DeleteDevice(pb.DeleteDeviceRequest(name=name), metadata=metadata)
                with refused(Code.UNAUTHENTICATED, "CERTIFICATE_REVOKED"):
                    await me.Heartbeat(beat)
                with refused(Code.UNAUTHENTICATED, "CERTIFICATE_REVOKED"):
                    await download(registry_rpc.RegistryServiceStub(mine), sha)

    asyncio.run(main())


def _messages(data: bytes):
    from tests.services.kit import messages

    return messages(data, chunk=100_000)


def test_bad_certificate_requests(world):
    async def main():
        async with world.serve() as server, world.channel(server) as channel:
            fleet = rpc.FleetServiceStub(channel)
            made = await fleet.CreateEnrollmentToken(pb.CreateEnrollmentTokenRequest(), metadata=world.admin)
            _, csr = certificate_request()
            lines = csr.splitlines()
            at = len(lines) - 2  # in the signature
            lines[at] = ("B" if lines[at][0] != "B" else "C") + lines[at][1:]
            for bad in ("", "x", csr[:200], "\n".join(lines)):
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                    request = pb.EnrollDeviceRequest(token=made.token, certificate_request_pem=bad, request_id="1")
                    await fleet.EnrollDevice(request)
                assert e.fields == ["certificate_request_pem"]

    asyncio.run(main())


def test_profiles(world):
    def record(model: str, *kernels: str, us: float = 5.0) -> profile_pb2.ProfileRecord:
        made = profile_pb2.ProfileRecord(bundle_sha256="c" * 64, model_name=model)
        for i, kernel in enumerate(kernels):
            made.ops.add(name=f"layer{i}", kernel=kernel, median_us=us)
        return made

    async def main():
        async with world.serve() as server, world.channel(server) as channel:
            fleet = rpc.FleetServiceStub(channel)
            name, key, certificate = await world.enrol(fleet)
            async with world.device_channel(server, key, certificate) as mine:
                me = rpc.FleetServiceStub(mine)
                first = pb.CreateProfileRequest(profile=record("a", "k1", "k2"), request_id="1")
                stored = (await me.CreateProfile(first)).profile
                assert stored.device == name
                assert (await me.CreateProfile(first)).profile == stored
                with refused(Code.FAILED_PRECONDITION, "REQUEST_ID_REUSED"):
                    await me.CreateProfile(pb.CreateProfileRequest(profile=record("b", "k1"), request_id="1"))
                await me.CreateProfile(pb.CreateProfileRequest(profile=record("b", "k2")))
                for bad in (-1.0, float("nan"), float("inf")):
                    with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                        await me.CreateProfile(pb.CreateProfileRequest(profile=record("b", "k", us=bad)))
                    assert e.fields == ["profile.ops[0].median_us"]

            async def find(**filters) -> list[str]:
                found = await fleet.ListProfiles(pb.ListProfilesRequest(**filters), metadata=world.reader)
                return [p.model_name for p in found.profiles]

            assert await find() == ["b", "a"]
            assert await find(model_name="a") == ["a"]
            assert await find(kernel="k2") == ["b", "a"]
            assert await find(kernel="k1", layer="layer0") == ["a"]
            assert await find(layer="layer1", device=name) == ["a"]
            assert await find(device="devices/" + "0" * 16) == []
            got = await fleet.GetProfile(pb.GetProfileRequest(name=stored.name), metadata=world.reader)
            assert got.profile == stored

    asyncio.run(main())


def test_device_queue_waits_for_a_free_device(world):
    async def main():
        async with world.serve() as server, world.channel(server) as channel:
            fleet = rpc.FleetServiceStub(channel)
            await world.enrol(fleet)
            ask = pb.AcquireDeviceRequest(selector="cpu=cortex-a76", time_to_live=Duration(seconds=60))
            held = await fleet.AcquireDevice(ask, metadata=world.admin)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await fleet.AcquireDevice(ask, metadata=world.admin, timeout=0.5)
            assert caught.value.code() is Code.DEADLINE_EXCEEDED
            waiting = asyncio.create_task(_call(fleet.AcquireDevice(ask, metadata=world.admin)))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            await fleet.ReleaseDevice(pb.ReleaseDeviceRequest(lease=held.lease), metadata=world.admin)
            again = await waiting
            assert (again.device.name, again.device.holder) == (held.device.name, "tokens/admin")
            ask.selector = "cpu=none"
            with refused(Code.NOT_FOUND, "NO_SUCH_DEVICE"):
                await fleet.AcquireDevice(ask, metadata=world.admin)

    asyncio.run(main())


async def _call(call):
    return await call


def test_rollout_follows_heartbeats(world):
    bundle = gossamer.optimize(small_network(), PLAIN, key=False, name="small").data

    async def main():
        async with world.serve() as server, world.channel(server) as channel:
            fleet, registry = rpc.FleetServiceStub(channel), registry_rpc.RegistryServiceStub(channel)
            devices = [await world.enrol(fleet) for _ in range(2)]
            sha = (await registry.WriteBlob(_messages(bundle), metadata=world.admin)).sha256
            made = registry_pb2.CreateVersionRequest(bundle="small", version="1", sha256=sha)
            version = (await registry.CreateVersion(made, metadata=world.admin)).version.name
            stages = [pb.RolloutStage(percent=50), pb.RolloutStage(percent=100)]
            request = pb.CreateRolloutRequest(rollout=pb.Rollout(version=version, stages=stages), request_id="r")
            request.validate_only = True
            dry = (await fleet.CreateRollout(request, metadata=world.admin)).rollout
            assert (dry.name, dry.matching_devices, dry.reached_devices) == ("", 2, 0)
            request.validate_only = False
            rollout = (await fleet.CreateRollout(request, metadata=world.admin)).rollout
            assert (await fleet.CreateRollout(request, metadata=world.admin)).rollout == rollout
            assert (rollout.reached_devices, rollout.creator) == (1, "tokens/admin")
            ran: dict[str, str] = {}
            for _ in range(4):  # a heartbeat to hear and one to tell, for each of the two stages
                for name, key, certificate in devices:
                    async with world.device_channel(server, key, certificate) as mine:
                        status = pb.DeviceStatus(bundle_sha256=ran.get(name, ""))
                        beat = pb.HeartbeatRequest(name=name, status=status)
                        heard = await rpc.FleetServiceStub(mine).Heartbeat(beat)
                        if heard.desired_sha256:
                            ran[name] = heard.desired_sha256
            assert set(ran.values()) == {sha}
            found = (await fleet.GetRollout(pb.GetRolloutRequest(name=rollout.name), metadata=world.reader)).rollout
            assert (found.state, found.updated_devices) == (pb.ROLLOUT_STATE_COMPLETED, 2)
            listed = await fleet.ListRollouts(pb.ListRolloutsRequest(), metadata=world.reader)
            assert list(listed.rollouts) == [found]

    asyncio.run(main())


def test_bad_rollouts(world):
    async def main():
        async with world.serve() as server, world.channel(server) as channel:
            fleet = rpc.FleetServiceStub(channel)
            good = "bundles/small/versions/1"
            with refused(Code.NOT_FOUND, "VERSION_NOT_FOUND"):
                request = pb.CreateRolloutRequest(rollout=pb.Rollout(version=good))
                await fleet.CreateRollout(request, metadata=world.admin)
            for field, wanted in (
                ("rollout.version", pb.Rollout(version="small/1")),
                ("rollout.stages[0].percent", pb.Rollout(version=good, stages=[pb.RolloutStage(percent=0)])),
                ("rollout.stages[0].percent", pb.Rollout(version=good, stages=[pb.RolloutStage(percent=101)])),
                ("rollout.stages[1].percent", pb.Rollout(version=good, stages=[pb.RolloutStage(percent=50)] * 2)),
                ("rollout.stages", pb.Rollout(version=good, stages=[pb.RolloutStage(percent=50)])),
                ("rollout.failure_limit_percent", pb.Rollout(version=good, failure_limit_percent=101)),
                ("rollout.failure_limit_percent", pb.Rollout(version=good, failure_limit_percent=float("nan"))),
            ):
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                    await fleet.CreateRollout(pb.CreateRolloutRequest(rollout=wanted), metadata=world.admin)
                assert e.fields == [field]
            with refused(Code.NOT_FOUND, "ROLLOUT_NOT_FOUND"):
                await fleet.GetRollout(pb.GetRolloutRequest(name="rollouts/" + "0" * 16), metadata=world.admin)

    asyncio.run(main())
