"""A gossamer-agent as a real process, and a TCP proxy that cuts connections."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path


class Agent:
    """``gossamer-agent --root ROOT`` on a free port of loopback; ``prefix``: the command that runs it."""

    def __init__(self, root: Path, *options: str, host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> None:
        self.root, self.host, self.options, self.prefix = root, host, options, prefix
        self.port_file = root.with_name(root.name + ".port")
        self.log = root.with_name(root.name + ".log")
        self.start()

    def start(self) -> None:
        self.port_file.unlink(missing_ok=True)
        command = [*self.prefix, sys.executable, "-m", "gossamer_runtime.agent._main", "--root", str(self.root)]
        command += ["--bind", f"{self.host}:0", "--port-file", str(self.port_file), *self.options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log)
        deadline = time.monotonic() + 30
        while not (self.port_file.exists() and self.port_file.read_text().endswith("\n")):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(self.log.read_text())
            time.sleep(0.01)
        self.port = int(self.port_file.read_text())

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """As systemd does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextlib.contextmanager
def agent(root: Path, *options: str, host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> Iterator[Agent]:
    made = Agent(root, *options, host=host, prefix=prefix)
    try:
        yield made
    finally:
        made.stop()


class CuttingProxy:
    """Forwards to a port and breaks each connection after ``allow`` bytes from the client, or, ``down``, to it.

    ``target`` and ``allow`` may be set later; connections that are there keep what they have. ``stall_after``: so many
    bytes later it goes silent instead.
    """

    stall_after: int | None = None

    def __init__(self, port: int, allow: int, *, down: bool = False) -> None:
        self.target, self.allow, self._down = port, allow, down
        self.cuts = self.connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self.target)) as server:
            limited, free = (server, client) if self._down else (client, server)
            threading.Thread(target=self._forward, args=(free, limited), daemon=True).start()
            left, came = self.allow, 0
            while left and (data := limited.recv(min(left, 4096))):
                came += len(data)
                if self.stall_after is not None and came > self.stall_after:
                    while limited.recv(4096):
                        pass
                    break
                free.sendall(data)
                left -= len(data)
            if not left:
                self.cuts += 1
                time.sleep(0.05)  # what was sent arrives: a reset at once would take it along
            for end in (client, server):
                end.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _forward(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
