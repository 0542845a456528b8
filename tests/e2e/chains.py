"""The services as a chain under load: in one process or each in its own, killed and started again on their ports."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gossamer.client import Client, Retry
from gossamer_services.optimizer.folder import JobFolder
from tests.services.alone import Apart, Metadata, free_port, identity

RETRY = Retry(attempts=10_000, first_s=0.05, longest_s=0.5, call_s=10.0)
EVERYWHERE = ("server.drain_delay_s=0", "server.log_level=ERROR")
REGISTRY = ("registry.grace_s=15", "registry.collect_every_s=1")
OPTIMIZER = ("optimizer.slots=2", "optimizer.attempts=100", "optimizer.interruptions=10000")
FLEET = ("fleet.heartbeat_s=0.2", "fleet.rollout_check_s=0.5")


class Process(Protocol):
    """A server that keeps its port and its folder."""

    def start(self) -> object: ...

    def kill(self) -> None: ...


class Serve:
    """``gossamer serve`` with all services."""

    def __init__(self, data: Path) -> None:
        self.data, self.address = data, f"127.0.0.1:{free_port()}"
        device = f"server.device_bind=127.0.0.1:{free_port()}"
        self._settings = (*EVERYWHERE, *REGISTRY, *OPTIMIZER, *FLEET, device)

    def start(self) -> None:
        command = [sys.executable, "-m", "gossamer", "serve", "--data", str(self.data), "--bind", self.address]
        for setting in self._settings:
            command += ["--set", setting]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None and self._process.stdout.readline().startswith("serving ")

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> None:
        self._process.send_signal(number)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass
class Chain:
    """What a test needs of the services; ``jobs`` is the folder of the optimizer's data."""

    processes: dict[str, Process]
    jobs: Path
    registry: str
    optimizer: str
    fleet: str
    registry_token: str = ""
    optimizer_token: str = ""
    fleet_token: str = ""

    @property
    def metadata(self) -> Metadata:
        """For calls to the registry."""
        return (("authorization", f"Bearer {self.registry_token}"),) if self.registry_token else ()

    def client(self) -> Client:
        """Of registry and optimizer."""
        return Client(
            self.optimizer,
            token=self.optimizer_token,
            registry=self.registry,
            registry_token=self.registry_token,
            retry=RETRY,
        )

    def fleet_client(self) -> Client:
        """Of the fleet."""
        return Client(self.fleet, token=self.fleet_token, retry=RETRY)

    def workers(self) -> list[int]:
        """Process ids of the workers that hold a job folder."""
        folders = [JobFolder(path) for path in (self.jobs / "jobs").glob("?" * 32)]
        return [pid for folder in folders if (pid := folder.worker()) is not None]

    def start(self) -> None:
        """All processes."""
        for process in self.processes.values():
            process.start()


def together(folder: Path) -> Chain:
    """One process."""
    server = Serve(folder / "data")
    return Chain({"server": server}, server.data, server.address, server.address, server.address)


def apart(folder: Path) -> Chain:
    """Three processes, which know each other by tokens; devices reach registry and fleet at an address each."""
    made = Apart(folder, optimizer=(*EVERYWHERE, *OPTIMIZER))
    made.fleet.start()  # makes the authority that the registry's certificate is signed by
    made.fleet.kill()
    there = f"localhost:{free_port()}"
    token = folder / "fleet-for-registry.token"
    token.write_text(made.fleet.token("registry", "read") + "\n")
    made.registry.overrides += [
        *EVERYWHERE,
        *REGISTRY,
        *identity(folder, "localhost"),
        f"server.device_bind={there}",
        f"upstream.fleet={made.fleet.address}",
        f'upstream.fleet_token_file="{token}"',
    ]
    made.fleet.overrides += [
        *EVERYWHERE,
        *FLEET,
        f"server.device_bind=localhost:{free_port()}",
        f"upstream.registry_device_address={there}",
    ]
    return Chain(
        {"registry": made.registry, "optimizer": made.optimizer, "fleet": made.fleet},
        made.optimizer.folder,
        made.registry.address,
        made.optimizer.address,
        made.fleet.address,
        made.registry.admin_token,
        made.optimizer.admin_token,
        made.fleet.admin_token,
    )
