"""Waiting for changes of jobs: this process's own wake at once; others' are looked for now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.optimizer.jobs import Job
from gossamer_services.optimizer.store import JobStore

LOOK_S = 1.0
"""How often jobs are looked at for what other processes changed."""


class Watcher:
    """Watches jobs of a store; made inside the event loop that watches."""

    def __init__(self, store: JobStore) -> None:
        self._store, self._loop = store, asyncio.get_running_loop()
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._draining = False
        store.listen(self._heard)

    def drain(self) -> None:
        """End all watching with UNAVAILABLE, so that clients ask another server, or this one later."""
        self._draining = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def watch(self, job: str) -> AsyncIterator[Job]:
        """The job now and after every change; ends with the job's end.

        Raises:
            NotFoundError: there is none.
            ServiceError: UNAVAILABLE (DRAINING): the server ends.
        """
        event = asyncio.Event()
        self._waiting.setdefault(job, set()).add(event)
        revision = 0
        try:
            while True:
                event.clear()
                now = await asyncio.to_thread(self._store.get, job)
                if now.revision != revision:
                    revision = now.revision
                    yield now
                if now.state.final:
                    return
                if self._draining:
                    raise ServiceError(Code.UNAVAILABLE, "DRAINING", "the server ends", hint="watch again")
                try:
                    async with asyncio.timeout(LOOK_S):
                        await event.wait()
                except TimeoutError:
                    pass
        finally:
            events = self._waiting[job]
            events.discard(event)
            if not events:
                del self._waiting[job]

    def _heard(self, job: str) -> None:
        """From any thread."""
        if job in self._waiting and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, job)

    def _wake(self, job: str) -> None:
        for event in self._waiting.get(job, ()):
            event.set()
