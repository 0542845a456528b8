"""Addresses as people write them: HOST:PORT, [V6]:PORT, and which of them are this machine's alone."""

from __future__ import annotations

import ipaddress

from gossamer_runtime._errors import InputError


def split(address: str, where: str) -> tuple[str, int]:
    """Host, without the brackets of IPv6, and port.

    Raises:
        InputError: it is no such address; ``where`` it was given.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) >= 1 << 16:
        raise InputError(f"{address!r} is not HOST:PORT", where=where)
    return host.strip("[]"), int(port)


def beside(address: str, host_from: str) -> str:
    """An address of a server, where ":PORT" means a port on the host of another address."""
    host, _, port = address.rpartition(":")
    return f"{host or host_from.rpartition(':')[0]}:{port}"


def is_loopback(host: str) -> bool:
    """True when only this machine is reached by that name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
