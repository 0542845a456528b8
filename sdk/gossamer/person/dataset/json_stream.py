"""Large JSON objects member by member: COCO's annotations are half a gigabyte, some of their elements are enough."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from gossamer._errors import InputError

_CHUNK = 1 << 20
_LONGEST = 1 << 26
_BLANK = " \t\r\n"


def members(path: Path) -> Iterator[tuple[str, str | int | None, Any]]:
    """Of the object in a file: (key, index, element) of lists, (key, name, value) of objects, (key, None, value) else.

    One element is in memory at a time. An empty list or object gives nothing.

    Raises:
        InputError: the file is missing, is not UTF-8 JSON, or holds something else than an object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from _Reader(file).members()
    except OSError as e:
        raise InputError(f"cannot read it: {e.strerror}", where=str(path), hint="check the path") from e
    except (_SyntaxError, UnicodeDecodeError, RecursionError) as e:
        raise InputError(f"not JSON as expected: {e}", where=str(path), hint="copy the file again") from e


class _SyntaxError(Exception):
    pass


class _Reader:
    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text, self._at, self._gone, self._ended = "", 0, 0, False
        self._decoder = json.JSONDecoder()

    def members(self) -> Iterator[tuple[str, str | int | None, Any]]:
        self._expect("{")
        for key in self._keys():
            opening = self._peek()
            if opening == "[":
                self._at += 1
                for index in self._elements():
                    yield key, index, self._value()
            elif opening == "{":
                self._at += 1
                for name in self._keys():
                    yield key, name, self._value()
            else:
                yield key, None, self._value()
        if self._peek(end=True):
            raise self._error("something follows the object")

    def _keys(self) -> Iterator[str]:
        """Names of an object's members; the caller reads the value after each."""
        if self._peek() == "}":
            self._at += 1
            return
        while True:
            name = self._value()
            if not isinstance(name, str):
                raise self._error("a name must be a string")
            self._expect(":")
            yield name
            if self._next(",}") == "}":
                return

    def _elements(self) -> Iterator[int]:
        """Numbers of a list's elements; the caller reads the element after each."""
        index = 0
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield index
            index += 1
            if self._next(",]") == "]":
                return

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:  # a number at the end may go on in the next chunk
                    self._at = end
                    return value
            except ValueError as e:
                if self._ended or len(self._text) - self._at > _LONGEST:
                    raise self._error(str(e).partition(":")[0]) from e
            self._more()

    def _peek(self, *, end: bool = False) -> str:
        """The next character that is not blank; empty at the end of the file when that is allowed."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                if end:
                    return ""
                raise self._error("the file ends too early")
            self._more()

    def _next(self, allowed: str) -> str:
        found = self._peek()
        if found not in allowed:
            raise self._error(f"expected {' or '.join(allowed)}, found {found!r}")
        self._at += 1
        return found

    def _expect(self, character: str) -> None:
        self._next(character)

    def _more(self) -> None:
        """Drop what was read and read on, each time as much as is held, so that a long element costs its length."""
        chunk = self._file.read(max(_CHUNK, len(self._text) - self._at))
        self._gone += self._at
        self._text = self._text[self._at :] + chunk
        self._at = 0
        self._ended = not chunk

    def _error(self, reason: str) -> _SyntaxError:
        return _SyntaxError(f"{reason}, at character {self._gone + self._at}")
