"""Pull mode where fleet and registry are two servers: heartbeats go to one, and downloads come from the other."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc

from gossamer._proto.v1 import registry_pb2_grpc as registry_rpc
from tests.agent.conftest import digest
from tests.agent.fleetkit import Fleet, puller
from tests.services.alone import free_port, identity
from tests.services.kit import served


class Apart(Fleet):
    """A fleet alone; ``registry`` is a stub of a registry alone."""

    def __init__(self, folder: Path) -> None:
        self.registry_port, self.registry_device_port = free_port(), free_port()
        at = f"upstream.registry=127.0.0.1:{self.registry_port}"
        super().__init__(folder, at, f"upstream.registry_device_address=:{self.registry_device_port}")
        self._registry_channel = grpc.insecure_channel(f"127.0.0.1:{self.registry_port}")
        self.registry = registry_rpc.RegistryServiceStub(self._registry_channel)

    def stop(self) -> None:
        self._registry_channel.close()
        super().stop()

    async def _serve(self, ready) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        own = (*self.overrides, "server.device_bind=127.0.0.1:0")
        async with served(self.folder / "fleet", *own, services=("fleet",)) as fleet:
            self.port, self.device_port = fleet.port, fleet.device_port
            there = [f"server.device_bind=127.0.0.1:{self.registry_device_port}", f"upstream.fleet={self.address}"]
            there += [f"server.bind=127.0.0.1:{self.registry_port}", *identity(self.folder, "127.0.0.1")]
            async with served(self.folder / "registry", *there):
                ready.set()
                await self._stop.wait()

    def desire(self, name: str, version: str) -> None:
        """Once the fleet has found the registry, which was not there when it started."""
        while True:
            try:
                return super().desire(name, version)
            except grpc.RpcError as e:
                assert e.code() is grpc.StatusCode.UNAVAILABLE, e
                time.sleep(0.05)


def test_a_device_pulls_from_a_registry_apart(tmp_path, bundles, capsys, work):
    (tmp_path / "data").mkdir()
    apart = Apart(tmp_path / "data")
    try:
        one, two = bundles("1", 1), bundles("2", 1)
        name = apart.enroll(tmp_path / "slots", capsys)
        first, second = apart.publish(one, "1"), apart.publish(two, "2")
        with puller(tmp_path / "slots"):
            for version, data in ((first, one), (second, two)):
                apart.desire(name, version)
                status = apart.runs(name, data).status  # which the fleet alone cannot give it
                assert (status.bundle_sha256, status.failed_sha256) == (digest(data), "")
    finally:
        apart.stop()
