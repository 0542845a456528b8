"""Writing files whole or not at all: a temporary file in the same folder, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from gossamer._errors import OutputError

_HINTS = {
    errno.ENOSPC: "free space on that disk, or write elsewhere with -o",
    errno.EDQUOT: "free space within your quota, or write elsewhere with -o",
    errno.EFBIG: "raise the file size limit (ulimit -f), or write elsewhere with -o",
    errno.EROFS: "the file system is read-only: write elsewhere with -o",
    errno.EACCES: "you may not write there: choose another folder with -o",
    errno.EPERM: "you may not write there: choose another folder with -o",
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def check_target(path: str | os.PathLike[str]) -> Path:
    """The real path to write to, after trying that a file can be made in its folder: fails before long work, not after.

    Raises:
        OutputError: the folder is missing or read-only, or the path is a folder, a device or a pipe.
    """
    target = Path(path)
    try:
        if target.is_symlink():
            target = target.resolve()
        mode = target.stat().st_mode
    except FileNotFoundError:
        mode = None
    except OSError as e:
        raise _error(e, target) from e
    if mode is not None and not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise OutputError(f"the output path is {kind}", where=str(target), hint="give the path of a file")
    probe = _temporary(target)
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as e:
        raise _error(e, target) from e
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return target


def write(path: str | os.PathLike[str], data: bytes, *, mode: int | None = None, overwrite: bool = True) -> Path:
    """Write ``data`` to ``path`` whole: after a failure or Ctrl-C the old file, or none, is there and nothing else.

    Args:
        path: a file that exists or not; its folder must exist.
        data: all bytes of the file.
        mode: permissions of the new file; ``None`` keeps those of the file it replaces, else the umask's.
        overwrite: when False, an existing file is an error.

    Raises:
        OutputError: the file could not be written; says why and what to do.
    """
    target = check_target(path)
    if mode is None:
        try:
            mode = stat.S_IMODE(target.stat().st_mode)
        except OSError:
            mask = os.umask(0)
            os.umask(mask)
            mode = 0o666 & ~mask
    temporary = _temporary(target)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
            f.write(data)
            f.flush()
            os.fchmod(f.fileno(), mode)
            os.fsync(f.fileno())
        if overwrite:
            temporary.replace(target)
        else:
            os.link(temporary, target)  # unlike a rename, it fails when the name is taken
    except FileExistsError as e:
        raise OutputError("the file exists already", where=str(target), hint="choose another name") from e
    except OSError as e:
        raise _error(e, target) from e
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    with contextlib.suppress(OSError):  # not every file system can sync a folder
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return target


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """``write`` of UTF-8 text."""
    return write(path, text.encode())


def _temporary(target: Path) -> Path:
    return target.parent / f".{target.name[:100]}.{secrets.token_hex(6)}.tmp"


def _error(e: OSError, target: Path) -> OutputError:
    return OutputError(
        f"cannot write the file: {e.strerror or e}", where=str(target), hint=_HINTS.get(e.errno or 0, "see the reason")
    )
