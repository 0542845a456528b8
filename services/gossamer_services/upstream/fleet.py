"""A fleet elsewhere, which a registry asks whether a device is still enrolled."""

from __future__ import annotations

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer._proto.v1 import fleet_pb2_grpc as rpc
from gossamer_services.common.errors import ServiceError
from gossamer_services.common.threads import Threads
from gossamer_services.upstream.connection import Upstream, UpstreamError
from gossamer_services.upstream.recent import Recent

_STRANGERS = ("DEVICE_NOT_FOUND", "BAD_FIELD")


class RemoteFleet:
    """The devices of a fleet elsewhere. Errors are those of :class:`Upstream`.

    Args:
        upstream: the connection.
        cache_s: seconds for which a device that was removed may still be taken for enrolled.
    """

    def __init__(self, upstream: Upstream, *, cache_s: float) -> None:
        self.upstream = upstream
        self._stub = upstream.stub(rpc.FleetServiceStub)
        self._known: Recent[bool] = Recent(cache_s)
        self._threads = Threads(4, "upstream-fleet")

    def check(self) -> UpstreamError | None:
        """Whether the fleet knows the token: see :meth:`Upstream.check`."""
        return self.upstream.check((self._stub.ListDevices, pb.ListDevicesRequest(page_size=1)))

    async def close(self) -> None:
        """Close the connection."""
        self.upstream.abort()
        await self._threads.close()
        self.upstream.close()

    async def known(self, device: str) -> bool:
        """Whether a device, by its certificate's common name, is enrolled.

        Raises:
            UpstreamError: the fleet does not answer: nobody is let in on trust.
        """
        return await self._threads.run(self._known.get, device, lambda: self._ask(device))

    def _ask(self, device: str) -> bool:
        try:
            self.upstream.call(self._stub.GetDevice, pb.GetDeviceRequest(name=f"devices/{device}"))
        except ServiceError as e:
            if e.reason not in _STRANGERS:
                raise
            return False
        return True
