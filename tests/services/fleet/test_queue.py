"""Waiting for a device: what ends the wait, and that waiting costs next to nothing."""

from __future__ import annotations

import asyncio
import time

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer_services.fleet.devices import Devices
from tests.services.fleet.fleetkit import Code, World
from tests.services.kit import refused


class Queue:
    """One device, held, and somebody who waits for one at ``site=lab``."""

    def __init__(self, world: World, server, fleet) -> None:
        self.world, self.server, self.fleet = world, server, fleet

    async def begin(self, seconds: int = 60) -> None:
        self.member = await self.world.enrol(self.fleet, site="lab")
        self.held = await self.acquire("", seconds)
        self.waiting = asyncio.create_task(self.acquire("site=lab"))
        await asyncio.sleep(0.3)
        assert not self.waiting.done()

    async def acquire(self, selector: str, seconds: int = 60) -> pb.AcquireDeviceResponse:
        ask = pb.AcquireDeviceRequest(selector=selector, time_to_live=Duration(seconds=seconds))
        return await self.fleet.AcquireDevice(ask, metadata=self.world.admin)

    async def release(self) -> None:
        request = pb.ReleaseDeviceRequest(lease=self.held.lease)
        await self.fleet.ReleaseDevice(request, metadata=self.world.admin)

    async def expire(self) -> None:
        await asyncio.sleep(1)

    async def enrol(self) -> None:
        await self.world.enrol(self.fleet, site="lab")

    async def label(self) -> None:
        name, *_ = await self.world.enrol(self.fleet, site="roof")
        await asyncio.sleep(0.2)
        assert not self.waiting.done()
        device = pb.Device(name=name, labels={"site": "lab"})
        change = pb.UpdateDeviceRequest(device=device, update_mask=FieldMask(paths=["labels"]))
        await self.fleet.UpdateDevice(change, metadata=self.world.admin)


@pytest.mark.parametrize("event", ["release", "expire", "enrol", "label"])
def test_the_wait_ends(tmp_path, event):
    world = World(tmp_path)

    async def main():
        async with world.fleet() as (server, fleet):
            queue = Queue(world, server, fleet)
            await queue.begin(1 if event == "expire" else 60)
            await getattr(queue, event)()
            got = await asyncio.wait_for(queue.waiting, 2)
            assert got.lease != queue.held.lease
            assert (got.device.name == queue.member[0]) == (event in ("release", "expire"))

    asyncio.run(main())


def test_the_wait_ends_by_new_facts_and_by_removal(tmp_path):
    world = World(tmp_path)

    async def main():
        async with world.fleet() as (server, fleet):
            queue = Queue(world, server, fleet)
            await queue.begin()
            waiting = asyncio.create_task(queue.acquire("cores=8"))
            with refused(Code.NOT_FOUND, "NO_SUCH_DEVICE"):
                await waiting
            name, *_ = other = await world.enrol(fleet)
            held = await queue.acquire("")
            assert held.device.name == name
            waiting = asyncio.create_task(queue.acquire("arch=aarch64"))
            await asyncio.sleep(0.2)
            async with world.device(server, other) as me:  # another machine now, which does not fit
                await me.Heartbeat(pb.HeartbeatRequest(name=name, facts=pb.DeviceFacts(arch="armv7", cores=8)))
            await fleet.DeleteDevice(pb.DeleteDeviceRequest(name=queue.member[0]), metadata=world.admin)
            for left in (waiting, queue.waiting):
                with refused(Code.NOT_FOUND, "NO_SUCH_DEVICE"):
                    await asyncio.wait_for(left, 2)

    asyncio.run(main())


@pytest.mark.parametrize("key", ["", "1"])
def test_a_caller_who_went_away_holds_nothing_that_nobody_can_give_back(tmp_path, monkeypatch, key):
    """With a request id it is the caller's, who asks again with it, or gives back what it held by it."""
    world, acquire = World(tmp_path), Devices.acquire

    def slow(self, *arguments):
        row = acquire(self, *arguments)
        time.sleep(0.4)
        return row

    async def main():
        async with world.fleet() as (_server, fleet):
            name, *_ = await world.enrol(fleet)
            ask = pb.AcquireDeviceRequest(time_to_live=Duration(seconds=60), request_id=key)
            monkeypatch.setattr(Devices, "acquire", slow)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await fleet.AcquireDevice(ask, metadata=world.admin, timeout=0.2)
            assert caught.value.code() is Code.DEADLINE_EXCEEDED
            monkeypatch.setattr(Devices, "acquire", acquire)
            await asyncio.sleep(0.5)
            device = (await fleet.GetDevice(pb.GetDeviceRequest(name=name), metadata=world.admin)).device
            assert device.holder == ("tokens/admin" if key else "")
            assert (
                await asyncio.wait_for(_once(fleet.AcquireDevice(ask, metadata=world.admin)), 2)
            ).device.name == name

    asyncio.run(main())


async def _once(call):
    return await call


def test_the_fleet_is_not_searched_again_while_nothing_changes(tmp_path, monkeypatch):
    world, calls = World(tmp_path), []
    for name in ("acquire", "free_s"):
        searched = getattr(Devices, name)
        monkeypatch.setattr(Devices, name, lambda self, *a, n=name, f=searched: (calls.append(n), f(self, *a))[1])

    async def main():
        async with world.fleet() as (server, fleet):
            queue = Queue(world, server, fleet)
            await queue.begin()
            async with world.device(server, queue.member) as me:
                for i in range(5):  # what a device says of its update is nothing to those who wait
                    status = pb.DeviceStatus(progress_percent=i)
                    await me.Heartbeat(pb.HeartbeatRequest(name=queue.member[0], status=status))
            await asyncio.sleep(0.7)
            assert calls == ["acquire", "acquire", "free_s"]
            await queue.release()
            await queue.waiting
            assert calls == ["acquire", "acquire", "free_s", "acquire"]

    asyncio.run(main())
