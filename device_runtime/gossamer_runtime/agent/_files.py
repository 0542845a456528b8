"""Files that the operator gives: read once, or line by line and again whenever they change."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

from gossamer_runtime._errors import InputError

T = TypeVar("T")


def read(path: str) -> bytes:
    """Bytes of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError as e:
        raise InputError(f"cannot read it: {e.strerror}", where=path) from e


class Lines(Generic[T]):
    """What the lines of a file say; empty ones and those that begin with # say nothing.

    Args:
        path: the file.
        what: its name for people.
        parse: what a line says; None: it is none.
        hint: what a line looks like.

    Raises:
        InputError: the file cannot be read, or a line is none.
    """

    def __init__(self, path: str, what: str, parse: Callable[[str], T | None], hint: str) -> None:
        self._path, self._what, self._parse, self._hint = path, what, parse, hint
        self._stamp: tuple[int, int, int] | None = None
        self._found: list[T] = []
        self.read()

    def read(self) -> list[T]:
        """The lines as they are now.

        Raises:
            InputError: as for the class; what was read before does not count any more.
        """
        try:
            stat = os.stat(self._path)
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp == self._stamp:
                return self._found
            with open(self._path, encoding="utf-8") as f:
                lines = f.read().splitlines()
        except (OSError, UnicodeDecodeError) as e:
            raise InputError(f"cannot read the {self._what} file: {e}", where=self._path) from e
        found = []
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            said = self._parse(text)
            if said is None:
                raise InputError(f"not a {self._what}'s line", where=f"{self._path}:{number}", hint=self._hint)
            found.append(said)
        self._found, self._stamp = found, stamp
        return found
