"""Enrolment with a real fleet: one identity or none, whatever breaks; wrong tokens, certificates and folders."""

from __future__ import annotations

import datetime
import io
import socket
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from gossamer._proto.v1 import fleet_pb2 as pb
from gossamer_runtime._errors import SlotError
from gossamer_runtime.agent import _certificate, _enroll, _identity, _record
from gossamer_runtime.agent._disk import FolderDisk
from gossamer_runtime.agent._main import main
from gossamer_runtime.agent._reasons import ServerUnreachableError
from tests.agent.agentkit import CuttingProxy, agent
from tests.agent.fleetkit import Fleet, fleet
from tests.agent.memdisk import MODES, MemoryDisk
from tests.agent.test_power_cut import cuts
from tests.services.common.certificates import Authority


@pytest.fixture
def served(tmp_path, work):
    with fleet(tmp_path / "data") as made:
        yield made


class Enroll:
    """The command, in this process."""

    def __init__(self, tmp_path: Path, capsys, root: Path) -> None:
        self.root, self.token_file, self._capsys = root, tmp_path / "token", capsys

    def __call__(self, address: str, token: str, *options: str) -> tuple[int, str, str]:
        self.token_file.write_text(f"{token}\n")
        return self.run("enroll", "--fleet", address, "--token-file", str(self.token_file), *options)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = main([arguments[0], "--root", str(self.root), *arguments[1:]])
        return code, *self._capsys.readouterr()


@pytest.fixture
def enroll(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_enroll, "_FIRST_WAIT_SECONDS", 0.01)
    return Enroll(tmp_path, capsys, tmp_path / "slots")


def identity(root: Path) -> _identity.Identity | None:
    disk = FolderDisk(root)
    try:
        return _identity.read(disk)
    finally:
        disk.close()


def names(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir())


def devices(served: Fleet) -> list[str]:
    return [d.name for d in served.fleet.ListDevices(pb.ListDevicesRequest()).devices]


def test_an_enrolment(served, enroll):
    code, out, err = enroll(served.address, served.token())
    (name,) = devices(served)
    assert (code, err) == (0, "")
    assert out == f"enrolled as {name}; 'gossamer-agent --fleet' calls 127.0.0.1:{served.device_port}\n"
    made = identity(enroll.root)
    assert (made.device, made.fleet) == (name, served.address)
    certificate = x509.load_pem_x509_certificate(made.certificate.encode())
    key = serialization.load_pem_private_key(made.key.encode(), None)
    assert certificate.public_key() == key.public_key() and key.curve.name == "secp256r1"
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(made.authority.encode()))
    assert names(enroll.root) == ["identity", "lock"]
    assert (enroll.root / "identity").stat().st_mode & 0o777 == 0o600
    assert made.key not in repr(made)
    facts = served.device(name).facts
    assert facts.arch and facts.cores and facts.system and facts.agent_version

    code, _, err = enroll(served.address, served.token())
    assert code == 10 and f"this device is enrolled as {name} at {served.address}" in err
    assert "'gossamer-agent forget' lets it enroll anew" in err
    assert identity(enroll.root) == made
    assert enroll.run("forget") == (0, "forgotten\n", "")
    assert enroll.run("forget") == (0, "this device was not enrolled\n", "")
    assert names(enroll.root) == ["lock"]
    assert enroll(served.address, served.token())[0] == 0
    assert identity(enroll.root).device != name and len(devices(served)) == 2


def test_a_token_from_stdin(served, enroll, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(served.token().encode() + b"\n")))
    code, out, _ = enroll.run("enroll", "--fleet", served.address, "--token-file", "-")
    assert code == 0 and devices(served)[0] in out


def test_tokens_that_are_not_good(served, enroll, tmp_path):
    used = served.token()
    assert enroll(served.address, used)[0] == 0
    enroll.root = tmp_path / "other"
    for token in (used, "enrol_guessed"):
        code, out, err = enroll(served.address, token)
        assert (code, out) == (23, "") and "the token is unknown, has expired, or was used" in err
        assert "have another made for this one" in err
        assert identity(enroll.root) is None
    for text in ("", "two tokens"):
        code, _, err = enroll(served.address, text)
        assert code == 10 and "it must hold one token and nothing else" in err
    enroll.token_file.unlink()
    code, _, err = enroll.run("enroll", "--fleet", served.address, "--token-file", str(enroll.token_file))
    assert code == 10 and "cannot read it: No such file" in err
    assert enroll(served.address, served.token())[0] == 0  # another token: another key
    assert len(devices(served)) == 2


def test_servers_that_are_not_there(enroll, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code, _, err = enroll(f"127.0.0.1:{port}", "t")
    assert code == 17 and "the server does not answer" in err and f"server 127.0.0.1:{port}" in err
    code, _, err = enroll("fleet.example.org:50551", "t")
    assert code == 10 and "fleet.example.org is not loopback" in err and "give --fleet-ca" in err
    for address in ("nonsense", "host:", ":5", "host:70000"):
        code, _, err = enroll(address, "t")
        assert code == 10 and f"{address!r} is not HOST:PORT" in err
    code, _, err = enroll(f"127.0.0.1:{port}", "t", "--fleet-ca", str(tmp_path / "none"))
    assert code == 10 and "cannot read it" in err


def test_a_server_without_an_address_for_devices(tmp_path, work, enroll):
    with fleet(tmp_path / "data", device_bind=False) as served:
        token = served.token()
        code, _, err = enroll(served.address, token)
        assert code == 22 and "the server has no address for devices" in err and "server.device_bind" in err
        assert identity(enroll.root) is None
        served.stop()
        served.device_bind = True
        served.start()
        assert enroll(served.address, token)[0] == 0  # the same token, as the hint says
        assert len(devices(served)) == 1


def test_tls(tmp_path, work, enroll):
    ours, theirs = Authority("ours"), Authority("theirs")
    files = {}
    now = datetime.datetime.now(datetime.UTC)
    old = ours.issue("old", now - datetime.timedelta(hours=1))
    for name, pair in (("good", ours.issue("server")), ("old", old)):
        files[name] = pair.write(tmp_path, name)
    for authority, name in ((ours, "ours"), (theirs, "theirs")):
        (tmp_path / name).write_bytes(authority.certificate)
    options = "--fleet-ca", str(tmp_path / "ours")
    certificate, key = files["good"]
    tls = [f'server.tls_certificate="{certificate}"', f'server.tls_key="{key}"']
    with fleet(tmp_path / "data", *tls, authority=ours.certificate) as served:
        token = served.token()
        code, _, err = enroll(served.address, token, "--fleet-ca", str(tmp_path / "theirs"))
        assert code == 23 and "the server is not trusted" in err and "--fleet-ca must be the authority" in err
        code, _, err = enroll(served.address, token, "--fleet-ca", "system")
        assert code == 23 and "the server is not trusted" in err
        code, _, err = enroll(served.address, token)
        assert code == 17 and "the server does not answer" in err  # TLS is spoken there
        assert identity(enroll.root) is None
        assert enroll(served.address, token, *options)[0] == 0
    enroll.run("forget")
    certificate, key = files["old"]
    tls = [f'server.tls_certificate="{certificate}"', f'server.tls_key="{key}"']
    with fleet(tmp_path / "data", *tls, authority=None) as served:
        code, _, err = enroll(served.address, "t", *options)
        assert code == 23 and "the server's certificate ended at" in err and "set the clock" in err


def test_a_lost_answer_is_asked_for_again(served, enroll):
    proxy = CuttingProxy(served.port, 200, down=True)
    token = served.token()
    code, _, _ = enroll(proxy.address, token)
    assert code == 17 and proxy.cuts == 4
    (name,) = devices(served)  # it was enrolled, and does not know
    assert names(enroll.root) == ["enrolment", "lock"]
    assert (enroll.root / "enrolment").stat().st_mode & 0o777 == 0o600
    key = _read_request(enroll.root).key
    proxy.allow = 1 << 20
    code, out, _ = enroll(proxy.address, token)
    assert code == 0 and name in out and devices(served) == [name]
    made = identity(enroll.root)
    assert made.key == key and made.address == f"127.0.0.1:{served.device_port}"
    proxy.close()


def _read_request(root: Path) -> _identity.Request:
    disk = FolderDisk(root)
    try:
        return _identity.read_request(disk)
    finally:
        disk.close()


@pytest.mark.parametrize("mode", [*MODES, 0, 1, 2])
def test_every_power_cut_of_an_enrolment(served, monkeypatch, mode):
    at = _enroll.server(served.address, None, False)
    made = _enroll._make_key()
    monkeypatch.setattr(_enroll, "_make_key", lambda: made)
    tokens = []

    def begin() -> MemoryDisk:
        tokens.append(served.token())
        return MemoryDisk()

    enrolled = []
    for k, disk in cuts(begin, lambda disk: _enroll.enroll(disk, at, tokens[-1])):
        again = disk.after_cut(mode)
        found = _identity.read(again)
        assert k or found is not None
        if found is None:
            found = _enroll.enroll(again, at, tokens[-1])  # as whoever sees no success does
        assert _identity.read(again.after_cut("lost")) == found, k
        assert all(again.files[n].private for n in again.at.values()), k
        enrolled.append(found.device)
    assert len(tokens) >= 9
    assert devices(served) == enrolled and len(enrolled) == len(tokens)  # one device for each token, whatever came


@pytest.mark.parametrize("fault", ["full", "io"])
def test_a_disk_that_fails_at_every_operation_of_an_enrolment(served, fault):
    at = _enroll.server(served.address, None, False)
    failed = 0
    for k in range(1, 30):
        token = served.token()
        disk = MemoryDisk(full_from=k) if fault == "full" else MemoryDisk(fail_at=k)
        try:
            _enroll.enroll(disk, at, token)
        except SlotError:
            failed += 1
        else:
            break
        disk.heal()
        _enroll.enroll(disk, at, token)
        assert _identity.read(disk.after_cut("lost")) is not None
    assert failed >= 5 if fault == "io" else failed >= 2
    assert len(devices(served)) == failed + 1


def test_every_power_cut_of_forgetting(served):
    at = _enroll.server(served.address, None, False)
    made = _enroll.enroll(MemoryDisk(), at, served.token())

    def begin() -> MemoryDisk:
        disk = MemoryDisk()
        _identity.write(disk, made)
        return disk.after_cut("lost")

    for k, disk in cuts(begin, _identity.forget):
        for mode in MODES:
            found = _identity.read(disk.after_cut(mode))
            assert found in (None, made)
            assert k or found is None


def test_answers_that_make_no_sense(served, enroll, monkeypatch):
    at = _enroll.server(served.address, None, False)
    ask = _enroll._ask

    def odd(*arguments):
        answer = ask(*arguments)
        answer.certificate_pem = "nonsense"
        return answer

    disk, token = MemoryDisk(), served.token()
    monkeypatch.setattr(_enroll, "_ask", odd)
    with pytest.raises(_enroll.ServerError, match="the server's answer makes no sense: no certificate in PEM"):
        _enroll.enroll(disk, at, token)
    assert _identity.read(disk) is None
    monkeypatch.setattr(_enroll, "_ask", ask)
    assert _enroll.enroll(disk, at, token).device


def test_another_agent_in_the_folder_and_an_agent_that_is_not_enrolled(served, enroll, tmp_path):
    with agent(enroll.root) as made:
        code, _, err = enroll(served.address, served.token())
        assert code == 22 and f"another agent uses this slot folder (process {made.process.pid})" in err
        assert enroll.run("forget")[0] == 22
    with pytest.raises(AssertionError, match="this device is not enrolled in a fleet"):
        agent(enroll.root, "--fleet").__enter__()
    code = main(["--root", str(tmp_path / "more"), "--bind", "none"])
    assert code == 10


def test_damaged_records(tmp_path, capsys):
    disk = MemoryDisk()
    for name, read in ((_identity.NAME, _identity.read), (_identity.REQUEST_NAME, _identity.read_request)):
        for data, words in (
            (b"", "is damaged"),
            (_record.encode({"format": 2}), "of another agent"),
            (_record.encode({"format": 1, "device": 3}), "makes no sense"),
            (_record.encode({"format": 1, "device": "x"}), "makes no sense"),
        ):
            disk.write(name, 0, data)
            with pytest.raises(SlotError, match=words):
                read(disk)
            disk.remove(name)
    fields = dict.fromkeys(("device", "fleet", "address", "authority", "certificate", "csr", "key"), "x")
    _record.write(disk, _identity.NAME, {"format": 1, **fields})
    with pytest.raises(SlotError, match="makes no sense: no certificate in PEM") as caught:
        _identity.read(disk)
    assert "gossamer-agent forget" in caught.value.hint


def test_a_server_that_answers_at_last(monkeypatch):
    answers = [ServerUnreachableError("busy", reason="BUSY")] * 3 + ["answer"]

    class Link:
        def __init__(self, *_, **__):
            self.fleet = self

        EnrollDevice = None

        def call(self, *_):
            got = answers.pop(0)
            if isinstance(got, Exception):
                raise got
            return got

        def close(self):
            pass

    monkeypatch.setattr(_enroll, "Link", Link)
    monkeypatch.setattr(_enroll, "_FIRST_WAIT_SECONDS", 0.001)
    request = _identity.Request("127.0.0.1:1", "", "1", "csr", "key")
    assert _enroll._ask(_enroll.Server("127.0.0.1:1", None, True), request, "t") == "answer"
    assert not answers


def test_certificates_are_read_as_cryptography_reads_them():
    made = Authority("somebody with a rather long name, as long as names may be")
    for ends in (2030, 2049, 2050, 2075):
        pem = made.issue("x", datetime.datetime(ends, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)).certificate
        found, want = _certificate.parse(pem.decode()), x509.load_pem_x509_certificate(pem)
        assert (found.not_before, found.not_after) == (want.not_valid_before_utc, want.not_valid_after_utc)
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        assert found.public_key == want.public_key().public_bytes(serialization.Encoding.DER, spki)
        assert found.fingerprint == want.fingerprint(hashes.SHA256()).hex()


def test_malformed_certificates():
    pem = Authority("x").certificate.decode()
    head, tail = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"
    body = "".join(pem.splitlines()[1:-1])
    with pytest.raises(ValueError, match="no certificate in PEM"):
        _certificate.parse("")
    for text in ("", "!!!!", "AAAA", "MIIB", body[: len(body) // 8 * 4], "MIQAAAAA" + body[8:]):
        with pytest.raises(ValueError, match=r"malformed certificate|no certificate"):
            _certificate.parse(head + text + "\n" + tail)
