"""What the registry reads out of a bundle before it becomes a version."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer._errors import BundleError, UnsupportedError
from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.registry.blobs import BlobStore

MAX_NAME = 1024
"""Characters of a manifest's name or version, which lists hold by the thousand."""


@dataclass(frozen=True)
class Facts:
    """Size in bytes, the manifest's name and version, and the signing key's fingerprint (empty: unsigned)."""

    size_bytes: int
    model_name: str
    model_version: str
    key_fingerprint: str


def read_facts(blobs: BlobStore, sha256: str, max_bytes: int) -> Facts:
    """Check a blob as a bundle, with the core's own loader, and read its facts.

    Raises:
        ServiceError: NOT_FOUND (BLOB_NOT_FOUND), INVALID_ARGUMENT (BAD_BUNDLE, BUNDLE_TOO_LARGE).
    """
    from gossamer.bundle import container, manifest
    from gossamer.bundle.verify import check_structure, signer

    with blobs.open(sha256) as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ServiceError(
            Code.INVALID_ARGUMENT,
            "BUNDLE_TOO_LARGE",
            f"the blob is larger than a bundle may be here ({max_bytes} bytes)",
            where="sha256",
            fields=[("sha256", "too large for a bundle")],
        )
    try:
        check_structure(data, "sha256")
        parts = container.sections(data)
        stated = manifest.loads(container.section_bytes(data, parts[2]))
        signed = signer(data)
    except (BundleError, UnsupportedError) as e:
        raise _refused(f"the blob is no well-formed bundle: {e.message}") from e
    if signed.public is not None and not signed.valid:
        raise _refused("the bundle was changed since it was signed")
    if "\0" in stated.name + stated.version:  # which PostgreSQL does not store
        raise _refused("the manifest's name or version has a NUL character")
    if max(len(stated.name), len(stated.version)) > MAX_NAME:
        raise _refused(f"the manifest's name or version has more than {MAX_NAME} characters")
    return Facts(len(data), stated.name, stated.version, signed.fingerprint)


def _refused(message: str) -> ServiceError:
    return ServiceError(
        Code.INVALID_ARGUMENT,
        "BAD_BUNDLE",
        message,
        where="sha256",
        hint="upload what `gossamer optimize` wrote",
        fields=[("sha256", message)],
    )
