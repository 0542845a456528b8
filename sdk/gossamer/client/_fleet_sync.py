"""The fleet for ordinary code: each call is the asynchronous one's, run by the client's thread."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from gossamer.client._fleet import HOLD_S, AsyncFleet, RolloutWatch
from gossamer.client._fleet_results import EnrollmentToken, FleetDevice, Rollout, Stage
from gossamer.client._lease import AsyncLease, RunWatch, Waiting
from gossamer.client._profiles import DeviceProfile

T = TypeVar("T")


class Run(Protocol):
    """Runs a coroutine to its end in the client's thread."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> T: ...


class Fleet:
    """``client.fleet``: the devices of a server, what they should run, and the profiles that they sent.

    Methods, arguments and errors are those of :class:`gossamer.client.AsyncFleet`. Functions that are given are called
    in the client's thread, not in the caller's.
    """

    def __init__(self, run: Run, fleet: AsyncFleet) -> None:
        self._run, self._fleet = run, fleet

    def enrollment_token(
        self, labels: Mapping[str, str] | None = None, *, lifetime_s: float = 3600.0
    ) -> EnrollmentToken:
        """Make a one-time token with which a device enrols and gets these labels."""
        return self._run(self._fleet.enrollment_token(labels, lifetime_s=lifetime_s))

    def devices(self, selector: str = "", *, limit: int = 1_000_000) -> list[FleetDevice]:
        """At most ``limit`` devices that match, in the order of enrolment."""
        return self._run(self._fleet.devices(selector, limit=limit))

    def device(self, name: str) -> FleetDevice:
        """One device."""
        return self._run(self._fleet.device(name))

    def update(
        self,
        name: str,
        *,
        labels: Mapping[str, str | None] | None = None,
        display_name: str | None = None,
        desired_version: str | None = None,
    ) -> FleetDevice:
        """Change labels (None as a value removes one), display name or desired version of a device."""
        return self._run(
            self._fleet.update(name, labels=labels, display_name=display_name, desired_version=desired_version)
        )

    def remove(self, name: str) -> FleetDevice:
        """Remove a device and revoke its certificate; what it was."""
        return self._run(self._fleet.remove(name))

    def start_rollout(
        self,
        version: str,
        selector: str = "",
        *,
        stages: Sequence[Stage | float] = (),
        failure_limit_percent: float = 0.0,
        request_id: str | None = None,
        dry_run: bool = False,
    ) -> Rollout:
        """Roll a version out to the devices that match now; see :meth:`AsyncFleet.start_rollout`."""
        return self._run(
            self._fleet.start_rollout(
                version,
                selector,
                stages=stages,
                failure_limit_percent=failure_limit_percent,
                request_id=request_id,
                dry_run=dry_run,
            )
        )

    def rollout(self, name: str) -> Rollout:
        """One rollout."""
        return self._run(self._fleet.rollout(name))

    def rollouts(self, *, limit: int = 100) -> list[Rollout]:
        """At most ``limit`` rollouts, newest first."""
        return self._run(self._fleet.rollouts(limit=limit))

    def pause(self, name: str) -> Rollout:
        """Reach no more devices until :meth:`resume`."""
        return self._run(self._fleet.pause(name))

    def resume(self, name: str, *, failure_limit_percent: float | None = None) -> Rollout:
        """Go on with a rollout that was paused, or halted: then with a new limit."""
        return self._run(self._fleet.resume(name, failure_limit_percent=failure_limit_percent))

    def roll_back(self, name: str) -> Rollout:
        """Give every device that was reached what it was to run before."""
        return self._run(self._fleet.roll_back(name))

    def wait_rollout(
        self, name: str, *, progress: RolloutWatch | None = None, timeout_s: float | None = None
    ) -> Rollout:
        """Wait until a rollout completes, is rolled back, or halts; see :meth:`AsyncFleet.wait_rollout`."""
        return self._run(self._fleet.wait_rollout(name, progress=progress, timeout_s=timeout_s))

    def profiles(
        self, *, model: str = "", device: str = "", kernel: str = "", layer: str = "", limit: int = 20
    ) -> list[DeviceProfile]:
        """At most ``limit`` profiles, newest first, that fit what is given."""
        return self._run(self._fleet.profiles(model=model, device=device, kernel=kernel, layer=layer, limit=limit))

    def get_profile(self, name: str) -> DeviceProfile:
        """One profile."""
        return self._run(self._fleet.get_profile(name))

    def acquire(
        self,
        selector: str = "",
        *,
        wait_s: float | None = None,
        hold_s: float = HOLD_S,
        waiting: Waiting | None = None,
    ) -> Lease:
        """A free device that matches, held in ``with`` and given back after it; see :meth:`AsyncFleet.acquire`."""
        return Lease(self._run, self._fleet.acquire(selector, wait_s=wait_s, hold_s=hold_s, waiting=waiting))

    def profile(
        self,
        on: str | Lease = "",
        version: str = "",
        *,
        runs: int = 50,
        warmup: int = 5,
        wait_s: float | None = None,
        hold_s: float = HOLD_S,
        waiting: Waiting | None = None,
        progress: RunWatch | None = None,
    ) -> DeviceProfile:
        """Have a device time every operator; see :meth:`AsyncFleet.profile`."""
        if isinstance(on, Lease):
            return on.profile(version, runs=runs, warmup=warmup, progress=progress)
        with self.acquire(on, wait_s=wait_s, hold_s=hold_s, waiting=waiting) as lease:
            return lease.profile(version, runs=runs, warmup=warmup, progress=progress)


class Lease:
    """A device held for its user alone, in ``with``: it is waited for at the beginning and given back at the end, also
    after an error or Ctrl-C."""

    def __init__(self, run: Run, lease: AsyncLease) -> None:
        self._run, self._lease = run, lease

    @property
    def device(self) -> FleetDevice:
        """The held device; only inside ``with``."""
        return self._lease.device

    def __enter__(self) -> Lease:
        try:
            self._run(self._lease.take())
        except BaseException:
            self._let_go()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def profile(
        self, version: str = "", *, runs: int = 50, warmup: int = 5, progress: RunWatch | None = None
    ) -> DeviceProfile:
        """Have the held device time every operator, and wait for it; see :meth:`AsyncLease.profile`."""
        return self._run(self._lease.profile(version, runs=runs, warmup=warmup, progress=progress))

    def _let_go(self) -> None:
        try:
            self._run(self._lease.let_go())
        except BaseException:  # Ctrl-C, which ended the first try
            self._run(self._lease.let_go())
            raise
