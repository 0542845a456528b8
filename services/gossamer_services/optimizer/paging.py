"""Pages of a list, and the tokens between them."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gossamer._errors import InputError

if TYPE_CHECKING:
    from gossamer_services.optimizer.jobs import Job


@dataclass(frozen=True)
class Page:
    """Some jobs, and the token of the next page; empty after the last one."""

    jobs: list[Job]
    next_token: str


def write_token(last: int, question: Any) -> str:
    """A token that goes on after row ``last`` of the answer to ``question``, any JSON value."""
    return base64.urlsafe_b64encode(f"{last}.{_digest(question)}".encode()).decode()


def read_token(token: str, question: Any) -> int:
    """The row after which the page of ``token`` starts.

    Raises:
        InputError: it is no token, or one of another question.
    """
    try:
        last, _, digest = base64.b64decode(token, altchars=b"-_", validate=True).decode().partition(".")
        number = int(last)
    except ValueError:
        raise InputError("not a page token", where="page_token", hint="give what the page before said") from None
    if digest != _digest(question):
        raise InputError(
            "the page token belongs to another question",
            where="page_token",
            hint="keep every other field of the request as it was",
        )
    return number


def _digest(question: Any) -> str:
    return hashlib.sha256(json.dumps(question).encode()).hexdigest()[:16]
