"""Digests of requests, by which a repeat is told from another request with the same id."""

from __future__ import annotations

import hashlib
from typing import Any


def digest_of(message: Any, *without: str) -> str:
    """SHA-256 of a message, some of its fields left out."""
    plain = type(message)()
    plain.CopyFrom(message)
    for field in without:
        plain.ClearField(field)
    return hashlib.sha256(plain.SerializeToString(deterministic=True)).hexdigest()
