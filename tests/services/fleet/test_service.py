"""The fleet over gRPC: enrolment by a one-time token, devices by their certificates, desired state, profiles."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import grpc
from cryptography import x509
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer._proto.v1 import fleet_pb2_grpc as rpc
from gossamer._proto.v1 import profile_pb2
from gossamer._proto.v1 import registry_pb2_grpc as registry_rpc
from gossamer_services.common.errors import ServiceError
from gossamer_services.fleet.rollouts import Rollouts
from tests.services.fleet.fleetkit import Code, World, certificate_request
from tests.services.kit import download, refused


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_enrolment_heartbeats_and_desired_state(world):
    async def main():
        async with world.fleet() as (server, fleet):
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
            version, bundle = await world.publish(server, "small", "1")
            sha = hashlib.sha256(bundle).hexdigest()

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
                device.display_name = "x" * 257
                renamed = pb.UpdateDeviceRequest(device=device, update_mask=FieldMask(paths=["display_name"]))
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                    await fleet.UpdateDevice(renamed, metadata=metadata)
                assert e.fields == ["device.display_name"]
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


def test_bad_certificate_requests(world):
    async def main():
        async with world.fleet() as (_server, fleet):
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
        async with world.fleet() as (server, fleet):
            name, *_ = member = await world.enrol(fleet)
            async with world.device(server, member) as me:
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


def test_pages_end_before_they_are_too_large_for_a_message(world):
    async def main():
        async with world.fleet() as (server, fleet):
            name, *_ = member = await world.enrol(fleet)
            record = profile_pb2.ProfileRecord(bundle_sha256="c" * 64, notes=["x" * 900_000])
            async with world.device(server, member) as me:
                made = [(await me.CreateProfile(pb.CreateProfileRequest(profile=record))).profile for _ in range(3)]
                record.notes[0] *= 4
                made.append((await me.CreateProfile(pb.CreateProfileRequest(profile=record))).profile)
            ask, pages = pb.ListProfilesRequest(device=name, page_size=100), []
            while not pages or ask.page_token:
                page = await fleet.ListProfiles(ask, metadata=world.reader)
                pages.append([found.name for found in page.profiles])
                ask.page_token = page.next_page_token
            names = [found.name for found in reversed(made)]
            assert pages == [names[:1], names[1:3], names[3:]]

    asyncio.run(main())


def test_what_a_device_may_not_say(world):
    async def main():
        async with world.fleet() as (server, fleet):
            name, *_ = member = await world.enrol(fleet)
            async with world.device(server, member) as me:
                for field, said in (
                    ("status", {"status": pb.DeviceStatus(failure_message="x" * 70_000)}),
                    ("facts", {"facts": pb.DeviceFacts(cpu="x" * 70_000)}),
                    ("status.failed_sha256", {"status": pb.DeviceStatus(failed_sha256="x")}),
                    ("status.failure_message", {"status": pb.DeviceStatus(failure_message="\0")}),
                ):
                    with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                        await me.Heartbeat(pb.HeartbeatRequest(name=name, **said))
                    assert e.fields == [field]
                names = "ä" * 1001
                for field, record in (
                    ("profile.model_name", {"model_name": names}),
                    ("profile.ops[0].name", {"ops": [profile_pb2.ProfileOp(name=names)]}),
                    ("profile.ops[0].kernel", {"ops": [profile_pb2.ProfileOp(kernel=names)]}),
                    ("profile.ops[0].kernel", {"ops": [profile_pb2.ProfileOp(kernel="\0")]}),
                    ("profile", {"notes": ["x" * (4 << 20)]}),
                    ("profile.start_time", {"start_time": Timestamp(seconds=-1)}),
                    ("profile.start_time", {"start_time": Timestamp(seconds=1 << 60)}),
                ):
                    with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                        made = profile_pb2.ProfileRecord(bundle_sha256="c" * 64, **record)
                        await me.CreateProfile(pb.CreateProfileRequest(profile=made))
                    assert e.fields == [field]
                made = await fleet.CreateEnrollmentToken(pb.CreateEnrollmentTokenRequest(), metadata=world.admin)
                request = pb.EnrollDeviceRequest(
                    token=made.token, request_id="1", facts=pb.DeviceFacts(cpu="x" * 70_000)
                )
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                    await fleet.EnrollDevice(request)
                assert e.fields == ["facts"]

    asyncio.run(main())


def test_device_queue_waits_for_a_free_device(world):
    async def main():
        async with world.fleet() as (_server, fleet):
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
    async def main():
        async with world.fleet() as (server, fleet):
            devices = [await world.enrol(fleet) for _ in range(2)]
            version, bundle = await world.publish(server, "small", "1")
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
                for device in devices:
                    async with world.device(server, device) as me:
                        status = pb.DeviceStatus(bundle_sha256=ran.get(device[0], ""))
                        heard = await me.Heartbeat(pb.HeartbeatRequest(name=device[0], status=status))
                        if heard.desired_sha256:
                            ran[device[0]] = heard.desired_sha256
            assert set(ran.values()) == {hashlib.sha256(bundle).hexdigest()}
            found = (await fleet.GetRollout(pb.GetRolloutRequest(name=rollout.name), metadata=world.reader)).rollout
            assert (found.state, found.updated_devices) == (pb.ROLLOUT_STATE_COMPLETED, 2)
            listed = await fleet.ListRollouts(pb.ListRolloutsRequest(), metadata=world.reader)
            assert list(listed.rollouts) == [found]

    asyncio.run(main())


def test_a_heartbeat_that_ends_halfway_loses_no_news(world, monkeypatch):
    heard, fails = Rollouts.heard, [True]

    def busy(self, device, status):
        if fails:
            fails.clear()
            raise ServiceError(Code.UNAVAILABLE, "DATABASE_BUSY", "the database does not answer")
        heard(self, device, status)

    async def main():
        async with world.fleet() as (server, fleet):
            name, *_ = member = await world.enrol(fleet)
            version, bundle = await world.publish(server, "small", "1")
            request = pb.CreateRolloutRequest(rollout=pb.Rollout(version=version))
            rollout = (await fleet.CreateRollout(request, metadata=world.admin)).rollout
            monkeypatch.setattr(Rollouts, "heard", busy)
            runs = pb.DeviceStatus(bundle_sha256=hashlib.sha256(bundle).hexdigest())
            async with world.device(server, member) as me:
                with refused(Code.UNAVAILABLE, "DATABASE_BUSY"):
                    await me.Heartbeat(pb.HeartbeatRequest(name=name, status=runs))
                await me.Heartbeat(pb.HeartbeatRequest(name=name, status=runs))
            found = (await fleet.GetRollout(pb.GetRolloutRequest(name=rollout.name), metadata=world.reader)).rollout
            assert (found.state, found.updated_devices) == (pb.ROLLOUT_STATE_COMPLETED, 1)

    asyncio.run(main())


def test_bad_rollouts(world):
    def soaking(seconds: int) -> pb.Rollout:
        stage = pb.RolloutStage(percent=100, soak=Duration(seconds=seconds))
        return pb.Rollout(version="bundles/small/versions/1", stages=[stage])

    async def main():
        async with world.fleet() as (_server, fleet):
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
                ("rollout.stages[0].soak", soaking(-1)),
                ("rollout.stages[0].soak", soaking(1 << 60)),  # which clients could not read
                ("rollout.failure_limit_percent", pb.Rollout(version=good, failure_limit_percent=101)),
                ("rollout.failure_limit_percent", pb.Rollout(version=good, failure_limit_percent=float("nan"))),
            ):
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                    await fleet.CreateRollout(pb.CreateRolloutRequest(rollout=wanted), metadata=world.admin)
                assert e.fields == [field]
            with refused(Code.NOT_FOUND, "ROLLOUT_NOT_FOUND"):
                await fleet.GetRollout(pb.GetRolloutRequest(name="rollouts/" + "0" * 16), metadata=world.admin)

    asyncio.run(main())
