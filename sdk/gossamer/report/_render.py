"""ReportData to HTML."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

from gossamer._tables import bytes_text, cut
from gossamer.report import _plots, _tradeoffs
from gossamer.report._collect import ReportData


def render(data: ReportData) -> str:
    """The page as text: styles, pictures and plots inside, no script, nothing fetched."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["bytes"] = bytes_text
    environment.filters["cut"] = cut
    template = environment.from_string(
        (importlib.resources.files("gossamer.report") / "page.html.j2").read_text(encoding="utf-8")
    )
    return template.render(**_values(data))


def _values(data: ReportData) -> dict[str, Any]:
    from markupsafe import Markup

    ours = data.profile.latency.median_us
    latency = [("this bundle", ours, f"{ours:.0f} us")]
    dense = data.dense_profile
    if dense is not None:
        theirs = dense.latency.median_us
        latency.insert(0, ("dense int8" if _quantised(data) else "dense", theirs, f"{theirs:.0f} us"))
    sizes = [("bundle", float(data.bundle_bytes), bytes_text(data.bundle_bytes))]
    if data.dense_bytes:
        sizes.insert(0, ("dense bundle", float(data.dense_bytes), bytes_text(data.dense_bytes)))
    if data.original_bytes:
        sizes.insert(0, ("original file", float(data.original_bytes), bytes_text(data.original_bytes)))
    rows = data.layers
    total = sum(r.weights for r in rows)
    zeros = sum(r.sparsity_percent * r.weights for r in rows) / total if total else 0.0
    kilo = [(n, v / 1e3, t) for n, v, t in sizes]
    return {
        "d": data,
        "zeros": zeros,
        "speedup": dense.latency.median_us / ours if dense is not None and ours else None,
        "sparse_layers": sum(r.pattern != "dense" for r in rows),
        "measured": {op.name: op.median_us for op in data.profile.ops},
        "dense_measured": {op.name: op.median_us for op in dense.ops} if dense is not None else {},
        "latency_svg": Markup(_plots.totals(latency, "median of one inference, microseconds")),
        "size_svg": Markup(_plots.totals(kilo, "kB")),
        "layers_svg": Markup(_plots.layer_latency(rows, data.profile, dense)),
        "tradeoffs_svg": Markup(_tradeoffs.svg(data.search)) if data.search is not None else "",
        "recipe": json.dumps(json.loads(data.manifest.get("recipe_json") or "{}"), indent=2),
        "sources": data.manifest.get("provenance", {}).get("sources", []),
        "tools": data.manifest.get("provenance", {}).get("tools", {}),
    }


def _quantised(data: ReportData) -> bool:
    return bool(json.loads(data.manifest.get("recipe_json") or "{}").get("quantize"))
