"""A connection to another server of Gossamer, with its errors as this server's calls are to have them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import dataclasses
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from gossamer._errors import AccessError, UnreachableError
from gossamer.client._background import Background
from gossamer.client._calls import Retry
from gossamer.client._errors import RemoteError
from gossamer.client._link import Link
from gossamer_services.common.errors import Code, ServiceError, SettingsError
from gossamer_services.common.logs import REQUEST_ID

T = TypeVar("T")

CALL_S = 5.0
"""Seconds that the other server gets for a small call."""
SILENT_S = 40.0
"""A connection on which nothing comes for so long, not even answers to gRPC's keepalive, ends."""
_RETRY = Retry(attempts=3, first_s=0.1, longest_s=0.5, call_s=CALL_S)
_PATIENT = Retry(attempts=8, first_s=0.1, longest_s=1.0, call_s=CALL_S)
_PAUSE_S = 1.0


class UpstreamError(ServiceError):
    """A server that this one needs does not answer (UNAVAILABLE), refuses it or cannot be trusted (INTERNAL): not the
    caller's fault, and over once that server runs, or somebody mends the settings."""


class Upstream:
    """A server that this one needs; for use from any thread. Nothing is sent before the first call.

    While the server does not answer, one caller asks it and the others hear at once that it does not: threads that wait
    for it would be missed elsewhere.

    Args:
        name: "registry" or "fleet": of the settings ``upstream.{name}...``, and for messages.
        address, token_file, ca: see :class:`gossamer_services.upstream.settings.UpstreamSettings`.

    Raises:
        KeyFileError: ``ca`` cannot be read.
    """

    def __init__(self, name: str, address: str, token_file: Path | None, ca: Path | None) -> None:
        self.name, self.address = name, address
        self._token_file = token_file
        self._unreachable, self._refused = f"{name.upper()}_UNREACHABLE", f"{name.upper()}_REFUSES"
        self._background = Background(f"upstream-{name}")
        self._running: set[concurrent.futures.Future[Any]] = set()
        self._ended = False
        self._down = ""
        """Why it does not answer, and no error: one that is raised again and again gathers tracebacks."""
        self._ask_again = 0.0
        try:
            self._link = self._background.run(self._open(ca))
        except BaseException:
            self._background.close()
            raise

    async def _open(self, ca: Path | None) -> Link:
        token = "" if self._token_file is None else "-"  # a file's is put in for every call
        return Link(self.address, token=token, ca=ca, tls=None, retry=_RETRY)

    def stub(self, kind: Callable[[Any], T]) -> T:
        """A stub of the generated code over this connection."""

        async def make() -> T:
            return kind(self._link.channel)

        return self._background.run(make())

    def call(self, method: Any, request: Any, *, within_s: float = CALL_S) -> Any:
        """A call that answers once, made again while its answer gets lost.

        Raises:
            UpstreamError: the server does not answer, or refuses this one.
            ServiceError: what it answered.
        """
        return self.do(lambda link: link.call(method, request), within_s=within_s)

    def do(self, work: Callable[[Link], Coroutine[Any, Any, T]], *, within_s: float | None = None) -> T:
        """Do something over the connection; errors as of :meth:`call`.

        Args:
            within_s: seconds for all of it; None: as long as the server does not fall silent.
        """
        link = copy.copy(self._link)
        link.retry = _PATIENT if within_s is None else dataclasses.replace(_RETRY, call_s=within_s)
        if self._token_file is not None:
            link.metadata = (("authorization", f"Bearer {self._token()}"),)
        if REQUEST_ID.get():
            link.metadata = (*link.metadata, ("x-request-id", REQUEST_ID.get()))
        future = self._background.start(self._watched(work, link, within_s))
        self._running.add(future)
        try:
            if self._ended:  # perhaps before the future was among those that `abort` cancelled
                future.cancel()
            return future.result()
        except concurrent.futures.CancelledError:
            raise UpstreamError(Code.UNAVAILABLE, "DRAINING", "this server ends", hint="try again later") from None
        finally:
            self._running.discard(future)

    def check(self, *calls: tuple[Any, Any]) -> UpstreamError | None:
        """Make calls, by method and request, that change nothing and are refused without the right token.

        Returns:
            The error of a server that does not answer, which may yet start; None: all is well.

        Raises:
            SettingsError: it refuses this server.
        """
        try:
            for method, request in calls:
                self.call(method, request)
        except UpstreamError as e:
            if e.code is Code.UNAVAILABLE:
                return e
            raise SettingsError(e.message, where=f"upstream.{self.name}={self.address}", hint=e.hint) from e
        return None

    def abort(self) -> None:
        """End all calls, now and from now on, with UNAVAILABLE (DRAINING)."""
        self._ended = True
        for future in list(self._running):
            future.cancel()

    def close(self) -> None:
        """Close the connection."""
        self.abort()
        self._background.run(self._link.channel.close())
        self._background.close()

    async def _watched(self, work: Callable[[Link], Coroutine[Any, Any, T]], link: Link, within_s: float | None) -> T:
        if self._down:
            if time.monotonic() < self._ask_again:
                raise self._away(self._down)
            self._ask_again = time.monotonic() + (within_s or SILENT_S)
        try:
            async with asyncio.timeout(within_s):
                found = await work(link)
        except (RemoteError, UnreachableError, AccessError, TimeoutError) as e:
            error = self._error(e)
            self._down = error.message if error.reason == self._unreachable else ""
            self._ask_again = time.monotonic() + _PAUSE_S
            raise error from e
        self._down = ""
        return found

    def _token(self) -> str:
        assert self._token_file is not None
        try:
            return self._token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as e:
            raise self._refuses(f"the token for the {self.name} cannot be read: {e}", str(self._token_file)) from e

    def _away(self, message: str, reason: str = "") -> UpstreamError:
        return UpstreamError(
            Code.UNAVAILABLE, reason or self._unreachable, message, where=self.address, hint="try again later"
        )

    def _refuses(self, message: str, where: str) -> UpstreamError:
        hint = f"put a token that it knows, with the scopes, into upstream.{self.name}_token_file"
        return UpstreamError(Code.INTERNAL, self._refused, message, where=where, hint=hint)

    def _error(self, error: RemoteError | UnreachableError | AccessError | TimeoutError) -> ServiceError:
        if isinstance(error, AccessError):
            message, hint = f"the {self.name}: {error.message}", f"give its authority's: upstream.{self.name}_ca"
            return UpstreamError(Code.INTERNAL, self._refused, message, where=self.address, hint=hint)
        if not isinstance(error, RemoteError):
            message = f"the {self.name} does not answer in time"
            if isinstance(error, UnreachableError):
                message = error.message.replace("the service", f"the {self.name}", 1)
            return self._away(message)
        code = getattr(Code, error.code)
        if code in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED):
            return self._refuses(f"the {self.name} refuses this server: {error.message}", self.address)
        if code is Code.UNIMPLEMENTED:
            return self._refuses(f"no {self.name} is served there: {error.message}", self.address)
        if code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED) or not error.reason:
            return self._away(f"the {self.name}: {error.message}", error.reason)
        metadata = {k: v for k, v in error.metadata.items() if k not in ("request_id", "where", "hint")}
        return ServiceError(code, error.reason, error.message, where=error.where, hint=error.hint, metadata=metadata)
