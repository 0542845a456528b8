"""The devices' port: its certificate by the fleet's authority, what devices are told of it, renewal of theirs."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl

import pytest

pytest.importorskip("grpc", reason="grpcio is missing: pip install -e ./services")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is missing: pip install -e ./services")

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from google.protobuf import descriptor_pool

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer._proto.v1 import fleet_pb2_grpc as rpc
from gossamer_services.common.database import open_database
from gossamer_services.common.errors import ServiceError, SettingsError
from gossamer_services.common.settings import ServerSettings
from gossamer_services.fleet import device_port
from gossamer_services.fleet.authority import Authority
from gossamer_services.fleet.devices import Devices
from gossamer_services.fleet.tables import TABLES
from tests.services.fleet.fleetkit import Code, World, certificate_request
from tests.services.kit import refused, served

HALF = device_port.LIFETIME / 2


def alternatives(pem: bytes) -> set[str]:
    found = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))}


async def enrol(fleet, **options) -> tuple[pb.EnrollDeviceResponse, bytes]:
    made = await fleet.CreateEnrollmentToken(pb.CreateEnrollmentTokenRequest(), **options)
    key, csr = certificate_request()
    request = pb.EnrollDeviceRequest(token=made.token, certificate_request_pem=csr, request_id="1")
    return await fleet.EnrollDevice(request), key


def test_a_device_trusts_the_port_by_what_it_was_told_alone(tmp_path):
    """No certificate is given to the server: enrolment is on loopback, and the fleet's authority does the rest."""

    async def main():
        overrides = ["server.device_bind=127.0.0.1:0"]
        async with served(tmp_path, *overrides, services=("registry", "fleet")) as server:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                answer, key = await enrol(rpc.FleetServiceStub(channel))
            assert answer.device_address == f":{server.device_port}"
            roots, certificate = answer.authority_pem.encode(), answer.certificate_pem.encode()
            credentials = grpc.ssl_channel_credentials(roots, key, certificate)
            for host in ("127.0.0.1", "localhost"):
                async with grpc.aio.secure_channel(f"{host}:{server.device_port}", credentials) as channel:
                    heard = await rpc.FleetServiceStub(channel).Heartbeat(pb.HeartbeatRequest(name=answer.device.name))
                    assert heard.interval.seconds == 60
            wrong = (("grpc.ssl_target_name_override", "example.org"),)
            address = f"127.0.0.1:{server.device_port}"
            own = device_port.identity(
                Authority(tmp_path / "fleet"), tmp_path / "fleet", device_port.names(server.settings)
            )
            for bad, options in (
                (credentials, wrong),
                (grpc.ssl_channel_credentials(roots), ()),
                (grpc.ssl_channel_credentials(roots, own.key, own.certificate), ()),  # the server's own is no device's
            ):
                async with grpc.aio.secure_channel(address, bad, options) as channel:
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await rpc.FleetServiceStub(channel).Heartbeat(pb.HeartbeatRequest(name=answer.device.name))
                    assert caught.value.code() is Code.UNAVAILABLE  # the handshake fails

    asyncio.run(main())


def test_a_device_may_do_what_pull_mode_needs_and_nothing_else(tmp_path):
    """Every call of every service with a device's certificate: it is refused for its scope, or else in the list."""
    world, may = World(tmp_path), set()

    async def ask(channel, service: str, method) -> None:
        kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        call = getattr(channel, kind)(f"/{service}/{method.name}")(iter([b""]) if method.client_streaming else b"")
        try:
            async for _ in call if method.server_streaming else _once(call):
                pass
        except grpc.aio.AioRpcError as e:
            if e.code() is Code.PERMISSION_DENIED and "needs the scope" in (e.details() or ""):
                return
        may.add(method.name)

    async def main():
        served_here = ("registry", "optimizer", "fleet")
        async with served(tmp_path / "data", *world.overrides, services=served_here) as server:
            async with world.channel(server) as channel:
                member = await world.enrol(rpc.FleetServiceStub(channel))
            async with world.device_channel(server, *member[1:]) as channel:
                for service in server.services:
                    for method in descriptor_pool.Default().FindServiceByName(service.name).methods:
                        await ask(channel, service.name, method)

    asyncio.run(main())
    own = {"Heartbeat", "RenewCertificate", "CreateProfile", "FailProfileRun"}
    assert may == {*own, "EnrollDevice", "ReadBlob", "GetProfileRun"}


async def _once(call):
    yield await call


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([], ""),
        (["server.device_address=fleet.example.org:443"], ""),
        (["server.device_bind=127.0.0.1:0", "server.device_address=fleet.example.org:443"], "fleet.example.org:443"),
        (["server.device_bind=127.0.0.1:0", 'server.device_address=":443"'], ":443"),
    ],
)
def test_what_devices_are_told(tmp_path, overrides, told):
    async def main():
        async with (
            served(tmp_path, *overrides, services=("registry", "fleet")) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            assert (await enrol(rpc.FleetServiceStub(channel)))[0].device_address == told

    asyncio.run(main())


def test_what_the_certificate_names(tmp_path):
    default = {"localhost", "127.0.0.1", "::1", socket.gethostname()}
    assert set(device_port.names(ServerSettings())) == default
    assert set(device_port.names(ServerSettings(device_address="[2001:db8::1]:443"))) == {*default, "2001:db8::1"}
    given = ServerSettings(device_names=("*.example.org", "10.0.0.1"), device_address="fleet.example.org:443")
    wanted = device_port.names(given)
    assert set(wanted) == {"*.example.org", "10.0.0.1", "fleet.example.org"}
    made = device_port.identity(Authority(tmp_path), tmp_path, wanted)
    assert alternatives(made.certificate) == set(wanted)
    found = x509.load_pem_x509_certificate(made.certificate)
    (usage,) = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert usage == ExtendedKeyUsageOID.SERVER_AUTH
    assert (tmp_path / "server.pem").stat().st_mode & 0o777 == 0o600
    for bad in ("", "a b", "a/b", "ä.example.org", "host:1", "-a", "a" * 254):
        with pytest.raises(SettingsError, match="neither an IP address nor the name of a host"):
            device_port.names(ServerSettings(device_names=(bad,)))
    for bad in ("host", "host:", "host:123456", "a b:1"):
        with pytest.raises(ValueError, match="device_address"):
            ServerSettings(device_address=bad)


def test_the_certificate_is_kept_until_it_does_not_fit(tmp_path, monkeypatch):
    authority, path = Authority(tmp_path), tmp_path / "server.pem"
    first = device_port.identity(authority, tmp_path, ["a", "b"])
    assert device_port.identity(Authority(tmp_path), tmp_path, ["a", "b"]) == first
    other = device_port.identity(authority, tmp_path, ["a"])
    assert alternatives(other.certificate) == {"a"}
    assert (other.key == first.key, other.authority) == (False, first.authority)

    for left, kept in ((HALF + datetime.timedelta(minutes=1), True), (HALF - datetime.timedelta(minutes=1), False)):
        path.unlink()
        monkeypatch.setattr(device_port, "LIFETIME", left)
        old = device_port.identity(authority, tmp_path, ["a"])
        monkeypatch.undo()
        assert (device_port.identity(authority, tmp_path, ["a"]) == old) == kept

    good = path.read_bytes()
    for damaged in (good[:-200], good[200:], b"", b"x", good[: good.index(b"-----BEGIN CERT")]):
        path.write_bytes(damaged)
        made = device_port.identity(authority, tmp_path, ["a"])
        assert path.read_bytes() == made.key + made.certificate != good
    (tmp_path / "authority.crt").unlink()
    renewed = Authority(tmp_path)  # an authority of the same name with another key
    made = device_port.identity(renewed, tmp_path, ["a"])
    x509.load_pem_x509_certificate(made.certificate).verify_directly_issued_by(renewed.issuer)
    path.unlink()
    path.mkdir()
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        device_port.identity(renewed, tmp_path, ["a"])


def test_certificates_are_good_by_the_strictest_rules(tmp_path):
    """OpenSSL's X509_STRICT (RFC 5280): the default of Python from 3.13 on, for both ends of the devices' port."""
    authority = Authority(tmp_path)
    port = device_port.identity(authority, tmp_path, ["localhost"])
    key, csr = certificate_request()
    signed, _ = authority.sign(csr, "0" * 16, 30)
    (tmp_path / "device.pem").write_bytes(key + signed.encode())
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(tmp_path / "server.pem")
    client.load_cert_chain(tmp_path / "device.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    for context in (server, client):
        context.load_verify_locations(cadata=port.authority.decode())
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [server.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up, server_hostname="localhost")]
    for end in (ends[1], ends[0], ends[1], ends[0]):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    assert dict(*ends[0].getpeercert()["subject"]) == {"commonName": "0" * 16}
    assert ("DNS", "localhost") in ends[1].getpeercert()["subjectAltName"]


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        (ec.generate_private_key(ec.SECP384R1()), True),
        (ed25519.Ed25519PrivateKey.generate(), True),
        (rsa.generate_private_key(65537, 2048), True),
        (rsa.generate_private_key(65537, 1024), False),
        (ec.generate_private_key(ec.SECP192R1()), False),
    ],
    ids=lambda v: "" if isinstance(v, bool) else f"{type(v).__name__}-{getattr(v, 'key_size', 256)}",
)
def test_keys_that_are_too_weak_get_no_certificate(tmp_path, key, fits):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, digest)
    csr = made.public_bytes(serialization.Encoding.PEM).decode()
    authority = Authority(tmp_path)
    if fits:
        assert authority.sign(csr, "0" * 16, 30)[0].startswith("-----BEGIN CERTIFICATE")
        return
    with pytest.raises(ServiceError, match="of 2048 bits at least") as caught:
        authority.sign(csr, "0" * 16, 30)
    assert (caught.value.code, caught.value.fields[0][0]) == (Code.INVALID_ARGUMENT, "certificate_request_pem")


def test_own_authority_of_devices_still_goes_with_the_given_certificate(tmp_path):
    world = World(tmp_path)
    Authority(tmp_path / "data" / "fleet")

    async def main():
        own = f'server.device_authority="{tmp_path / "data" / "fleet" / "authority.crt"}"'
        async with world.fleet(own) as (server, fleet):
            answer, key = await enrol(fleet, metadata=world.admin)
            credentials = grpc.ssl_channel_credentials(world.people.certificate, key, answer.certificate_pem.encode())
            async with grpc.aio.secure_channel(f"127.0.0.1:{server.device_port}", credentials) as channel:
                await rpc.FleetServiceStub(channel).Heartbeat(pb.HeartbeatRequest(name=answer.device.name))
        assert not (tmp_path / "data" / "fleet" / "server.pem").exists()

    asyncio.run(main())


def test_renewal_of_a_device_that_is_removed_meanwhile(tmp_path):
    devices = Devices(open_database(f"sqlite:///{tmp_path / 'fleet.db'}", TABLES))
    with pytest.raises(ServiceError) as caught:
        devices.renew("0" * 16, certificate_request()[1], Authority(tmp_path), 30)
    assert (caught.value.code, caught.value.reason) == (Code.NOT_FOUND, "DEVICE_NOT_FOUND")


def test_renewal(tmp_path):
    world = World(tmp_path)

    async def main():
        async with world.fleet("fleet.certificate_days=30") as (_server, fleet):
            name, key, first = member = await world.enrol(fleet)
            other, *_ = await world.enrol(fleet)
            before = (await fleet.GetDevice(pb.GetDeviceRequest(name=name), metadata=world.reader)).device
        async with world.fleet("fleet.certificate_days=60") as (server, fleet), world.device(server, member) as me:
            _, csr = certificate_request(key)
            answer = await me.RenewCertificate(pb.RenewCertificateRequest(name=name, certificate_request_pem=csr))
            made = x509.load_pem_x509_certificate(answer.certificate_pem.encode())
            old = x509.load_pem_x509_certificate(first.encode())
            assert (made.subject, made.public_key(), made.issuer) == (old.subject, old.public_key(), old.issuer)
            assert made.serial_number != old.serial_number
            left = made.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
            assert datetime.timedelta(days=59, hours=23) < left <= datetime.timedelta(days=60)
            assert abs(answer.expire_time.ToSeconds() - made.not_valid_after_utc.timestamp()) <= 1
            device = (await fleet.GetDevice(pb.GetDeviceRequest(name=name), metadata=world.reader)).device
            assert device.certificate_expire_time == answer.expire_time
            assert device.certificate_expire_time.ToSeconds() > before.certificate_expire_time.ToSeconds()
            assert device.etag == before.etag

            beat = pb.HeartbeatRequest(name=name)
            async with world.device(server, (name, key, answer.certificate_pem)) as renewed:
                for stub in (renewed, me):  # the old one stays good until its end
                    assert (await stub.Heartbeat(beat)).interval.seconds == 60
                with refused(Code.PERMISSION_DENIED, "NOT_THIS_DEVICE"):
                    await renewed.RenewCertificate(pb.RenewCertificateRequest(name=other, certificate_request_pem=csr))
                with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                    await renewed.RenewCertificate(pb.RenewCertificateRequest(name="devices/../x"))
                assert e.fields == ["name"]
                with refused(Code.PERMISSION_DENIED, "SCOPE_MISSING"):
                    await fleet.RenewCertificate(pb.RenewCertificateRequest(name=name), metadata=world.admin)
                for bad in ("", "x", csr[:200]):
                    with refused(Code.INVALID_ARGUMENT, "BAD_FIELD") as e:
                        wrong = pb.RenewCertificateRequest(name=name, certificate_request_pem=bad)
                        await renewed.RenewCertificate(wrong)
                    assert e.fields == ["certificate_request_pem"]
                await fleet.DeleteDevice(pb.DeleteDeviceRequest(name=name), metadata=world.admin)
                for stub in (renewed, me):
                    with refused(Code.UNAUTHENTICATED, "CERTIFICATE_REVOKED"):
                        await stub.RenewCertificate(pb.RenewCertificateRequest(name=name, certificate_request_pem=csr))

    asyncio.run(main())
