"""Holding a device of the fleet: waiting for a free one, profiling it, giving it back whatever happens."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import grpc

from gossamer._errors import GossamerError
from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer.client._calls import lost
from gossamer.client._errors import RemoteError, from_call
from gossamer.client._fleet_results import FleetDevice, ProfileRun, RunState, device_of, duration, run_of
from gossamer.client._profiles import DeviceProfile
from gossamer.client._registry import resource

if TYPE_CHECKING:
    from gossamer.client._fleet import AsyncFleet

_LOG = logging.getLogger(__name__)

Waiting = Callable[[Sequence[FleetDevice]], None]
"""Called once with the devices that match, when all of them are held and waiting begins."""
RunWatch = Callable[[ProfileRun], None]
"""Called with every change of a profile run."""

FIRST_ATTEMPT_S = 1.0
"""How long the first question may take: past it, all that match are held."""
_ATTEMPT_S = 20.0
_LEAST_ATTEMPT_S = 0.1
_POLL_S = 0.25


class AsyncLease:
    """A device held for its user alone, in ``async with``: it is waited for at the beginning and given back at the end,
    also after an error or a cancellation.

    Attributes:
        device: the held one, as it was then; only inside ``async with``.
    """

    device: FleetDevice

    def __init__(
        self, fleet: AsyncFleet, selector: str, wait_s: float | None, hold_s: float, waiting: Waiting | None
    ) -> None:
        self._fleet, self._wait_s, self._waiting = fleet, wait_s, waiting
        self._request = pb.AcquireDeviceRequest(
            selector=selector, time_to_live=duration(hold_s, "hold_s"), request_id=secrets.token_hex(16)
        )
        self._name = ""
        self._may_hold = False

    async def __aenter__(self) -> AsyncLease:
        try:
            await self.take()
        except BaseException:
            await self._surely_let_go()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._surely_let_go()

    async def take(self) -> None:
        """Wait for a free device and hold it; what ``async with`` does at its beginning.

        Raises:
            RemoteError: ``NO_SUCH_DEVICE`` (no enrolled device matches), ``ALL_HELD`` (all that match stayed held for
                as long as it was to wait), or what else the server refused.
            UnreachableError: no server answers.
        """
        link, now = self._fleet.link, asyncio.get_running_loop().time
        ends = None if self._wait_s is None else now() + self._wait_s
        failures, told = 0, self._waiting is None
        attempt_s = min(FIRST_ATTEMPT_S, max(self._wait_s or 0.0, _LEAST_ATTEMPT_S)) if ends else FIRST_ATTEMPT_S
        self._may_hold = True
        while True:
            try:
                answer = await self._fleet.stub.AcquireDevice(self._request, metadata=link.metadata, timeout=attempt_s)
            except grpc.aio.AioRpcError as e:
                if not lost(e):
                    self._may_hold = False
                    raise from_call(e, link.address) from e
                held = e.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                failures = 0 if held else failures + 1
                if failures >= link.retry.attempts:
                    raise from_call(e, link.address) from e
            else:
                self._name, self.device = answer.lease, device_of(answer.device)
                return
            if not held:
                await asyncio.sleep(link.retry.wait_s(failures))
                continue
            # A connection that was not made in time ends like this too: listing devices tells.
            found = await self._fleet.devices(self._request.selector)
            left = _ATTEMPT_S if ends is None else ends - now()
            attempt_s = min(max(left, _LEAST_ATTEMPT_S), _ATTEMPT_S)
            if not all(device.holder for device in found):
                attempt_s = max(attempt_s, FIRST_ATTEMPT_S)
            elif left <= 0:
                raise RemoteError(
                    f"all devices that match stayed held for {self._wait_s:g} s",
                    code="DEADLINE_EXCEEDED",
                    reason="ALL_HELD",
                    metadata={"where": held_by(found), "hint": "wait longer, or match more devices"},
                )
            if not told and self._waiting is not None:
                told = True
                self._waiting(found)

    async def let_go(self) -> None:
        """Give the device back; where the answer to the question for it was lost, whichever was held by it.

        Where no server can be told, the lease ends by itself: nothing is raised.
        """
        if not self._may_hold:
            return
        link, stub = self._fleet.link, self._fleet.stub
        try:
            if not self._name:
                call = stub.AcquireDevice(self._request, metadata=link.metadata, timeout=FIRST_ATTEMPT_S)
                self._name = (await call).lease
            await link.call(stub.ReleaseDevice, pb.ReleaseDeviceRequest(lease=self._name))
        except grpc.aio.AioRpcError:
            pass  # the same question got no device now: it held none
        except GossamerError as e:
            _LOG.warning("%s could not be given back; the hold ends by itself: %s", self._name, e.message)
        self._may_hold = False

    async def _surely_let_go(self) -> None:
        """A cancellation waits for it; a second one does not."""
        task = asyncio.ensure_future(self.let_go())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await task
            raise

    async def profile(
        self, version: str = "", *, runs: int = 50, warmup: int = 5, progress: RunWatch | None = None
    ) -> DeviceProfile:
        """Have the held device time every operator, and wait for it.

        Args:
            version: of the registry, profiled without being installed (see :meth:`AsyncClient.version` for names);
                empty: what the device runs.
            runs, warmup: timed inferences, and those before them.
            progress: called with every change of the run.

        Raises:
            RemoteError: the device could not (``reason`` is its own, such as ``SIGNATURE_REFUSED``), the lease ended
                before it did (``LEASE_EXPIRED``), or the server refused.
            UnreachableError: no server answers.
        """
        link, stub = self._fleet.link, self._fleet.stub
        request = pb.CreateProfileRunRequest(
            lease=self._name,
            version=resource(version) if version else "",
            runs=runs,
            warmup_runs=warmup,
            request_id=secrets.token_hex(16),
        )
        run = run_of((await link.call(stub.CreateProfileRun, request)).profile_run)
        seen = None
        while True:
            if progress is not None and run != seen:
                progress(run)
                seen = run
            if run.state.final:
                break
            await asyncio.sleep(_POLL_S)
            run = run_of((await link.call(stub.GetProfileRun, pb.GetProfileRunRequest(name=run.name))).profile_run)
        if run.state is RunState.FAILED:
            raise run.error
        return await self._fleet.get_profile(run.profile)


def held_by(devices: Sequence[FleetDevice]) -> str:
    """Who holds which of these devices, for people."""
    return ", ".join(f"{device.name} (held by {device.holder or 'nobody now'})" for device in devices[:5])
