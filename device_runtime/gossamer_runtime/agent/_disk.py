"""Every file operation of the slots: one seam, so that tests can cut the power after any of them.

Names are plain file names inside one folder. Nothing is durable before ``sync`` (a file's bytes) and ``sync_folder``
(which names exist): an operation in between may be lost or happen before an earlier one, as on real disks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from typing import Protocol

from gossamer_runtime._errors import SlotError
from gossamer_runtime.agent._reasons import FullError

LOCK = "lock"
LOCK_SECONDS = 1.0
"""How long a lock that another process holds is waited for."""


class Disk(Protocol):
    """A folder of files."""

    def names(self) -> list[str]:
        """Files that exist, sorted."""

    def size(self, name: str) -> int | None:
        """Bytes of a file; ``None`` when there is none."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``."""

    def write(self, name: str, offset: int, data: bytes, *, private: bool = False) -> None:
        """Write at an offset; makes the file when there is none, ``private``: for its owner alone. Not durable before
        ``sync``."""

    def truncate(self, name: str, size: int) -> None:
        """Cut a file to ``size`` bytes."""

    def sync(self, name: str) -> None:
        """Make a file's bytes durable (fsync)."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, replacing one of that name. Whoever has the replaced one open keeps it."""

    def remove(self, name: str) -> None:
        """Delete a file; nothing happens when there is none."""

    def sync_folder(self) -> None:
        """Make names durable (fsync of the folder)."""

    def bundle(self, name: str) -> str | bytes:
        """What ``Session`` opens: the file's path, or its bytes where it has none."""

    def free_bytes(self) -> int:
        """Free space."""

    def close(self) -> None:
        """Give the folder to others."""


class FolderDisk:
    """A real folder, locked against a second agent.

    Raises:
        SlotError: the folder cannot be made or written, or another process works in it.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.fspath(root))
        self._lock = -1
        try:
            os.makedirs(self.root, mode=0o755, exist_ok=True)
            self._lock = os.open(os.path.join(self.root, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as e:
            raise SlotError(
                f"cannot use the slot folder: {e.strerror}",
                where=self.root,
                hint="the agent needs a folder that it may write: --root",
            ) from e
        self._take()

    def _take(self) -> None:
        try:
            self._wait_for_lock()
        except OSError as e:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            self._lock = -1
            if e.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise SlotError(f"cannot lock the slot folder: {e.strerror}", where=self.root) from e
            raise SlotError(
                f"another agent uses this slot folder{f' (process {holder})' if holder else ''}",
                where=self.root,
                hint="stop it, or give this one a folder of its own: --root",
            ) from None
        with contextlib.suppress(OSError):  # only says who it is: a full disk is no reason not to start
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _wait_for_lock(self) -> None:
        # For a little while: where an agent is killed as it starts a process for bundles, that one has the lock until
        # it has become another program, and whoever restarts the agent at once must not be told of a second agent.
        import fcntl

        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(0.02)

    def path(self, name: str) -> str:
        """Where a file is."""
        if not name or os.path.basename(name) != name or name.startswith("."):
            raise SlotError(f"{name!r} is no plain file name", where=self.root)
        return os.path.join(self.root, name)

    def names(self) -> list[str]:
        with self._told():
            return sorted(name for name in os.listdir(self.root) if name != LOCK and not name.startswith("."))

    def size(self, name: str) -> int | None:
        try:
            return os.stat(self.path(name)).st_size
        except FileNotFoundError:
            return None

    def read(self, name: str, offset: int, size: int) -> bytes:
        with self._told(), open(self.path(name), "rb", buffering=0) as f:
            f.seek(offset)
            return f.read(size)

    def write(self, name: str, offset: int, data: bytes, *, private: bool = False) -> None:
        with self._told(), self._opened(name, os.O_WRONLY | os.O_CREAT, 0o600 if private else 0o644) as fd:
            view = memoryview(data)
            while view:
                done = os.pwrite(fd, view, offset)
                view, offset = view[done:], offset + done

    def truncate(self, name: str, size: int) -> None:
        with self._told(), self._opened(name, os.O_WRONLY) as fd:
            os.ftruncate(fd, size)

    def sync(self, name: str) -> None:
        with self._told(), self._opened(name, os.O_RDONLY) as fd:
            os.fsync(fd)

    def rename(self, old: str, new: str) -> None:
        with self._told():
            os.replace(self.path(old), self.path(new))

    def remove(self, name: str) -> None:
        with self._told(), contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(name))

    def sync_folder(self) -> None:
        with self._told():
            fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def bundle(self, name: str) -> str:
        return self.path(name)

    def free_bytes(self) -> int:
        with self._told():
            stat = os.statvfs(self.root)
        return stat.f_bavail * stat.f_frsize

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @contextlib.contextmanager
    def _opened(self, name: str, flags: int, mode: int = 0o644) -> Iterator[int]:
        fd = os.open(self.path(name), flags | os.O_CLOEXEC, mode)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        with told(self.root):
            yield


@contextlib.contextmanager
def told(where: str) -> Iterator[None]:
    """Turn an ``OSError`` of a disk into the ``SlotError`` that says what to do."""
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise FullError(
                "the disk of the slot folder is full",
                where=where,
                hint="free space there; the bundle that ran still runs",
            ) from e
        raise SlotError(
            f"the slot folder failed: {e.strerror or e}", where=where, hint="check the disk and its permissions"
        ) from e
