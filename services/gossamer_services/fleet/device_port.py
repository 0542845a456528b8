"""The certificate of the devices' port where the fleet's authority signs it: kept in its folder, renewed at a start."""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from gossamer import _atomic
from gossamer_services.common.errors import SettingsError
from gossamer_services.common.server import DeviceTls
from gossamer_services.common.settings import ServerSettings, host_of
from gossamer_services.fleet.authority import Authority, private_pem

LIFETIME = datetime.timedelta(days=825)
"""How long the certificate is good for; a start makes another when less than half of it is left."""

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?", re.ASCII)


def names(settings: ServerSettings) -> list[str]:
    """What the certificate names: ``server.device_names``, by default this machine's, and ``server.device_address``'s.

    Raises:
        SettingsError: one of ``server.device_names`` is neither an address nor a host's name.
    """
    check_names(settings.device_names, "server.device_names")
    own = [socket.gethostname()] if _HOST.fullmatch(socket.gethostname()) else []
    found = [*(settings.device_names or ("localhost", "127.0.0.1", "::1", *own)), host_of(settings.device_address)]
    return sorted({name for name in found if name})


def check_names(wanted: Sequence[str], where: str) -> None:
    """Raise SettingsError unless each is an IP address or the name of a host."""
    for name in wanted:
        if not (_is_address(name) or _HOST.fullmatch(name)):
            raise SettingsError(f"{name!r} is neither an IP address nor the name of a host", where=where)


def identity(authority: Authority, folder: Path, wanted: Sequence[str]) -> DeviceTls:
    """Key and certificate for the port, which name ``wanted``; made anew when they do not fit, and kept in ``folder``.

    Raises:
        OutputError: they cannot be written.
        SettingsError: they cannot be read.
    """
    path = folder / "server.pem"  # both in one file, so that they always fit each other
    try:
        kept = path.read_bytes()
    except FileNotFoundError:
        kept = b""
    except OSError as e:
        raise SettingsError(
            f"the certificate of the devices' port cannot be read: {e.strerror}", where=str(path)
        ) from e
    pair = _usable(kept, authority, wanted) or make(path, authority, wanted)
    return DeviceTls(*pair, authority.certificate)


def _usable(kept: bytes, authority: Authority, wanted: Sequence[str]) -> tuple[bytes, bytes] | None:
    private, begin, certificate = kept.partition(_BEGIN)
    try:
        found = x509.load_pem_x509_certificate(begin + certificate)
        found.verify_directly_issued_by(authority.issuer)
        key = serialization.load_pem_private_key(private, None)
        named = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return None  # cut, or of another authority
    left = found.not_valid_after_utc - authority.now()
    if key.public_key() != found.public_key() or left < LIFETIME / 2 or named != _alternatives(wanted):
        return None
    return private, begin + certificate


def load(path: Path, authority: Path) -> DeviceTls:
    """Key and certificate that :func:`make` wrote, on the machine of a registry that runs apart from the fleet.

    Raises:
        SettingsError: one of the files cannot be read, ``path`` does not hold both, the certificate ended, or it is of
            another authority, which devices would not trust.
    """
    again = "`gossamer certificate` makes it, where the fleet's data are"
    try:
        private, begin, certificate = path.read_bytes().partition(_BEGIN)
        roots = authority.read_bytes()
    except OSError as e:
        raise SettingsError(f"the file cannot be read: {e.strerror}", where=str(e.filename)) from e
    try:
        serialization.load_pem_private_key(private, None)
        found = x509.load_pem_x509_certificate(begin + certificate)
    except (ValueError, TypeError) as e:
        raise SettingsError("no private key and certificate in PEM, in this order", where=str(path), hint=again) from e
    try:
        issuers = x509.load_pem_x509_certificates(roots)
    except ValueError as e:
        raise SettingsError("no certificate in PEM", where=str(authority)) from e
    if not any(_issued(found, issuer) for issuer in issuers):
        raise SettingsError("the certificate is not of server.device_authority", where=str(path), hint=again)
    if found.not_valid_after_utc <= datetime.datetime.now(datetime.UTC):
        raise SettingsError(f"the certificate ended at {found.not_valid_after_utc}", where=str(path), hint=again)
    return DeviceTls(private, begin + certificate, roots)


def _issued(found: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        found.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def make(path: Path, authority: Authority, wanted: Sequence[str]) -> tuple[bytes, bytes]:
    """Make key and certificate, which names ``wanted``, and write both into a file; returns them in PEM.

    Raises:
        OutputError: it cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    ends = authority.now() + LIFETIME
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = authority.issue("Gossamer devices' port", key.public_key(), ends, server, _alternatives(wanted))
    pair = private_pem(key), certificate
    _atomic.write(path, b"".join(pair), mode=0o600)
    return pair


def _alternatives(wanted: Sequence[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address(n)) if _is_address(n) else x509.DNSName(n) for n in wanted]
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
