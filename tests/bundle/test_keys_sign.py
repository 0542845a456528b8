"""Keys, signatures, trust; the host's and the core's verification agree."""

from __future__ import annotations

import stat

import numpy as np
import pytest

from gossamer import BundleError, KeyFileError, SignatureError
from gossamer.bundle import container, keys
from gossamer.bundle.sign import sign, sign_file
from gossamer.bundle.verify import check_structure, signer, verify
from gossamer_runtime import Session, _trust


def test_new_key_files(home):
    made = keys.new_key("mine")
    private, public = home / "keys" / "mine.key", home / "keys" / "mine.pub"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "keys").stat().st_mode) == 0o700
    assert private.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert public.read_text().split()[0] == "gossamer-ed25519"
    assert _trust.read_public(public) == made.public
    assert keys.load_private("mine").public_key().public_bytes_raw() == made.public
    assert keys.load_private(private).public_key().public_bytes_raw() == made.public
    assert (home / "trusted" / "mine.pub").read_text() == public.read_text()
    assert made.fingerprint.startswith("sha256:") and len(made.fingerprint) == 23


def test_key_outside_the_home_is_not_trusted(home, tmp_path):
    made = keys.new_key("away", tmp_path / "usb")
    assert not made.trusted and made.public not in _trust.stored_keys().values()


def test_failed_key_leaves_nothing(home, monkeypatch):
    from gossamer import _atomic

    real, calls = _atomic.write, []

    def third_fails(path, data, **options):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(path, data, **options)

    monkeypatch.setattr(_atomic, "write", third_fails)
    with pytest.raises(KeyboardInterrupt):
        keys.new_key("mine")
    assert [p for p in home.rglob("*") if p.is_file()] == []


def test_default_key_is_made_once(home):
    first = keys.default_key()
    assert keys.default_key().public == first.public
    shipped = [k.name for k in keys.list_keys() if k.private is None]
    assert shipped == ["gossamer-models"]  # signs the bundles that come with the package
    assert [k.name for k in keys.list_keys() if k.private is not None] == ["default"]


def test_other_kinds_of_keys_are_refused(home, tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = tmp_path / "ec.key"
    path.write_bytes(generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="not an Ed25519 key"):
        keys.load_private(path)


@pytest.mark.parametrize(
    "line",
    ["", "gossamer-ed25519", "gossamer-ed25519 AAAA", "ssh-ed25519 " + "A" * 43 + "=", "gossamer-ed25519 " + "A" * 43],
)
def test_bad_public_lines(line):
    with pytest.raises(SignatureError) as caught:
        _trust.parse_public(line, "here")
    assert caught.value.where == "here"


def test_signing_is_deterministic_and_changes_the_last_section_alone(work, home):
    keys.new_key("a")
    data = work.bundle.read_bytes()
    key = keys.load_private("a")
    signed = sign(data, key)
    assert signed == sign(signed, key)
    at = container.sections(data)[-1].offset
    assert signed[:at] == data[:at] and len(signed) == len(data) and signed != data


def test_sign_in_place_and_elsewhere(work, home, tmp_path):
    made = keys.new_key("a")
    copy = tmp_path / "c.goss"
    copy.write_bytes(work.bundle.read_bytes())
    sign_file(copy, "a", tmp_path / "d.goss")
    assert copy.read_bytes() == work.bundle.read_bytes()
    sign_file(copy, "a")
    assert copy.read_bytes() == (tmp_path / "d.goss").read_bytes()
    assert signer(copy.read_bytes()).public == made.public


def test_every_flipped_byte_is_noticed_by_host_and_core(work):
    data = work.bundle.read_bytes()
    verify(data)
    rng = np.random.default_rng(0)
    for at in [0, 8, 70, len(data) - 1, len(data) - 64, len(data) - 96, *rng.integers(0, len(data), 60).tolist()]:
        bad = bytearray(data)
        bad[at] ^= 1 << int(rng.integers(0, 8))
        with pytest.raises(BundleError):
            verify(bytes(bad))
        with pytest.raises(BundleError):
            Session(bytes(bad))


def test_states_of_a_signature(work, home):
    data = work.bundle.read_bytes()
    assert str(signer(data)).endswith("(not trusted on this machine)")
    assert str(signer(data[:-96] + bytes(96))) == "unsigned"
    assert str(signer(data[:-1] + bytes([data[-1] ^ 1]))).startswith("INVALID")
    with pytest.raises(SignatureError, match="does not trust"):
        verify(data, where="x.goss")
    public = signer(data).public
    assert verify(data, [public]).trusted


def test_package_store_is_consulted(work, home, tmp_path, monkeypatch):
    data = work.bundle.read_bytes()
    store = tmp_path / "package"
    store.mkdir()
    monkeypatch.setattr(_trust, "PACKAGE_STORE", str(store))
    with pytest.raises(SignatureError):
        Session(data)
    (store / "maker.pub").write_text(keys.public_line(signer(data).public, "maker"))
    Session(data).close()
    assert [k.name for k in keys.list_keys()] == ["maker"]


def test_structure_check_names_the_place(work):
    check_structure(work.bundle.read_bytes())
    with pytest.raises(BundleError) as caught:
        check_structure(work.bundle.read_bytes()[:-1], "cut.goss")
    assert caught.value.where == "cut.goss"
