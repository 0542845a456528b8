"""``gossamer-agent``: keeps a device's slots until it is told to stop; and its commands beside that."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from gossamer_runtime._errors import GossamerError, InputError, LibraryError, SlotError
from gossamer_runtime._version import __version__
from gossamer_runtime.agent._lean import lean

DEFAULT_BIND = "127.0.0.1:50061"
DEFAULT_ROOT = "/var/lib/gossamer"
NO_PORT = "none"
_GRACE_SECONDS = 10.0
_log = logging.getLogger("gossamer.agent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 after SIGTERM or Ctrl-C, 2 wrong usage, else that of the error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = {"token": _token, "enroll": _enroll, "forget": _forget}.get(given[0] if given else "")
        if command is not None:
            return command(given[1:])
        return _serve(_parser().parse_args(given))
    except GossamerError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gossamer-agent",
        description="Keep this device's bundle slots: flash, try, commit, roll back, run, profile; by calls, "
        "by the wishes of a fleet, or both.",
        epilog="'gossamer-agent token FILE' adds a token to a token file and prints it; 'gossamer-agent enroll' makes "
        "this a device of a fleet, 'gossamer-agent forget' makes it forget that. Each has --help.",
    )
    add = parser.add_argument
    _add_root(parser)
    add("--bind", default=DEFAULT_BIND, metavar="HOST:PORT", help="port 0: any free one; none: no calls are served, "
        "for --fleet alone [default: %(default)s]")  # fmt: skip
    add("--fleet", action="store_true", help="pull mode: do what the fleet wishes that this device is enrolled in")
    add("--tls-cert", metavar="PEM", help="certificate chain of this device")
    add("--tls-key", metavar="PEM", help="its private key")
    add("--client-ca", metavar="PEM", help="accept only clients with a certificate of this authority (mTLS)")
    add("--revoked", metavar="FILE", help="refuse client certificates whose SHA-256 is a line of this file")
    add("--token-file", metavar="FILE", help="accept only calls with one of these tokens")
    add(
        "--trusted-key", action="append", metavar="PUB", help="trust this .pub file and not the trust store; repeatable"
    )
    add("--threads", type=int, default=1, help="threads of a run [default: %(default)s]")
    add("--run-seconds", type=float, default=10.0, help="limit of one run, trials included [default: %(default)s]")
    add("--max-bundle-bytes", type=int, default=1 << 31, help="largest bundle taken [default: 2 GiB]")
    add("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"], help="[default: %(default)s]")
    add("--port-file", metavar="FILE", help="write the port here when it is open; 0 without one")
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


def _enroll(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="gossamer-agent enroll",
        description="Make this a device of a fleet: the key is made here and stays, a one-time token buys its "
        "certificate. When the answer is lost, give the same command again.",
    )
    _add_root(parser)
    parser.add_argument("--fleet", required=True, metavar="HOST:PORT", help="where the fleet is served")
    parser.add_argument(
        "--token-file", required=True, metavar="FILE", help="holds the one-time token ('-': it comes by stdin)"
    )
    parser.add_argument(
        "--fleet-ca", metavar="PEM", help="authority of the server's certificate, or 'system' for those of this "
        "machine; none is needed on loopback",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    _need_grpc()
    from gossamer_runtime.agent import _enroll as enrolment
    from gossamer_runtime.agent._disk import FolderDisk
    from gossamer_runtime.agent._files import read

    system = options.fleet_ca == "system"
    server = enrolment.server(options.fleet, None if system or not options.fleet_ca else read(options.fleet_ca), system)
    data = sys.stdin.buffer.read() if options.token_file == "-" else read(options.token_file)
    token = data.decode("utf-8", "replace").strip()
    if not token or len(token.split()) != 1:
        raise InputError("it must hold one token and nothing else", where=options.token_file)
    disk = FolderDisk(options.root)
    try:
        identity = enrolment.enroll(disk, server, token)
    finally:
        disk.close()
    print(f"enrolled as {identity.device}; 'gossamer-agent --fleet' calls {identity.address}")
    return 0


def _forget(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="gossamer-agent forget",
        description="Forget the fleet: removes the key and the certificate. Bundles stay, and run. The fleet is not "
        "told: remove the device there, too.",
    )
    _add_root(parser)
    options = parser.parse_args(arguments)
    from gossamer_runtime.agent import _identity
    from gossamer_runtime.agent._disk import FolderDisk

    disk = FolderDisk(options.root)
    try:
        known = _identity.forget(disk)
    finally:
        disk.close()
    print("forgotten" if known else "this device was not enrolled")
    return 0


def _add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", default=DEFAULT_ROOT, help="folder of the slots [default: %(default)s]")


def _need_grpc() -> None:
    try:
        import google.protobuf  # noqa: F401
        import grpc  # noqa: F401
    except ImportError as e:
        raise LibraryError(
            f"the agent's packages are missing: {e}", hint="pip install 'gossamer-runtime[agent]'"
        ) from None


def _serve(options: argparse.Namespace) -> int:
    lean()
    _need_grpc()
    if not 1 <= options.threads <= 64:
        raise InputError(f"--threads must be from 1 to 64, not {options.threads}")
    if not options.run_seconds > 0 or options.max_bundle_bytes < 1:
        raise InputError("--run-seconds and --max-bundle-bytes must be more than 0")
    if options.bind == NO_PORT and not options.fleet:
        raise InputError(
            "without a port and without a fleet there is nothing to do", hint="give --fleet, or an address"
        )
    from gossamer_runtime.agent import _logs
    from gossamer_runtime.agent._child import Child
    from gossamer_runtime.agent._device import Device
    from gossamer_runtime.agent._slots import open_folder

    ring = _logs.install(options.log_level)

    def child() -> Child:
        return Child(options.trusted_key, threads=options.threads, run_seconds=options.run_seconds)

    made = None
    if options.bind != NO_PORT:
        from gossamer_runtime.agent import _server

        made = _server.credentials(options)
    device = Device(open_folder(options.root, child, max_bytes=options.max_bundle_bytes), child)
    server, port, pull = None, 0, None
    try:
        if options.bind != NO_PORT:
            from gossamer_runtime.agent._service import DeviceService

            server, port = _server.listen(DeviceService(device, ring, options.trusted_key), options, made)
        if options.fleet:
            pull = _pull(device)
        if options.port_file:
            _tell_port(options.port_file, port)
    except BaseException:
        device.close()
        raise
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if server is not None:
        server.start()
    slots = device.slots
    _log.info(
        "gossamer-agent %s serves %s %s; running: %s", __version__, options.root,
        f"on port {port}" if port else "on no port",
        f"slot {slots.running}" if slots.running else f"nothing ({slots.problem or 'no bundle yet'})",
    )  # fmt: skip
    if pull is not None:
        pull.start()
    stop.wait()
    _log.info("stopping")
    if pull is not None:
        pull.stop()
    ended = server.stop(_GRACE_SECONDS) if server is not None else None
    device.close()
    if ended is not None:
        ended.wait()
    return 0


def _tell_port(path: str, port: int) -> None:
    try:
        with open(path, "w") as f:
            f.write(f"{port}\n")
    except OSError as e:
        raise InputError(f"cannot write the port file: {e.strerror}", where=path, hint="--port-file") from e


def _pull(device: Any) -> Any:
    """Pull mode of an enrolled device.

    Raises:
        SlotError: it is not enrolled, or its identity is damaged.
    """
    from gossamer_runtime.agent import _identity
    from gossamer_runtime.agent._pull import Pull

    identity = _identity.read(device.slots.disk)
    if identity is None:
        raise SlotError(
            "this device is not enrolled in a fleet",
            where="--fleet",
            hint="'gossamer-agent enroll --fleet HOST:PORT --token-file FILE' first, with the same --root",
        )
    return Pull(device, identity)


if __name__ == "__main__":
    sys.exit(main())
