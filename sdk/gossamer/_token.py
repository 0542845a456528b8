"""Tokens as calls carry them: one line of ASCII, which errors never show."""

from __future__ import annotations

import re
from pathlib import Path

from gossamer._errors import InputError

_TOKEN = re.compile("[!-~]+", re.ASCII)


def check(token: str, where: str) -> str:
    """The token, when it can be one.

    Args:
        where: it came from.

    Raises:
        InputError: it is empty, or holds what no token does.
    """
    if not _TOKEN.fullmatch(token):
        what = "it is empty" if not token else "it must be one line of ASCII without blanks"
        raise InputError(f"that is no token: {what}", where=where)
    return token


def read(path: Path) -> str:
    """The token in a file, without the white space around it.

    Raises:
        InputError: the file cannot be read, or holds no token.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as e:
        raise InputError(f"cannot read the token file: {e.strerror}", where=str(path)) from e
    return check(text.strip(), str(path))
