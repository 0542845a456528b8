"""What the agent must know of a certificate: its times, key and fingerprint, read from DER without cryptography.

Nothing is verified here: that is done by TLS. X.509 is RFC 5280, section 4.1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.S)
_CONTEXT_0, _UTC_TIME, _GENERALIZED_TIME, _SEQUENCE = 0xA0, 0x17, 0x18, 0x30


@dataclass(frozen=True)
class Certificate:
    """``not_before`` and ``not_after`` in UTC; ``public_key``: its SubjectPublicKeyInfo in DER; ``fingerprint``: the
    SHA-256 of the whole in lower-case hexadecimal."""

    not_before: datetime
    not_after: datetime
    public_key: bytes
    fingerprint: str

    def is_good_at(self, time: datetime) -> bool:
        """Whether that time is within its own."""
        return self.not_before <= time <= self.not_after


def parse(pem: str) -> Certificate:
    """The first certificate of a PEM text.

    Raises:
        ValueError: there is none, or it is malformed.
    """
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("no certificate in PEM")
    try:
        der = base64.b64decode("".join(found[1].split()), validate=True)
        (_, whole), *_ = _elements(der)
        (_, body), *_ = _elements(whole)
        fields = [(tag, value, raw) for tag, value, raw in _raw_elements(body) if tag != _CONTEXT_0]
        # serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo
        (start_tag, start), (end_tag, end) = _elements(fields[3][1])
        times = _time(start_tag, start), _time(end_tag, end)
        if fields[5][0] != _SEQUENCE:
            raise ValueError("no public key")
        return Certificate(*times, fields[5][2], hashlib.sha256(der).hexdigest())
    except (binascii.Error, ValueError, IndexError) as e:
        raise ValueError(f"malformed certificate: {e}") from e


def _time(tag: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 50 to 99 are of the last century
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    for tag, value, _ in _raw_elements(data):
        yield tag, value


def _raw_elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Tag, contents, and the whole of each element."""
    at = 0
    while at < len(data):
        start, tag, size = at, data[at], data[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4:
                raise ValueError("a length that no certificate has")
            size = int.from_bytes(data[at : at + count], "big")
            at += count
        if at + size > len(data):
            raise ValueError("cut off")
        yield tag, data[at : at + size], data[start : at + size]
        at += size
