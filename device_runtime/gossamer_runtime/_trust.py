"""Which public keys a device trusts: ``.pub`` files of the trust store and of this package.

A ``.pub`` file is one line of text: ``gossamer-ed25519 <base64 of the 32-byte key> [comment]``. The trust store is the
folder ``trusted`` under ``GOSSAMER_HOME``, by default ``~/.config/gossamer``.
"""

from __future__ import annotations

import binascii
import os
from collections.abc import Iterable

from gossamer_runtime._errors import SignatureError

PREFIX = "gossamer-ed25519"
KEY_BYTES = 32
PACKAGE_STORE = os.path.join(os.path.dirname(__file__), "trusted")


def home() -> str:
    """Folder of keys and trust: ``GOSSAMER_HOME`` when set, else ``gossamer`` in the user's configuration folder."""
    override = os.environ.get("GOSSAMER_HOME")
    if override:
        return override
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "gossamer")


def parse_public(text: str, where: str) -> bytes:
    """The 32 bytes of a public key line.

    Raises:
        SignatureError: the text is not a public key; ``where`` names its place.
    """
    words = text.split(None, 2)
    hint = f"a public key is one line: {PREFIX} <base64 of 32 bytes> [comment]"
    if len(words) < 2 or words[0] != PREFIX:
        raise SignatureError("not a Gossamer public key", where=where, hint=hint)
    try:
        key = binascii.a2b_base64(words[1], strict_mode=True)
    except binascii.Error as e:
        raise SignatureError(f"not a Gossamer public key: {e}", where=where, hint=hint) from e
    if len(key) != KEY_BYTES:
        raise SignatureError(f"a public key has {KEY_BYTES} bytes, this one {len(key)}", where=where, hint=hint)
    return key


def read_public(path: str | os.PathLike[str]) -> bytes:
    """The 32 bytes of a ``.pub`` file.

    Raises:
        SignatureError: the file cannot be read or is not a public key.
    """
    try:
        with open(path, encoding="utf-8") as f:
            text = f.read(4096)
    except (OSError, UnicodeDecodeError) as e:
        raise SignatureError(f"cannot read the public key: {e}", where=os.fspath(path)) from e
    return parse_public(text, os.fspath(path))


def stored_keys() -> dict[str, bytes]:
    """Trusted keys by file: the trust store's, then the package's.

    Raises:
        SignatureError: a ``.pub`` file there is damaged (a silently ignored key would be a riddle).
    """
    found: dict[str, bytes] = {}
    for folder in (os.path.join(home(), "trusted"), PACKAGE_STORE):
        try:
            names = sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        for name in names:
            if name.endswith(".pub"):
                path = os.path.join(folder, name)
                found[path] = read_public(path)
    return found


def resolve(keys: Iterable[bytes | str | os.PathLike[str]] | None) -> list[bytes]:
    """Raw keys of ``keys``: each 32 bytes, a public key line, or a ``.pub`` file's path. ``None``: the stored ones.

    Raises:
        SignatureError: one of them is not a public key.
    """
    if keys is None:
        return list(stored_keys().values())
    out = []
    for i, key in enumerate(keys):
        if isinstance(key, bytes):
            if len(key) != KEY_BYTES:
                raise SignatureError(
                    f"a public key has {KEY_BYTES} bytes, this one {len(key)}", where=f"trusted_keys[{i}]"
                )
            out.append(key)
        elif isinstance(key, str) and key.startswith(PREFIX):
            out.append(parse_public(key, f"trusted_keys[{i}]"))
        else:
            out.append(read_public(key))
    return out
