"""An enrolled device's connection to its server: made when needed, dropped when broken, its certificate renewed."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gossamer_runtime._errors import GossamerError
from gossamer_runtime.agent import _certificate, _clock, _identity
from gossamer_runtime.agent._address import beside
from gossamer_runtime.agent._backoff import spread
from gossamer_runtime.agent._disk import Disk
from gossamer_runtime.agent._identity import Identity
from gossamer_runtime.agent._link import UNREACHABLE, UNTRUSTED, Link
from gossamer_runtime.agent._proto import fleet_pb2 as pb
from gossamer_runtime.agent._reasons import ServerAccessError, ServerError, ServerUnreachableError

RENEW_AT = 2 / 3
"""Share of a certificate's life after which another is asked for."""
RENEW_AGAIN_SECONDS = 3600.0
_log = logging.getLogger("gossamer.agent")


class Connection:
    """Used by one thread; closed by any.

    Args:
        disk: keeps the identity.
        identity: who the device is.
        connect: makes a link.
        clock: seconds since 1970.
    """

    def __init__(
        self, disk: Disk, identity: Identity, connect: Callable[[Identity], Link], clock: Callable[[], float]
    ) -> None:
        self.identity = identity
        self._disk, self._connect, self._clock = disk, connect, clock
        self._certificate = _certificate.parse(identity.certificate)
        self._link: Link | None = None
        self._elsewhere: Link | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._renew_at = 0.0

    def close(self) -> None:
        """End it; a call that goes on, also to a registry elsewhere, ends with ServerUnreachableError."""
        with self._lock:
            self._closed = True
            if self._elsewhere is not None:
                self._elsewhere.close()
        self.drop()

    def drop(self) -> None:
        """Let the next call connect anew."""
        with self._lock:
            if self._link is not None:
                self._link.close()
                self._link = None

    def call(self, method: str, request: Any) -> Any:
        """A method of the fleet, by its name; errors as for ``Link.call``."""
        link = self._open()
        return link.call(getattr(link.fleet, method), request)

    @contextlib.contextmanager
    def registry(self, address: str) -> Iterator[Link]:
        """The connection to the registry: the fleet's own unless there is another address for it."""
        if not address:
            yield self._open()
            return
        with self._lock:
            self._require_open()
            link = self._connect(replace(self.identity, address=beside(address, self.identity.address)))
            self._elsewhere = link
        try:
            yield link
        finally:
            with self._lock:
                link.close()
                self._elsewhere = None

    def renew(self) -> None:
        """Ask for another certificate when most of this one's life is over; a renewal that fails is tried in an hour.

        Raises:
            ServerAccessError: the server does not know this device.
        """
        old = self._certificate
        due = old.not_before + (old.not_after - old.not_before) * RENEW_AT
        if self._now() < due or time.monotonic() < self._renew_at:
            return
        request = pb.RenewCertificateRequest(name=self.identity.device, certificate_request_pem=self.identity.csr)
        try:
            pem = self.call("RenewCertificate", request).certificate_pem
            new = _certificate.parse(pem)
            if new.public_key != old.public_key or new.not_after <= old.not_after:
                raise ValueError("the new certificate is not this device's, or ends no later")
            identity = replace(self.identity, certificate=pem)
            _identity.write(self._disk, identity)
        except ServerAccessError:
            raise
        except (GossamerError, ValueError) as e:  # there is time: what else is wished goes first
            self._renew_at = time.monotonic() + spread(RENEW_AGAIN_SECONDS)
            _log.warning("pull: the certificate was not renewed, it ends at %s: %s", old.not_after.isoformat(), e)
            return
        self.identity, self._certificate = identity, new
        self.drop()
        _log.info("pull: the certificate was renewed, until %s", new.not_after.isoformat())

    def clock_problem(self, e: ServerError) -> str:
        """Whether a clock that does not fit the certificates may be why a call failed; empty: no."""
        if e.reason not in (UNREACHABLE, UNTRUSTED):
            return ""
        known = {"its certificate": self._certificate}
        known["the authority"] = _certificate.parse(self.identity.authority)
        found = _clock.problem(self._now(), known)
        if found or e.reason == UNREACHABLE:
            return found
        shown = _clock.server_certificate(self.identity.address)
        return _clock.problem(self._now(), {"the server's certificate": shown}) if shown else ""

    def _open(self) -> Link:
        with self._lock:
            self._require_open()
            if self._link is None:
                self._link = self._connect(self.identity)
            return self._link

    def _require_open(self) -> None:
        if self._closed:
            raise ServerUnreachableError("the agent ends", reason=UNREACHABLE)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
