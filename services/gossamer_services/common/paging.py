"""Pages of lists: their sizes, and the tokens between them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from gossamer_services.common.errors import bad_field

DEFAULT_SIZE, MAX_SIZE = 100, 1000
PAGE_BYTES = 2 << 20
"""A page ends before it is larger, for a message that is too large reaches nobody; but it has one item at least."""


def page_size(wanted: int) -> int:
    """0 means 100; more than 1000 is taken as 1000.

    Raises:
        ServiceError: INVALID_ARGUMENT: it is negative.
    """
    if wanted < 0:
        raise bad_field("page_size", "must not be negative")
    return min(wanted or DEFAULT_SIZE, MAX_SIZE)


def fitting(sizes: Iterable[int]) -> int:
    """How many of the first items, given their sizes in bytes, make a page."""
    count = total = 0
    for size in sizes:
        total += size
        if count and total > PAGE_BYTES:
            break
        count += 1
    return count


def write_token(last: int, question: Any) -> str:
    """A token that goes on after row ``last`` of the answer to ``question``, any JSON value."""
    return base64.urlsafe_b64encode(f"{last}.{_digest(question)}".encode()).decode()


def read_token(token: str, question: Any) -> int | None:
    """The row that :func:`write_token` was given; None for the first page.

    Raises:
        ServiceError: INVALID_ARGUMENT: it is no token, or one of another question.
    """
    if not token:
        return None
    try:
        last, _, digest = base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii").partition(".")
        number = int(last)
        if not 0 <= number < 1 << 63:  # what databases take
            raise ValueError(last)
    except ValueError:
        raise bad_field("page_token", "not a page token", hint="give next_page_token of the page before") from None
    if digest != _digest(question):
        raise bad_field("page_token", "belongs to another question", hint="keep the other fields as they were")
    return number


def _digest(question: Any) -> str:
    return hashlib.sha256(json.dumps(question).encode()).hexdigest()[:16]
