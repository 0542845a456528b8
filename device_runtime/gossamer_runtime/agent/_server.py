"""The agent's own port: DeviceService behind TLS, tokens and limits."""

from __future__ import annotations

import argparse
from concurrent import futures
from typing import Any

import grpc

from gossamer_runtime._errors import InputError, SlotError
from gossamer_runtime.agent._address import is_loopback, split
from gossamer_runtime.agent._auth import TokenCheck, Tokens
from gossamer_runtime.agent._files import read
from gossamer_runtime.agent._proto import device_pb2_grpc
from gossamer_runtime.agent._revoked import RevokedCheck
from gossamer_runtime.agent._service import MOST_MESSAGE_BYTES, DeviceService


def listen(service: DeviceService, options: argparse.Namespace, credentials: Any) -> tuple[grpc.Server, int]:
    """A server of this service, bound and not started, and its port.

    Args:
        service: what it serves.
        options: of the command line.
        credentials: from ``credentials``.

    Raises:
        InputError: the file of tokens or of revoked certificates cannot be used.
        SlotError: the port is in use, or the address is not this machine's.
    """

    checks: list[grpc.ServerInterceptor] = [RevokedCheck(options.revoked)] if options.revoked else []
    if options.token_file:
        checks.append(TokenCheck(Tokens(options.token_file)))
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=8, thread_name_prefix="call"),
        interceptors=checks,
        maximum_concurrent_rpcs=8,
        options=[
            ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # else a second server on the port would silently share it
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.max_connection_idle_ms", 600_000),
        ],
    )
    add_service: Any = device_pb2_grpc.add_DeviceServiceServicer_to_server  # generated without types
    add_service(service, server)
    try:
        if credentials is None:
            port = server.add_insecure_port(options.bind)
        else:
            port = server.add_secure_port(options.bind, credentials)
    except RuntimeError:
        port = 0
    if not port:
        raise SlotError(
            f"cannot listen on {options.bind}", hint="the port is in use, or the address is not this machine's: --bind"
        )
    return server, port


def credentials(options: argparse.Namespace) -> Any:
    """Server credentials, or None for plain loopback.

    Raises:
        InputError: not loopback and not protected, or a file cannot be used.
    """
    host, _ = split(options.bind, "--bind")
    if bool(options.tls_cert) != bool(options.tls_key):
        raise InputError("--tls-cert and --tls-key need each other")
    if options.client_ca and not options.tls_cert:
        raise InputError("--client-ca needs --tls-cert and --tls-key")
    if options.revoked and not options.client_ca:
        raise InputError("--revoked needs --client-ca: without it nobody shows a certificate")
    if not options.tls_cert:
        if not is_loopback(host):
            raise InputError(
                f"{host} is not loopback: calls from elsewhere need TLS",
                where="--bind",
                hint="give --tls-cert and --tls-key with --client-ca or --token-file, or bind to 127.0.0.1",
            )
        return None
    if not is_loopback(host) and not options.client_ca and not options.token_file:
        raise InputError(
            f"{host} is not loopback: callers must be known",
            where="--bind",
            hint="give --client-ca, --token-file, or both",
        )
    pair = (read(options.tls_key), read(options.tls_cert))
    authority = read(options.client_ca) if options.client_ca else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
