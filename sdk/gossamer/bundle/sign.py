"""Signing: fills the last section with the public key and the Ed25519 signature over all bytes before it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gossamer import _atomic
from gossamer._errors import BundleError, located
from gossamer.bundle import container, keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def sign(data: bytes, key: Ed25519PrivateKey) -> bytes:
    """The bundle with its signature replaced. Ed25519 is deterministic: same bundle and key, same bytes.

    Raises:
        BundleError: ``data`` is not a bundle.
    """
    at = container.sections(data)[-1].offset
    body = data[:at]
    return body + key.public_key().public_bytes_raw() + key.sign(body)


def sign_file(
    path: str | os.PathLike[str], key: str | os.PathLike[str], output: str | os.PathLike[str] | None = None
) -> Path:
    """Sign a bundle file, in place unless ``output`` is given.

    Raises:
        BundleError: not a bundle.
        KeyFileError: the key cannot be used.
        OutputError: the result cannot be written; the old file is untouched.
    """
    private = keys.load_private(key)
    with located(os.fspath(path)):
        data = sign(read(path), private)
    return _atomic.write(output or path, data)


def read(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a bundle file.

    Raises:
        BundleError: there is no such file, it cannot be read, or it is larger than the format allows.
    """
    try:
        size = Path(path).stat().st_size
        if size > container.MAX_BYTES:
            raise BundleError(
                f"{size} bytes; a bundle has at most {container.MAX_BYTES}",
                where=os.fspath(path),
                hint="check the path: this is no bundle",
            )
        data = Path(path).read_bytes()
    except OSError as e:
        raise BundleError(f"cannot read the bundle: {e.strerror}", where=os.fspath(path), hint="check the path") from e
    if not data:
        raise BundleError("the bundle is empty", where=os.fspath(path), hint="copy or build it again")
    return data
