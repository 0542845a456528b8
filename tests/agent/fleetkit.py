"""A real fleet and registry for agents: served in a thread, with the stubs of those who administer it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer._proto.v1 import fleet_pb2_grpc as rpc
from gossamer._proto.v1 import registry_pb2
from gossamer._proto.v1 import registry_pb2_grpc as registry_rpc
from gossamer_runtime.agent._main import main
from tests.agent.agentkit import Agent
from tests.agent.conftest import digest
from tests.services.kit import messages, served

QUICK = ("fleet.heartbeat_s=0.2", "fleet.held_heartbeat_s=0.1", "fleet.rollout_check_s=0.1")


class Fleet:
    """``gossamer serve registry fleet`` on loopback; ``start`` and ``stop`` it as often as wanted, on its ports.

    ``device_bind``: False for none. ``authority``: of the server's certificate, where it has one.
    """

    def __init__(self, folder: Path, *overrides: str, device_bind: bool = True, authority: bytes | None = None) -> None:
        self.folder, self.overrides = folder, (*QUICK, *overrides)
        self.device_bind, self._authority = device_bind, authority
        self.port = self.device_port = 0
        self.start()

    def start(self) -> None:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)))
        self._thread.start()
        assert ready.wait(20)
        options = [("grpc.use_local_subchannel_pool", 1)]
        if self._authority:
            credentials = grpc.ssl_channel_credentials(self._authority)
            self._channel = grpc.secure_channel(self.address, credentials, options)
        else:
            self._channel = grpc.insecure_channel(self.address, options)
        self.fleet = rpc.FleetServiceStub(self._channel)
        self.registry = registry_rpc.RegistryServiceStub(self._channel)

    def stop(self) -> None:
        self._channel.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ports = [f"server.bind=127.0.0.1:{self.port}"]
        if self.device_bind:
            ports.append(f"server.device_bind=127.0.0.1:{self.device_port}")
        services = ("registry", "fleet")
        async with served(self.folder, *self.overrides, *ports, services=services) as server:
            self.port, self.device_port = server.port, server.device_port
            ready.set()
            await self._stop.wait()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def token(self, **labels: str) -> str:
        return self.fleet.CreateEnrollmentToken(pb.CreateEnrollmentTokenRequest(labels=labels)).token

    def enroll(self, root: Path, capsys, **labels: str) -> str:
        """Enroll as the command does; the device's name."""
        file = root.with_name(root.name + ".token")
        file.write_text(self.token(**labels) + "\n")
        capsys.readouterr()
        assert main(["enroll", "--root", str(root), "--fleet", self.address, "--token-file", str(file)]) == 0
        return capsys.readouterr().out.split()[2].rstrip(";")

    def publish(self, data: bytes, version: str, bundle: str = "small") -> str:
        """Upload a bundle and make a version of it; the version's name."""
        self.registry.WriteBlob(messages(data, digest(data)[:16], chunk=1 << 16))
        request = registry_pb2.CreateVersionRequest(bundle=bundle, version=version, sha256=digest(data))
        return self.registry.CreateVersion(request).version.name

    def desire(self, name: str, version: str) -> None:
        device = pb.Device(name=name, desired_version=version)
        self.fleet.UpdateDevice(pb.UpdateDeviceRequest(device=device, update_mask=FieldMask(paths=["desired_version"])))

    def device(self, name: str) -> pb.Device:
        return self.fleet.GetDevice(pb.GetDeviceRequest(name=name)).device

    def wait(self, name: str, until: Callable[[pb.Device], bool], seconds: float = 20) -> pb.Device:
        """The device as soon as ``until`` holds for it."""
        return wait(lambda: self.device(name), until, seconds)

    def runs(self, name: str, data: bytes, seconds: float = 20) -> pb.Device:
        """The device as soon as it says that it runs this bundle."""
        done = pb.DEVICE_STATE_RUNNING
        return self.wait(name, lambda d: (d.status.state, d.status.bundle_sha256) == (done, digest(data)), seconds)


def wait(read: Callable, until: Callable, seconds: float = 20):
    """What ``read`` gives as soon as ``until`` holds for it."""
    deadline = time.monotonic() + seconds
    while True:
        found = read()
        if until(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


@contextlib.contextmanager
def fleet(folder: Path, *overrides: str, **options) -> Iterator[Fleet]:
    made = Fleet(folder, *overrides, **options)
    try:
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def puller(root: Path, *options: str) -> Iterator[Agent]:
    """An agent in pull mode that serves no port."""
    made = Agent(root, "--bind", "none", "--fleet", *options)
    try:
        yield made
    finally:
        made.stop()
