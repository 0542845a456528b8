"""Connections of the agent to its fleet's server: channels, calls with a deadline, and what their errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc

from gossamer_runtime.agent import _status
from gossamer_runtime.agent._identity import Identity
from gossamer_runtime.agent._proto import fleet_pb2_grpc, registry_pb2_grpc
from gossamer_runtime.agent._reasons import ServerAccessError, ServerError, ServerUnreachableError

CALL_SECONDS = 20.0
UNTRUSTED = "SERVER_UNTRUSTED"
UNREACHABLE = "SERVER_UNREACHABLE"
REMOVED = ("CERTIFICATE_REVOKED", "DEVICE_NOT_FOUND", "NOT_THIS_DEVICE")
"""Reasons of a server that does not know this device any more."""
_MOST_MESSAGE_BYTES = 8 << 20
_OPTIONS = [
    ("grpc.max_receive_message_length", _MOST_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),  # while a call goes on: a download behind a NAT that has forgotten us must end
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection
    ("grpc.enable_retries", 0),  # who calls tries again, and says so
]
_Code = grpc.StatusCode
_AGAIN = (_Code.UNAVAILABLE, _Code.DEADLINE_EXCEEDED, _Code.RESOURCE_EXHAUSTED, _Code.INTERNAL, _Code.UNKNOWN,
          _Code.CANCELLED, _Code.ABORTED)  # fmt: skip


class Link:
    """A connection to a server, made when it is first used. Used by one thread, closed by any.

    Args:
        address: HOST:PORT.
        authority: certificates that the server's must come from, in PEM; None: those of this machine.
        key, certificate: who we are, in PEM; None: nobody yet.
        plain: without TLS.
    """

    def __init__(
        self,
        address: str,
        authority: bytes | None = None,
        key: bytes | None = None,
        certificate: bytes | None = None,
        *,
        plain: bool = False,
    ) -> None:
        self._where = f"server {address}"
        if plain:
            self._channel = grpc.insecure_channel(address, _OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(authority, key, certificate)
            self._channel = grpc.secure_channel(address, credentials, _OPTIONS)
        make: Any = fleet_pb2_grpc.FleetServiceStub  # generated without types
        self.fleet: Any = make(self._channel)
        make = registry_pb2_grpc.RegistryServiceStub
        self.registry: Any = make(self._channel)

    def close(self) -> None:
        """Close the connection; a call that goes on ends with ServerUnreachableError."""
        self._channel.close()

    def call(self, method: Any, request: Any, seconds: float = CALL_SECONDS) -> Any:
        """Answer of a unary call.

        Raises:
            ServerUnreachableError: no answer, or the server asks to come again.
            ServerAccessError: the server does not know us, or we do not trust it.
            ServerError: it refused, with its reason.
        """
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as e:
            raise self._error(e) from e
        except ValueError as e:  # what grpc says of a channel that was closed
            raise ServerUnreachableError(str(e), reason=UNREACHABLE, where=self._where) from e

    def stream(self, method: Any, request: Any) -> Stream:
        """The answers of a call that streams; errors as for :meth:`call`, from its iteration."""
        try:
            return Stream(method(request), self)
        except ValueError as e:
            raise ServerUnreachableError(str(e), reason=UNREACHABLE, where=self._where) from e

    def _error(self, e: Any) -> ServerError:
        code, text = e.code(), e.details() or e.code().name
        trailer = dict(e.trailing_metadata() or ()).get(_status.TRAILER)
        info = _status.error_info(trailer) if isinstance(trailer, bytes) else None
        if info is not None:
            reason, _, metadata = info
            refused = code in (_Code.UNAUTHENTICATED, _Code.PERMISSION_DENIED) or reason in REMOVED
            kind = ServerAccessError if refused else ServerUnreachableError if code in _AGAIN else ServerError
            return kind(text, reason=reason, where=self._where, hint=metadata.get("hint"))
        if "CERTIFICATE_VERIFY_FAILED" in text or "peer certificate" in text.lower():
            return ServerAccessError(
                f"the server is not trusted: {text}", reason=UNTRUSTED, where=self._where,
                hint="its certificate must come from the authority that this device knows, and name the host",
            )  # fmt: skip
        if code in _AGAIN:
            return ServerUnreachableError(
                f"the server does not answer: {text}", reason=UNREACHABLE, where=self._where,
                hint="is it running, and is it reached by this address?",
            )  # fmt: skip
        return ServerError(text, reason=code.name, where=self._where)


class Stream:
    """The answers of a call; ``cancel`` ends it, from any thread."""

    def __init__(self, call: Any, link: Link) -> None:
        self._call, self._link = call, link

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._call
        except grpc.RpcError as e:
            raise self._link._error(e) from e

    def cancel(self) -> None:
        """End the call."""
        self._call.cancel()


def link_of(identity: Identity) -> Link:
    """The connection of an enrolled device."""
    return Link(identity.address, identity.authority.encode(), identity.key.encode(), identity.certificate.encode())
