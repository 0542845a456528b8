"""Ed25519 keys: making them, finding them, trusting them.

Everything lives under ``GOSSAMER_HOME`` (default ``~/.config/gossamer``)::

    keys/NAME.key      private key, PKCS #8 PEM, mode 0600
    keys/NAME.pub      its public key: one line, "gossamer-ed25519 <base64> NAME"
    trusted/*.pub      public keys whose bundles this machine runs

A new key is put into ``trusted`` as well: what you sign runs on the machine where you sign it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gossamer import _atomic
from gossamer._errors import KeyFileError, OutputError, SignatureError
from gossamer_runtime import _trust

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

DEFAULT_NAME = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class KeyInfo:
    """A key of this machine. ``private`` is None for one that is only trusted; ``public`` is the raw 32 bytes."""

    name: str
    public: bytes
    public_path: Path
    private: Path | None
    trusted: bool

    @property
    def fingerprint(self) -> str:
        """As ``fingerprint(public)``."""
        return fingerprint(self.public)


def home() -> Path:
    """Folder of keys and trust."""
    return Path(_trust.home())


def fingerprint(public: bytes) -> str:
    """Short name of a public key: ``sha256:`` and the first 16 hexadecimal digits of its SHA-256."""
    return "sha256:" + hashlib.sha256(public).hexdigest()[:16]


def public_line(public: bytes, comment: str) -> str:
    """The one line of a ``.pub`` file."""
    return f"{_trust.PREFIX} {base64.b64encode(public).decode()} {comment}".rstrip() + "\n"


def new_key(name: str = DEFAULT_NAME, folder: str | os.PathLike[str] | None = None) -> KeyInfo:
    """Make a key pair and trust it on this machine.

    Args:
        name: letters, digits, ``.``, ``_`` and ``-``.
        folder: where to put the pair; by default ``keys`` under ``home()``. With a folder of your own the key is not
            put into the trust store.

    Raises:
        KeyFileError: the name is unusable or a key of that name exists; nothing is overwritten.
        OutputError: the files cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    if not _NAME.fullmatch(name):
        raise KeyFileError(
            f"{name!r} is not a name for a key", hint="use letters, digits, '.', '_' and '-', at most 64"
        )
    own = folder is None
    place = home() / "keys" if folder is None else Path(folder)
    store = home() / "trusted"
    private, public = place / f"{name}.key", place / f"{name}.pub"
    for path in [private, public] + [store / f"{name}.pub"] * own:
        if path.exists():
            raise KeyFileError("a key of that name exists already", where=str(path), hint="choose another name")
    for where in [place] + [store] * own:
        try:
            where.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as e:
            raise OutputError(f"cannot make the folder of keys: {e.strerror}", where=str(where)) from e
    key = Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes_raw()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    line = public_line(raw, name).encode()
    written: list[Path] = []
    try:
        written.append(_atomic.write(private, pem, mode=0o600, overwrite=False))
        written.append(_atomic.write(public, line, mode=0o644, overwrite=False))
        if own:
            written.append(_atomic.write(store / f"{name}.pub", line, mode=0o644, overwrite=False))
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return KeyInfo(name, raw, public, private, own)


def load_private(key: str | os.PathLike[str]) -> Ed25519PrivateKey:
    """A private key by name (one of ``home()/keys``) or by path.

    Raises:
        KeyFileError: there is none, others may read it, or it is not an Ed25519 private key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = Path(key)
    if not path.is_file() and _NAME.fullmatch(os.fspath(key)):
        path = home() / "keys" / f"{os.fspath(key)}.key"
    try:
        data = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as e:
        raise KeyFileError(
            f"cannot read the private key: {e.strerror}",
            where=str(path),
            hint="'gossamer keys list' shows the keys; 'gossamer keys new NAME' makes one",
        ) from e
    if os.name == "posix" and mode & 0o077:
        raise KeyFileError("the private key can be read by others", where=str(path), hint=f"chmod 600 '{path}'")
    try:
        loaded = load_pem_private_key(data, None)
    except (ValueError, TypeError) as e:
        raise KeyFileError(f"not a private key: {e}", where=str(path), hint="give a .key file") from e
    if not isinstance(loaded, Ed25519PrivateKey):
        raise KeyFileError("not an Ed25519 key", where=str(path), hint="'gossamer keys new NAME' makes one")
    return loaded


def default_key() -> KeyInfo:
    """The key called ``default``, made at its first use."""
    private, public = home() / "keys" / f"{DEFAULT_NAME}.key", home() / "keys" / f"{DEFAULT_NAME}.pub"
    if not private.exists():
        return new_key(DEFAULT_NAME)
    raw = load_private(private).public_key().public_bytes_raw()
    return KeyInfo(DEFAULT_NAME, raw, public, private, raw in _trust.stored_keys().values())


def trust(public: str | os.PathLike[str], name: str | None = None) -> KeyInfo:
    """Put a public key file into the trust store.

    Raises:
        KeyFileError: the file is missing or not a public key, or another key of that name is trusted already.
    """
    try:
        raw = _trust.read_public(public)
    except SignatureError as e:
        raise KeyFileError(e.message, where=e.where, hint=e.hint or "give the .pub file of the signer") from e
    label = name or Path(public).stem
    if not _NAME.fullmatch(label):
        raise KeyFileError(f"{label!r} is not a name for a key", hint="give another one with --name")
    path = home() / "trusted" / f"{label}.pub"
    if path.exists():
        if _trust.read_public(path) == raw:
            return KeyInfo(label, raw, path, None, True)
        raise KeyFileError("another key of that name is trusted already", where=str(path), hint="choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as e:
        raise OutputError(f"cannot make the trust store: {e.strerror}", where=str(path.parent)) from e
    _atomic.write(path, public_line(raw, label).encode(), mode=0o644, overwrite=False)
    return KeyInfo(label, raw, path, None, True)


def untrust(name: str) -> Path:
    """Remove a key from the trust store; returns the file that is gone.

    Raises:
        KeyFileError: no key of that name is trusted.
    """
    path = home() / "trusted" / f"{name}.pub"
    if not _NAME.fullmatch(name) or not path.is_file():
        raise KeyFileError(f"no trusted key is called {name!r}", hint="'gossamer keys list' shows them")
    path.unlink()
    return path


def list_keys() -> list[KeyInfo]:
    """Own keys first, then those that are only trusted (the package's last)."""
    trusted = _trust.stored_keys()
    raws = set(trusted.values())
    found: list[KeyInfo] = []
    for path in sorted((home() / "keys").glob("*.pub")):
        private = path.with_suffix(".key")
        try:
            raw = _trust.read_public(path)
        except SignatureError as e:
            raise KeyFileError(e.message, where=e.where, hint=e.hint) from e
        found.append(KeyInfo(path.stem, raw, path, private if private.exists() else None, raw in raws))
    known = {k.public for k in found}
    found += [KeyInfo(Path(p).stem, raw, Path(p), None, True) for p, raw in trusted.items() if raw not in known]
    return found
