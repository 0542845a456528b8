"""What the fleet needs of a registry: versions by name, by channel and by digest."""

from __future__ import annotations

from typing import Protocol

from gossamer_services.registry.records import Channel, Version


class Versions(Protocol):
    """Finds versions; safe for many threads. The registry's own records in its process, calls of it elsewhere."""

    def version(self, bundle: str, version: str) -> Version:
        """A version.

        Raises:
            ServiceError: NOT_FOUND (VERSION_NOT_FOUND); UNAVAILABLE, here as in every method.
        """

    def channel(self, bundle: str, channel: str) -> Channel:
        """A channel.

        Raises:
            ServiceError: NOT_FOUND (CHANNEL_NOT_FOUND).
        """

    def name_of(self, sha256: str) -> str:
        """Resource name of the newest version with these bytes; empty: there is none."""
