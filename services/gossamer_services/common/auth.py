"""Who calls, and whether they may: bearer tokens, devices' certificates, or nobody in particular on loopback."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509

from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.common.tokens import SCOPES, TokenStore

PULL = "pull"
"""The scope of calls that read, and that devices need as well; people's tokens have it with read."""


@dataclass(frozen=True)
class Caller:
    """Who calls: ``name`` is ``tokens/NAME``, ``devices/COMMON-NAME``, or empty on loopback without tokens."""

    name: str
    scopes: frozenset[str]

    def may(self, scope: str) -> bool:
        """True when the scopes include this one; admin includes all that people have, read includes :data:`PULL`."""
        if scope == PULL and self.may("read"):
            return True
        return scope in self.scopes or (scope in SCOPES and "admin" in self.scopes)


ANYONE = Caller("", frozenset(SCOPES))

STRANGER = Caller("", frozenset())
"""Who makes a call that anybody may make; nobody was asked for."""

CALLER: contextvars.ContextVar[Caller] = contextvars.ContextVar("gossamer_caller")
"""Who made the call that this task serves."""

DEVICE_SCOPES = frozenset({PULL, "device"})
"""What a certificate of the devices' authority allows: download, and speak for itself. Devices stand where anybody may
open them: they see no other devices, no jobs, and nothing by its name."""


Known = Callable[[str], Awaitable[bool]]
"""Whether a device, by its certificate's common name, is still enrolled."""


class Authenticator:
    """Finds the caller of a call.

    Args:
        tokens: the tokens; None: nobody needs one (loopback).
        known_device: whether a device is still enrolled; None: all that the authority signed are.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        tokens: TokenStore | None,
        known_device: Known | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tokens, self._known_device, self._clock = tokens, known_device, clock

    async def caller(self, metadata: Sequence[tuple[str, str | bytes]], peer: Mapping[str, Sequence[bytes]]) -> Caller:
        """Who calls, by the call's metadata and its connection's ``auth_context``.

        Raises:
            ServiceError: UNAUTHENTICATED (TOKEN_MISSING, TOKEN_MALFORMED, TOKEN_UNKNOWN, TOKEN_REVOKED,
                TOKEN_EXPIRED, CERTIFICATE_REVOKED, CERTIFICATE_EXPIRED, CERTIFICATE_UNNAMED).
        """
        certificates = peer.get("x509_pem_cert")
        if certificates:  # the connection was let in because the devices' authority signed this one
            names = peer.get("x509_common_name") or [b""]
            device = names[0].decode("utf-8", "replace")
            if not device:
                raise ServiceError(
                    Code.UNAUTHENTICATED,
                    "CERTIFICATE_UNNAMED",
                    "the certificate has no common name, by which devices are known",
                    hint="let the authority name its devices",
                )
            # The handshake asked the machine's clock, which may be wrong, and a connection may outlive the certificate.
            if self._clock() >= _end_s(certificates[0]):
                raise ServiceError(
                    Code.UNAUTHENTICATED,
                    "CERTIFICATE_EXPIRED",
                    f"the certificate of {device!r} has expired",
                    hint="renew certificates before they end; enrol the device again",
                )
            if self._known_device is not None and not await self._known_device(device):
                raise ServiceError(
                    Code.UNAUTHENTICATED, "CERTIFICATE_REVOKED", f"the device {device!r} is not enrolled any more"
                )
            return Caller(f"devices/{device}", DEVICE_SCOPES)
        if self._tokens is None:
            return ANYONE
        given = [value for key, value in metadata if key.lower() == "authorization"]
        if not given:
            raise ServiceError(
                Code.UNAUTHENTICATED,
                "TOKEN_MISSING",
                "this server asks for a token",
                hint="send the metadata 'authorization: Bearer TOKEN'; `gossamer tokens create` makes one",
            )
        text = given[0] if isinstance(given[0], str) else given[0].decode("utf-8", "replace")
        kind, _, token = text.partition(" ")
        if len(given) > 1 or kind.lower() != "bearer" or not 0 < len(token) <= 256:
            raise ServiceError(Code.UNAUTHENTICATED, "TOKEN_MALFORMED", "authorization must be 'Bearer TOKEN', once")
        record = await asyncio.to_thread(self._tokens.check, token)
        return Caller(f"tokens/{record.name}", record.scopes)


def _end_s(certificate: bytes) -> float:
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()


def check_scope(caller: Caller, scope: str | None, method: str) -> None:
    """Let the call through, or not; ``scope`` None: anybody may.

    Raises:
        ServiceError: PERMISSION_DENIED (SCOPE_MISSING).
    """
    if scope is not None and not caller.may(scope):
        has = ", ".join(sorted(caller.scopes))
        raise ServiceError(
            Code.PERMISSION_DENIED,
            "SCOPE_MISSING",
            f"{method.rpartition('/')[2]} needs the scope {scope!r}; {caller.name} has {has}",
            hint="use a token that has the scope",
            metadata={"scope": scope},
        )
