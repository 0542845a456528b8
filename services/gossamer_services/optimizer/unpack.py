"""Opens a .zip of pictures that a client sent: nothing lands outside the folder, nothing grows beyond the caps."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from gossamer._errors import InputError

MAX_FILES = 200_000
MAX_BYTES = 16 << 30
MAX_RATIO = 200
"""Bytes that a member may unpack to, for each of its packed bytes; pictures hardly shrink at all."""


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack into ``folder`` and return it; a folder that an earlier call filled is returned as it is.

    Raises:
        InputError: not a .zip, damaged, encrypted, too many or too large members, a name that leaves the folder, a
            link, or two members of one name.
    """
    if folder.exists():
        return folder
    part = folder.with_name(folder.name + ".part")
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            for info in checked(opened, archive.name):
                target = part / info.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(info) as source, target.open("xb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, FileExistsError, NotADirectoryError) as e:
        raise InputError(f"the archive cannot be read: {e}", where=archive.name, hint="pack it again") from e
    part.rename(folder)
    return folder


def checked(opened: zipfile.ZipFile, where: str) -> list[zipfile.ZipInfo]:
    """The members that are files, after checking all of them; see :func:`unpack`."""
    infos = opened.infolist()
    if len(infos) > MAX_FILES or sum(i.file_size for i in infos) > MAX_BYTES:
        raise InputError(f"the archive holds more than {MAX_FILES} files or {MAX_BYTES} bytes", where=where)
    seen = set()
    for info in infos:
        name = info.filename
        spot = f"{where}, member '{name[:80]}'"
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in info.orig_filename or ":" in name:
            raise InputError("the member's path leaves the archive", where=spot, hint="pack it with relative paths")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError("the member is a link or a device", where=spot, hint="pack plain files")
        if info.flag_bits & 1:
            raise InputError("the member is encrypted", where=spot, hint="pack it without a password")
        if info.file_size > MAX_RATIO * max(info.compress_size, 64):
            raise InputError("the member unpacks to far more than it is", where=spot, hint="pack it without padding")
        key = str(path)
        if key in seen:
            raise InputError("two members share a name", where=spot, hint="pack it again")
        seen.add(key)
    return [info for info in infos if not info.is_dir()]
