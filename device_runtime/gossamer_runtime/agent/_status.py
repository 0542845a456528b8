"""google.rpc.Status with an ErrorInfo, as bytes of the trailer ``grpc-status-details-bin``: encoded and read by hand.

The two messages are small and frozen (googleapis, google/rpc/status.proto and error_details.proto); writing them out
spares devices the package of all of Google's common messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

TRAILER = "grpc-status-details-bin"
_ERROR_INFO = b"type.googleapis.com/google.rpc.ErrorInfo"


def encode(code: int, message: str, reason: str, domain: str, metadata: Mapping[str, str]) -> bytes:
    """Status{code, message, details: [Any(ErrorInfo{reason, domain, metadata})]}."""
    info = _text(1, reason) + _text(2, domain)
    for key, value in metadata.items():
        info += _bytes(3, _text(1, key) + _text(2, value))
    detail = _bytes(1, _ERROR_INFO) + _bytes(2, info)
    return b"\x08" + _varint(code) + _text(2, message) + _bytes(3, detail)


def error_info(status: bytes) -> tuple[str, str, dict[str, str]] | None:
    """Reason, domain and metadata of the first ErrorInfo in a Status; ``None`` when there is none or it is damaged."""
    try:
        for number, detail in _fields(status):
            if number != 3:
                continue
            parts = dict(_fields(detail))
            if parts.get(1) != _ERROR_INFO:
                continue
            reason = domain = ""
            metadata = {}
            for field, value in _fields(parts.get(2, b"")):
                if field == 1:
                    reason = value.decode()
                elif field == 2:
                    domain = value.decode()
                elif field == 3:
                    pair = dict(_fields(value))
                    metadata[pair.get(1, b"").decode()] = pair.get(2, b"").decode()
            return reason, domain, metadata
    except (ValueError, IndexError):
        return None
    return None


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode())


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Length-delimited fields of a message; varints are passed over."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        if key & 7 == 0:
            _, at = _read_varint(data, at)
            continue
        if key & 7 != 2:
            raise ValueError("unexpected wire type")
        size, at = _read_varint(data, at)
        if at + size > len(data):
            raise ValueError("cut off")
        yield key >> 3, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("varint too long")
