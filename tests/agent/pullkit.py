"""Pull mode without a network: what its stubs reach, in memory, for tests of what pull mode itself decides."""

from __future__ import annotations

import datetime
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gossamer_runtime.agent._device import Device
from gossamer_runtime.agent._identity import Identity
from gossamer_runtime.agent._proto import fleet_pb2 as pb
from gossamer_runtime.agent._proto import registry_pb2
from gossamer_runtime.agent._pull import Pull
from gossamer_runtime.agent._reasons import ServerError, ServerUnreachableError
from gossamer_runtime.agent._slots import Slots
from tests.agent.conftest import Here, digest
from tests.agent.memdisk import MemoryDisk

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)


def certificate(key: ec.EllipticCurvePrivateKey, begins: datetime.datetime, ends: datetime.datetime) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


KEY = ec.generate_private_key(ec.SECP256R1())
IDENTITY = Identity(
    device="devices/0123456789abcdef",
    fleet="127.0.0.1:1",
    address="127.0.0.1:2",
    authority=certificate(KEY, NOW - 9 * DAY, NOW + 900 * DAY),
    certificate=certificate(KEY, NOW - DAY, NOW + 299 * DAY),
    csr="request",
    key="key",
)


class Opened(Here):
    """A process for bundles that is none."""

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class World:
    """A server: ``desired`` bundle, ``blobs`` by digest; and what devices said and asked. ``down``: nobody answers."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.desired = b""
        self.said: list[pb.DeviceStatus] = []
        self.facts = self.closed = 0
        self.reads: list[tuple[str, int, int]] = []
        self.addresses: list[str] = []
        self.down = False
        self.chunk = 4096
        self.cut_after: int | None = None  # bytes of the next download
        self.before_chunk: Callable[[], None] = lambda: None
        self.answer = pb.HeartbeatResponse()
        self.renewed: Callable[[], str] | None = None
        self.refuse: ServerError | None = None

    def desire(self, data: bytes) -> None:
        self.desired = data
        self.blobs[digest(data)] = data

    def connect(self, identity: Identity) -> World:
        self.addresses.append(identity.address)
        return self

    # What Link has

    @property
    def fleet(self) -> World:
        return self

    @property
    def registry(self) -> World:
        return self

    def close(self) -> None:
        self.closed += 1

    def call(self, method, request):
        if self.down:
            raise ServerUnreachableError("nobody there", reason="SERVER_UNREACHABLE")
        if self.refuse is not None:
            raise self.refuse
        return method(request)

    def stream(self, method, request):
        return _Stream(method(request))

    # What the stubs have

    def Heartbeat(self, request):
        assert request.name == IDENTITY.device
        status = pb.DeviceStatus()
        status.CopyFrom(request.status)
        self.said.append(status)
        self.facts += request.HasField("facts")
        answer = pb.HeartbeatResponse()
        answer.CopyFrom(self.answer)
        answer.interval.FromMilliseconds(10_000)
        if self.desired:
            answer.desired_sha256, answer.desired_bytes = digest(self.desired), len(self.desired)
            answer.desired_version = "bundles/b/versions/" + digest(self.desired)[:6]
        return answer

    def RenewCertificate(self, request):
        assert (request.name, request.certificate_request_pem) == (IDENTITY.device, IDENTITY.csr)
        assert self.renewed is not None
        return pb.RenewCertificateResponse(certificate_pem=self.renewed())

    def ReadBlob(self, request):
        self.reads.append((request.sha256, request.offset, request.limit))
        data = self.blobs.get(request.sha256)
        if data is None:
            raise ServerError("there is no such blob", reason="BLOB_NOT_FOUND")
        left, self.cut_after = self.cut_after, None
        end = min(len(data), request.offset + request.limit) if request.limit else len(data)
        for at in range(request.offset, end, self.chunk):
            part = data[at : min(at + self.chunk, end)]
            if left is not None and at + len(part) - request.offset > left:
                raise ServerUnreachableError("cut", reason="SERVER_UNREACHABLE")
            self.before_chunk()
            yield registry_pb2.ReadBlobResponse(offset=at, data=part, total=len(data))


class _Stream:
    def __init__(self, messages):
        self._messages = messages

    def __iter__(self):
        return self._messages

    def cancel(self):
        self._messages.close()


def agent(disk: MemoryDisk, world: World, *, opened=Opened, clock=NOW.timestamp) -> tuple[Device, Pull]:
    """The agent as it starts on a disk."""
    device = Device(Slots(disk, opened), opened)
    return device, Pull(device, IDENTITY, world.connect, clock)


def settle(pull: Pull, most: int = 12) -> None:
    """Visit until there is nothing to do but to wait; waits after troubles are passed over."""
    for _ in range(most):
        if pull.visit() > 5:
            return
        pull._try_at = 0.0
    raise AssertionError("it does not come to rest")
