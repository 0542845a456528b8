"""Rows of measurements as tables: latencies by engine, ratios to the best peer, targets and what falls short."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGETS = Path(__file__).with_name("targets.json")
Row = dict[str, Any]
SHORT = "SHORT"


@dataclass(frozen=True)
class Ratio:
    """Gossamer at one sparsity against its best peer.

    Attributes:
        sparsity: share of zeros.
        peer: the row of the fastest peer that counts.
        value: the peer's median over Gossamer's: above 1 Gossamer is faster.
        target: the number to reach, or None.
    """

    sparsity: float
    peer: Row
    value: float
    target: float | None

    @property
    def mark(self) -> str:
        """``ok``, ``SHORT``, or nothing where there is no target."""
        return "" if self.target is None else "ok" if self.value >= self.target else SHORT


def targets(bench: str) -> list[dict[str, Any]]:
    """The numbers to reach of one benchmark: ``native``, ``chromium``, ``node``, ``footprint``, ..."""
    return [t for t in json.loads(TARGETS.read_text(encoding="utf-8")) if t["bench"] == bench]


def label(row: Row) -> str:
    """``litert sparse f32``: the engine, whether it was told of the zeros, and what it computes in."""
    sparse = "sparse " if row["engine"] != "gossamer" and row["sparsity"] else ""
    return f"{row['engine']} {sparse}{row['precision']}"


def ratios(rows: Iterable[Row], bench: str, model: str, precision: str, pattern: str) -> list[Ratio]:
    """Gossamer against the best peer at every sparsity of one model, precision and pattern, and dense.

    Peers count at no sparsity, or at the same one. Where a target names its peers (``f32``, or a label such as
    ``litertjs int8``), those alone count; without a target a float32 Gossamer meets float32 peers and an int8 one all.
    """
    rows = [r for r in rows if r["model"] == model]
    found = [t for t in targets(bench) if (t["model"], t["precision"], t["pattern"]) == (model, precision, pattern)]
    against = found[0]["against"] if found else "f32" if precision == "f32" else "any"
    peers = [r for r in rows if r["engine"] != "gossamer" and _counts(r, against)]
    out = []
    ours = [r for r in rows if r["engine"] == "gossamer" and r["precision"] == precision]
    ours = [r for r in ours if r["pattern"] in (pattern, "dense")]
    for row in sorted(ours, key=lambda r: r["sparsity"]):
        same = [p for p in peers if p["sparsity"] in (0.0, row["sparsity"]) and p["threads"] == row["threads"]]
        if not same:
            continue
        best = min(same, key=lambda r: r["median_ms"])
        target = found[0]["ratio"].get(f"{row['sparsity']:g}") if found else None
        out.append(Ratio(row["sparsity"], best, best["median_ms"] / row["median_ms"], target))
    return out


def _counts(row: Row, against: str) -> bool:
    return against == "any" or row["precision"] == against or label(row) == against


def lines(rows: Sequence[Row], found: Sequence[Ratio]) -> list[str]:
    """A table of one model: a line per engine, a column per sparsity (median, p90 in brackets, ms), then the ratios."""
    shares = sorted({r["sparsity"] for r in rows})
    names = list(dict.fromkeys(label(r) for r in rows))
    head = "".join(f"{'dense' if s == 0 else f'{s:.0%}':>17s}" for s in shares)
    out = [f"{'median (p90) ms':22s}{head}   cold ms  RSS MB  file MB  off by"]
    for name in names:
        mine = {r["sparsity"]: r for r in rows if label(r) == name}
        cells = "".join(f"{_cell(mine.get(s)):>17s}" for s in shares)
        last = mine[max(mine)]
        tail = f"{last['cold_ms']:10.1f}{last['rss_mb']:8.1f}{last['file_bytes'] / 1e6:9.2f}"
        out.append(f"{name:22s}{cells}{tail}  {_difference(list(mine.values()))}")
    if found:
        by = {r.sparsity: r for r in found}
        out.append(f"{'times as fast':22s}" + "".join(f"{_ratio(by.get(s)):>17s}" for s in shares))
        out.append(f"{'target':22s}" + "".join(f"{_target(by.get(s)):>17s}" for s in shares))
        out.append("against " + ", ".join(f"{label(r.peer)} at {r.sparsity:.0%}" for r in found if r.sparsity))
    return out


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    noisy = "~" if row["noisy_rounds"] else ""
    return f"{noisy}{row['median_ms']:.3f} ({row['p90_ms']:.3f})"


def _difference(rows: Sequence[Row]) -> str:
    """The worst of an engine's rows, which share a unit."""
    worst = max(rows, key=lambda r: -1.0 if r["difference"] is None else r["difference"])
    if worst["difference"] is None:
        return str(worst["difference_unit"])
    wrong = "  DISAGREES" if any(r["agrees"] is False for r in rows) else ""
    return f"{worst['difference']:.2g} {worst['difference_unit']}{wrong}"


def _ratio(ratio: Ratio | None) -> str:
    # Rounded down: a ratio that falls short of 1.4 by a hair does not read as 1.40.
    return "" if ratio is None else f"{math.floor(100 * ratio.value + 1e-9) / 100:.2f}x"


def _target(ratio: Ratio | None) -> str:
    return "" if ratio is None or ratio.target is None else f"{ratio.target:.1f}x {ratio.mark}"
