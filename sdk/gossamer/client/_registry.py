"""Versions and channels of the registry."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gossamer._errors import InputError
from gossamer._proto.v1 import registry_pb2 as pb
from gossamer._proto.v1 import registry_pb2_grpc
from gossamer.client._errors import RemoteError
from gossamer.client._link import Link

_NAME = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}"
_FULL = re.compile(f"bundles/{_NAME}/(versions|channels)/{_NAME}", re.ASCII)
_SHORT = re.compile(f"({_NAME})(?:(/|@)({_NAME}))?", re.ASCII)


@dataclass(frozen=True)
class Version:
    """A version of a bundle.

    Attributes:
        name: ``bundles/{bundle}/versions/{version}``.
        sha256, size_bytes: of the bundle's bytes, which never change.
        description, labels: of people's choosing.
        model_name, model_version: as the bundle's manifest states them; empty: not stated.
        key_fingerprint: of the key that signed it (devices decide whether they trust it); empty: unsigned.
        created, creator: when, and the name of whose token; empty: nobody had to prove a name.
    """

    name: str
    sha256: str
    size_bytes: int
    description: str
    labels: Mapping[str, str]
    model_name: str
    model_version: str
    key_fingerprint: str
    created: datetime
    creator: str


@dataclass(frozen=True)
class Channel:
    """What a fleet follows. ``name``: ``bundles/{bundle}/channels/{channel}``; ``version`` and ``previous_version`` are
    resource names of versions (the latter empty: it named none before)."""

    name: str
    version: str
    previous_version: str
    updated: datetime


def resource(text: str) -> str:
    """The resource name that a short one stands for.

    ``person/1.4.0`` is a version, ``person@canary`` what a channel names, ``person`` what its stable channel does. Full
    names stay as they are.

    Raises:
        InputError: it is none of them.
    """
    if _FULL.fullmatch(text):
        return text
    found = _SHORT.fullmatch(text)
    if found is None:
        raise InputError(
            f"{text!r} names no version",
            hint="NAME/VERSION, NAME@CHANNEL, NAME for its stable channel, or bundles/{bundle}/versions/{version}",
        )
    bundle, kind, rest = found.groups()
    return f"bundles/{bundle}/versions/{rest}" if kind == "/" else f"bundles/{bundle}/channels/{rest or 'stable'}"


class Versions:
    """Calls about versions and channels over one link; see the client's methods of the same names."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._stub = registry_pb2_grpc.RegistryServiceStub(link.channel)  # type: ignore[no-untyped-call]

    async def create(
        self,
        sha256: str,
        bundle: str,
        version: str,
        *,
        channel: str | None,
        description: str,
        labels: Mapping[str, str] | None,
        request_id: str | None,
    ) -> Version:
        """Make a version of an uploaded blob, and point a channel at it where one is given."""
        request = pb.CreateVersionRequest(
            bundle=bundle,
            version=version,
            sha256=sha256,
            description=description,
            labels=labels or {},
            request_id=request_id or secrets.token_hex(16),
        )
        made = version_of((await self._link.call(self._stub.CreateVersion, request)).version)
        if channel is not None:
            await self.point(bundle, channel, version)
        return made

    async def get(self, name: str) -> Version:
        """One version."""
        answer = await self._link.call(self._stub.GetVersion, pb.GetVersionRequest(name=resource(name)))
        return version_of(answer.version)

    async def pinned(self, name: str) -> str:
        """Resource name of a version; of the one that a channel names now, where ``name`` is a channel's."""
        full = resource(name)
        if "/versions/" in full:
            return full
        try:
            return (await self.get(full)).name
        except RemoteError as e:
            if e.code == "UNIMPLEMENTED":
                e.hint = "this server has no registry to say what a channel names: give NAME/VERSION"
            raise

    async def newest(self, bundle: str, limit: int) -> list[Version]:
        """Versions, newest first."""
        request = pb.ListVersionsRequest(bundle=bundle)
        return await self._link.listed(self._stub.ListVersions, request, "versions", version_of, limit)

    async def channels(self, bundle: str, limit: int) -> list[Channel]:
        """Channels, oldest first."""
        request = pb.ListChannelsRequest(bundle=bundle)
        return await self._link.listed(self._stub.ListChannels, request, "channels", channel_of, limit)

    async def point(self, bundle: str, channel: str, version: str) -> Channel:
        """Point a channel at a version."""
        wanted = pb.Channel(name=f"bundles/{bundle}/channels/{channel}", version=f"bundles/{bundle}/versions/{version}")
        answer = await self._link.call(self._stub.UpdateChannel, pb.UpdateChannelRequest(channel=wanted))
        return channel_of(answer.channel)


def version_of(version: pb.Version) -> Version:
    """From the message."""
    return Version(
        name=version.name,
        sha256=version.sha256,
        size_bytes=version.size_bytes,
        description=version.description,
        labels=dict(version.labels),
        model_name=version.model_name,
        model_version=version.model_version,
        key_fingerprint=version.key_fingerprint,
        created=version.create_time.ToDatetime(UTC),
        creator=version.creator,
    )


def channel_of(channel: pb.Channel) -> Channel:
    """From the message."""
    return Channel(
        name=channel.name,
        version=channel.version,
        previous_version=channel.previous_version,
        updated=channel.update_time.ToDatetime(UTC),
    )
