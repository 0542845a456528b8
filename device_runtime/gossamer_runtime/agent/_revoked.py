"""Client certificates that are refused although their authority is trusted: fingerprints in a file.

One a line: the SHA-256 of the certificate in hexadecimal, with or without colons, as ``openssl x509 -fingerprint
-sha256 -noout -in client.crt`` prints it behind the equals sign; then, after a blank, a comment. The file is read again
when it changes, so that a new line refuses its certificate at once, on open connections too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc

from gossamer_runtime._errors import InputError
from gossamer_runtime.agent import _certificate
from gossamer_runtime.agent._auth import abort
from gossamer_runtime.agent._files import Lines

REASON = "CERTIFICATE_REVOKED"
_LINE = re.compile(r"((?:[0-9A-Fa-f]{2}:?){32})(?: .*)?")
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class RevokedCheck(grpc.ServerInterceptor):
    """Refuses calls with a revoked certificate.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be read, or a line is no fingerprint.
    """

    def __init__(self, path: str) -> None:
        self._lines = Lines(path, "revoked certificate", _fingerprint, "64 hexadecimal digits, then a comment if any")

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Called by grpc for every call."""
        handler = continuation(details)
        kind = next((k for k in _KINDS if handler is not None and getattr(handler, k) is not None), None)
        if kind is None:  # no such method
            return handler
        serve = getattr(handler, kind)

        def checked(request: Any, context: Any) -> Any:
            self._check(context)
            return serve(request, context)

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(checked, handler.request_deserializer, handler.response_serializer)

    def _check(self, context: Any) -> None:
        try:
            revoked = self._lines.read()
            shown = _certificate.parse(context.auth_context()["x509_pem_cert"][0].decode("ascii"))
        except (InputError, KeyError, ValueError) as e:
            abort(context, grpc.StatusCode.UNAUTHENTICATED, REASON, f"revoked certificates cannot be checked: {e}")
        if shown.fingerprint in revoked:
            abort(context, grpc.StatusCode.UNAUTHENTICATED, REASON, "the client's certificate is revoked")


def _fingerprint(line: str) -> str | None:
    match = _LINE.fullmatch(line)
    return match[1].replace(":", "").lower() if match else None
