"""Versions and channels as messages, and back."""

from __future__ import annotations

from gossamer._proto.v1 import registry_pb2 as pb
from gossamer_services.common.times import seconds_of, timestamp
from gossamer_services.registry import names
from gossamer_services.registry.records import Channel, Version


def write_version(found: Version) -> pb.Version:
    """A version of the records as its message."""
    return pb.Version(
        name=names.version_name(found.bundle, found.version),
        sha256=found.sha256,
        size_bytes=found.size_bytes,
        description=found.description,
        labels=found.labels,
        model_name=found.model_name,
        model_version=found.model_version,
        key_fingerprint=found.key_fingerprint,
        create_time=timestamp(found.created_s),
        creator=found.creator,
        etag=found.etag,
    )


def write_channel(found: Channel) -> pb.Channel:
    """A channel of the records as its message."""
    return pb.Channel(
        name=names.channel_name(found.bundle, found.channel),
        version=names.version_name(found.bundle, found.version),
        previous_version=names.version_name(found.bundle, found.previous) if found.previous else "",
        update_time=timestamp(found.updated_s),
        etag=found.etag,
    )


def read_version(message: pb.Version) -> Version:
    """A version as another registry tells it; its ``number`` is that registry's own affair, and 0 here."""
    bundle, version = names.parse_version(message.name)
    return Version(
        bundle=bundle,
        version=version,
        sha256=message.sha256,
        size_bytes=message.size_bytes,
        description=message.description,
        labels=dict(message.labels),
        model_name=message.model_name,
        model_version=message.model_version,
        key_fingerprint=message.key_fingerprint,
        creator=message.creator,
        created_s=seconds_of(message.create_time),
        etag=message.etag,
    )


def read_channel(message: pb.Channel) -> Channel:
    """A channel as another registry tells it; its ``number`` is 0 here."""
    bundle, channel = names.parse_channel(message.name)
    previous = names.parse_version(message.previous_version)[1] if message.previous_version else ""
    return Channel(
        bundle=bundle,
        channel=channel,
        version=names.parse_version(message.version)[1],
        previous=previous,
        updated_s=seconds_of(message.update_time),
        etag=message.etag,
    )
