"""The time of day as the services see it: never backwards while they run, and checked against the last run at a start.

What has expired stays expired when somebody sets the machine's clock back, or it starts without a battery in 1970.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from gossamer import _atomic
from gossamer._errors import OutputError
from gossamer_services.common.errors import SettingsError
from gossamer_services.common.times import LATEST_S

_LOG = logging.getLogger(__name__)

TOLERANCE_S = 300.0
"""How far behind the last run the machine's clock may be at a start."""
SMALL_S = 1.0
"""Jumps back of at most this are those of an ordinary time service, and not logged."""

KEEP_S = 30.0
"""Between writes of the time. What a kill loses of it is far less than the tolerance."""


class Clock:
    """Unix time in seconds; call it. Thread-safe.

    It is the machine's clock, unless that is behind what was said before: it then goes on at half speed until the
    machine's clock has caught up.

    Args:
        path: file that keeps the newest time seen, for the next start; see :meth:`keep`.
        accept: take the machine's clock whatever the file says.
        wall, steady: the machine's clock, and one that never goes backwards; seconds.

    Raises:
        SettingsError: the machine's clock is more than :data:`TOLERANCE_S` behind the file, or the file cannot be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        accept: bool = False,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._wall, self._steady = path, wall, steady
        self._lock = threading.Lock()
        newest = 0.0 if accept else _read(path)
        now = wall()
        if now < newest - TOLERANCE_S:
            raise SettingsError(
                f"the machine's clock says {_text(now)}, which is {_span(newest - now)} before the last run's "
                f"{_text(newest)}",
                where=str(path),
                hint="set the clock, or take its time: gossamer serve --set state.accept_clock=true",
            )
        self._said, self._at, self._behind = max(now, newest), steady(), False

    def __call__(self) -> float:
        """Now."""
        with self._lock:
            wall, at = self._wall(), self._steady()
            back = self._said - wall
            if back <= 0:
                self._said, self._behind = wall, False
            else:
                self._said += max(0.0, at - self._at) / 2
                if back > SMALL_S and not self._behind:
                    self._behind = True
                    _LOG.error(
                        "the machine's clock jumped back; time goes on at half speed until it has caught up",
                        extra={"back_s": round(back, 3), "clock": _text(wall)},
                    )
            self._at = at
            return self._said

    async def keep_for_ever(self) -> None:
        """:meth:`keep`, now and then, until the task is cancelled."""
        while True:
            await asyncio.to_thread(self.keep)
            await asyncio.sleep(KEEP_S)

    def keep(self) -> None:
        """Write the newest time seen; a folder that cannot be written just now is logged, and tried again next time."""
        try:
            _atomic.write(self._path, f"{self():.3f}\n".encode(), mode=0o600)
        except OutputError as e:
            _LOG.warning("the time cannot be kept", extra={"error": str(e)})


def _read(path: Path) -> float:
    try:
        seconds = float(path.read_text("ascii"))
        if not 0 <= seconds < LATEST_S:
            raise ValueError(f"{seconds} is no time")
        return seconds
    except FileNotFoundError:
        return 0.0
    except (OSError, ValueError) as e:
        raise SettingsError(
            f"the time of the last run cannot be read: {e}",
            where=str(path),
            hint="set the clock, then take its time: gossamer serve --set state.accept_clock=true",
        ) from e


def _text(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _span(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
