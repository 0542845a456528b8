"""What the fleet's tests share: a server with TLS and its clients, people by tokens and devices by certificates."""

from __future__ import annotations

import contextlib

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import gossamer
from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer._proto.v1 import fleet_pb2_grpc as rpc
from gossamer._proto.v1 import registry_pb2
from gossamer._proto.v1 import registry_pb2_grpc as registry_rpc
from gossamer_services.common.database import database_url, open_database
from gossamer_services.common.tokens import TABLES, TokenStore
from tests.services.common.certificates import Authority
from tests.services.kit import messages, refused, served
from tests.shellkit import PLAIN, small_network

Code = grpc.StatusCode


def certificate_request(kept: bytes = b"") -> tuple[bytes, str]:
    """A key (``kept``, or a new one), and a PKCS #10 request for it that claims to be somebody."""
    key = serialization.load_pem_private_key(kept, None) if kept else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "admin")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, request.public_bytes(serialization.Encoding.PEM).decode()


class World:
    """A fleet server with TLS, and its clients; ``database``: URL of an empty one, by default SQLite."""

    def __init__(self, folder, database: str = "") -> None:
        self.folder, self.people = folder, Authority("people")
        certificate, key = self.people.issue("server").write(folder, "server")
        (folder / "data").mkdir()
        self._database = database_url(database, folder / "data", "registry.db")
        self.admin, self.reader = self.token("admin"), self.token("reader", scope="read")
        self.overrides = [f'server.tls_certificate="{certificate}"', f'server.tls_key="{key}"']
        self.overrides += ["server.device_bind=127.0.0.1:0", "server.tokens=required", f'state.database="{database}"']

    def token(self, name: str, lifetime_s: float | None = None, scope: str = "admin") -> tuple[tuple[str, str]]:
        """Metadata of calls with a new token."""
        tokens = TokenStore(open_database(self._database, TABLES))
        try:
            return (("authorization", f"Bearer {tokens.create(name, [scope], lifetime_s)}"),)
        finally:
            tokens.close()

    def serve(self, *overrides: str):
        return served(self.folder / "data", *self.overrides, *overrides, services=("registry", "fleet"))

    def channel(self, server) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(self.people.certificate)
        return grpc.aio.secure_channel(f"127.0.0.1:{server.port}", credentials)

    def device_channel(self, server, key: bytes, certificate: str) -> grpc.aio.Channel:
        authority = (self.folder / "data" / "fleet" / "authority.crt").read_bytes()
        credentials = grpc.ssl_channel_credentials(authority, key, certificate.encode())
        return grpc.aio.secure_channel(f"127.0.0.1:{server.device_port}", credentials)

    @contextlib.asynccontextmanager
    async def fleet(self, *overrides: str):
        """A running server, and people's client of its fleet."""
        async with self.serve(*overrides) as server, self.channel(server) as channel:
            yield server, rpc.FleetServiceStub(channel)

    @contextlib.asynccontextmanager
    async def device(self, server, member: tuple[str, bytes, str]):
        """A device's own client; ``member`` as :meth:`enrol` gives it."""
        async with self.device_channel(server, *member[1:]) as channel:
            yield rpc.FleetServiceStub(channel)

    async def publish(self, server, name: str, version: str) -> tuple[str, bytes]:
        """A small bundle as a version of ``name``: the version's resource name and the bundle's bytes."""
        data = gossamer.optimize(small_network(), PLAIN, key=False, name=name, version=version).data
        async with self.channel(server) as channel:
            registry = registry_rpc.RegistryServiceStub(channel)
            sha = (await registry.WriteBlob(messages(data, chunk=100_000), metadata=self.admin)).sha256
            made = registry_pb2.CreateVersionRequest(bundle=name, version=version, sha256=sha)
            return (await registry.CreateVersion(made, metadata=self.admin)).version.name, data

    async def enrol(self, stub, **labels) -> tuple[str, bytes, str]:
        """Name, key and certificate of a new device."""
        made = await stub.CreateEnrollmentToken(pb.CreateEnrollmentTokenRequest(labels=labels), metadata=self.admin)
        key, csr = certificate_request()
        facts = pb.DeviceFacts(arch="aarch64", cpu="cortex-a76")
        request = pb.EnrollDeviceRequest(token=made.token, certificate_request_pem=csr, request_id="1", facts=facts)
        answer = await stub.EnrollDevice(request)
        assert (await stub.EnrollDevice(request)).certificate_pem == answer.certificate_pem  # the answer was lost
        with refused(Code.UNAUTHENTICATED, "TOKEN_INVALID"):
            request.request_id = "2"
            await stub.EnrollDevice(request)
        return answer.device.name, key, answer.certificate_pem
