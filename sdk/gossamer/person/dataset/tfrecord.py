"""TFRecord files of ``tf.train.Example`` records, read without TensorFlow.

A record is a length (uint64, little-endian), the length's masked CRC-32C, the data, the data's masked CRC-32C. An
Example is a protobuf message: a map from feature names to lists of bytes, floats or integers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from gossamer._errors import InputError
from gossamer.person.dataset.crc32c import crc32c, masked
from gossamer.person.dataset.photo_set import BadPhotoError

_HEADER = struct.Struct("<QI")
Feature = list[bytes] | list[float] | list[int]


class RecordFile:
    """The records of one file, forwards: ``read(index)`` seeks over those in between.

    Args:
        path: of the file.

    Raises:
        InputError: the file is missing or unreadable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BinaryIO = path.open("rb")
            self._size = path.stat().st_size
        except OSError as e:
            raise InputError(f"cannot read the shard: {e.strerror}", where=str(path), hint="check the path") from e
        self._next = 0

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[tuple[int, bytes | BadPhotoError]]:
        """Every record with its number, counted from 0."""
        self._rewind()
        while self._file.tell() < self._size:
            yield self._next, self.read(self._next)

    def count(self) -> int:
        """Records of the file, by their lengths alone.

        Raises:
            InputError: as ``read``.
        """
        self._rewind()
        while self._file.tell() < self._size:
            self._file.seek(self._length() + 4, 1)
            self._next += 1
        return self._next

    def read(self, index: int) -> bytes | BadPhotoError:
        """The data of one record; :class:`BadPhotoError` where they do not match their checksum.

        Raises:
            InputError: the file ends before or inside the record, or a length does not match its checksum: what follows
                cannot be found.
        """
        if index < self._next:
            self._rewind()
        while self._next < index:
            self._file.seek(self._length() + 4, 1)
            self._next += 1
        length = self._length()
        data, crc = self._file.read(length), self._file.read(4)
        self._next += 1
        if masked(crc32c(data)) != int.from_bytes(crc, "little"):
            return BadPhotoError("damaged: its checksum is wrong")
        return data

    def _length(self) -> int:
        """Length of the record that starts here; the file stands at its data afterwards."""
        start = self._file.tell()
        header = self._file.read(_HEADER.size)
        where = f"{self.path}#{self._next}"
        if len(header) == _HEADER.size:
            length, crc = _HEADER.unpack(header)
            if masked(crc32c(header[:8])) != crc:
                raise InputError(
                    f"the length of the record at byte {start} does not match its checksum",
                    where=where,
                    hint="the shard is damaged or is no TFRecord file: copy it again",
                )
            if start + _HEADER.size + length + 4 <= self._size:
                return int(length)
        raise InputError(
            f"the shard ends inside the record at byte {start}", where=where, hint="it was cut short: copy it again"
        )

    def _rewind(self) -> None:
        self._file.seek(0)
        self._next = 0


def parse_example(data: bytes, where: str) -> dict[str, Feature]:
    """Features of a serialised ``tf.train.Example``.

    Args:
        data: the record.
        where: names it in errors.

    Raises:
        InputError: the bytes are no Example.
    """
    out: dict[str, Feature] = {}
    try:
        for number, features in _fields(memoryview(data)):
            if number != 1 or isinstance(features, int):
                continue
            for entry_number, entry in _fields(features):
                if entry_number != 1 or isinstance(entry, int):
                    continue
                name, feature = "", memoryview(b"")
                for key, value in _fields(entry):
                    if isinstance(value, int):
                        raise ValueError("a feature's name or value is a number")
                    if key == 1:
                        name = str(value, "utf-8")
                    elif key == 2:
                        feature = value
                out[name] = _feature(feature)
    except (ValueError, struct.error) as e:
        raise InputError(f"not a tf.train.Example: {e}", where=where, hint="is this a shard of the data set?") from e
    return out


def _feature(message: memoryview) -> Feature:
    """bytes_list 1, float_list 2, int64_list 3, each with its values in field 1."""
    for kind, values in _fields(message):
        if isinstance(values, int):
            raise ValueError("a feature's list is a number")
        if kind == 1:
            return [bytes(v) for n, v in _fields(values) if n == 1 and not isinstance(v, int)]
        if kind == 2:
            floats: list[float] = []
            for n, v in _fields(values):
                if n == 1 and not isinstance(v, int):
                    floats += struct.unpack(f"<{len(v) // 4}f", v)
            return floats
        if kind == 3:
            numbers: list[int] = []
            for n, v in _fields(values):
                if n != 1:
                    continue
                if isinstance(v, int):
                    numbers.append(_signed(v))
                    continue
                position = 0
                while position < len(v):
                    number, position = _varint(v, position)
                    numbers.append(_signed(number))
            return numbers
    return []


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of a protobuf message: integers, or bytes where the wire has 4, 8 or counted bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == 2:
            length, position = _varint(message, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        if position + length > len(message):
            raise ValueError(f"a field of {length} bytes passes the end at byte {position}")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        if position >= len(message) or shift > 63:
            raise ValueError(f"a number does not end at byte {position}")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _signed(value: int) -> int:
    value &= 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value
