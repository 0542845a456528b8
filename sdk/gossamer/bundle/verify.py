"""Verifying: who signed a bundle, whether this machine trusts them, and whether the core accepts the bytes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gossamer._errors import SignatureError, located
from gossamer.bundle import container, keys
from gossamer_runtime import _native, _trust

UNSIGNED = bytes(container.SIGNATURE_BYTES)


@dataclass(frozen=True)
class Signer:
    """Who signed. ``public`` is the raw key, None when unsigned; ``valid``: the signature fits the bytes."""

    public: bytes | None
    valid: bool
    trusted: bool

    @property
    def fingerprint(self) -> str:
        """Short name of the signer's key; empty when unsigned."""
        return keys.fingerprint(self.public) if self.public else ""

    def __str__(self) -> str:
        if self.public is None:
            return "unsigned"
        if not self.valid:
            return f"INVALID signature in the name of {self.fingerprint}"
        return f"signed by {self.fingerprint} ({'trusted' if self.trusted else 'not trusted on this machine'})"


def signer(data: bytes, trusted_keys: Iterable[bytes | str | os.PathLike[str]] | None = None) -> Signer:
    """Read and check the signature of a bundle with the host's cryptography library.

    Raises:
        BundleError: not a bundle.
        SignatureError: one of ``trusted_keys`` is not a key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    info = container.sections(data)[-1]
    block = bytes(container.section_bytes(data, info))
    if block == UNSIGNED:
        return Signer(None, False, False)
    public, signature = block[:32], block[32:]
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data[: info.offset])
    except (InvalidSignature, ValueError):
        return Signer(public, False, False)
    return Signer(public, True, public in _trust.resolve(trusted_keys))


def check_structure(data: bytes, where: str = "<bytes>") -> None:
    """Let the core's loader check every count, offset, index and parameter.

    Raises:
        BundleError: the core refuses the bytes; the message says what and where.
        UnsupportedError: well formed, but this build of the core lacks something.
    """
    lib = _native.library()
    buffer = np.frombuffer(data, np.uint8)
    model, error = ctypes.c_void_p(), _native.ErrorStruct()
    status = lib.gs_model_open(buffer.ctypes.data, buffer.size, ctypes.byref(model), error)
    if model:
        lib.gs_model_close(model)
    _native.check(status, error, where)


def verify(
    data: bytes, trusted_keys: Iterable[bytes | str | os.PathLike[str]] | None = None, where: str = "<bytes>"
) -> Signer:
    """Check signature, trust and structure.

    Raises:
        SignatureError: unsigned, changed since it was signed, or signed by a key that is not trusted.
        BundleError: the core refuses the bytes.
    """
    with located(where):
        found = signer(data, trusted_keys)
    if found.public is None:
        raise SignatureError(
            "the bundle is not signed",
            where=where,
            hint="sign it with 'gossamer sign', or do without: --no-verify runs it, --no-signature checks the rest",
        )
    if not found.valid:
        raise SignatureError(
            "the signature does not fit: the bundle was changed since it was signed, or the copy is damaged",
            where=where,
            hint="get it again from where it was signed",
        )
    if not found.trusted:
        raise SignatureError(
            f"signed by {found.fingerprint}, which this machine does not trust",
            where=where,
            hint="if you know the signer: 'gossamer keys trust SIGNER.pub'",
        )
    check_structure(data, where)
    return found
