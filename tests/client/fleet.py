"""A server of registry and fleet, with TLS and tokens, in a thread of the test's process; and devices that talk to it
over mTLS, profile bundles with real sessions, and say that they updated."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import grpc

from gossamer._errors import GossamerError
from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer._proto.v1 import profile_pb2
from gossamer._proto.v1 import registry_pb2_grpc as registry_rpc
from gossamer.client import Client
from gossamer_runtime import Session
from gossamer_runtime.agent._profile_record import record
from gossamer_runtime.agent._reasons import reason_of
from gossamer_runtime.agent._trial import Facts
from tests.services.fleet.fleetkit import World
from tests.services.kit import download

BEAT_S = 0.03


class FleetServer:
    """Runs in ``with``. ``options``: of commands, to reach it as an administrator."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.world = folder, World(folder)
        self.devices: list[Device] = []
        self.token = self.world.admin[0][1].removeprefix("Bearer ")
        (folder / "admin.token").write_text(f"{self.token}\n")
        (folder / "reader.token").write_text(self.world.reader[0][1].removeprefix("Bearer "))
        (folder / "people.crt").write_bytes(self.world.people.certificate)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> FleetServer:
        self._thread.start()
        self._serving = self.world.serve("fleet.rollout_check_s=0.1")
        self.server = self.run(self._serving.__aenter__())
        self.address = f"localhost:{self.server.port}"
        self.ca = str(self.folder / "people.crt")
        self.options = ["--server", self.address, "--ca", self.ca, "--token-file", str(self.folder / "admin.token")]
        return self

    def __exit__(self, *error: object) -> None:
        self.run(self._serving.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def client(self, **options: Any) -> Client:
        return Client(self.address, **{"token": self.token, "ca": self.ca, **options})

    def device(self, *, cpu: str = "cortex-a76", bundle: bytes = b"", mood: str = "willing", **labels: str) -> Device:
        """A new device that lives until the end of the test. ``mood``: ``willing``, ``refusing`` (updates), ``deaf``
        (to profile runs)."""

        async def enrol() -> tuple[str, bytes, str]:
            async with self.world.channel(self.server) as channel:
                from gossamer._proto.v1 import fleet_pb2_grpc

                return await self.world.enrol(fleet_pb2_grpc.FleetServiceStub(channel), **labels)

        made = Device(self, self.run(enrol()), cpu, bundle, mood)
        self.devices.append(made)
        made.start()
        return made

    def clear(self) -> None:
        """Nobody is enrolled any more."""
        for device in self.devices:
            device.stop()
        self.devices.clear()
        with self.client() as client:
            for found in client.fleet.devices():
                client.fleet.remove(found.name)


class Device:
    """One device. ``name``: ``devices/{id}``."""

    def __init__(self, server: FleetServer, member: tuple[str, bytes, str], cpu: str, bundle: bytes, mood: str) -> None:
        self.name, self._server, self._member, self.mood = member[0], server, member, mood
        self._facts = pb.DeviceFacts(arch="aarch64", cpu=cpu, isa="neon_dotprod", cores=4)
        self._bundle = bundle
        self._status = pb.DeviceStatus(state=pb.DEVICE_STATE_EMPTY)
        self._heard = threading.Event()
        if bundle:
            self._runs(hashlib.sha256(bundle).hexdigest())

    @property
    def id(self) -> str:
        return self.name.removeprefix("devices/")

    def start(self) -> None:
        self._task = asyncio.run_coroutine_threadsafe(self._live(), self._server.loop)
        assert self._heard.wait(10)

    def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(BaseException):
            self._task.result(10)

    def _runs(self, sha256: str) -> None:
        self._status.state, self._status.bundle_sha256 = pb.DEVICE_STATE_RUNNING, sha256

    async def _live(self) -> None:
        async with self._server.world.device(self._server.server, self._member) as fleet:
            while True:
                beat = pb.HeartbeatRequest(name=self.name, status=self._status, facts=self._facts)
                heard = await fleet.Heartbeat(beat)
                self._heard.set()
                if heard.desired_sha256 not in ("", self._status.bundle_sha256, self._status.failed_sha256):
                    self._update(heard.desired_sha256)
                if heard.HasField("profile_run") and self.mood != "deaf":
                    await self._profile(fleet, heard.profile_run)
                await asyncio.sleep(BEAT_S)

    def _update(self, sha256: str) -> None:
        if self.mood == "refusing":
            self._status.state, self._status.failed_sha256 = pb.DEVICE_STATE_FELL_BACK, sha256
            self._status.failure_reason = "ROLLED_BACK"
        else:
            self._status.previous_sha256 = self._status.bundle_sha256
            self._runs(sha256)

    async def _profile(self, fleet: Any, run: pb.ProfileRun) -> None:
        try:
            bundle = self._bundle
            if run.bundle_sha256:
                async with self._server.world.device_channel(self._server.server, *self._member[1:]) as channel:
                    bundle = await download(registry_rpc.RegistryServiceStub(channel), run.bundle_sha256)
            made = await asyncio.to_thread(measured, bundle, run.runs, run.warmup_runs, self._facts)
        except GossamerError as e:
            sorry = pb.FailProfileRunRequest(name=run.name, failure_reason=reason_of(e)[0], failure_message=e.message)
            await fleet.FailProfileRun(sorry)
            return
        with contextlib.suppress(grpc.aio.AioRpcError):  # nobody waits for it any more
            await fleet.CreateProfile(pb.CreateProfileRequest(profile=made, profile_run=run.name))


def measured(bundle: bytes, runs: int, warmup: int, facts: pb.DeviceFacts) -> profile_pb2.ProfileRecord:
    """A bundle's profile on this machine, as an agent sends it."""
    started = time.time()
    with Session(bundle) as session:
        figures, manifest = session.profile(runs=runs, warmup=warmup).to_json(), session.manifest
    figures["machine"] |= {"start_celsius": 41.0, "end_celsius": None}
    opened = Facts(manifest["name"], manifest.get("version", ""), 0)
    made = record(figures, hashlib.sha256(bundle).hexdigest(), opened, facts, started)
    return profile_pb2.ProfileRecord.FromString(made.SerializeToString())
