"""A TCP proxy that cuts every connection after so many bytes, for as many connections as it is told."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class CuttingProxy:
    """Forwards to ``port``. ``cut_after`` holds, for each connection in turn, the bytes until it is cut; then None.

    ``upwards`` counts bytes from the client, else those from the server.
    """

    def __init__(self, port: int, cut_after: list[int], *, upwards: bool) -> None:
        self._target, self._cuts, self._upwards = port, list(cut_after), upwards
        self.connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open += [client, server]
            cut = self._cuts.pop(0) if self._cuts else None
            up, down = (cut, None) if self._upwards else (None, cut)
            for source, sink, most in ((client, server, up), (server, client, down)):
                threading.Thread(target=self._pump, args=(source, sink, most), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, most: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if most is not None and passed + len(data) > most:
                    sink.sendall(data[: most - passed])
                    break
                sink.sendall(data)
                passed += len(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def cutting(port: int, cut_after: list[int], *, upwards: bool) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(port, cut_after, upwards=upwards)
    try:
        yield proxy
    finally:
        proxy.close()
