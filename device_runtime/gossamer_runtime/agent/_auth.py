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
from typing import Any, NoReturn

import grpc

from gossamer_runtime._errors import InputError
from gossamer_runtime.agent import _status
from gossamer_runtime.agent._files import Lines
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
        hint = "'gossamer-agent token FILE' adds one: sha256:<hex> read,flash [comment]"
        self._lines = Lines(path, "token", _parse, hint)

    def scopes(self, token: str) -> frozenset[str] | None:
        """Scopes of a token; ``None`` when it is unknown."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        found = None
        for known, scopes in self._lines.read():  # all of them, so that time says nothing
            if hmac.compare_digest(known, digest):
                found = scopes
        return found


def _parse(line: str) -> tuple[str, frozenset[str]] | None:
    match = _LINE.fullmatch(line)
    scopes = frozenset(match[2].split(",")) if match else frozenset()
    return (match[1], scopes) if match and scopes <= set(SCOPES) else None


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


def abort(context: Any, code: Any, reason: str, message: str) -> NoReturn:
    """End a call with a status, its reason in the trailer."""
    detail = _status.encode(code.value[0], message, reason, DOMAIN, {})
    context.set_trailing_metadata(((_status.TRAILER, detail),))
    context.abort(code, message)
    raise AssertionError  # abort has raised


def _refuse(code: Any, reason: str, message: str) -> Any:
    # A handler for streams fits unary calls as well: the first thing it does is to abort.
    return grpc.stream_stream_rpc_method_handler(lambda _request, context: abort(context, code, reason, message))
