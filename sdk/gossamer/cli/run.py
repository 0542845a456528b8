"""``gossamer run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gossamer.cli._common import PATH, json_option, open_session, print_json, session_options

_EPILOG = """\b
Example:
  gossamer run model.goss -i cat.jpg --top 3
"""


@click.command("run", epilog=_EPILOG)
@click.argument("bundle", type=PATH)
@click.option(
    "-i", "--input", "inputs", type=PATH, multiple=True, required=True, help="Pictures, folders, .npy or .npz files."
)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes to show.")
@click.option("-o", "--output", type=PATH, help="Save raw outputs: an .npz of arrays, samples along axis 0.")
@session_options
@json_option
def command(
    bundle: Path, inputs: tuple[Path, ...], top: int, output: Path | None, as_json: bool, **options: Any
) -> None:
    """Run BUNDLE on pictures (prepared as its manifest says) or arrays, and show labels or values."""
    import time

    from gossamer import _atomic
    from gossamer.bundle.manifest import from_dict
    from gossamer.cli._inputs import named_samples

    if output is not None:
        _atomic.check_target(output)
    results: list[dict[str, Any]] = []
    with open_session(bundle, options) as session:
        manifest = from_dict(session.manifest)
        ports = {p.name: p for p in manifest.outputs}
        raw: dict[str, list[Any]] = {p.name: [] for p in session.outputs}
        for name, sample in named_samples(inputs, list(manifest.inputs)):
            started = time.perf_counter()
            outputs = session.run(sample)
            us = (time.perf_counter() - started) * 1e6
            record: dict[str, Any] = {"input": name, "latency_us": us, "outputs": {}}
            for key, values in outputs.items():
                raw[key].append(values)
                record["outputs"][key] = describe(values, ports.get(key), top)
            results.append(record)
    if output is not None:
        save(output, raw)
    if as_json:
        print_json({"bundle": str(bundle), "results": results, "output": str(output) if output else None})
        return
    show(results)


def save(output: Path, raw: dict[str, list[Any]]) -> None:
    """Raw outputs as an .npz, samples along axis 0."""
    import io

    import numpy as np

    from gossamer import _atomic

    buffer = io.BytesIO()
    stacked: dict[str, Any] = {k: np.stack(v) for k, v in raw.items() if v}
    np.savez(buffer, **stacked)
    _atomic.write(output, buffer.getvalue())


def show(results: list[dict[str, Any]]) -> None:
    """Records of runs as text."""
    for record in results:
        click.echo(f"{record['input']}  ({record['latency_us']:.0f} us)")
        for key, value in record["outputs"].items():
            if "classes" in value:
                for s in value["classes"]:
                    text = f"{100 * s['probability']:6.2f} %" if "probability" in s else f"{s['score']:9.4g}"
                    click.echo(f"  {text}  {s['label']}")
            else:
                click.echo(f"  {key}: {value['dtype']}{value['shape']} {value['values']}")


def describe(values: Any, port: Any, top: int) -> dict[str, Any]:
    """Classes where the manifest says that the output scores them, else the first values."""
    from gossamer import _images

    if port is not None and port.postprocessing.kind:
        found = [
            {"index": s.index, "label": s.label, "probability" if s.probability else "score": s.value}
            for s in _images.scores(values, port, top)
        ]
        return {"classes": found}
    flat = values.reshape(-1)[: max(top, 1)]
    return {"dtype": str(values.dtype), "shape": list(values.shape), "values": flat.tolist()}
