"""What every call of a client goes through: one connection, who calls, and how calls are made again."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from gossamer import _token
from gossamer._errors import InputError
from gossamer.client._calls import Retry, call
from gossamer.client._channel import is_local, open_channel

T = TypeVar("T")


class Link:
    """A connection to a server; nothing is sent yet.

    Args:
        address, token, ca, tls, retry: as for :class:`gossamer.client.AsyncClient`.

    Raises:
        InputError: no address, what is given is no token, or it would go out unencrypted.
        KeyFileError: ``ca`` cannot be read.
    """

    def __init__(
        self, address: str, *, token: str | None, ca: str | os.PathLike[str] | None, tls: bool | None, retry: Retry
    ) -> None:
        where = "token" if token else "GOSSAMER_TOKEN"
        token = token or os.environ.get("GOSSAMER_TOKEN", "")
        if token:
            _token.check(token, where)
        encrypted = tls if tls is not None else ca is not None or not is_local(address)
        if token and not encrypted and not is_local(address):
            raise InputError("a token would go over the network unencrypted", where=address, hint="use tls=True")
        self.address, self.retry = address, retry
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self.channel = open_channel(address, ca, encrypted)

    async def call(self, method: Any, request: Any) -> Any:
        """A call that answers once, made again while its answer gets lost.

        Raises:
            UnreachableError, AccessError, RemoteError: the last attempt's error.
        """
        return await call(
            self.retry, self.address, lambda deadline_s: method(request, metadata=self.metadata, timeout=deadline_s)
        )

    async def listed(
        self, method: Any, request: Any, field: str, make: Callable[[Any], T], limit: int, page_size: int = 1000
    ) -> list[T]:
        """At most ``limit`` items of a list that comes in pages.

        Args:
            request: without page size and token; it is changed.
            field: of the answer, which holds the items.
            make: an item from its message.
        """
        found: list[T] = []
        while len(found) < limit:
            request.page_size = min(limit - len(found), page_size)
            answer = await self.call(method, request)
            found += map(make, getattr(answer, field))
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
        return found
