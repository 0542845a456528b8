"""``client.fleet`` and versions against a real server, with devices over mTLS."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time

import grpc
import pytest

from gossamer._errors import InputError
from gossamer.client import (
    AsyncClient,
    Client,
    DeviceState,
    RemoteError,
    Retry,
    RolloutState,
    RunState,
    Stage,
)
from gossamer.client._registry import resource
from tests.services.kit import served

QUICK = Retry(attempts=4, first_s=0.02, longest_s=0.1)


@pytest.fixture
def published(client, bundles):
    """Publishes a new version of a bundle of its own; its name and bytes."""

    def publish(bundle, version="1", **options):
        data = bundles(version)
        digest = hashlib.sha256(data).hexdigest()
        path = options.pop("folder") / f"{bundle}-{version}.goss"
        path.write_bytes(data)
        return client.publish(path, bundle, version, **options), digest, path

    return publish


def test_versions_and_channels(client, published, tmp_path):
    one, digest, path = published("reg", folder=tmp_path, labels={"a": "b"}, description="first", channel="canary")
    assert (one.name, one.sha256, one.size_bytes) == ("bundles/reg/versions/1", digest, path.stat().st_size)
    assert (one.model_name, one.model_version, one.labels, one.description) == ("small", "1", {"a": "b"}, "first")
    assert one.creator == "tokens/admin" and len(one.key_fingerprint) > 8
    two = client.publish(digest, "reg", "2", request_id="again")
    assert two == client.publish(digest, "reg", "2", request_id="again") and two.sha256 == digest
    assert [v.name.rpartition("/")[2] for v in client.versions("reg")] == ["2", "1"]
    assert [v.name for v in client.versions("reg", limit=1)] == [two.name]
    assert [(c.name, c.version) for c in client.channels("reg")] == [("bundles/reg/channels/canary", one.name)]
    moved = client.set_channel("reg", "canary", "2")
    assert (moved.version, moved.previous_version) == (two.name, one.name)
    assert client.set_channel("reg", "stable", "1").version == one.name
    for name, found in (("reg", one), ("reg/2", two), ("reg@canary", two), (one.name, one)):
        assert client.version(name) == found
    with pytest.raises(RemoteError) as caught:
        client.publish(path, "reg", "1")
    assert (caught.value.reason, caught.value.exit_code) == ("VERSION_EXISTS", 10)
    with pytest.raises(RemoteError) as caught:
        client.version("reg/3")
    assert (caught.value.reason, caught.value.exit_code) == ("VERSION_NOT_FOUND", 10)
    (tmp_path / "no.goss").write_bytes(b"no bundle")
    with pytest.raises(RemoteError) as caught:
        client.publish(tmp_path / "no.goss", "reg", "4")
    assert (caught.value.reason, caught.value.exit_code) == ("BAD_BUNDLE", 8)


@pytest.mark.parametrize("text", ["", "a/b/c", "a@b@c", ".a", "a/", "bundles/a/versions/", "a b", "a/../b"])
def test_texts_that_name_no_version(text):
    with pytest.raises(InputError, match="names no version"):
        resource(text)


def test_enrolment_tokens(client):
    token = client.fleet.enrollment_token({"site": "roof"}, lifetime_s=60)
    assert token.token and 0 < token.expires.timestamp() - time.time() <= 61
    with pytest.raises(RemoteError) as caught:
        client.fleet.enrollment_token(lifetime_s=31 * 86400)
    assert caught.value.fields[0][0] == "time_to_live" and caught.value.exit_code == 10


def test_devices(fleet, client, published, tmp_path):
    version, digest, _ = published("dev", folder=tmp_path, channel="stable")
    lab, roof = fleet.device(site="lab"), fleet.device(site="roof", cpu="cortex-a55")
    assert [d.name for d in client.fleet.devices()] == [lab.name, roof.name]
    assert [d.name for d in client.fleet.devices("cpu=cortex-a76,site!=roof")] == [lab.name]
    assert client.fleet.devices("site=none") == []
    found = client.fleet.device(lab.id)
    assert found.etag == client.fleet.device(lab.name).etag
    assert (found.facts.arch, found.facts.cores, found.labels) == ("aarch64", 4, {"site": "lab"})
    assert (found.status.state, found.holder, found.desired_version) == (DeviceState.EMPTY, "", "")
    assert found.heard is not None and found.enrolled <= found.heard < found.certificate_ends

    found = client.fleet.update(lab.id, labels={"owner": "me", "site": None}, display_name="kitchen")
    assert (found.labels, found.display_name) == ({"owner": "me"}, "kitchen")
    found = client.fleet.update(lab.id, desired_version="dev")  # what its stable channel names
    assert found.desired_version == version.name and found.labels == {"owner": "me"}
    assert until(lambda: client.fleet.device(lab.id).status.bundle_sha256 == digest)
    assert client.fleet.update(lab.id, desired_version="").desired_version == ""
    with pytest.raises(InputError, match="nothing to change"):
        client.fleet.update(lab.id)
    with pytest.raises(RemoteError) as caught:
        client.fleet.update(lab.id, desired_version="dev/9")
    assert caught.value.reason == "VERSION_NOT_FOUND"
    with pytest.raises(RemoteError) as caught:
        client.fleet.devices("cpu")
    assert caught.value.fields[0][0] == "selector"

    assert client.fleet.remove(roof.id).name == roof.name
    for call in (client.fleet.device, client.fleet.remove):
        with pytest.raises(RemoteError) as caught:
            call(roof.id)
        assert (caught.value.reason, caught.value.exit_code) == ("DEVICE_NOT_FOUND", 10)


def test_labels_that_two_people_change_at_once(fleet):
    name = fleet.device().name

    async def main():
        async with AsyncClient(fleet.address, token=fleet.token, ca=fleet.ca) as client:
            await asyncio.gather(*(client.fleet.update(name, labels={f"k{i}": str(i)}) for i in range(3)))
            return await client.fleet.device(name)

    assert asyncio.run(main()).labels == {"k0": "0", "k1": "1", "k2": "2"}


def test_a_rollout_in_stages(fleet, client, published, tmp_path):
    version, digest, _ = published("ro", folder=tmp_path)
    devices = [fleet.device(site="lab") for _ in range(4)]
    fleet.device(site="roof")
    before = client.fleet.rollouts()
    planned = client.fleet.start_rollout("ro/1", "site=lab", dry_run=True)
    assert (planned.name, planned.matching_devices, planned.reached_devices) == ("", 4, 0)
    assert client.fleet.rollouts() == before
    seen = []
    made = client.fleet.start_rollout("ro/1", "site=lab", stages=[25, Stage(50, 0.2), 100], request_id="once")
    assert (made.version, made.stages) == (version.name, (Stage(25), Stage(50, 0.2), Stage(100)))
    assert client.fleet.start_rollout("ro/1", "site=lab", stages=[25, Stage(50, 0.2), 100], request_id="once").name == (
        made.name
    )
    done = client.fleet.wait_rollout(made.name, progress=seen.append, timeout_s=20)
    assert (done.state, done.updated_devices, done.failed_devices) == (RolloutState.COMPLETED, 4, 0)
    assert done.state.final and seen[-1] == done and {r.stage for r in seen} <= {0, 1, 2}
    assert [r.reached_devices for r in seen] == sorted(r.reached_devices for r in seen)
    assert {client.fleet.device(d.id).status.bundle_sha256 for d in devices} == {digest}
    assert client.fleet.rollout(made.name.removeprefix("rollouts/")) == done == client.fleet.rollouts(limit=1)[0]


def test_a_rollout_that_halts_is_taken_back(fleet, client, published, tmp_path):
    published("halt", folder=tmp_path)
    devices = [fleet.device(mood="refusing") for _ in range(2)]
    made = client.fleet.start_rollout("halt/1", stages=[50, 100])
    with pytest.raises(RemoteError) as caught:
        client.fleet.start_rollout("halt/1")
    assert (caught.value.reason, caught.value.exit_code) == ("ROLLOUT_ACTIVE", 10)
    halted = client.fleet.wait_rollout(made.name, timeout_s=10)
    assert (halted.state, halted.failed_devices, halted.message) == (RolloutState.HALTED, 1, "1 of 1 devices failed")
    client.fleet.roll_back(made.name)
    assert client.fleet.wait_rollout(made.name, timeout_s=10).state is RolloutState.ROLLED_BACK
    assert {client.fleet.device(d.id).desired_version for d in devices} == {""}
    with pytest.raises(RemoteError) as caught:
        client.fleet.resume(made.name)
    assert caught.value.reason == "ROLLOUT_ENDED"


def test_a_paused_rollout_is_waited_for(fleet, client, published, tmp_path):
    published("pause", folder=tmp_path)
    fleet.device(), fleet.device()
    made = client.fleet.start_rollout("pause/1", stages=[Stage(50, 3600), 100])
    assert client.fleet.pause(made.name).state is RolloutState.PAUSED
    with pytest.raises(TimeoutError):
        client.fleet.wait_rollout(made.name, timeout_s=0.2)
    assert client.fleet.resume(made.name).state is RolloutState.ACTIVE
    client.fleet.roll_back(made.name)


def test_profiles_of_what_runs_and_of_a_version(fleet, client, published, bundles, tmp_path):
    running = bundles("7")
    device = fleet.device(bundle=running)
    _, digest, _ = published("prof", "2", folder=tmp_path)
    seen = []
    made = client.fleet.profile("cpu=cortex-a76", runs=12, warmup=3, progress=seen.append)
    assert [run.state for run in seen][-1] is RunState.DONE and seen[0].state is RunState.WAITING
    assert {(run.device, run.runs, run.warmup_runs) for run in seen} == {(device.name, 12, 3)}
    assert (made.device, made.cpu, made.model_version) == (device.name, "cortex-a76", "7")
    assert made.bundle_sha256 == hashlib.sha256(running).hexdigest()
    figures = made.figures
    assert (figures.model, figures.latency.runs, figures.warmup, figures.warm_up) == ("small", 12, 3, None)
    assert figures.machine["start_celsius"] == 41.0 and figures.machine["end_celsius"] is None
    assert [op.kind for op in figures.ops].count("Conv") == 3 and figures.ops_median_us > 0
    assert {op.sparsity_percent is None for op in figures.ops} == {True, False}
    other = client.fleet.profile("cpu=cortex-a76", "prof/2", runs=5)
    assert (other.bundle_sha256, other.model_version, other.figures.latency.runs) == (digest, "2", 5)
    assert client.fleet.device(device.id).holder == ""

    listed = client.fleet.profiles(device=device.id)
    assert [p.name for p in listed] == [other.name, made.name]
    assert listed[1].to_json() == made.to_json() == client.fleet.get_profile(made.name).to_json()
    kernel = figures.ops[0].kernel
    assert len(client.fleet.profiles(model="small", kernel=kernel, layer=figures.ops[0].name, device=device.id)) == 2
    assert client.fleet.profiles(device=device.id, layer="none") == []
    assert len(client.fleet.profiles(limit=1)) == 1


def test_a_device_that_cannot(fleet, client, bundles, other_key, tmp_path):
    fleet.device(bundle=b"")
    (tmp_path / "unknown.goss").write_bytes(bundles("1", key=other_key))
    client.publish(tmp_path / "unknown.goss", "unknown", "1")
    with pytest.raises(RemoteError, match="signed by key") as caught:
        client.fleet.profile("", "unknown/1", runs=1)
    assert (caught.value.reason, caught.value.exit_code) == ("SIGNATURE_REFUSED", 9)
    with pytest.raises(RemoteError) as caught:
        client.fleet.profile("", "unknown/2")
    assert caught.value.reason == "VERSION_NOT_FOUND"
    with pytest.raises(RemoteError) as caught:
        client.fleet.profile("", runs=0, warmup=-1)
    assert caught.value.fields[0][0] == "warmup_runs"
    assert client.fleet.devices()[0].holder == ""


def test_tokens_that_may_not(fleet):
    device = fleet.device()
    reader = (fleet.folder / "reader.token").read_text()
    with Client(fleet.address, token=reader, ca=fleet.ca) as client:
        assert [d.name for d in client.fleet.devices()] == [device.name]
        for call in (
            client.fleet.enrollment_token,
            lambda: client.fleet.remove(device.id),
            lambda: client.fleet.profile(),
            lambda: client.publish("0" * 64, "x", "1"),
        ):
            with pytest.raises(RemoteError) as caught:
                call()
            assert (caught.value.reason, caught.value.exit_code) == ("SCOPE_MISSING", 23)
    with Client(fleet.address, token="wrong", ca=fleet.ca) as client, pytest.raises(RemoteError) as caught:
        client.fleet.devices()
    assert (caught.value.code, caught.value.exit_code) == ("UNAUTHENTICATED", 23)


def until(true, seconds=10.0):
    ends = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < ends:
        time.sleep(0.02)
    return found


def test_a_fleet_without_a_registry_knows_no_channels(tmp_path):
    async def main():
        elsewhere = "upstream.registry=127.0.0.1:1"
        async with (
            served(tmp_path / "data", elsewhere, services=("fleet",)) as server,
            AsyncClient(f"127.0.0.1:{server.port}", retry=QUICK) as client,
        ):
            with pytest.raises(RemoteError) as caught:
                await client.fleet.start_rollout("a@canary")
            assert (caught.value.code, caught.value.exit_code) == ("UNIMPLEMENTED", 4)
            assert caught.value.hint.endswith("give NAME/VERSION")

    asyncio.run(main())


class Losing:
    """A stub whose first answer of each method is lost after the server gave it, in one of the ways that happens."""

    def __init__(self, stub):
        self._stub, self.lost = stub, []
        self._codes = itertools.cycle([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])

    def __getattr__(self, method):
        async def made(request, **options):
            answer = await getattr(self._stub, method)(request, **options)
            if method not in self.lost:
                self.lost.append(method)
                raise grpc.aio.AioRpcError(next(self._codes), grpc.aio.Metadata(), grpc.aio.Metadata())
            return answer

        return made


def test_lost_answers_do_nothing_twice(fleet, bundles, tmp_path):
    device = fleet.device(bundle=bundles("1"))
    file = tmp_path / "lost.goss"
    file.write_bytes(bundles("1"))

    async def main():
        async with AsyncClient(fleet.address, token=fleet.token, ca=fleet.ca, retry=QUICK) as client:
            losing = client.fleet.stub = Losing(client.fleet.stub)
            versions = client._versions._stub = Losing(client._versions._stub)
            made = await client.publish(file, "lost", "1", channel="canary")
            assert [v.name for v in await client.versions("lost")] == [made.name]
            assert (await client.set_channel("lost", "canary", "1")).previous_version == ""
            rollout = await client.fleet.start_rollout("lost/1")
            assert [r.version for r in await client.fleet.rollouts()].count(made.name) == 1
            await client.fleet.wait_rollout(rollout.name, timeout_s=20)
            assert (await client.fleet.update(device.id, labels={"a": "b"})).labels == {"a": "b"}
            profile = await client.fleet.profile(runs=2)
            assert [p.name for p in await client.fleet.profiles(device=device.id)] == [profile.name]
            assert (await client.fleet.device(device.id)).holder == ""
            assert (await client.fleet.remove(device.id)).name == device.name
            assert await client.fleet.devices() == []
            assert {"AcquireDevice", "CreateProfileRun", "CreateRollout", "DeleteDevice", "UpdateDevice"} <= {
                *losing.lost
            }
            assert {"CreateVersion", "UpdateChannel"} <= {*versions.lost}

    asyncio.run(main())
