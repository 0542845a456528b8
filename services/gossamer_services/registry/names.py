"""What names, digests and resource names may look like; nothing else ever becomes part of a path or a query."""

from __future__ import annotations

import re

from gossamer_services.common.errors import bad_field

CHANNELS = ("stable", "canary")

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", re.ASCII)
_REF = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", re.ASCII)
_OWNER = re.compile(r"[A-Za-z0-9._/-]{1,128}", re.ASCII)
_VERSION_NAME = re.compile(r"bundles/([^/]*)/versions/([^/]*)")
_CHANNEL_NAME = re.compile(r"bundles/([^/]*)/channels/([^/]*)")


def check_digest(value: str, field: str = "sha256") -> str:
    """64 lower-case hexadecimal digits.

    Raises:
        ServiceError: INVALID_ARGUMENT, here as everywhere in this module.
    """
    if not _DIGEST.fullmatch(value):
        raise bad_field(field, "not 64 lower-case hexadecimal digits", hint="give the SHA-256 of the blob's bytes")
    return value


def check_name(value: str, field: str) -> str:
    """The name of a bundle or version, or a request id."""
    if not _NAME.fullmatch(value):
        raise bad_field(field, "not 1 to 64 of A-Z a-z 0-9 . _ -, or begins with a dot")
    return value


def check_ref(value: str, field: str = "ref") -> str:
    """A client's name for an upload."""
    if not _REF.fullmatch(value):
        raise bad_field(field, "not 1 to 128 of A-Z a-z 0-9 . _ -, or begins with a dot")
    return value


def check_owner(value: str, field: str = "owner") -> str:
    """Who holds a lease."""
    if not _OWNER.fullmatch(value):
        raise bad_field(field, "not 1 to 128 of A-Z a-z 0-9 . _ / -")
    return value


def parse_version(name: str, field: str = "name") -> tuple[str, str]:
    """``bundles/{bundle}/versions/{version}`` as (bundle, version)."""
    found = _VERSION_NAME.fullmatch(name)
    if not found:
        raise bad_field(field, "not bundles/{bundle}/versions/{version}")
    return check_name(found[1], field), check_name(found[2], field)


def parse_channel(name: str, field: str = "name") -> tuple[str, str]:
    """``bundles/{bundle}/channels/{channel}`` as (bundle, channel)."""
    found = _CHANNEL_NAME.fullmatch(name)
    if not found:
        raise bad_field(field, "not bundles/{bundle}/channels/{channel}")
    if found[2] not in CHANNELS:
        raise bad_field(field, f"the channel is not one of {', '.join(CHANNELS)}")
    return check_name(found[1], field), found[2]


def version_name(bundle: str, version: str) -> str:
    """The resource name of a version."""
    return f"bundles/{bundle}/versions/{version}"


def channel_name(bundle: str, channel: str) -> str:
    """The resource name of a channel."""
    return f"bundles/{bundle}/channels/{channel}"
