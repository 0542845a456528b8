"""Third-party int8 models through Gossamer and through LiteRT's own three kernel sets, input by input.

``python -m tools.compare_litert [--json FILE]``. For every quantised model of the compatibility corpus
(``tests/compat``): the largest difference of any output in quantisation steps and the share of inputs with the same
top-1, of Gossamer against LiteRT's default kernels (XNNPACK), and of LiteRT's builtin and reference kernels against the
same: what one implementation's rounding is worth.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click
import numpy as np


@click.command(help=__doc__)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows here.")
def main(json_file: Path | None) -> None:
    from ai_edge_litert.interpreter import OpResolverType

    import gossamer
    from gossamer_runtime import Session
    from tests import litert
    from tests.compat.test_third_party import CASES
    from tests.conftest import shared_data

    rows = []
    click.echo("steps off / same top-1, against LiteRT's default kernels (XNNPACK)")
    click.echo(f"{'model':54s} {'inputs':>6s} {'gossamer':>14s} {'litert builtin':>14s} {'litert ref':>14s}")
    for case in CASES:
        if case.fallback or case.float_weights:
            continue
        model = shared_data() / "models" / f"{case.file}.tflite"
        batch = case.make_inputs(shared_data())
        xnnpack = litert.run(model, batch)
        if xnnpack.dtype == np.float32:
            continue
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder) / "model.goss"
            gossamer.optimize(model, recipe={"version": 1}, output=bundle, key=False)
            with Session(bundle, verify=False) as session:
                ours = np.stack([np.asarray(session.run(x[None]))[0] for x in batch])
        others = [
            litert.run(model, batch, resolver)
            for resolver in (OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, OpResolverType.BUILTIN_REF)
        ]
        found = [litert.difference(xnnpack, other) for other in (ours, *others)]
        click.echo(f"{case.file:54s} {len(batch):6d} " + " ".join(f"{s:6d} / {t:5.0%}" for s, t in found))
        names = ("gossamer", "litert_builtin", "litert_reference")
        row = {
            f"{n}_{k}": v
            for n, pair in zip(names, found, strict=True)
            for k, v in zip(("steps", "top1"), pair, strict=True)
        }
        rows.append({"model": case.file, "inputs": len(batch)} | row)
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
