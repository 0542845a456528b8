"""What every way to reach a device offers, and choosing the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gossamer.device.book import Place

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes of the whole."""


@dataclass(frozen=True)
class Output:
    """One output of a run: raw little-endian bytes in C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class Flashed:
    """A finished flash. ``status``: ``committed``, ``staged``, ``unchanged``, or ``waiting`` (a card: its device tries
    the bundle when it starts). ``resumed_at``: offset that the upload went on from. Microseconds are 0 without a trial.
    """

    status: str
    slot: str
    seconds: float
    trial_us: float = 0.0
    resumed_at: int = 0
    sent_bytes: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


class Device(Protocol):
    """One device. Every method raises what ``gossamer_runtime.agent`` raises there, and ``UnreachableError`` or
    ``AccessError`` on the way."""

    def info(self, *, manifest: bool = False) -> dict[str, Any]:
        """What it is and what its slots hold, as InfoResponse's fields."""

    def flash(
        self, path: Path, *, stage_only: bool = False, inputs: Sequence[bytes] = (), progress: Progress | None = None
    ) -> Flashed:
        """Put a bundle on it."""

    def activate(self) -> Flashed:
        """Try and commit the staged bundle."""

    def rollback(self) -> Flashed:
        """Go back to the bundle before."""

    def run(self, inputs: Sequence[bytes]) -> tuple[float, list[Output]]:
        """One inference: microseconds and outputs."""

    def profile(
        self, *, runs: int, warmup: int, inputs: Sequence[bytes] = (), trace: bool = False
    ) -> tuple[str, str, str]:
        """JSON, text, and Chrome trace."""

    def logs(self, *, limit: int = 0, follow: bool = False) -> Iterator[dict[str, Any]]:
        """Log records, oldest first."""

    def close(self) -> None:
        """Let go of it."""


def open_device(place: Place) -> Device:
    """The device at a place; nothing is sent yet, but that ssh logs in.

    Raises:
        InputError: a certificate or token file cannot be read, or there is no such folder.
        SlotError: another process uses the card's folder, or its record is damaged.
        UnreachableError: adb or ssh is needed and not installed, or ssh does not get there.
        AccessError: ssh's login or host key check is refused.
    """
    if place.root:
        from gossamer.device.card import Card

        return Card(place.root)
    if place.adb:
        from gossamer.device.adb import Adb

        return Adb(place)
    if place.no_agent:
        from gossamer.device.board import Board

        return Board(place)
    if place.ssh:
        from gossamer.device.ssh import Ssh

        return Ssh(place)
    from gossamer.device.remote import Remote

    return Remote(place)
