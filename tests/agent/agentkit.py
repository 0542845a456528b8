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
from collections.abc import Iterator
from pathlib import Path


class Agent:
    """``gossamer-agent --root ROOT`` on a free port of loopback."""

    def __init__(self, root: Path, *options: str, host: str = "127.0.0.1") -> None:
        self.root, self.host, self.options = root, host, options
        self.port_file = root.with_name(root.name + ".port")
        self.log = root.with_name(root.name + ".log")
        self.start()

    def start(self) -> None:
        self.port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "gossamer_runtime.agent._main", "--root", str(self.root)]
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
def agent(root: Path, *options: str, host: str = "127.0.0.1") -> Iterator[Agent]:
    made = Agent(root, *options, host=host)
    try:
        yield made
    finally:
        made.stop()


class CuttingProxy:
    """Forwards to a port and breaks each connection after ``allow`` bytes from the client."""

    def __init__(self, port: int, allow: int) -> None:
        self._port, self._allow = port, allow
        self.cuts = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._port)) as server:
            threading.Thread(target=self._back, args=(server, client), daemon=True).start()
            left = self._allow
            while left and (data := client.recv(min(left, 4096))):
                server.sendall(data)
                left -= len(data)
            if not left:
                self.cuts += 1
                time.sleep(0.05)  # what was sent arrives: a reset at once would take it along
            for end in (client, server):
                end.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _back(server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
