"""The chosen bundle made final: its measured accuracy and why layers stayed dense go into the manifest; then signed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from gossamer import _atomic
from gossamer._optimize import OptimizeResult
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.search.decide import Judge
from gossamer.search.examples import Examples
from gossamer.search.result import SearchResult

_BY_RULE = "dense by a rule of the recipe"


def finish(
    made: OptimizeResult,
    result: SearchResult,
    judge: Judge,
    examples: Examples,
    private: Any,
    output: str | os.PathLike[str] | None,
) -> OptimizeResult:
    """Signs the chosen bundle and writes it, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    from gossamer.bundle import container, manifest
    from gossamer.bundle.sign import sign
    from gossamer.bundle.verify import check_structure
    from gossamer.compile.plan import Backend, Section

    best = result.chosen
    assert best is not None
    sections = container.sections(made.data)
    parts = {s.kind: bytes(container.section_bytes(made.data, s)) for s in sections}
    externs = [
        (Backend(s.tag), bytes(container.section_bytes(made.data, s))) for s in sections if s.kind is Section.EXTERN
    ]
    m = manifest.loads(parts[Section.MANIFEST])
    m.metrics.append(
        pb.Metric(
            name=judge.key,
            value=round(100.0 * best.accuracy, 4),
            dataset=f"{Path(examples.source).name}, {len(examples)} examples",
            baseline=round(100.0 * result.baseline, 4),
            has_baseline=True,
        )
    )
    for layer in m.layers:
        if _BY_RULE in layer.reason:
            layer.reason = layer.reason.replace(_BY_RULE, result.why_dense(layer.name) or _BY_RULE)
    data = container.build(parts[Section.PLAN], parts[Section.WEIGHTS], manifest.dumps(m), externs)
    check_structure(data, m.name)
    if private is not None:
        data = sign(data, private)
    path = _atomic.write(output, data) if output is not None else None
    return replace(made, path=path, data=data, manifest=manifest.to_dict(m))
