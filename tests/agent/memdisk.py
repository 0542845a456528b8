"""A disk in memory whose power can be cut: what was not synced is lost, torn, or lands in another order."""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass, field

from gossamer_runtime.agent._disk import told

MODES = ("lost", "kept", "names only", "bytes only")


class PowerCut(BaseException):
    """Nothing catches it, as nothing catches the real one."""


@dataclass
class _File:
    now: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    private: bool = False


class MemoryDisk:
    """A folder in memory. A file's bytes last after ``sync``, names after ``sync_folder``; nothing else does.

    Args:
        cut_after: raise ``PowerCut`` after this many operations that change something.
        fail_at: operation (from 1) that fails with ``fail_with``.
        full_from: from this operation on, writes find the disk full and write half of their bytes.
    """

    def __init__(
        self,
        *,
        cut_after: int | None = None,
        fail_at: int | None = None,
        fail_with: int = errno.EIO,
        full_from: int | None = None,
    ) -> None:
        self.files: dict[int, _File] = {}
        self.at: dict[str, int] = {}
        self.durable_at: dict[str, int] = {}
        self.pending_names: list[dict[str, int | None]] = []
        self.operations = 0
        self.cut_after, self.fail_at, self.fail_with, self.full_from = cut_after, fail_at, fail_with, full_from
        self.closed = False
        self.unreadable: set[str] = set()

    # Disk

    def names(self):
        return sorted(self.at)

    def size(self, name):
        return len(self.files[self.at[name]].now) if name in self.at else None

    def read(self, name, offset, size):
        with told("memory"):
            if name in self.unreadable:
                raise OSError(errno.EIO, "Input/output error")
            return bytes(self._file(name).now[offset : offset + size])

    def write(self, name, offset, data, *, private=False):
        with told("memory"):
            self._before()
            full = self.full_from is not None and self.operations >= self.full_from
            if name not in self.at:
                number = len(self.files)
                self.files[number] = _File(private=private)
                self._rename({name: number})
            file = self._file(name)
            done = data[: len(data) // 2] if full else data
            _put(file.now, offset, done)
            file.pending.append((offset, bytes(done)))
            if full:
                raise OSError(errno.ENOSPC, "No space left on device")
            self._after()

    def truncate(self, name, size):
        raise NotImplementedError("the slots do not truncate")

    def sync(self, name):
        with told("memory"):
            self._before()
            file = self._file(name)
            file.durable, file.pending = bytes(file.now), []
            self._after()

    def rename(self, old, new):
        with told("memory"):
            self._before()
            self._file(old)
            self._rename({old: None, new: self.at[old]})
            self._after()

    def remove(self, name):
        with told("memory"):
            if name in self.at:
                self._before()
                self._rename({name: None})
                self._after()

    def sync_folder(self):
        with told("memory"):
            self._before()
            self.durable_at, self.pending_names = dict(self.at), []
            self._after()

    def bundle(self, name):
        return bytes(self._file(name).now)

    def free_bytes(self):
        return 1 << 30

    def close(self):
        self.closed = True

    # The test's side

    def heal(self):
        """No more faults."""
        self.cut_after = self.fail_at = self.full_from = None

    def after_cut(self, mode: str | int) -> MemoryDisk:
        """The disk as it comes up again. ``mode``: one of ``MODES``, or a seed for any subset in any order, torn."""
        rng = random.Random(mode)
        new = MemoryDisk()
        for number, file in self.files.items():
            bytes_ = bytearray(file.durable)
            for offset, data in self._chosen(file.pending, mode, rng, "bytes only"):
                torn = data[: rng.randint(0, len(data))] if isinstance(mode, int) and rng.random() < 0.3 else data
                _put(bytes_, offset, torn)
            new.files[number] = _File(bytes_, bytes(bytes_), private=file.private)
        new.at = dict(self.durable_at)
        for change in self._chosen(self.pending_names, mode, rng, "names only"):
            _apply(new.at, change)
        new.durable_at = dict(new.at)
        return new

    @staticmethod
    def _chosen(pending, mode, rng, keeping):
        if isinstance(mode, int):
            some = [p for p in pending if rng.random() < 0.5]
            rng.shuffle(some)
            return some
        return pending if mode in ("kept", keeping) else []

    # Inside

    def _file(self, name):
        if name not in self.at:
            raise OSError(errno.ENOENT, "No such file")
        return self.files[self.at[name]]

    def _rename(self, change):
        _apply(self.at, change)
        self.pending_names.append(change)

    def _before(self):
        self.operations += 1
        if self.operations == self.fail_at:
            raise OSError(self.fail_with, "injected")

    def _after(self):
        if self.operations == self.cut_after:
            raise PowerCut


def _apply(names, change):
    for name, number in change.items():
        if number is None:
            names.pop(name, None)
        else:
            names[name] = number


def _put(target, offset, data):
    if len(target) < offset:
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(data)] = data
