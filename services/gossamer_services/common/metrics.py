"""Prometheus metrics of calls."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from gossamer_services.common.errors import Code, ServiceError


class Metrics:
    """Calls by method and code, their times, and those in progress, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "gossamer_grpc_calls",
            "Calls that ended, by method and status code.",
            ["method", "code"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "gossamer_grpc_call_seconds",
            "Seconds from the call's start to its end.",
            ["method"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600),
            registry=self.registry,
        )
        self.active = Gauge("gossamer_grpc_active_calls", "Calls in progress.", registry=self.registry)

    def serve(self, bind: str) -> int:
        """Serve the registry over HTTP from a thread; returns the port.

        Raises:
            ServiceError: the address cannot be bound.
        """
        host, _, port = bind.rpartition(":")
        try:
            server, _thread = start_http_server(int(port), host.strip("[]") or "0.0.0.0", self.registry)
        except (OSError, ValueError, OverflowError) as e:
            raise ServiceError(
                Code.UNAVAILABLE,
                "CANNOT_BIND",
                f"metrics cannot be served: {e}",
                where=f"server.metrics_bind={bind}",
                hint="give a free host:port",
            ) from e
        return int(server.server_port)
