"""Who may do what: TLS, client certificates, tokens and their scopes; what the agent refuses to start with."""

from __future__ import annotations

import datetime
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gossamer._errors import AccessError, InputError, UnreachableError
from gossamer.device.book import Place
from gossamer.device.remote import Remote
from gossamer_runtime.agent._auth import Tokens, new_token
from tests.agent.agentkit import agent
from tests.agent.conftest import digest


class Authority:
    """Makes certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._builder(self._name, self._key, 1).add_extension(x509.BasicConstraints(True, None), True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, begins: int = -2
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=begins))
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    def make(self, name: str, days: int = 1, begins: int = -2) -> dict[str, str]:
        """Paths of a certificate and its key; negative days: it has expired; positive ``begins``: it is for later."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        made = self._builder(subject, key, days, begins).add_extension(names, False).sign(self._key, hashes.SHA256())
        cert, private = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return {"cert": str(cert), "key": str(private)}


def reach(**fields: str) -> dict:
    device = Remote(Place("test", **fields))
    try:
        return device.info()
    finally:
        device.close()


def test_client_certificates(tmp_path, work):
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    server = ours.make("server")
    options = ["--tls-cert", server["cert"], "--tls-key", server["key"], "--client-ca", str(ours.path)]
    with agent(tmp_path / "slots", *options) as made:
        address, ca = f"localhost:{made.port}", str(ours.path)
        assert reach(address=address, ca=ca, **ours.make("client"))["host"]
        for wrong in ({}, theirs.make("stranger"), ours.make("old", days=-1)):
            with pytest.raises((UnreachableError, AccessError)):
                reach(address=address, ca=ca, **wrong)
        with pytest.raises((UnreachableError, AccessError)):  # we do not trust that device
            reach(address=address, ca=str(theirs.path), **ours.make("client"))
        with pytest.raises(UnreachableError):  # no TLS
            reach(address=address)


def test_revoked_client_certificates(tmp_path, work, bundles):
    ours = Authority(tmp_path, "ours")
    server, stays, goes = ours.make("server"), ours.make("stays"), ours.make("goes")
    prints = {}
    for name, made in (("stays", stays), ("goes", goes)):
        certificate = x509.load_pem_x509_certificate(Path(made["cert"]).read_bytes())
        prints[name] = certificate.fingerprint(hashes.SHA256()).hex().upper()
    file, bundle = tmp_path / "revoked", tmp_path / "b.goss"
    file.write_text("# nobody yet\n")
    bundle.write_bytes(bundles("1"))
    options = ["--tls-cert", server["cert"], "--tls-key", server["key"], "--client-ca", str(ours.path)]
    with agent(tmp_path / "slots", *options, "--revoked", str(file)) as made:

        def holder(pair: dict[str, str]) -> Remote:
            return Remote(Place("test", address=f"localhost:{made.port}", ca=str(ours.path), **pair))

        one, other = holder(stays), holder(goes)
        for device in (one, other):
            assert device.info()["problem"] == ""
        file.write_text(":".join(prints["goes"][i : i + 2] for i in range(0, 64, 2)) + " lost on a train\n")
        for act in (
            other.info,  # on the connection that is open
            holder(goes).info,
            lambda: other.flash(bundle),
            lambda: list(other.logs()),
        ):
            with pytest.raises(AccessError, match="the client's certificate is revoked") as caught:
                act()
            assert caught.value.__cause__.code() is grpc.StatusCode.UNAUTHENTICATED
        assert one.info()["problem"] == "" and one.flash(bundle).status == "committed"
        assert [r["level"] for r in one.logs()]
        file.write_text(f"{prints['goes']}\n{prints['stays']}\n")
        with pytest.raises(AccessError, match="is revoked"):
            one.info()
        for wrong in ("nonsense\n", prints["stays"][:-1]):
            file.write_text(wrong)
            with pytest.raises(AccessError, match="revoked certificates cannot be checked"):
                other.info()
        file.unlink()
        with pytest.raises(AccessError, match="revoked certificates cannot be checked"):
            one.info()
        file.write_text("")
        assert other.info()["problem"] == ""
        one.close()
        other.close()


def test_tokens_and_scopes(tmp_path, work, bundles):
    file = tmp_path / "tokens"
    reader, both = new_token(str(file), "read", "a dashboard"), new_token(str(file), "read,flash", "")
    assert reader not in file.read_text() and file.stat().st_mode & 0o777 == 0o600
    bundle = tmp_path / "b.goss"
    bundle.write_bytes(bundles("1"))

    def holder(token: str) -> Remote:
        held = tmp_path / digest(token.encode())[:8]
        held.write_text(token + "\n")
        return Remote(Place("test", address=made.address, token_file=str(held)))

    with agent(tmp_path / "slots", "--token-file", str(file)) as made:
        with pytest.raises(AccessError, match="wants a token"):
            reach(address=made.address)
        with pytest.raises(AccessError, match="unknown or revoked"):
            holder("gsd_guessed").info()
        assert holder(reader).info()["problem"] == ""
        for act in (lambda d: d.flash(bundle), lambda d: d.rollback(), lambda d: d.activate()):
            with pytest.raises(AccessError, match="lacks the scope 'flash'"):
                act(holder(reader))
        with pytest.raises(AccessError, match="wants a token"):
            list(Remote(Place("test", address=made.address)).logs())
        assert holder(both).flash(bundle).status == "committed"
        file.write_text("\n".join(line for line in file.read_text().splitlines() if "dashboard" not in line))
        with pytest.raises(AccessError, match="unknown or revoked"):  # revoked while the agent runs
            holder(reader).info()
        file.write_text("nonsense\n")
        with pytest.raises(AccessError, match="cannot be checked"):
            holder(both).info()


def test_token_files(tmp_path):
    with pytest.raises(InputError, match="no scopes"):
        new_token(str(tmp_path / "t"), "admin", "")
    with pytest.raises(InputError, match="cannot read the token file"):
        Tokens(str(tmp_path / "none"))
    (tmp_path / "bad").write_text("# fine\n\nsha256:00 read\n")
    with pytest.raises(InputError, match="not a token's line") as caught:
        Tokens(str(tmp_path / "bad"))
    assert caught.value.where == f"{tmp_path / 'bad'}:3"


def start(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "gossamer_runtime.agent._main", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stderr


def test_what_the_agent_does_not_start_with(tmp_path, work):
    root = ("--root", str(tmp_path / "slots"))
    server = Authority(tmp_path, "ours").make("server")
    tls = ("--tls-cert", server["cert"], "--tls-key", server["key"])
    for arguments, code, words in (
        (("--bind", "0.0.0.0:0"), 10, "0.0.0.0 is not loopback: calls from elsewhere need TLS"),
        (("--bind", "0.0.0.0:0", *tls), 10, "callers must be known"),
        (("--bind", "nonsense"), 10, "'nonsense' is not HOST:PORT"),
        (tls[:2], 10, "--tls-cert and --tls-key need each other"),
        (("--tls-cert", "/none", "--tls-key", "/none"), 10, "cannot read it"),
        (("--token-file", "/none"), 10, "cannot read the token file"),
        (("--revoked", "/none"), 10, "--revoked needs --client-ca"),
        ((*tls, "--client-ca", server["cert"], "--revoked", "/none"), 10, "cannot read the revoked certificate file"),
        (("--bind", "none"), 10, "without a port and without a fleet there is nothing to do"),
        (("--fleet",), 22, "this device is not enrolled in a fleet"),
        (("--threads", "0"), 10, "--threads must be from 1 to 64, not 0"),
        (("--run-seconds", "0"), 10, "must be more than 0"),
        (("--no-such",), 2, "unrecognized arguments"),
    ):
        ended, said = start(*root, *arguments)
        assert ended == code and words in said, arguments


def test_two_agents_and_a_port_in_use(tmp_path, work):
    with agent(tmp_path / "slots") as made:
        code, said = start("--root", str(made.root), "--bind", "127.0.0.1:0")
        assert code == 22 and f"another agent uses this slot folder (process {made.process.pid})" in said
        code, said = start("--root", str(tmp_path / "more"), "--bind", made.address)
        assert code == 22 and f"cannot listen on {made.address}" in said
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = start("--root", str(tmp_path / "more"), "--bind", f"127.0.0.1:{taken.getsockname()[1]}")
        assert code == 22 and "the port is in use" in said


def test_a_damaged_record_stops_the_start(tmp_path, work):
    (tmp_path / "pointer").write_text("x\ny\n")
    code, said = start("--root", str(tmp_path), "--bind", "127.0.0.1:0")
    assert code == 22 and "the pointer record is damaged" in said
