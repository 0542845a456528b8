"""The container of a ``.goss`` file: header, section table, aligned sections (``native/src/plan_format.h``).

Building is deterministic: the same sections give the same bytes. Signing fills the last section in place, so an
unsigned bundle and its signed form differ in those 96 bytes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gossamer._errors import BundleError
from gossamer.compile.plan import ALIGN, FILE_HEADER, FORMAT_VERSION, MAGIC, SECTION, Backend, Section

SIGNATURE_BYTES = 96
MAX_BYTES = 1 << 31
_CAP_SECTIONS = 64


@dataclass(frozen=True)
class SectionInfo:
    """Place of one section: ``tag`` is the backend of an EXTERN section, else 0."""

    kind: Section
    tag: int
    offset: int
    size: int


def build(plan: bytes, weights: bytes, manifest: bytes, externs: Sequence[tuple[Backend, bytes]] = ()) -> bytes:
    """Assemble an unsigned bundle.

    Raises:
        BundleError: the file would pass a cap of the format (2 GiB, 64 sections).
    """
    parts: list[tuple[Section, int, bytes]] = [
        (Section.PLAN, 0, plan),
        (Section.WEIGHTS, 0, weights),
        (Section.MANIFEST, 0, manifest),
        *((Section.EXTERN, int(backend), payload) for backend, payload in externs),
        (Section.SIGNATURE, 0, bytes(SIGNATURE_BYTES)),
    ]
    if len(parts) > _CAP_SECTIONS:
        raise BundleError(
            f"{len(externs)} external partitions; a bundle holds at most {_CAP_SECTIONS - 4}",
            hint="allow fewer fallbacks, or merge the partitions into one backend",
        )
    table = np.zeros(len(parts), SECTION)
    at = _align(FILE_HEADER.itemsize + table.nbytes)
    for rec, (kind, tag, data) in zip(table, parts, strict=True):
        rec["kind"], rec["tag"], rec["offset"], rec["size"] = kind, tag, at, len(data)
        at = _align(at + len(data))
    size = int(table[-1]["offset"]) + SIGNATURE_BYTES
    if size > MAX_BYTES:
        raise BundleError(f"the bundle would be {size} bytes; the format holds at most {MAX_BYTES}")
    header = np.zeros(1, FILE_HEADER)
    header["magic"], header["version"], header["n_sections"] = MAGIC, FORMAT_VERSION, len(parts)
    header["file_size"] = size
    out = bytearray(size)
    out[: FILE_HEADER.itemsize] = header.tobytes()
    out[FILE_HEADER.itemsize : FILE_HEADER.itemsize + table.nbytes] = table.tobytes()
    for rec, (_, _, data) in zip(table, parts, strict=True):
        out[int(rec["offset"]) : int(rec["offset"]) + len(data)] = data
    return bytes(out)


def sections(data: bytes | bytearray | memoryview) -> list[SectionInfo]:
    """Read the section table. Only what host tools need to find a section is checked here: the C core alone decides
    whether a bundle may run.

    Raises:
        BundleError: not a bundle, another format version, or a table that does not fit the file.
    """
    view = memoryview(data)
    if len(view) < FILE_HEADER.itemsize:
        raise BundleError(f"too short for a bundle: {len(view)} bytes", hint="the download or copy may be incomplete")
    header = np.frombuffer(view[: FILE_HEADER.itemsize], FILE_HEADER)[0]
    if bytes(view[:8]) != MAGIC:
        raise BundleError("not a Gossamer bundle: the first eight bytes are not GOSSAMER")
    if header["version"] != FORMAT_VERSION:
        raise BundleError(
            f"bundle format {header['version']}; this version reads {FORMAT_VERSION}", hint="update gossamer"
        )
    if header["file_size"] != len(view):
        raise BundleError(
            f"the header says {header['file_size']} bytes, the file has {len(view)}",
            hint="the download or copy may be incomplete",
        )
    count = int(header["n_sections"])
    end = FILE_HEADER.itemsize + count * SECTION.itemsize
    if not 4 <= count <= _CAP_SECTIONS or end > len(view):
        raise BundleError(f"{count} sections in the table; the file is damaged")
    table = np.frombuffer(view[FILE_HEADER.itemsize : end], SECTION)
    found = []
    for rec in table:
        offset, size = int(rec["offset"]), int(rec["size"])
        if rec["kind"] not in list(Section) or offset % ALIGN or offset + size > len(view) or offset < end:
            raise BundleError("a section of the table lies outside the file; the file is damaged")
        found.append(SectionInfo(Section(int(rec["kind"])), int(rec["tag"]), offset, size))
    if found[-1].kind is not Section.SIGNATURE or found[-1].size != SIGNATURE_BYTES:
        raise BundleError("the last section is not the signature; the file is damaged")
    if [s.kind for s in found[:3]] != [Section.PLAN, Section.WEIGHTS, Section.MANIFEST]:
        raise BundleError("plan, weights and manifest are not where they belong; the file is damaged")
    return found


def section_bytes(data: bytes | bytearray | memoryview, info: SectionInfo) -> memoryview:
    """The bytes of one section, not copied."""
    return memoryview(data)[info.offset : info.offset + info.size]


def _align(n: int) -> int:
    return -(-n // ALIGN) * ALIGN
