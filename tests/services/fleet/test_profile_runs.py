"""Profile runs over gRPC: asked for under a lease, told with heartbeats, answered once, failed when nobody waits."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")


from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer._proto.v1 import profile_pb2, registry_pb2
from gossamer._proto.v1 import registry_pb2_grpc as registry_rpc
from gossamer_services.fleet.profiles import MAX_NAME_BYTES
from tests.services.fleet.fleetkit import Code, World
from tests.services.kit import refused
from tests.services.postgres import empty, url

__all__ = ["url"]

WAITING, RUNNING = pb.PROFILE_RUN_STATE_WAITING, pb.PROFILE_RUN_STATE_RUNNING
DONE, FAILED = pb.PROFILE_RUN_STATE_DONE, pb.PROFILE_RUN_STATE_FAILED
SHA = "c" * 64


@pytest.fixture(params=["sqlite", "postgres"])
def world(tmp_path, request):
    if request.param == "sqlite":
        return World(tmp_path)
    pytest.importorskip("psycopg", reason="psycopg is missing: pip install -e './services[postgres]'")
    return World(tmp_path, empty(request.getfixturevalue("url")))


async def hold(world, fleet, seconds: float = 60.0) -> str:
    ask = pb.AcquireDeviceRequest()
    ask.time_to_live.FromMilliseconds(round(seconds * 1000))
    return (await fleet.AcquireDevice(ask, metadata=world.admin)).lease


async def ask(world, fleet, lease: str, **fields) -> pb.ProfileRun:
    request = pb.CreateProfileRunRequest(lease=lease, **fields)
    return (await fleet.CreateProfileRun(request, metadata=world.admin)).profile_run


async def look(world, fleet, run: pb.ProfileRun) -> pb.ProfileRun:
    return (await fleet.GetProfileRun(pb.GetProfileRunRequest(name=run.name), metadata=world.reader)).profile_run


def answer(run: pb.ProfileRun, sha: str = SHA, **fields) -> pb.CreateProfileRequest:
    record = profile_pb2.ProfileRecord(bundle_sha256=sha, model_name="m")
    return pb.CreateProfileRequest(profile=record, profile_run=run.name, **fields)


def test_a_held_device_hears_of_the_run_and_answers_it(world):
    async def main():
        async with world.fleet("fleet.held_heartbeat_s=0.5") as (server, fleet):
            name, *_ = member = await world.enrol(fleet)
            beat = pb.HeartbeatRequest(name=name, status=pb.DeviceStatus(bundle_sha256=SHA))
            async with world.device(server, member) as me:
                heard = await me.Heartbeat(beat)
                assert (heard.interval.ToMilliseconds(), heard.HasField("profile_run")) == (60_000, False)
                lease = await hold(world, fleet)
                heard = await me.Heartbeat(beat)
                assert (heard.interval.ToMilliseconds(), heard.HasField("profile_run")) == (500, False)

                run = await ask(world, fleet, lease, request_id="1")
                assert (run.state, run.device, run.lease, run.runs, run.warmup_runs) == (WAITING, name, lease, 50, 5)
                assert (run.version, run.bundle_sha256, run.bundle_bytes) == ("", "", 0)
                assert await look(world, fleet, run) == run
                second = await ask(world, fleet, lease, runs=7, warmup_runs=0)
                assert (second.runs, second.warmup_runs) == (7, 0)

                for _ in range(2):  # it comes again until it is answered
                    told = (await me.Heartbeat(beat)).profile_run
                    assert (told.name, told.state, told.lease) == (run.name, RUNNING, "")
                assert (await look(world, fleet, run)).state == RUNNING
                assert (await look(world, fleet, second)).state == WAITING

                made = (await me.CreateProfile(answer(run))).profile
                assert (await me.CreateProfile(answer(run))).profile == made
                done = await look(world, fleet, run)
                assert (done.state, done.profile, done.failure_reason) == (DONE, made.name, "")
                assert (await ask(world, fleet, lease, request_id="1")) == done
                listed = await fleet.ListProfiles(pb.ListProfilesRequest(device=name), metadata=world.reader)
                assert [p.name for p in listed.profiles] == [made.name]
                late = pb.FailProfileRunRequest(name=run.name, failure_reason="RUN_FAILED")
                assert (await me.FailProfileRun(late)).profile_run.state == DONE

                assert (await me.Heartbeat(beat)).profile_run.name == second.name
                sorry = pb.FailProfileRunRequest(name=second.name, failure_reason="RUN_FAILED", failure_message="n\0o")
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                    await me.FailProfileRun(sorry)
                assert e.fields == ["failure_message"]
                sorry.failure_message = "no"
                failed = (await me.FailProfileRun(sorry)).profile_run
                assert (failed.state, failed.failure_reason, failed.failure_message, failed.lease) == (
                    *(FAILED, "RUN_FAILED", "no", ""),
                )
                assert not (await me.Heartbeat(beat)).HasField("profile_run")
                seen = (await me.GetProfileRun(pb.GetProfileRunRequest(name=second.name))).profile_run
                assert seen == failed  # a device reads no lease
                with refused(Code.FAILED_PRECONDITION, "PROFILE_RUN_ENDED"):
                    await me.CreateProfile(answer(second))

                await fleet.ReleaseDevice(pb.ReleaseDeviceRequest(lease=lease), metadata=world.admin)
                heard = await me.Heartbeat(beat)
                assert (heard.interval.seconds, heard.HasField("profile_run")) == (60, False)

    asyncio.run(main())


def test_a_version_or_a_channel_is_profiled_without_being_installed(world):
    async def main():
        async with world.fleet() as (server, fleet):
            name, *_ = member = await world.enrol(fleet)
            lease = await hold(world, fleet)
            version, data = await world.publish(server, "small", "1")
            sha = hashlib.sha256(data).hexdigest()
            async with world.channel(server) as channel:
                point = registry_pb2.UpdateChannelRequest(
                    channel=registry_pb2.Channel(name="bundles/small/channels/stable", version=version)
                )
                await registry_rpc.RegistryServiceStub(channel).UpdateChannel(point, metadata=world.admin)
            for wanted in (version, "bundles/small/channels/stable"):
                run = await ask(world, fleet, lease, version=wanted)
                assert (run.version, run.bundle_sha256, run.bundle_bytes) == (version, sha, len(data))
                async with world.device(server, member) as me:
                    heard = await me.Heartbeat(pb.HeartbeatRequest(name=name))
                    assert (heard.profile_run.name, heard.profile_run.bundle_sha256) == (run.name, sha)
                    assert heard.desired_sha256 == ""
                    with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                        await me.CreateProfile(answer(run, SHA))
                    assert e.fields == ["profile.bundle_sha256"]
                    await me.CreateProfile(answer(run, sha))
            for missing in ("bundles/small/versions/2", "bundles/none/versions/1"):
                with refused(Code.NOT_FOUND, "VERSION_NOT_FOUND"):
                    await ask(world, fleet, lease, version=missing)
            with refused(Code.NOT_FOUND, "CHANNEL_NOT_FOUND"):
                await ask(world, fleet, lease, version="bundles/small/channels/canary")
            made = await ask(world, fleet, lease, version=version, request_id="1")
            async with world.channel(server) as channel:
                registry = registry_rpc.RegistryServiceStub(channel)
                point.channel.version = (await world.publish(server, "small", "2"))[0]
                await registry.UpdateChannel(point, metadata=world.admin)
                await registry.DeleteVersion(registry_pb2.DeleteVersionRequest(name=version), metadata=world.admin)
            assert await ask(world, fleet, lease, version=version, request_id="1") == made
            with refused(Code.NOT_FOUND, "VERSION_NOT_FOUND"):
                await ask(world, fleet, lease, version=version)

    asyncio.run(main())


def test_refusals(world):
    async def main():
        async with world.fleet() as (server, fleet):
            member, other = [await world.enrol(fleet) for _ in range(2)]
            lease = await hold(world, fleet)
            for field, fields in (
                ("lease", {"lease": "leases/x"}),
                ("lease", {"lease": ""}),
                ("version", {"version": "small/1"}),
                ("version", {"version": "bundles/small/channels/nightly"}),
                ("runs", {"runs": -1}),
                ("runs", {"runs": 100_001}),
                ("warmup_runs", {"warmup_runs": -1}),
                ("warmup_runs", {"warmup_runs": 100_001}),
                ("request_id", {"request_id": "a/b"}),
            ):
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                    await ask(world, fleet, **{"lease": lease, **fields})
                assert e.fields == [field]
            with refused(Code.NOT_FOUND, "LEASE_NOT_FOUND"):
                await ask(world, fleet, "leases/" + "0" * 32)
            run = await ask(world, fleet, lease, request_id="1")
            with refused(Code.FAILED_PRECONDITION, "REQUEST_ID_REUSED"):
                await ask(world, fleet, lease, request_id="1", runs=7)
            with refused(Code.PERMISSION_DENIED, "SCOPE_MISSING"):
                await fleet.CreateProfileRun(pb.CreateProfileRunRequest(lease=lease), metadata=world.reader)
            with refused(Code.INVALID_ARGUMENT, "BAD_FIELD"):
                await fleet.GetProfileRun(pb.GetProfileRunRequest(name="profiles/1"), metadata=world.reader)
            nothing = "profileRuns/" + "0" * 16
            with refused(Code.NOT_FOUND, "PROFILE_RUN_NOT_FOUND"):
                await fleet.GetProfileRun(pb.GetProfileRunRequest(name=nothing), metadata=world.reader)
            with refused(Code.PERMISSION_DENIED, "SCOPE_MISSING"):  # tokens of people speak for no device
                await fleet.FailProfileRun(pb.FailProfileRunRequest(name=run.name), metadata=world.admin)
            held, free = (member, other) if run.device == member[0] else (other, member)
            async with world.device(server, held) as me, world.device(server, free) as another:
                with refused(Code.PERMISSION_DENIED, "NOT_THIS_DEVICE"):
                    await another.FailProfileRun(pb.FailProfileRunRequest(name=run.name))
                with refused(Code.PERMISSION_DENIED, "NOT_THIS_DEVICE"):
                    await another.CreateProfile(answer(run))
                with refused(Code.PERMISSION_DENIED, "NOT_THIS_DEVICE"):
                    await another.GetProfileRun(pb.GetProfileRunRequest(name=run.name))
                with refused(Code.PERMISSION_DENIED, "SCOPE_MISSING"):
                    await me.CreateProfileRun(pb.CreateProfileRunRequest(lease=lease))
                for bad in ("x", "profileRuns/", "profileRuns/" + "g" * 16):
                    with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                        await me.FailProfileRun(pb.FailProfileRunRequest(name=bad))
                    assert e.fields == ["name"]
                    with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                        await me.CreateProfile(answer(pb.ProfileRun(name=bad)))
                    assert e.fields == ["profile_run"]
                for bad in ("no capitals", "A" * 65, "É", "9"):
                    with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                        await me.FailProfileRun(pb.FailProfileRunRequest(name=run.name, failure_reason=bad))
                    assert e.fields == ["failure_reason"]
                with refused(Code.NOT_FOUND, "PROFILE_RUN_NOT_FOUND"):
                    await me.FailProfileRun(pb.FailProfileRunRequest(name=nothing))
                with refused(Code.NOT_FOUND, "PROFILE_RUN_NOT_FOUND"):
                    await me.CreateProfile(answer(pb.ProfileRun(name=nothing)))
                assert (await look(world, fleet, run)).state == WAITING  # none of that changed it
                failed = (await me.FailProfileRun(pb.FailProfileRunRequest(name=run.name))).profile_run
                assert (failed.failure_reason, failed.failure_message) == ("FAILED", "")
                await fleet.DeleteDevice(pb.DeleteDeviceRequest(name=held[0]), metadata=world.admin)
                for call in (
                    me.FailProfileRun(pb.FailProfileRunRequest(name=run.name)),
                    me.CreateProfile(answer(run)),
                    me.RenewCertificate(pb.RenewCertificateRequest(name=held[0])),
                ):
                    with refused(Code.UNAUTHENTICATED, "CERTIFICATE_REVOKED"):
                        await call

    asyncio.run(main())


def test_runs_fail_when_the_device_is_given_back_removed_or_the_lease_ends(world):
    async def main():
        async with world.fleet() as (server, fleet):
            name, *_ = member = await world.enrol(fleet)
            lease = await hold(world, fleet)
            done, told, waiting = [await ask(world, fleet, lease) for _ in range(3)]
            async with world.device(server, member) as me:
                await me.CreateProfile(answer(done))
                assert (await me.Heartbeat(pb.HeartbeatRequest(name=name))).profile_run.name == told.name
                await fleet.ReleaseDevice(pb.ReleaseDeviceRequest(lease=lease), metadata=world.admin)
                assert (await look(world, fleet, done)).state == DONE
                for run in (told, waiting):
                    found = await look(world, fleet, run)
                    assert (found.state, found.failure_reason) == (FAILED, "CANCELLED")
                    with refused(Code.FAILED_PRECONDITION, "PROFILE_RUN_ENDED"):
                        await me.CreateProfile(answer(run))
                with refused(Code.NOT_FOUND, "LEASE_NOT_FOUND"):
                    await ask(world, fleet, lease)

                lease = await hold(world, fleet, 0.8)
                run = await ask(world, fleet, lease, request_id="1")
                await asyncio.sleep(0.8)
                found = await look(world, fleet, run)
                assert (found.state, found.failure_reason) == (FAILED, "LEASE_EXPIRED")
                with refused(Code.FAILED_PRECONDITION, "PROFILE_RUN_ENDED"):
                    await me.CreateProfile(answer(run))
                assert (await me.FailProfileRun(pb.FailProfileRunRequest(name=run.name))).profile_run.state == FAILED
                await fleet.ReleaseDevice(pb.ReleaseDeviceRequest(lease=lease), metadata=world.admin)
                assert await look(world, fleet, run) == found
                with refused(Code.NOT_FOUND, "LEASE_NOT_FOUND"):
                    await ask(world, fleet, lease)
                assert await ask(world, fleet, lease, request_id="1") == found  # a repeat, not another run

                run = await ask(world, fleet, await hold(world, fleet))
                await fleet.DeleteDevice(pb.DeleteDeviceRequest(name=name), metadata=world.admin)
                found = await look(world, fleet, run)
                assert (found.state, found.failure_reason) == (FAILED, "DEVICE_REMOVED")

    asyncio.run(main())


def test_a_restart_in_the_middle(world):
    async def main():
        async with world.fleet() as (_server, fleet):
            name, *_ = member = await world.enrol(fleet)
            lease = await hold(world, fleet)
            told, waiting = [await ask(world, fleet, lease) for _ in range(2)]
            async with world.device(_server, member) as me:
                assert (await me.Heartbeat(pb.HeartbeatRequest(name=name))).profile_run.name == told.name
        async with world.fleet() as (server, fleet), world.device(server, member) as me:
            heard = await me.Heartbeat(pb.HeartbeatRequest(name=name))
            assert (heard.profile_run.name, heard.profile_run.state) == (told.name, RUNNING)
            assert heard.interval.seconds == 1
            profile = (await me.CreateProfile(answer(told))).profile
            assert (await look(world, fleet, told)).profile == profile.name
            assert (await me.Heartbeat(pb.HeartbeatRequest(name=name))).profile_run.name == waiting.name
            await fleet.ReleaseDevice(pb.ReleaseDeviceRequest(lease=lease), metadata=world.admin)
            lease = await hold(world, fleet, 0.8)
            late = await ask(world, fleet, lease)
        await asyncio.sleep(0.8)  # it ends while no server runs
        async with world.fleet() as (server, fleet), world.device(server, member) as me:
            assert (await look(world, fleet, late)).failure_reason == "LEASE_EXPIRED"
            heard = await me.Heartbeat(pb.HeartbeatRequest(name=name))
            assert (heard.interval.seconds, heard.HasField("profile_run")) == (60, False)
            assert await hold(world, fleet) != lease

    asyncio.run(main())


def test_many_at_the_same_time(world):
    """One run for one request id, one profile for one run, and no run that outlives its lease."""

    async def main():
        async with world.fleet() as (server, fleet):
            name, *_ = member = await world.enrol(fleet)
            lease = await hold(world, fleet)
            async with world.device(server, member) as me:
                same = await asyncio.gather(*(ask(world, fleet, lease, request_id="1") for _ in range(8)))
                assert len({run.name for run in same}) == 1
                beats = await asyncio.gather(*(me.Heartbeat(pb.HeartbeatRequest(name=name)) for _ in range(8)))
                assert {heard.profile_run.name for heard in beats} == {same[0].name}
                answers = await asyncio.gather(*(me.CreateProfile(answer(same[0])) for _ in range(8)))
                assert len({made.profile.name for made in answers}) == 1
                listed = await fleet.ListProfiles(pb.ListProfilesRequest(), metadata=world.reader)
                assert len(listed.profiles) == 1

                asked = [asyncio.create_task(ask(world, fleet, lease)) for _ in range(8)]
                await asyncio.sleep(0.01)
                await fleet.ReleaseDevice(pb.ReleaseDeviceRequest(lease=lease), metadata=world.admin)
                for found in await asyncio.gather(*asked, return_exceptions=True):
                    if isinstance(found, pb.ProfileRun):
                        found = await look(world, fleet, found)
                        assert (found.state, found.failure_reason) == (FAILED, "CANCELLED")
                    else:
                        assert found.code() is Code.NOT_FOUND

    asyncio.run(main())


def test_long_names_are_stored_and_found(world):
    """As long as they may be, of bytes that no database can pack: an index takes them."""
    rng = random.Random(0)
    model, layer, kernel = (
        "".join(chr(rng.randrange(0x100, 0x800)) for _ in range(MAX_NAME_BYTES // 2)) for _ in "123"
    )

    async def main():
        async with world.fleet() as (server, fleet):
            member = await world.enrol(fleet)
            record = profile_pb2.ProfileRecord(bundle_sha256=SHA, model_name=model)
            record.ops.add(name=layer, kernel=kernel)
            async with world.device(server, member) as me:
                made = (await me.CreateProfile(pb.CreateProfileRequest(profile=record))).profile
            ask = pb.ListProfilesRequest(model_name=model, layer=layer, kernel=kernel)
            assert list((await fleet.ListProfiles(ask, metadata=world.reader)).profiles) == [made]

    asyncio.run(main())


def test_two_clients_acquire_at_once(world):
    async def main():
        async with world.fleet() as (_server, fleet):
            await world.enrol(fleet)
            first, second = (asyncio.create_task(hold(world, fleet)) for _ in range(2))
            done, waits = await asyncio.wait({first, second}, timeout=1.0)
            assert (len(done), len(waits)) == (1, 1)
            (lease,) = [task.result() for task in done]
            run = await ask(world, fleet, lease)
            await fleet.ReleaseDevice(pb.ReleaseDeviceRequest(lease=lease), metadata=world.admin)
            other = await waits.pop()
            assert other != lease
            assert (await look(world, fleet, run)).failure_reason == "CANCELLED"
            with refused(Code.NOT_FOUND, "LEASE_NOT_FOUND"):
                await ask(world, fleet, lease)
            assert (await ask(world, fleet, other)).state == WAITING

    asyncio.run(main())
