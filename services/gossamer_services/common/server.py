"""The gRPC server that every service runs in: guarded calls, health, reflection, TLS, limits, and a graceful end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gossamer_services.common.auth import Authenticator, Known
from gossamer_services.common.calls import Guard
from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.common.metrics import Metrics
from gossamer_services.common.settings import ServerSettings, is_loopback
from gossamer_services.common.tokens import TokenStore

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """One gRPC service of a server.

    Attributes:
        name: full name, such as ``gossamer.v1.RegistryService``.
        add: adds the servicer to a server, as ``add_RegistryServiceServicer_to_server`` with its servicer bound.
        scopes: scope by method name; a method that is not listed needs ``admin``.
        drain: called as the server begins to end, so that long streams end by themselves.
    """

    name: str
    add: Callable[[Any], None]
    scopes: Mapping[str, str | None] = field(default_factory=dict)
    drain: Callable[[], None] | None = None


@dataclass(frozen=True)
class DeviceTls:
    """What the devices' port shows, and whom it lets in: key, certificate chain and devices' authority, in PEM."""

    key: bytes
    certificate: bytes
    authority: bytes


class Server:
    """A server of some services; ``await start()``, then ``await stop()``.

    Args:
        settings: see :class:`ServerSettings`.
        services: what it serves.
        tokens: the tokens; needed unless bound to loopback with ``tokens: auto``.
        known_device: whether a device is still enrolled; None: all are.
        device_tls: for the devices' port; None: ``tls_certificate`` and ``device_authority`` of the settings.
        clock: Unix time in seconds, by which devices' certificates end.

    Raises:
        ServiceError: the settings would serve people without TLS or tokens beyond this machine.
    """

    def __init__(
        self,
        settings: ServerSettings,
        services: Sequence[Service],
        tokens: TokenStore,
        known_device: Known | None = None,
        device_tls: DeviceTls | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check(settings, device_tls=device_tls is not None)
        self._device_tls = device_tls
        self.settings, self.services, self.metrics = settings, tuple(services), Metrics()
        self.port = self.device_port = self.metrics_port = 0
        scopes = {f"/{s.name}/{method}": scope for s in services for method, scope in s.scopes.items()}
        open_here = is_loopback(settings.bind) and settings.tokens == "auto"
        authenticator = Authenticator(None if open_here else tokens, known_device, clock)
        guard = Guard(authenticator, scopes, settings, self.metrics)
        self._server = grpc.aio.server(
            interceptors=[guard],
            options=_options(settings),
            maximum_concurrent_rpcs=settings.max_concurrent_calls,
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for service in services:
            service.add(self._server)
        if settings.reflection:
            names = [s.name for s in services]
            reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)

    async def start(self) -> None:
        """Bind and serve; health says SERVING from then on.

        Raises:
            ServiceError: UNAVAILABLE (CANNOT_BIND): an address is taken or not ours. FAILED_PRECONDITION (BAD_TLS): a
                certificate or key cannot be read.
        """
        settings = self.settings
        credentials = _credentials(settings, None)
        self.port = self._bind(settings.bind, credentials)
        if settings.device_bind:
            self.device_port = self._bind(settings.device_bind, self._device_credentials())
        if settings.metrics_bind:
            self.metrics_port = self.metrics.serve(settings.metrics_bind)
        await self._server.start()
        for name in ("", *(s.name for s in self.services)):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        _LOG.info(
            "serving",
            extra={
                "bind": settings.bind,
                "port": self.port,
                "tls": credentials is not None,
                "services": [s.name for s in self.services],
            },
        )

    async def stop(self) -> None:
        """Drain: health says NOT_SERVING first; after a delay no new calls, and those in progress get time to end."""
        await self._health.enter_graceful_shutdown()
        _LOG.info("draining", extra={"delay_s": self.settings.drain_delay_s, "grace_s": self.settings.drain_s})
        await asyncio.sleep(self.settings.drain_delay_s)
        for service in self.services:
            if service.drain is not None:
                service.drain()
        await self._server.stop(self.settings.drain_s)
        _LOG.info("stopped")

    def device_address(self) -> str:
        """host:port where devices call, or ":port" on the host where they enrol; empty: there is none."""
        settings = self.settings
        if not settings.device_bind:
            return ""
        if settings.device_address or settings.device_bind.startswith("unix:"):
            return settings.device_address
        return f":{self.device_port}"

    def _device_credentials(self) -> grpc.ServerCredentials | None:
        tls = self._device_tls
        if tls is None:
            return _credentials(self.settings, self.settings.device_authority)
        return grpc.ssl_server_credentials([(tls.key, tls.certificate)], tls.authority, require_client_auth=True)

    def _bind(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                port: int = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as e:
            raise ServiceError(
                Code.UNAVAILABLE,
                "CANNOT_BIND",
                f"the address cannot be bound: {str(e).splitlines()[0]}",
                where=address,
                hint="is another server running there? Give another address with --bind",
            ) from e
        return port


def check(settings: ServerSettings, *, device_tls: bool = False) -> None:
    """Refuse settings that would serve others than this machine without TLS.

    Args:
        device_tls: the devices' port has what it needs for TLS from elsewhere.

    Raises:
        ServiceError: FAILED_PRECONDITION (TLS_NEEDED or BAD_TLS).
    """
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise ServiceError(
            Code.FAILED_PRECONDITION,
            "BAD_TLS",
            "a certificate needs its key, and a key its certificate",
            where="server.tls_certificate, server.tls_key",
            hint="give both or neither",
        )
    if settings.tls_certificate is None and not is_loopback(settings.bind):
        raise ServiceError(
            Code.FAILED_PRECONDITION,
            "TLS_NEEDED",
            "other machines could reach this address, and there is no certificate",
            where=f"server.bind={settings.bind}",
            hint="set server.tls_certificate and server.tls_key, or bind to 127.0.0.1",
        )
    own = settings.tls_certificate is not None and settings.device_authority is not None
    if settings.device_bind and not (device_tls or own):
        raise ServiceError(
            Code.FAILED_PRECONDITION,
            "TLS_NEEDED",
            "devices are known by their certificates, which need TLS and the authority that signed them",
            where=f"server.device_bind={settings.device_bind}",
            hint="serve the fleet, which has both, or set server.tls_certificate, tls_key and device_authority",
        )


def _credentials(settings: ServerSettings, authority: Path | None) -> grpc.ServerCredentials | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    key, chain = _read(settings.tls_key), _read(settings.tls_certificate)
    roots = _read(authority) if authority is not None else None
    return grpc.ssl_server_credentials([(key, chain)], roots, require_client_auth=roots is not None)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise ServiceError(
            Code.FAILED_PRECONDITION, "BAD_TLS", f"the file cannot be read: {e.strerror}", where=str(path)
        ) from e


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    keepalive_ms = int(settings.keepalive_s * 1000)
    return [
        ("grpc.so_reuseport", 0),  # else a second server on the port would silently take half of the calls
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.keepalive_time_ms", keepalive_ms),
        ("grpc.keepalive_timeout_ms", int(settings.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", min(keepalive_ms, 10_000)),
        ("grpc.http2.max_ping_strikes", 3),
    ]
