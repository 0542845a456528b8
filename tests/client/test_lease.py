"""Holding a device of the fleet: waited for, given back whatever happens, against a real server."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest

from gossamer._errors import InputError
from gossamer.client import AsyncClient, Client, RemoteError, Retry, Stage
from tests.agent.fleetkit import fleet as serving


def test_a_device_that_never_answers(fleet, client):
    fleet.device(mood="deaf")
    with pytest.raises(RemoteError) as caught:
        client.fleet.profile(hold_s=0.7)
    assert (caught.value.reason, caught.value.exit_code) == ("LEASE_EXPIRED", 17)


def test_a_held_device_is_waited_for(fleet, client):
    device = fleet.device(mood="deaf")
    told = []
    with client.fleet.acquire("cpu=cortex-a76", hold_s=60) as lease:
        assert lease.device.name == device.name and client.fleet.device(device.id).holder == "tokens/admin"
        began = time.monotonic()
        waiting = client.fleet.acquire("cpu=cortex-a76", wait_s=1.2, waiting=told.append)
        with pytest.raises(RemoteError, match=r"stayed held for 1\.2 s") as caught, waiting:
            pass
        assert 1.1 < time.monotonic() - began < 5
        assert (caught.value.reason, caught.value.exit_code) == ("ALL_HELD", 17)
        assert caught.value.where == f"{device.name} (held by tokens/admin)"
        assert [[d.name for d in found] for found in told] == [[device.name]]
        got, waits = [], threading.Event()

        def other():
            with fleet.client() as mine, mine.fleet.acquire(waiting=lambda _found: waits.set()) as second:
                got.append(second.device.name)

        thread = threading.Thread(target=other)
        thread.start()
        assert waits.wait(10) and not got
    thread.join(10)
    assert got == [device.name] and client.fleet.device(device.id).holder == ""
    with pytest.raises(RemoteError) as caught, client.fleet.acquire("cpu=none"):
        pass
    assert (caught.value.reason, caught.value.exit_code) == ("NO_SUCH_DEVICE", 10)


def test_waiting_for_a_device_survives_a_restart_of_the_server(tmp_path, capsys):
    with serving(tmp_path / "data") as served_here:
        name = served_here.enroll(tmp_path / "slots", capsys)
        patient = Retry(attempts=100, first_s=0.02, longest_s=0.1)
        with Client(served_here.address, retry=patient) as holder, Client(served_here.address, retry=patient) as other:
            with holder.fleet.acquire(hold_s=60):
                got, waits = [], threading.Event()

                def wait():
                    with other.fleet.acquire(waiting=lambda _found: waits.set()) as lease:
                        got.append(lease.device.name)

                thread = threading.Thread(target=wait)
                thread.start()
                assert waits.wait(10)
                served_here.stop()
                served_here.start()
                assert not got
            thread.join(20)
            assert got == [name] and holder.fleet.device(name).holder == ""


def test_a_device_comes_back_whatever_happens(fleet, client):
    device = fleet.device(mood="deaf")
    with pytest.raises(ZeroDivisionError), client.fleet.acquire(hold_s=60):
        raise ZeroDivisionError
    assert client.fleet.device(device.id).holder == ""

    async def main():
        async with AsyncClient(fleet.address, token=fleet.token, ca=fleet.ca) as mine:
            task = asyncio.create_task(mine.fleet.profile(hold_s=60))
            while not (await mine.fleet.device(device.id)).holder:
                await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await mine.fleet.device(device.id)).holder == ""

            lost = mine.fleet.acquire(hold_s=60)  # the device is held, and the answer that says so is lost
            lost._may_hold = True
            await mine.fleet.stub.AcquireDevice(lost._request, metadata=mine.fleet.link.metadata)
            assert (await mine.fleet.device(device.id)).holder == "tokens/admin"
            await lost.let_go()
            assert (await mine.fleet.device(device.id)).holder == ""

    asyncio.run(main())


class Slow:
    """A stub whose ReleaseDevice takes a while; ``asked`` is set when it begins."""

    def __init__(self, stub):
        self._stub, self.asked = stub, threading.Event()

    def __getattr__(self, method):
        return getattr(self._stub, method)

    async def ReleaseDevice(self, request, **options):
        self.asked.set()
        await asyncio.sleep(0.3)
        return await self._stub.ReleaseDevice(request, **options)


def test_a_cancellation_while_the_device_is_given_back(fleet, client):
    device = fleet.device(mood="deaf")

    async def main():
        async with AsyncClient(fleet.address, token=fleet.token, ca=fleet.ca) as mine:
            mine.fleet.stub = Slow(mine.fleet.stub)

            async def hold():
                async with mine.fleet.acquire(hold_s=60):
                    pass

            task = asyncio.create_task(hold())
            await asyncio.to_thread(mine.fleet.stub.asked.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert client.fleet.device(device.id).holder == ""


def test_ctrl_c_while_the_device_is_given_back(fleet, client):
    device = fleet.device(mood="deaf")
    slow = client.fleet._fleet.stub = Slow(client.fleet._fleet.stub)

    def press():
        slow.asked.wait(10)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt), client.fleet.acquire(hold_s=60):
        pass
    thread.join()
    assert client.fleet.device(device.id).holder == ""


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 1e300])
def test_numbers_that_are_no_seconds(client, seconds):
    for make, where in (
        (lambda: client.fleet.acquire(hold_s=seconds), "hold_s"),
        (lambda: client.fleet.enrollment_token(lifetime_s=seconds), "lifetime_s"),
        (lambda: client.fleet.start_rollout("a/1", stages=[Stage(100, seconds)]), "soak_s"),
    ):
        with pytest.raises(InputError, match="is not a number of seconds") as caught:
            make()
        assert caught.value.where == where
