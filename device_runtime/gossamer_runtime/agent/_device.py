"""The device's bundles, for everybody who acts on them: one change at a time, one run at a time.

The calls of DeviceService and the fleet's wishes meet here: a flash by cable and a pull do not collide, the second is
told BUSY.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from gossamer_runtime.agent._child import Child
from gossamer_runtime.agent._reasons import BusyError
from gossamer_runtime.agent._slots import Slots

PROFILE_SECONDS = 300.0
"""Limit of one profile."""
_CHANGE_WAIT_SECONDS = 2.0
_RUN_WAIT_SECONDS = 30.0


class Device:
    """The slots of one folder, and the processes that open their bundles.

    Args:
        slots: taken over; closed by ``close``.
        child: makes a process for bundles.

    Attributes:
        started: when, by ``time.monotonic``.
        closing: set when the agent ends.
        troubles: what else is wrong, for people, by who says so; empty texts: nothing.
    """

    def __init__(self, slots: Slots, child: Callable[[], Child]) -> None:
        self.slots = slots
        self.child = child
        self.started = time.monotonic()
        self.closing = threading.Event()
        self.troubles: dict[str, str] = {}
        self._changes = threading.Lock()
        self._runs = threading.Lock()

    @property
    def problem(self) -> str:
        """What is wrong, for people; empty: all is well."""
        return "; ".join(filter(None, (self.slots.problem, *self.troubles.values())))

    def close(self) -> None:
        """Wait for a change that is under way, and give the folder back."""
        self.closing.set()
        with self._changes:
            self.slots.close()

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """For as long as the slots or the uploads are changed.

        Raises:
            BusyError: somebody else changes them, or the agent ends.
        """
        # Waits a little: a client that comes back at once may be quicker than the end of its broken call.
        if self.closing.is_set() or not self._changes.acquire(timeout=_CHANGE_WAIT_SECONDS):
            raise BusyError("another flash, activation or rollback is going on", hint="try again")
        try:
            yield
        finally:
            self._changes.release()

    @contextlib.contextmanager
    def running(self) -> Iterator[Child]:
        """A process that may run bundles now.

        Raises:
            BusyError: others run for too long.
        """
        if not self._runs.acquire(timeout=_RUN_WAIT_SECONDS):
            raise BusyError("other runs are going on", hint="try again")
        try:
            with self.child() as child:
                yield child
        finally:
            self._runs.release()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Child]:
        """The bundle that runs, opened in a process of its own.

        Raises:
            SlotError: none runs.
            BusyError: others run for too long.
            and what ``Child.check`` raises.
        """
        bundle = self.slots.bundle()
        with self.running() as child:
            child.check(bundle)
            yield child
