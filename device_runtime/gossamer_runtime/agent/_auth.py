"""Who may call: tokens, hashed in a file and each with its scopes. A client certificate is checked by TLS itself.

A token file has one token a line: ``sha256:<64 hexadecimal digits> <scopes> [comment]``, the scopes ``read``, ``flash``
or ``read,flash``. It is read again when it changes, so that a removed line revokes its token at once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable
from typing import Any

import grpc

from gossamer_runtime._errors import InputError
from gossamer_runtime.agent import _status
from gossamer_runtime.agent._reasons import DOMAIN

SCOPES = ("read", "flash")
FLASH_METHODS = frozenset({"Flash", "Activate", "Rollback"})
_LINE = re.compile(r"sha256:([0-9a-f]{64}) +([a-z,]+)(?: .*)?")


def new_token(path: str, scopes: str, comment: str) -> str:
    """Add a token to a file; returns it. Only its hash is kept.

    Raises:
        InputError: an unknown scope, or the file cannot be written.
    """
    wanted = scopes.split(",")
    if not wanted or any(s not in SCOPES for s in wanted):
        raise InputError(f"{scopes!r} are no scopes", hint="read, flash, or read,flash")
    token = "gsd_" + secrets.token_urlsafe(32)
    line = f"sha256:{hashlib.sha256(token.encode()).hexdigest()} {scopes} {' '.join(comment.split())}".rstrip() + "\n"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(fd, "w") as f:
            f.write(line)
    except OSError as e:
        raise InputError(f"cannot write the token file: {e.strerror}", where=path) from e
    return token


class Tokens:
    """The tokens of a file.

    Raises:
        InputError: the file cannot be read, or a line is not a token.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._scopes: dict[str, frozenset[str]] = {}
        self._load()

    def scopes(self, token: str) -> frozenset[str] | None:
        """Scopes of a token; ``None`` when it is unknown."""
        self._load()
        digest = hashlib.sha256(token.encode()).hexdigest()
        found = None
        for known, scopes in self._scopes.items():  # all of them, so that time says nothing
            if hmac.compare_digest(known, digest):
                found = scopes
        return found

    def _load(self) -> None:
        try:
            stat = os.stat(self._path)
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp == self._stamp:
                return
            with open(self._path, encoding="utf-8") as f:
                lines = f.read().splitlines()
        except (OSError, UnicodeDecodeError) as e:
            raise InputError(f"cannot read the token file: {e}", where=self._path) from e
        found = {}
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            match = _LINE.fullmatch(text)
            scopes = match[2].split(",") if match else []
            if match is None or any(s not in SCOPES for s in scopes):
                raise InputError(
                    "not a token's line",
                    where=f"{self._path}:{number}",
                    hint="'gossamer-agent token FILE' adds one: sha256:<hex> read,flash [comment]",
                )
            found[match[1]] = frozenset(scopes)
        self._scopes, self._stamp = found, stamp


class TokenCheck(grpc.ServerInterceptor):
    """Refuses calls without a token that has the method's scope."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Called by grpc for every call."""
        method = details.method.rsplit("/", 1)[-1]
        need = "flash" if method in FLASH_METHODS else "read"
        sent = dict(details.invocation_metadata).get("authorization", "")
        if not sent.startswith("Bearer "):
            return _refuse(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING", "this device wants a token")
        try:
            scopes = self._tokens.scopes(sent.removeprefix("Bearer ").strip())
        except InputError as e:
            return _refuse(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_UNKNOWN", f"tokens cannot be checked: {e.message}")
        if scopes is None:
            return _refuse(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_UNKNOWN", "the token is unknown or revoked")
        if need not in scopes:
            return _refuse(
                grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING", f"the token lacks the scope {need!r} of {method}"
            )
        return continuation(details)


def _refuse(code: Any, reason: str, message: str) -> Any:
    def abort(_request: Any, context: Any) -> None:
        detail = _status.encode(code.value[0], message, reason, DOMAIN, {})
        context.set_trailing_metadata(((_status.TRAILER, detail),))
        context.abort(code, message)

    # A handler for streams fits unary calls as well: the first thing it does is to abort.
    return grpc.stream_stream_rpc_method_handler(abort)
