"""Enrolment: a key that never leaves the device, and the certificate that its fleet gives for a one-time token.

The key, the request and its id are on disk before the server is asked. When the answer is lost, by a broken connection
or by a power cut, the same is asked again, and gives the same certificate.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from dataclasses import dataclass
from datetime import UTC, datetime

from gossamer_runtime._errors import GossamerError, InputError, LibraryError, SlotError
from gossamer_runtime.agent import _certificate, _clock, _facts, _identity
from gossamer_runtime.agent._address import beside, is_loopback, split
from gossamer_runtime.agent._disk import Disk
from gossamer_runtime.agent._identity import Identity, Request
from gossamer_runtime.agent._link import UNTRUSTED, Link
from gossamer_runtime.agent._proto import fleet_pb2 as pb
from gossamer_runtime.agent._reasons import ServerAccessError, ServerError, ServerUnreachableError

_TRIES = 4
_FIRST_WAIT_SECONDS = 0.5
_log = logging.getLogger("gossamer.agent")


@dataclass(frozen=True)
class Server:
    """Where to enrol. ``fleet``: HOST:PORT. ``authority``: as for Link. ``plain``: without TLS."""

    fleet: str
    authority: bytes | None = None
    plain: bool = False


def server(fleet: str, authority: bytes | None, system: bool) -> Server:
    """The server at an address.

    Raises:
        InputError: no such address, or one that is not loopback without an authority to know it by.
    """
    host, _ = split(fleet, "--fleet")
    plain = authority is None and not system
    if plain and not is_loopback(host):
        raise InputError(
            f"{host} is not loopback: it must be known by a certificate",
            where="--fleet",
            hint="give --fleet-ca with the authority of its certificate, or --fleet-ca system",
        )
    return Server(fleet, authority, plain)


def enroll(disk: Disk, at: Server, token: str) -> Identity:
    """Enrol, or end an enrolment that was begun.

    Raises:
        InputError: the device is enrolled already.
        ServerUnreachableError: the server does not answer; ask again with the same token.
        ServerAccessError: it refuses the token, or is not trusted.
        ServerError: it refuses the request, or answers what makes no sense.
        SlotError: the disk is full or failed.
        LibraryError: the package cryptography is missing.
    """
    known, request = _identity.read(disk), _identity.read_request(disk)
    if known is not None and request is not None and request.key == known.key:
        _identity.write(disk, known)  # its end was not seen: a power cut or a failing disk
        return known
    if known is not None:
        raise InputError(
            f"this device is enrolled as {known.device} at {known.fleet}",
            where="--root",
            hint="'gossamer-agent forget' lets it enroll anew",
        )
    digest = hashlib.sha256(token.encode()).hexdigest()
    if request is None or (request.fleet, request.token_sha256) != (at.fleet, digest):
        key, csr = _make_key()
        request = Request(at.fleet, digest, secrets.token_hex(16), csr, key)
        _identity.write_request(disk, request)
    answer = _ask(at, request, token)
    identity = Identity(
        device=answer.device.name,
        fleet=at.fleet,
        address=_address(at.fleet, answer.device_address),
        authority=answer.authority_pem,
        certificate=answer.certificate_pem,
        csr=request.csr,
        key=request.key,
    )
    try:
        _certificate.parse(identity.certificate)
        _certificate.parse(identity.authority)
    except ValueError as e:
        raise ServerError(f"the server's answer makes no sense: {e}", reason="BAD_ANSWER", where=at.fleet) from e
    _identity.write(disk, identity)
    return identity


def _ask(at: Server, request: Request, token: str) -> pb.EnrollDeviceResponse:
    message = pb.EnrollDeviceRequest(
        token=token, certificate_request_pem=request.csr, facts=_facts.read(), request_id=request.request_id
    )
    for tried in range(_TRIES):
        link = Link(at.fleet, at.authority, plain=at.plain)
        try:
            answer: pb.EnrollDeviceResponse = link.call(link.fleet.EnrollDevice, message)
            return answer
        except ServerUnreachableError as e:
            if tried == _TRIES - 1:
                raise
            _log.warning("%s; trying again", e.message)
        except ServerAccessError as e:
            raise _explained(e, at) from e
        finally:
            link.close()
        threading.Event().wait(_FIRST_WAIT_SECONDS * 2**tried)
    raise AssertionError  # the last try returns or raises


def _explained(e: ServerAccessError, at: Server) -> GossamerError:
    if e.reason == UNTRUSTED:
        shown = _clock.server_certificate(at.fleet)
        clock = _clock.problem(datetime.now(UTC), {"the server's certificate": shown} if shown else {})
        hint = clock or "--fleet-ca must be the authority of its certificate, which must name the host of --fleet"
        return ServerAccessError(e.message, reason=e.reason, where=e.where, hint=hint)
    if e.reason == "TOKEN_INVALID":
        return ServerAccessError(
            e.message, reason=e.reason, where=e.where,
            hint="a token enrolls one device, once, and not for long: have another made for this one",
        )  # fmt: skip
    return e


def _address(fleet: str, device_address: str) -> str:
    if not device_address:
        raise SlotError(
            "the server has no address for devices",
            where=f"server {fleet}",
            hint="start it with server.device_bind set; this token is good for the same device again until it expires",
        )
    return beside(device_address, fleet)


def _make_key() -> tuple[str, str]:
    """A P-256 key and a PKCS #10 request for it, in PEM."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as e:
        raise LibraryError(
            f"enrolment needs the package cryptography: {e}", hint="pip install 'gossamer-runtime[agent]'"
        ) from None
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode(), request.public_bytes(serialization.Encoding.PEM).decode()
