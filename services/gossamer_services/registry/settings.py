"""Settings of the registry."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gossamer_services.common.settings import Bytes, Seconds, Section


class RegistrySettings(Section):
    """What the registry takes and how long it keeps it."""

    storage: str = ""
    """Where finished blobs are kept: s3://bucket/prefix, or empty for a folder of state.folder."""
    storage_options: dict[str, str] = Field(default_factory=dict)
    """Options of s3fs, such as endpoint_url, key and secret; by default what the AWS environment says."""
    max_blob_bytes: Bytes = 4 << 30
    """Largest blob, in bytes; larger announcements are refused before any data."""
    max_bundle_bytes: Bytes = 256 << 20
    """Largest blob that may become a version: it is read and checked as a bundle, in memory."""
    max_uploads: Annotated[int, Field(ge=1)] = 256
    """Unfinished uploads that one caller may have."""
    upload_lifetime_s: Seconds = 86400.0
    """Seconds without progress after which an unfinished upload is dropped."""
    grace_s: Seconds = 86400.0
    """Seconds that garbage collection leaves an unreferenced blob after it was last uploaded or asked for."""
    keep_request_ids_s: Seconds = 30 * 86400.0
    """Seconds after which garbage collection forgets the request ids of versions that were made: a later repeat finds
    that the version exists; 0: never."""
    collect_every_s: Seconds = 3600.0
    """Seconds between garbage collections; 0: only when CollectGarbage asks."""
