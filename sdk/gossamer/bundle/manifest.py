"""The manifest: ``gossamer.v1.Manifest`` and its canonical JSON, which is what a bundle stores."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format

from gossamer._errors import BundleError
from gossamer._proto.v1 import manifest_pb2 as pb


def dumps(manifest: pb.Manifest) -> bytes:
    """Canonical JSON: proto3 mapping, original field names, keys sorted, no blanks, UTF-8. Same message, same bytes."""
    value = json_format.MessageToDict(manifest, preserving_proto_field_name=True)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def loads(data: bytes | memoryview) -> pb.Manifest:
    """The message of a bundle's manifest section. Unknown fields, of a later version, are skipped.

    Raises:
        BundleError: not JSON, nested too deep, or a field has the wrong type.
    """
    try:
        return from_dict(json.loads(bytes(data)))
    except (ValueError, RecursionError) as e:
        raise BundleError(f"the manifest is not JSON: {e}") from e


def from_dict(value: Any) -> pb.Manifest:
    """The message of parsed JSON, such as ``Session.manifest``.

    Raises:
        BundleError: a field has the wrong type.
    """
    if not isinstance(value, dict):
        raise BundleError("the manifest is not a JSON object")
    try:
        manifest: pb.Manifest = json_format.ParseDict(value, pb.Manifest(), ignore_unknown_fields=True)
    except json_format.ParseError as e:
        raise BundleError(f"the manifest does not follow gossamer.v1.Manifest: {e}") from e
    return manifest


def to_dict(manifest: pb.Manifest) -> dict[str, Any]:
    """Plain data for reports: as ``dumps``, with 64-bit integers as numbers."""
    value: dict[str, Any] = json.loads(dumps(manifest))
    for layer in value.get("layers", []):
        if "macs" in layer:
            layer["macs"] = int(layer["macs"])
    for digest in value.get("provenance", {}).get("sources", []):
        if "bytes" in digest:
            digest["bytes"] = int(digest["bytes"])
    return value
