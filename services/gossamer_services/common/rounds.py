"""Work that is done again and again, in the event loop, for as long as a service runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

_LOG = logging.getLogger(__name__)


class Rounds:
    """Tasks that a service starts, and ends as it closes."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, what: str, every_s: float, work: Callable[[], Awaitable[object]], *, at_once: bool = False) -> None:
        """Do ``work`` every so many seconds, in the running event loop; what fails is logged as ``what``.

        Args:
            at_once: the first time now.
        """
        self._tasks.append(asyncio.get_running_loop().create_task(_for_ever(what, every_s, work, at_once)))

    async def close(self) -> None:
        """End them; work that is in a thread by now goes on there."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _for_ever(what: str, every_s: float, work: Callable[[], Awaitable[object]], at_once: bool) -> None:
    if not at_once:
        await asyncio.sleep(every_s)
    while True:
        try:
            await work()
        except Exception:  # the next round may do better; a server does not end for it
            _LOG.exception("%s failed", what)
        await asyncio.sleep(every_s)
