"""Registry, optimizer and fleet as three processes of ``gossamer serve``, each with its own folder and tokens."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import grpc
from click.testing import CliRunner

from gossamer._proto.v1 import registry_pb2, registry_pb2_grpc
from gossamer.cli._app import app
from gossamer.client import Client, Retry
from gossamer_services.common.database import database_url, open_database
from gossamer_services.common.tokens import TABLES, TokenStore

Metadata = tuple[tuple[str, str], ...]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def identity(folder: Path, *names: str) -> list[str]:
    """Settings of a registry that shows devices a certificate of the fleet in ``folder``."""
    file = folder / "registry.pem"
    arguments = ["certificate", *names, "-o", str(file), "--data", str(folder / "fleet")]
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert (ran.exit_code, file.stat().st_mode & 0o777) == (0, 0o600)
    authority = ran.output.strip()
    assert authority == str(folder / "fleet" / "fleet" / "authority.crt")
    return [f'upstream.device_identity="{file}"', f'server.device_authority="{authority}"']


class Alone:
    """One service by itself, on a port that it keeps; ``admin`` is the metadata of a token of it."""

    def __init__(self, folder: Path, name: str, *overrides: str, database: str = "") -> None:
        self.folder, self.name, self.port = folder / name, name, free_port()
        self.folder.mkdir()
        self._database = database
        self.overrides = [*overrides, "server.tokens=required", "server.drain_delay_s=0", "server.drain_s=1"]
        self.overrides += [f'state.database="{database}"']
        self.process: subprocess.Popen[str] | None = None
        self.admin_token = self.token(f"{name}-admin" if database else "admin", "admin")
        self.admin = bearer(self.admin_token)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def token(self, name: str, *scopes: str) -> str:
        """A new token of this service."""
        store = TokenStore(open_database(database_url(self._database, self.folder, "registry.db"), TABLES))
        made = store.create(name, scopes)
        store.close()
        return made

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.address, options=[("grpc.max_reconnect_backoff_ms", 200)])

    def begin(self) -> Alone:
        """Start the process."""
        command = [sys.executable, "-m", "gossamer", "serve", self.name, "--data", str(self.folder)]
        command += ["--bind", self.address]
        for text in self.overrides:
            command += ["--set", text]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        return self

    def ready(self) -> Alone:
        """Wait until it serves."""
        assert self.process is not None and self.process.stdout is not None
        line = self.process.stdout.readline()
        assert re.match(rf"serving .* on {self.address}\b", line), line + self.log
        return self

    def start(self) -> Alone:
        return self.begin().ready()

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.ended()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end; the exit code."""
        assert self.process is not None and self.process.stdout is not None
        code = self.process.wait(30)
        self.process.stdout.close()
        self.process = None
        return code

    def __enter__(self) -> Alone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.kill()


class Apart:
    """The three; optimizer and fleet know the registry, and how to be known there."""

    def __init__(self, folder: Path, *, optimizer: tuple[str, ...] = (), database: str = "") -> None:
        self.folder = folder
        collected = "registry.grace_s=0", "registry.collect_every_s=0"
        self.registry = Alone(folder, "registry", *collected, database=database)
        own = self.upstream("optimizer", "read", "submit")
        self.optimizer = Alone(folder, "optimizer", *own, *optimizer, database=database)
        own = self.upstream("fleet", "read")
        self.fleet = Alone(folder, "fleet", *own, "upstream.cache_s=0", database=database)

    def upstream(self, name: str, *scopes: str) -> list[str]:
        """Settings with which a service finds the registry."""
        file = self.folder / f"{name}.token"
        file.write_text(self.registry.token(name, *scopes) + "\n")
        return [f"upstream.registry={self.registry.address}", f'upstream.registry_token_file="{file}"']

    def client(self, attempts: int = 6) -> Client:
        """Of optimizer and registry."""
        return Client(
            self.optimizer.address,
            token=self.optimizer.admin_token,
            retry=Retry(attempts=attempts, first_s=0.05, longest_s=0.2, call_s=20.0),
            registry=self.registry.address,
            registry_token=self.registry.admin_token,
        )

    def ends(self, job: str) -> list[str]:
        """The final states that a job went through: one, or something is wrong."""
        query = "SELECT state FROM job_events WHERE job = ? ORDER BY number"
        with contextlib.closing(sqlite3.connect(self.optimizer.folder / "jobs.db")) as db:
            states = [str(state) for (state,) in db.execute(query, (job.removeprefix("jobs/"),))]
        return [state for state in states if state not in ("QUEUED", "RUNNING")]

    def collect(self) -> int:
        """Blobs that garbage collection, which waits for nothing here, removed."""
        with self.registry.channel() as channel:
            stub = registry_pb2_grpc.RegistryServiceStub(channel)
            answer = stub.CollectGarbage(registry_pb2.CollectGarbageRequest(), metadata=self.registry.admin)
        return int(answer.blobs)

    @contextlib.contextmanager
    def running(self) -> Iterator[Apart]:
        with self.registry, self.optimizer, self.fleet:
            for one in (self.registry.begin(), self.optimizer.begin(), self.fleet.begin()):
                one.ready()
            yield self
