"""What the slots need of whatever opens bundles for them: a process on a device, a check alone for a card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Facts(NamedTuple):
    """What is known of a verified bundle: from its manifest, and the bytes of each input (empty: not opened)."""

    name: str
    version: str
    rollback_counter: int
    input_bytes: tuple[int, ...] = ()


class Trial(Protocol):
    """Opens a bundle on this machine, apart from the agent where a crash would take it along."""

    def check(self, bundle: str | bytes) -> Facts:
        """Verify the signature and open the bundle.

        Raises:
            BundleError, SignatureError, UnsupportedError, BackendError, OutOfMemoryError: as ``Session``.
        """

    def run(self, inputs: Sequence[bytes] = ()) -> float:
        """Run what ``check`` opened, on zeros when no inputs are given; microseconds of the inference.

        Raises:
            GossamerError: it crashed, hung, or gave NaN.
        """

    def close(self) -> None:
        """Let go of the bundle."""
