"""The connection to a service: where, with which certificate authority, with which token."""

from __future__ import annotations

import os
from pathlib import Path

import grpc

from gossamer._errors import InputError, KeyFileError

MESSAGE_BYTES = 16 << 20
_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.enable_retries", 0),  # the client's own know what may be repeated
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


def open_channel(address: str, ca: str | os.PathLike[str] | None, tls: bool) -> grpc.aio.Channel:
    """A channel; nothing is sent yet.

    Raises:
        InputError: the address is empty.
        KeyFileError: the authority's certificates cannot be read.
    """
    if not address:
        raise InputError("no address", where="address", hint="give host:port of `gossamer serve`")
    if ca is None and not tls:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    roots = None
    if ca is not None:
        try:
            roots = Path(ca).read_bytes()
        except OSError as e:
            raise KeyFileError(f"the certificates cannot be read: {e.strerror}", where=str(ca)) from e
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots), options=_OPTIONS)


def is_local(address: str) -> bool:
    """Whether the address is of this machine: a token may go there without TLS."""
    host = address.removeprefix("dns:///").rpartition(":")[0].strip("[]")
    return address.startswith("unix:") or host in ("localhost", "::1") or host.startswith("127.")
