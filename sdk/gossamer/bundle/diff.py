"""How two bundles differ: sections, manifest fields, operators, weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gossamer.bundle import container
from gossamer.bundle.inspect import BundleInfo, inspect


@dataclass(frozen=True)
class Difference:
    """One difference. ``where`` is ``section``, ``signature``, ``manifest``, ``operator`` or ``weights``."""

    where: str
    name: str
    a: str
    b: str

    def __str__(self) -> str:
        return f"{self.where:<10} {self.name}: {self.a or '-'} -> {self.b or '-'}"


def diff(a: bytes, b: bytes, names: tuple[str, str] = ("a", "b")) -> list[Difference]:
    """All differences, in the order of the file; empty when the bundles are the same byte for byte.

    Raises:
        BundleError: one of them is not a bundle.
    """
    if a == b:
        return []
    ia, ib = inspect(a, names[0]), inspect(b, names[1])
    return [*_sections(ia, ib), *_signature(a, ia, b, ib), *_manifest(ia, ib), *_ops(a, ia, b, ib)]


def _sections(a: BundleInfo, b: BundleInfo) -> Iterator[Difference]:
    if a.file_bytes != b.file_bytes:
        yield Difference("section", "file bytes", str(a.file_bytes), str(b.file_bytes))
    if a.arena_bytes != b.arena_bytes:
        yield Difference("section", "arena bytes", str(a.arena_bytes), str(b.arena_bytes))
    sa, sb = _by_name(a), _by_name(b)
    for name in {**sa, **sb}:
        if sa.get(name) != sb.get(name):
            yield Difference("section", f"{name} bytes", str(sa.get(name, "")), str(sb.get(name, "")))


def _by_name(info: BundleInfo) -> dict[str, int]:
    return {
        f"{s.kind.name.lower()}[{i}]" if s.tag else s.kind.name.lower(): s.size for i, s in enumerate(info.sections)
    }


def _signature(a: bytes, ia: BundleInfo, b: bytes, ib: BundleInfo) -> Iterator[Difference]:
    sa = bytes(container.section_bytes(a, ia.sections[-1]))
    sb = bytes(container.section_bytes(b, ib.sections[-1]))
    if sa == sb:
        return
    ta, tb = str(ia.signer), str(ib.signer)
    if ta == tb:
        ta, tb = f"{ta} {sa[32:40].hex()}...", f"{tb} {sb[32:40].hex()}..."
    yield Difference("signature", "signature", ta, tb)


def _manifest(a: BundleInfo, b: BundleInfo) -> Iterator[Difference]:
    fa, fb = dict(_flat(a.manifest)), dict(_flat(b.manifest))
    for key in sorted(fa.keys() | fb.keys()):
        if fa.get(key) != fb.get(key):
            yield Difference("manifest", key, _short(fa.get(key)), _short(fb.get(key)))


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            label = item["name"] if isinstance(item, dict) and "name" in item else i
            yield from _flat(item, f"{prefix}[{label}]")
    else:
        yield prefix, value


def _short(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _ops(a: bytes, ia: BundleInfo, b: bytes, ib: BundleInfo) -> Iterator[Difference]:
    oa, ob = _describe(a, ia), _describe(b, ib)
    for name in {**oa, **ob}:
        da, db = oa.get(name), ob.get(name)
        if da is None or db is None:
            yield Difference("operator", name, da[0] if da else "", db[0] if db else "")
            continue
        if da[0] != db[0]:
            yield Difference("operator", name, da[0], db[0])
        if da[1] != db[1]:
            yield Difference("weights", name, da[1], db[1])


def _describe(data: bytes, info: BundleInfo) -> dict[str, tuple[str, str]]:
    """By operator: kind, pattern and output shapes; digest of its constants."""
    weights = container.section_bytes(data, info.sections[1])
    out: dict[str, tuple[str, str]] = {}
    for i, op in enumerate(info.ops):
        digest, size = hashlib.sha256(), 0
        for ref in op.inputs:
            if ref is not None and info.tensors[ref].constant:
                t = info.tensors[ref]
                digest.update(f"{t.dtype}{t.shape}".encode())
                digest.update(weights[t.offset : t.offset + t.size])
                size += t.size
        shapes = " ".join(str(list(info.tensors[r].shape)) for r in op.outputs)
        what = " ".join(w for w in (op.kind, op.pattern, shapes) if w)
        name = op.name or f"#{i}"
        if name in out:
            name = f"{name}#{i}"
        out[name] = (what, f"{size} bytes sha256:{digest.hexdigest()[:12]}" if size else "")
    return out
