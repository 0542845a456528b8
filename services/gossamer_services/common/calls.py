"""The guard around every call: request id, caller, scope, time limits, errors as statuses, a log record, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
from grpc_status import rpc_status

from gossamer._errors import GossamerError
from gossamer_services.common.auth import CALLER, STRANGER, Authenticator, Caller, check_scope
from gossamer_services.common.errors import Code, ServiceError, to_status
from gossamer_services.common.logs import REQUEST_ID
from gossamer_services.common.metrics import Metrics
from gossamer_services.common.settings import ServerSettings
from gossamer_services.common.texts import check_texts

_LOG = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)

OPEN_METHODS: Mapping[str, str | None] = {
    "/grpc.health.v1.Health/Check": None,
    "/grpc.health.v1.Health/Watch": None,
    "/grpc.health.v1.Health/List": None,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "read",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": "read",
}
"""Scopes of the methods that every server has; None: anybody may."""

# Health is watched for as long as a client likes, and sends nothing meanwhile.
_UNLIMITED = frozenset({"/grpc.health.v1.Health/Watch"})


class Guard(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server.

    Args:
        authenticator: finds who calls.
        scopes: scope by full method name; a method that is not listed needs ``admin``.
        settings: limits of time.
        metrics: counts.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        scopes: Mapping[str, str | None],
        settings: ServerSettings,
        metrics: Metrics,
    ) -> None:
        self._authenticator, self._settings, self._metrics = authenticator, settings, metrics
        self._scopes = {**OPEN_METHODS, **scopes}

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            self._metrics.calls.labels("unknown", "UNIMPLEMENTED").inc()
            return None
        method = details.method
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(self._answering_stream(method, inner, handler.request_streaming), **codecs)
        inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
        make = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make(self._answering_once(method, inner, handler.request_streaming), **codecs)

    def _answering_once(self, method: str, inner: Any, streams: bool) -> Any:
        async def call(request: Any, context: Any) -> Any:
            async with self._guarded(method, context):
                if streams:  # as long as its messages keep coming
                    return await inner(self._requests(request), context)
                check_texts(request)
                try:
                    async with asyncio.timeout(self._settings.call_s or None):
                        return await inner(request, context)
                except TimeoutError:
                    raise ServiceError(
                        Code.DEADLINE_EXCEEDED,
                        "CALL_TOO_LONG",
                        f"the call took longer than this server allows ({self._settings.call_s:g} s)",
                    ) from None

        return call

    def _answering_stream(self, method: str, inner: Any, streams: bool) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._guarded(method, context):
                if streams:
                    request = self._requests(request)
                else:
                    check_texts(request)
                answers = inner(request, context)
                if not hasattr(answers, "__aiter__"):  # a handler that writes to the context by itself
                    await answers
                    return
                async with contextlib.aclosing(answers):
                    async for answer in answers:
                        yield answer

        return call

    async def _requests(self, messages: Any) -> AsyncIterator[Any]:
        """The client's messages; a client that stalls is cut off (slow-loris)."""
        source = aiter(messages)
        while True:
            try:
                async with asyncio.timeout(self._settings.stream_idle_s or None):
                    message = await anext(source)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise ServiceError(
                    Code.DEADLINE_EXCEEDED,
                    "STREAM_IDLE",
                    f"the client sent nothing for {self._settings.stream_idle_s:g} s",
                ) from None
            check_texts(message)
            yield message

    @contextlib.asynccontextmanager
    async def _guarded(self, method: str, context: Any) -> AsyncIterator[None]:
        metadata = tuple(context.invocation_metadata() or ())
        request_id = _request_id(metadata)
        peer = context.peer()  # asked now: on a call whose connection broke, grpc dereferences a null pointer
        REQUEST_ID.set(request_id)
        context.set_trailing_metadata((("x-request-id", request_id),))
        start, code = time.perf_counter(), Code.OK
        caller: Caller | None = None
        self._metrics.active.inc()
        try:
            scope = self._scopes.get(method, "admin")
            caller = STRANGER
            if scope is not None:
                caller = await self._authenticator.caller(metadata, context.auth_context())
                check_scope(caller, scope, method)
            CALLER.set(caller)
            yield
        except grpc.aio.AbortError:
            code = context.code() or Code.UNKNOWN
            raise
        except (asyncio.CancelledError, GeneratorExit):
            code = Code.CANCELLED
            raise
        except Exception as e:
            status = rpc_status.to_status(to_status(e, request_id))
            code = status.code
            if not isinstance(e, GossamerError):
                _LOG.exception("a call failed for a reason that nobody foresaw", extra={"method": method})
            trailers = (*status.trailing_metadata, ("x-request-id", request_id))
            await context.abort(status.code, status.details, trailers)
        finally:
            self._metrics.active.dec()
            seconds = time.perf_counter() - start
            self._metrics.calls.labels(method, code.name).inc()
            self._metrics.seconds.labels(method).observe(seconds)
            extra = {
                "method": method,
                "code": code.name,
                "ms": round(seconds * 1e3, 3),
                "peer": peer,
                "caller": caller.name if caller else "",
            }
            refused = code in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED)
            _LOG.log(logging.WARNING if refused else logging.INFO, "call", extra=extra)


def _request_id(metadata: tuple[tuple[str, str | bytes], ...]) -> str:
    """The client's ``x-request-id`` where it is a plain one, else a new one."""
    for key, value in metadata:
        if key.lower() == "x-request-id" and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
            return value
    return secrets.token_hex(8)
