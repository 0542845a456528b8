"""The authority that signs certificates of devices and of their port: in the data folder, made at the first start."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gossamer import _atomic
from gossamer_services.common.errors import SettingsError, bad_field
from gossamer_services.common.folders import make_folder


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key in PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


_LIFETIME = datetime.timedelta(days=7300)
_SKEW = datetime.timedelta(days=1)  # devices' clocks may be behind


class Authority:
    """Signs certificates; the key stays in ``folder``. ``clock``: Unix time in seconds.

    Raises:
        SettingsError: the folder cannot be made, or holds a key or certificate that cannot be read.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.certificate_path, key_path = folder / "authority.crt", folder / "authority.key"
        make_folder(folder)
        if not self.certificate_path.exists():  # written last: a start that was cut makes both anew
            self._make(key_path)
        try:
            key = serialization.load_pem_private_key(key_path.read_bytes(), None)
            self.certificate = self.certificate_path.read_bytes()
            self.issuer = x509.load_pem_x509_certificate(self.certificate)
        except (OSError, ValueError) as e:
            raise SettingsError(f"the authority cannot be read: {e}", where=str(folder)) from e
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SettingsError("the authority's key is of another kind", where=str(key_path))
        self._key = key

    def now(self) -> datetime.datetime:
        """By the clock."""
        return datetime.datetime.fromtimestamp(self.clock(), datetime.UTC)

    def sign(self, request_pem: str, device: str, days: int) -> tuple[str, datetime.datetime]:
        """A client certificate, in PEM, for the key of a PKCS #10 request, in the name of ``device``; and its end.

        Raises:
            ServiceError: INVALID_ARGUMENT: the request is malformed, its signature does not fit, or its key is weak.
        """
        try:
            request = x509.load_pem_x509_csr(request_pem.encode())
            fits = request.is_signature_valid
            public = request.public_key()
        except (ValueError, InvalidSignature, UnsupportedAlgorithm) as e:
            raise bad_field("certificate_request_pem", "not a PKCS #10 request in PEM") from e
        if not fits:
            raise bad_field("certificate_request_pem", "its signature does not fit its key")
        if not _is_strong(public):
            raise bad_field(
                "certificate_request_pem",
                "its key is none of: EC on P-256, P-384 or P-521; Ed25519; RSA of 2048 bits at least",
                hint="make a key with `gossamer-agent enroll`",
            )
        ends = self.now() + datetime.timedelta(days=days)
        client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        return self.issue(device, public, ends, client).decode(), ends

    def issue(
        self,
        name: str,
        public: CertificatePublicKeyTypes,
        ends: datetime.datetime,
        *extensions: x509.ExtensionType,
    ) -> bytes:
        """A certificate, in PEM, of a key, with ``name`` as its common name; not of an authority."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.issuer.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now() - _SKEW)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        builder = builder.add_extension(_usage(digital_signature=True), critical=True)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        for extension in (*extensions, x509.SubjectKeyIdentifier.from_public_key(public), signer):
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _make(self, key_path: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Gossamer fleet")])
        now = self.now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + _LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _atomic.write(key_path, private_pem(key), mode=0o600)
        _atomic.write(self.certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
        os.chmod(self.certificate_path, 0o644)  # noqa: PTH101


def _usage(**wanted: bool) -> x509.KeyUsage:
    return x509.KeyUsage(**{use: wanted.get(use, False) for use in _USES})


_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def _is_strong(public: CertificatePublicKeyTypes) -> bool:
    if isinstance(public, rsa.RSAPublicKey):
        return public.key_size >= 2048
    if isinstance(public, ec.EllipticCurvePublicKey):
        return isinstance(public.curve, (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1))
    return isinstance(public, ed25519.Ed25519PublicKey)
