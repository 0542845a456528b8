"""Texts of requests: how long they may be, and no NUL characters, which PostgreSQL does not store."""

from __future__ import annotations

import functools
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gossamer_services.common.errors import bad_field

_TEXT, _MESSAGE = FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE


def check_texts(message: Any, where: str = "") -> None:
    """Refuse a request with a NUL character in one of its texts, at any depth.

    Raises:
        ServiceError: INVALID_ARGUMENT (BAD_FIELD) with the field's path.
    """
    for name, repeated, text, entry in _fields(message.DESCRIPTOR):
        path = f"{where}.{name}" if where else name
        if entry is not None:
            for key, value in getattr(message, name).items():
                _check(key, path, isinstance(key, str))
                _check(value, path, entry == _TEXT)
        elif repeated:
            for i, value in enumerate(getattr(message, name)):
                _check(value, f"{path}[{i}]", text)
        elif text or message.HasField(name):
            _check(getattr(message, name), path, text)


def check_text(text: str, field: str, most: int) -> str:
    """Refuse a text of more characters than are kept: lists hold it by the thousand.

    Raises:
        ServiceError: INVALID_ARGUMENT (BAD_FIELD).
    """
    if len(text) > most:
        raise bad_field(field, f"has {len(text)} characters; at most {most} are kept")
    return text


def _check(value: Any, path: str, text: bool) -> None:
    if not text:
        if hasattr(value, "DESCRIPTOR"):
            check_texts(value, path)
    elif "\0" in value:
        raise bad_field(path, "has a NUL character")


@functools.cache
def _fields(message: Descriptor) -> tuple[tuple[str, bool, bool, int | None], ...]:
    """Of the fields that may hold text: name, whether repeated, whether text itself, and the type of a map's values."""
    found = []
    for field in message.fields:
        if field.type in (_TEXT, _MESSAGE):
            inner = field.message_type
            is_map = inner is not None and inner.GetOptions().map_entry
            entry = inner.fields_by_name["value"].type if is_map else None
            found.append((field.name, field.is_repeated, field.type == _TEXT, entry))
    return tuple(found)
