"""Registry and optimizer in a real gRPC server on loopback, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gossamer_services.common.database import open_database
from gossamer_services.common.server import Server
from gossamer_services.common.settings import ServerSettings
from gossamer_services.common.tokens import TABLES as TOKENS
from gossamer_services.common.tokens import TokenStore
from gossamer_services.optimizer.assembly import Optimizer
from gossamer_services.optimizer.settings import OptimizerSettings
from gossamer_services.registry.blobs import BlobStore
from gossamer_services.registry.files import DiskFiles
from gossamer_services.registry.records import Records
from gossamer_services.registry.service import Registry
from gossamer_services.registry.settings import RegistrySettings
from gossamer_services.registry.tables import TABLES


class Serving:
    """A server that runs; ``address`` to connect to, its parts for looking behind the scenes."""

    def __init__(self, folder: Path, server: dict[str, Any], optimizer: dict[str, Any]) -> None:
        self.folder = folder
        self._server = ServerSettings(**{"bind": "127.0.0.1:0", "drain_delay_s": 0.0, "drain_s": 2.0, **server})
        self._settings = OptimizerSettings(**optimizer)
        self._ready, self._end = threading.Event(), asyncio.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(30)
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as e:
            self._failed = e
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        url = f"sqlite:///{self.folder / 'state.db'}"
        database = open_database(url, TABLES)
        TOKENS.create_all(database)
        self.blobs = BlobStore(DiskFiles(self.folder))
        registry = Registry(self.blobs, Records(database, self.blobs), RegistrySettings())
        self.optimizer = Optimizer(self._settings, self.folder / "jobs", url, self.blobs)
        self.tokens = TokenStore(database)
        server = Server(self._server, [registry.service(), *self.optimizer.services()], self.tokens)
        await self.optimizer.start()
        await server.start()
        self.port = server.port
        self._ready.set()
        await self._end.wait()
        await server.stop()
        await self.optimizer.close()
        await registry.close()
        database.dispose()


@contextlib.contextmanager
def serving(folder: Path, *, server: dict[str, Any] | None = None, **optimizer: Any) -> Iterator[Serving]:
    """A server on a folder; the same folder again is the same server restarted."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Serving(folder, server or {}, {"slots": 2, **optimizer})
    found.start()
    try:
        yield found
    finally:
        found.stop()
