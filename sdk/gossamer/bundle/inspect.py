"""What is in a bundle: sections, signature, manifest, operators of the plan."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.bundle import container, manifest
from gossamer.bundle.verify import Signer, check_structure, signer
from gossamer.compile.plan import (
    NONE,
    OP,
    PLAN_HEADER,
    TENSOR,
    Backend,
    DType,
    Layout,
    OpKind,
    P,
    PatternLabel,
    Place,
    Section,
)

_WEIGHTED = (OpKind.CONV, OpKind.GEMM, OpKind.DWCONV)


@dataclass(frozen=True)
class PlanTensor:
    """A tensor of the plan; ``offset`` into the WEIGHTS section for constants, into the arena else."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str
    constant: bool
    offset: int
    size: int


@dataclass(frozen=True)
class PlanOp:
    """An operator of the plan. ``pattern`` is that of the stored weights, empty where there are none."""

    name: str
    source: str
    kind: str
    pattern: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class BundleInfo:
    """All that ``gossamer inspect`` shows. Sizes in bytes."""

    file_bytes: int
    sections: list[container.SectionInfo]
    signer: Signer
    manifest: dict[str, Any]
    tensors: list[PlanTensor]
    ops: list[PlanOp]
    arena_bytes: int

    def op_counts(self) -> dict[str, int]:
        """How many operators of each kind."""
        return dict(sorted(Counter(op.kind for op in self.ops).items()))

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        public = self.signer.public
        return {
            "file_bytes": self.file_bytes,
            "arena_bytes": self.arena_bytes,
            "sections": [
                {
                    "kind": s.kind.name.lower(),
                    "backend": backend_name(s),
                    "offset_bytes": s.offset,
                    "size_bytes": s.size,
                }
                for s in self.sections
            ],
            "signature": {
                "signed": public is not None,
                "valid": self.signer.valid,
                "trusted": self.signer.trusted,
                "signer": self.signer.fingerprint,
            },
            "operators": self.op_counts(),
            "tensors": len(self.tensors),
            "manifest": self.manifest,
        }


def inspect(data: bytes, where: str = "<bytes>") -> BundleInfo:
    """Read a bundle without running it or trusting its signature.

    Raises:
        BundleError: the core's loader refuses the bytes; nothing of a broken plan is shown.
    """
    check_structure(data, where)
    parts = container.sections(data)
    tensors, ops, arena = read_plan(bytes(container.section_bytes(data, parts[0])))
    return BundleInfo(
        file_bytes=len(data),
        sections=parts,
        signer=signer(data),
        manifest=manifest.to_dict(manifest.loads(container.section_bytes(data, parts[2]))),
        tensors=tensors,
        ops=ops,
        arena_bytes=arena,
    )


def backend_name(section: container.SectionInfo) -> str:
    """Backend of an EXTERN section in lower case; empty for others."""
    return Backend(section.tag).name.lower() if section.kind is Section.EXTERN else ""


def read_plan(plan: bytes) -> tuple[list[PlanTensor], list[PlanOp], int]:
    """Tensors, operators and arena bytes of PLAN bytes that ``check_structure`` accepted."""
    header = np.frombuffer(plan, PLAN_HEADER, 1)[0]
    at = PLAN_HEADER.itemsize
    trec = np.frombuffer(plan, TENSOR, int(header["n_tensors"]), at)
    at += trec.nbytes
    orec = np.frombuffer(plan, OP, int(header["n_ops"]), at)
    at += orec.nbytes
    refs = np.frombuffer(plan, "<u4", int(header["n_refs"]), at)
    at += refs.nbytes + 4 * (int(header["n_inputs"]) + int(header["n_outputs"]))
    strings = plan[at:]

    def text(offset: int) -> str:
        return strings[offset : strings.index(b"\0", offset)].decode("utf-8", "replace")

    tensors = [
        PlanTensor(
            name=text(int(t["name"])),
            dtype=DType(int(t["dtype"])).numpy.name,
            shape=tuple(int(d) for d in t["dims"][: int(t["rank"])]),
            layout=Layout(int(t["layout"])).name,
            constant=int(t["place"]) == Place.CONST,
            offset=int(t["offset"]),
            size=int(t["size"]),
        )
        for t in trec
    ]
    ops = []
    for o in orec:
        first, n_in, n_out = int(o["refs"]), int(o["n_in"]), int(o["n_out"])
        kind = OpKind(int(o["kind"]))
        used = [int(r) for r in refs[first : first + n_in + n_out]]
        ops.append(
            PlanOp(
                name=text(int(o["name"])),
                source=text(int(o["source"])),
                kind=kind.name,
                pattern=_pattern(o) if kind in _WEIGHTED else "",
                inputs=tuple(None if r == NONE else r for r in used[:n_in]),
                outputs=tuple(used[n_in:]),
            )
        )
    return tensors, ops, int(header["arena_size"])


def _pattern(op: np.void) -> str:
    label = PatternLabel(int(op["p"][P.WLABEL]))
    if label is PatternLabel.NM:
        return f"{int(op['p'][P.WN])}:{int(op['p'][P.WM])}"
    return {"B1X4": "1x4", "B4X1": "4x1", "B4X4": "4x4"}.get(label.name, label.name.lower())
