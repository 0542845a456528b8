"""Keeps what jobs refer to in a registry elsewhere, which knows nothing of jobs, by leases that are renewed in time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from gossamer_services.common.errors import ServiceError
from gossamer_services.optimizer.store import JobStore

LOG = logging.getLogger("gossamer.optimizer")
ROUND_S = 60.0
_BATCH = 200


class Keeper:
    """Renews the leases of a store's blobs, from a thread of its own.

    A lease is renewed once half of it is over: of all blobs that jobs read until they end, and of what they made, as
    long as the store has the job.

    Args:
        store: the jobs.
        lease: leases a blob by its digest, for ``lease_s`` seconds; False: there is no such blob.
        round_s: seconds between looks into the store.
    """

    def __init__(
        self, store: JobStore, lease: Callable[[str], bool], lease_s: float, *, round_s: float = ROUND_S
    ) -> None:
        self._store, self._lease, self._lease_s = store, lease, lease_s
        self._round_s = min(round_s, lease_s / 8)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="optimizer-keeper", daemon=True)

    def start(self) -> None:
        """Renew from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End; leases last as long as they were made for."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        while not self._end.is_set():
            try:
                while self.renew() == _BATCH:
                    pass
            except ServiceError as e:
                LOG.warning("leases are not renewed now: %s", e.message)
            except Exception:  # the next round may do better
                LOG.exception("leases are not renewed")
            self._end.wait(self._round_s)

    def renew(self) -> int:
        """Renew what is due, at most some of it; returns how much that was.

        Raises:
            ServiceError: the registry or the database does not answer; what was renewed before is noted.
        """
        now = self._store.clock()
        due = self._store.unleased(now + self._lease_s / 2, _BATCH)
        done = []
        try:
            for digest in due:
                if self._end.is_set():
                    break
                if not self._lease(digest):  # noted all the same: asking again brings nothing back
                    LOG.error("the registry lost a blob that jobs refer to: %s", digest)
                done.append(digest)
        finally:
            self._store.remember_leases(done, now + self._lease_s)
        return len(done)
