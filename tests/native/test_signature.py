"""Ed25519 in the core against RFC 8032 and the cryptography package, and what bundle verification says."""

from __future__ import annotations

import ctypes
import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gossamer_runtime import _native
from tests.native.goss import FORMAT, OK, SIGNATURE, aligned, core
from tests.native.plans import sample

ORDER = 2**252 + 27742317777372353535851937790883648493
PRIME = 2**255 - 19

# RFC 8032, section 7.1: secret key, public key, message, signature.
RFC = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe2465"
        "5141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb0"
        "0d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc0"
        "27beceea1ec40a",
    ),
]


def ours(signature: bytes, key: bytes, message: bytes) -> bool:
    status = core().gs_ed25519_verify(signature, key, message, len(message))
    assert status in (OK, SIGNATURE)
    return bool(status == OK)


def theirs(signature: bytes, key: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.mark.parametrize("vector", RFC)
def test_rfc_8032(vector: tuple[str, str, str, str]) -> None:
    secret, public, message, signature = map(bytes.fromhex, vector)
    assert Ed25519PrivateKey.from_private_bytes(secret).sign(message) == signature
    assert ours(signature, public, message)
    assert not ours(signature, public, message + b"\0")


def test_agrees_with_cryptography_on_valid_and_damaged_signatures() -> None:
    rng = random.Random(20)
    # Lengths around the block of SHA-512, in which 64 bytes of R and key come first.
    lengths = [0, 1, 46, 47, 48, 63, 64, 65, 111, 112, 127, 128, 129, 191, 192, 1000]
    for round_number in range(400):
        message = rng.randbytes(rng.choice(lengths))
        private = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
        key, signature = private.public_key().public_bytes_raw(), private.sign(message)
        assert ours(signature, key, message), round_number
        bit = rng.randrange(512)
        damaged = bytes(b ^ (1 << bit % 8 if i == bit // 8 else 0) for i, b in enumerate(signature))
        assert not ours(damaged, key, message)
        assert not theirs(damaged, key, message)
        bit = rng.randrange(256)
        other = bytes(b ^ (1 << bit % 8 if i == bit // 8 else 0) for i, b in enumerate(key))
        assert not ours(signature, other, message)
        if message:
            assert not ours(signature, key, message[:-1] + bytes([message[-1] ^ 1]))


def test_s_must_be_below_the_order() -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    key, signature = private.public_key().public_bytes_raw(), private.sign(b"hello")
    s = int.from_bytes(signature[32:], "little")
    for k in range(1, 8):
        again = signature[:32] + (s + k * ORDER).to_bytes(32, "little")
        assert not ours(again, key, b"hello")
        assert not theirs(again, key, b"hello")


@pytest.mark.parametrize("y", [0, 1, PRIME - 1, PRIME, PRIME + 1])
@pytest.mark.parametrize("sign", [0, 1])
def test_keys_of_small_order_sign_nothing(y: int, sign: int) -> None:
    key = (y | sign << 255).to_bytes(32, "little")
    identity = (1).to_bytes(32, "little")
    for nonce in range(40):
        for r in (identity, key):
            assert not ours(r + bytes(32), key, b"%d" % nonce)


def test_keys_off_the_curve_sign_nothing() -> None:
    rng = random.Random(5)
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    signature = private.sign(b"m")
    for _ in range(200):
        assert not ours(signature, rng.randbytes(32), b"m")


# ---- bundles ----


def _signed(data: bytes, private: Ed25519PrivateKey) -> bytes:
    return data[:-96] + private.public_key().public_bytes_raw() + private.sign(data[:-96])


def _verify(data: bytes, *keys: bytes) -> tuple[int, str]:
    block, error = aligned(data), _native.ErrorStruct()
    status = core().gs_bundle_verify(ctypes.addressof(block), len(data), b"".join(keys), len(keys), ctypes.byref(error))
    return status, error.message.decode()


def test_bundle_signed_by_a_trusted_key() -> None:
    private, other = (Ed25519PrivateKey.from_private_bytes(bytes([n] * 32)) for n in (1, 2))
    key, stranger = (p.public_key().public_bytes_raw() for p in (private, other))
    data = _signed(sample("network_s8"), private)
    assert _verify(data, key) == (OK, "")
    assert _verify(data, stranger, key) == (OK, "")
    status, text = _verify(data, stranger)
    assert status == SIGNATURE
    assert f"signed by key {key[:4].hex()}..., which is not among the 1 trusted keys" in text
    assert _verify(data)[0] == SIGNATURE


def test_unsigned_bundle_says_so() -> None:
    status, text = _verify(sample("network_s8"), bytes(32))
    assert status == SIGNATURE
    assert "is not signed" in text


def test_every_changed_byte_is_noticed() -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes([3] * 32))
    key = private.public_key().public_bytes_raw()
    data = bytearray(_signed(sample("extern"), private))
    for at in range(0, len(data), 7):
        data[at] ^= 0x10
        assert _verify(bytes(data), key)[0] in (SIGNATURE, FORMAT, 3), at
        data[at] ^= 0x10
    assert _verify(bytes(data), key)[0] == OK
