"""Calls that are tried again where that is safe: with growing, random waits, until a deadline."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from gossamer.client._errors import distrusted, from_call

T = TypeVar("T")

# CANCELLED: by a server that stops while it works on the call; where the caller cancels, grpc.aio raises no status.
_LOST = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})


def lost(error: grpc.aio.AioRpcError) -> bool:
    """Whether the answer was lost or nobody was there, so that a call that changes nothing twice may be made again."""
    # What grpc.aio raises, with a code of its own, where a connection breaks while it writes to a stream.
    broke = error.code() is grpc.StatusCode.INTERNAL and error.details() == "Internal error from Core"
    return not distrusted(error) and (broke or error.code() in _LOST)


@dataclass(frozen=True)
class Retry:
    """How calls are tried again. All calls of the client are safe to repeat: submissions carry a request id.

    Attributes:
        attempts: calls made at most, the first included; 1: no repetition.
        first_s: longest wait before the second attempt; it doubles with each, and a random part of it is taken.
        longest_s: it grows no further than this.
        call_s: seconds that the server gets for one attempt.
    """

    attempts: int = 8
    first_s: float = 0.2
    longest_s: float = 10.0
    call_s: float = 60.0

    def wait_s(self, failures: int) -> float:
        """How long to wait after so many failures (full jitter: clients that failed together come back apart)."""
        return random.uniform(0, min(self.longest_s, self.first_s * 2.0 ** (failures - 1)))


async def call(retry: Retry, address: str, make: Callable[[float], Awaitable[T]]) -> T:
    """Make a call that answers once; ``make`` gets its deadline in seconds.

    Raises:
        UnreachableError, AccessError, RemoteError: the last attempt's error.
    """
    failures = 0
    while True:
        try:
            return await make(retry.call_s)
        except grpc.aio.AioRpcError as e:
            failures += 1
            if not lost(e) or failures >= retry.attempts:
                raise from_call(e, address) from e
        await asyncio.sleep(retry.wait_s(failures))
