"""What ``gossamer.optimize`` returns: the bundle, its sizes and a record per layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gossamer._tables import bytes_text, columns, cut


@dataclass(frozen=True)
class LayerRow:
    """One operator with weights.

    ``sparsity_percent``: zeros among its weights. ``pattern``: as stored; ``pruned_pattern``: as pruned.
    ``dense_us`` and ``sparse_us``: medians on the compiling machine, None where not measured.
    """

    name: str
    source: str
    kind: str
    dtype: str
    pruned_pattern: str
    pattern: str
    sparsity_percent: float
    weights: int
    macs: int
    stored_bytes: int
    dense_bytes: int
    kernel: str
    dense_us: float | None
    sparse_us: float | None
    reason: str


def layer_rows(manifest: dict[str, Any]) -> list[LayerRow]:
    """The layer records of a manifest (as plain data, fields at their default left out)."""
    return [
        LayerRow(
            name=str(layer.get("name", "")),
            source=str(layer.get("source", "")),
            kind=str(layer.get("kind", "")),
            dtype=str(layer.get("dtype", "")),
            pruned_pattern=str(layer.get("pruned_pattern", "")),
            pattern=str(layer.get("pattern", "")),
            sparsity_percent=float(layer.get("sparsity_percent", 0.0)),
            weights=int(layer.get("weights", 0)),
            macs=int(layer.get("macs", 0)),
            stored_bytes=int(layer.get("stored_bytes", 0)),
            dense_bytes=int(layer.get("dense_bytes", 0)),
            kernel=str(layer.get("kernel", "")),
            dense_us=float(layer["dense_us"]) if layer.get("dense_us") else None,
            sparse_us=float(layer["sparse_us"]) if layer.get("sparse_us") else None,
            reason=str(layer.get("reason", "")),
        )
        for layer in manifest.get("layers", [])
    ]


def layer_table(rows: list[LayerRow]) -> str:
    """One line per layer: what is stored, what was measured, and why."""
    head = ["layer", "pattern", "sparsity %", "weights B", "dense B", "dense us", "sparse us", "kernel", "why"]
    body = [
        [
            row.source or row.name,
            row.pattern,
            f"{row.sparsity_percent:.1f}",
            str(row.stored_bytes),
            str(row.dense_bytes),
            "-" if row.dense_us is None else f"{row.dense_us:.1f}",
            "-" if row.sparse_us is None else f"{row.sparse_us:.1f}",
            row.kernel or "-",
            row.reason,
        ]
        for row in rows
    ]
    return columns(head, body, left={0, 1, 7, 8}, widest={0: 44, 8: 90})


@dataclass(frozen=True)
class OptimizeResult:
    """A finished bundle.

    Attributes:
        path: where it was written, None when it was not.
        data: its bytes, signature included.
        manifest: its manifest as plain data.
        original_bytes: size of the model it was made from; 0 when that was no file.
        calibration_samples: how many were used.
        seconds: time of every stage in seconds.
        notes: what the user should know besides.
        lowering: fusions, operators of an int8 model that run in f32, and partitions, each with nodes and reason.
        training: what each epoch came to, and on what; empty when nothing was trained.
    """

    path: Path | None
    data: bytes
    manifest: dict[str, Any]
    original_bytes: int
    calibration_samples: int
    seconds: dict[str, float]
    notes: list[str]
    lowering: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def layers(self) -> list[LayerRow]:
        """One record per operator with weights, in execution order."""
        return layer_rows(self.manifest)

    @property
    def bundle_bytes(self) -> int:
        """Size of the bundle, signature included."""
        return len(self.data)

    @property
    def arena_bytes(self) -> int:
        """Peak bytes of activations."""
        return int(self.manifest.get("arena_bytes", 0))

    @property
    def sparsity_percent(self) -> float:
        """Zeros among all weights of all layers with weights."""
        total = sum(row.weights for row in self.layers)
        return sum(row.sparsity_percent * row.weights for row in self.layers) / total if total else 0.0

    def table(self) -> str:
        """The layers as text."""
        return layer_table(self.layers)

    def summary(self) -> str:
        """Sizes and times in a few lines."""
        stored = sum(row.stored_bytes for row in self.layers)
        dense = sum(row.dense_bytes for row in self.layers)
        sparse = sum(row.pattern != "dense" for row in self.layers)
        lines = [f"bundle   {bytes_text(self.bundle_bytes)}" + (f"  {self.path}" if self.path else "")]
        if self.original_bytes:
            share = 100.0 * self.bundle_bytes / self.original_bytes
            lines.append(f"original {bytes_text(self.original_bytes)} (the bundle is {share:.1f}% of it)")
        lines.append(f"weights  {bytes_text(stored)} stored, {bytes_text(dense)} as dense matrices of the same type")
        zeros = f"{self.sparsity_percent:.1f}% zeros in all"
        lines.append(f"layers   {len(self.layers)} with weights, {sparse} stored sparse, {zeros}")
        lines.append(f"memory   {bytes_text(self.arena_bytes)} peak activations")
        if self.training:
            last = self.training["epochs"][-1]
            told = f"{len(self.training['epochs'])} epochs on {self.training['examples']}"
            lines.append(f"training {told}; at the end loss {last['loss']:.4f}, {last['accuracy']:.1%} right")
        lines.append("time     " + ", ".join(f"{name} {s:.1f} s" for name, s in self.seconds.items()))
        lines += [f"note     {cut(note, 160)}" for note in self.notes]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything but the bytes; every key with a unit names it."""
        return {
            "path": str(self.path) if self.path else None,
            "bundle_bytes": self.bundle_bytes,
            "original_bytes": self.original_bytes,
            "arena_bytes": self.arena_bytes,
            "sparsity_percent": self.sparsity_percent,
            "calibration_samples": self.calibration_samples,
            "stage_seconds": self.seconds,
            "notes": self.notes,
            "lowering": self.lowering,
            "training": self.training,
            "layers": [asdict(row) for row in self.layers],
            "manifest": self.manifest,
        }
