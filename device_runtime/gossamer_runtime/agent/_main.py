"""``gossamer-agent``: serves a device's slots until it is told to stop."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent import futures
from typing import Any

from gossamer_runtime._errors import GossamerError, InputError, LibraryError, SlotError
from gossamer_runtime._version import __version__

DEFAULT_BIND = "127.0.0.1:50061"
_GRACE_SECONDS = 10.0
_log = logging.getLogger("gossamer.agent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 after SIGTERM or Ctrl-C, 2 wrong usage, else that of the error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["token"]:
            return _token(given[1:])
        return _serve(_parser().parse_args(given))
    except GossamerError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gossamer-agent",
        description="Serve this device's bundle slots: flash, try, commit, roll back, run, profile.",
        epilog="'gossamer-agent token FILE' adds a token to a token file and prints it.",
    )
    add = parser.add_argument
    add("--root", default="/var/lib/gossamer", help="folder of the slots [default: %(default)s]")
    add("--bind", default=DEFAULT_BIND, metavar="HOST:PORT", help="port 0: any free one [default: %(default)s]")
    add("--tls-cert", metavar="PEM", help="certificate chain of this device")
    add("--tls-key", metavar="PEM", help="its private key")
    add("--client-ca", metavar="PEM", help="accept only clients with a certificate of this authority (mTLS)")
    add("--token-file", metavar="FILE", help="accept only calls with one of these tokens")
    add(
        "--trusted-key", action="append", metavar="PUB", help="trust this .pub file and not the trust store; repeatable"
    )
    add("--threads", type=int, default=1, help="threads of a run [default: %(default)s]")
    add("--run-seconds", type=float, default=10.0, help="limit of one run, trials included [default: %(default)s]")
    add("--max-bundle-bytes", type=int, default=1 << 31, help="largest bundle taken [default: 2 GiB]")
    add("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"], help="[default: %(default)s]")
    add("--port-file", metavar="FILE", help="write the port here when it is open")
    add("--version", action="version", version=f"gossamer-agent {__version__}")
    return parser


def _token(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="gossamer-agent token", description="Add a token to FILE and print it.")
    parser.add_argument("file")
    parser.add_argument("--scopes", default="read,flash", help="read, flash, or read,flash [default: %(default)s]")
    parser.add_argument("--comment", default="", help="whose it is")
    options = parser.parse_args(arguments)
    _need_grpc()
    from gossamer_runtime.agent._auth import new_token

    print(new_token(options.file, options.scopes, options.comment))
    return 0


def _need_grpc() -> None:
    try:
        import google.protobuf  # noqa: F401
        import grpc  # noqa: F401
    except ImportError as e:
        raise LibraryError(
            f"the agent's packages are missing: {e}", hint="pip install 'gossamer-runtime[agent]'"
        ) from None


def _serve(options: argparse.Namespace) -> int:
    _need_grpc()
    if not 1 <= options.threads <= 64:
        raise InputError(f"--threads must be from 1 to 64, not {options.threads}")
    if not options.run_seconds > 0 or options.max_bundle_bytes < 1:
        raise InputError("--run-seconds and --max-bundle-bytes must be more than 0")
    credentials = _credentials(options)
    from gossamer_runtime.agent import _logs
    from gossamer_runtime.agent._child import Child
    from gossamer_runtime.agent._service import DeviceService
    from gossamer_runtime.agent._slots import open_folder

    ring = _logs.install(options.log_level)

    def child() -> Child:
        return Child(options.trusted_key, threads=options.threads, run_seconds=options.run_seconds)

    slots = open_folder(options.root, child, max_bytes=options.max_bundle_bytes)
    service = DeviceService(slots, child, ring, options.trusted_key)
    try:
        server, port = _listen(service, options, credentials)
    except BaseException:
        service.close()
        raise
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    if options.port_file:
        with open(options.port_file, "w") as f:
            f.write(f"{port}\n")
    _log.info(
        "gossamer-agent %s serves %s on port %d; running: %s", __version__, options.root, port,
        f"slot {slots.running}" if slots.running else f"nothing ({slots.problem or 'no bundle yet'})",
    )  # fmt: skip
    stop.wait()
    _log.info("stopping")
    ended = server.stop(_GRACE_SECONDS)
    service.close()
    ended.wait()
    return 0


def _listen(service: Any, options: argparse.Namespace, credentials: Any) -> tuple[Any, int]:
    import grpc

    from gossamer_runtime.agent._auth import TokenCheck, Tokens
    from gossamer_runtime.agent._proto import device_pb2_grpc
    from gossamer_runtime.agent._service import MOST_MESSAGE_BYTES

    checks: list[grpc.ServerInterceptor] = [TokenCheck(Tokens(options.token_file))] if options.token_file else []
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


def _credentials(options: argparse.Namespace) -> Any:
    """Server credentials, or None for loopback.

    Raises:
        InputError: not loopback and not protected, or a file cannot be used.
    """
    host, colon, port = options.bind.rpartition(":")
    if not colon or not port.isdigit() or not host:
        raise InputError(f"{options.bind!r} is not HOST:PORT", where="--bind")
    if bool(options.tls_cert) != bool(options.tls_key):
        raise InputError("--tls-cert and --tls-key need each other")
    if options.client_ca and not options.tls_cert:
        raise InputError("--client-ca needs --tls-cert and --tls-key")
    if not options.tls_cert:
        if not _loopback(host):
            raise InputError(
                f"{host} is not loopback: calls from elsewhere need TLS",
                where="--bind",
                hint="give --tls-cert and --tls-key with --client-ca or --token-file, or bind to 127.0.0.1",
            )
        return None
    if not _loopback(host) and not options.client_ca and not options.token_file:
        raise InputError(
            f"{host} is not loopback: callers must be known",
            where="--bind",
            hint="give --client-ca, --token-file, or both",
        )
    import grpc

    pair = (_read(options.tls_key), _read(options.tls_cert))
    authority = _read(options.client_ca) if options.client_ca else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return False


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError as e:
        raise InputError(f"cannot read it: {e.strerror}", where=path) from e


if __name__ == "__main__":
    sys.exit(main())
