"""A disk in memory that tells what was written from what was synced, fails where it is told to, and can lose power.

After a power cut every file that was not synced holds its synced bytes, its written ones, or a mixture; every entry of
a folder that was not synced is there or not, each on its own. A rename is one change: the old name goes where the new
one comes.
"""

from __future__ import annotations

import errno
import io
import random
from typing import BinaryIO

from gossamer_services.registry.files import FileInfo


class PowerCut(BaseException):
    """The process ends here; BaseException, so that nothing handles it."""


class _Inode:
    def __init__(self) -> None:
        self.written, self.synced, self.modified_s = b"", b"", 0.0


class SimFiles:
    """Files in memory.

    ``cut_at``: the number of the changing operation from which on nothing is done any more: power fails. ``full_at``:
    those from which on every write of bytes or creation fails with ENOSPC, after half of its bytes.
    """

    def __init__(self) -> None:
        self.clock_s = 1000.0
        self.operations = 0
        self.cut_at: int | None = None
        self.full_at: int | None = None
        self.free = 1 << 40
        self.log: list[str] = []
        self.names: dict[str, _Inode] = {}
        # Changes of each folder since its last sync: (name, what it named before), in order.
        self._dirty: list[list[tuple[str, _Inode | None, _Inode | None]]] = []

    def _step(self, what: str) -> None:
        self.operations += 1
        self.log.append(what)
        if self.cut_at is not None and self.operations >= self.cut_at:
            raise PowerCut(what)

    def _full(self) -> bool:
        return self.full_at is not None and self.operations >= self.full_at

    def crash(self, seed: int) -> None:
        """Lose power: decide what became of all that was not synced, and forget the fault."""
        rng = random.Random(seed)
        for change in reversed(self._dirty):
            if rng.random() < 0.5:
                for name, before, after in change:
                    if self.names.get(name) is after:
                        self._put(name, before)
        self._dirty.clear()
        for inode in set(self.names.values()):
            if inode.written != inode.synced:
                size = rng.choice([len(inode.synced), len(inode.written), rng.randint(0, len(inode.written))])
                mixed = bytearray(inode.written[:size].ljust(size, b"\0"))
                for at in range(len(inode.synced), size):
                    if rng.random() < 0.3:
                        mixed[at] = 0
                inode.written = inode.synced = bytes(mixed) if size >= len(inode.synced) else inode.synced[:]
        self.cut_at = self.full_at = None

    def _put(self, name: str, inode: _Inode | None) -> None:
        if inode is None:
            self.names.pop(name, None)
        else:
            self.names[name] = inode

    def make_folder(self, name: str) -> None:
        pass

    def info(self, path: str) -> FileInfo | None:
        inode = self.names.get(path)
        return None if inode is None else FileInfo(len(inode.written), inode.modified_s)

    def list(self, folder: str) -> list[str]:
        return sorted(n.split("/")[1] for n in self.names if n.startswith(f"{folder}/"))

    def _find(self, path: str) -> _Inode:
        try:
            return self.names[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", path) from None

    def read(self, path: str) -> bytes:
        return self._find(path).written

    def open(self, path: str) -> BinaryIO:
        return io.BytesIO(self._find(path).written)

    def create(self, path: str) -> None:
        self._step(f"create {path}")
        if self._full():
            raise OSError(errno.ENOSPC, "no space left")
        inode = self.names.get(path)
        if inode is None:
            inode = self.names[path] = _Inode()
            self._dirty.append([(path, None, inode)])
        inode.written, inode.modified_s = b"", self.clock_s

    def truncate(self, path: str, size: int) -> None:
        self._step(f"truncate {path}")
        inode = self._find(path)
        inode.written = inode.written[:size].ljust(size, b"\0")

    def append(self, path: str, data: bytes) -> None:
        self._step(f"append {path}")
        inode = self._find(path)
        if self._full():
            inode.written += data[: len(data) // 2]
            raise OSError(errno.ENOSPC, "no space left")
        inode.written += data
        inode.modified_s = self.clock_s

    def sync(self, path: str) -> None:
        self._step(f"sync {path}")
        inode = self._find(path)
        inode.synced = inode.written

    def rename(self, source: str, target: str) -> None:
        self._step(f"rename {source}")
        inode = self._find(source)
        self._dirty.append([(target, self.names.get(target), inode), (source, inode, None)])
        self.names[target] = self.names.pop(source)

    def remove(self, path: str) -> None:
        self._step(f"remove {path}")
        inode = self.names.pop(path, None)
        if inode is not None:
            self._dirty.append([(path, inode, None)])

    def sync_folder(self, folder: str) -> None:
        self._step(f"sync {folder}/")
        self._dirty = [c for c in self._dirty if not any(name.startswith(f"{folder}/") for name, _, _ in c)]

    def touch(self, path: str) -> None:
        self._find(path).modified_s = self.clock_s

    def free_bytes(self) -> int:
        return self.free
