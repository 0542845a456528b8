"""``gossamer inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from gossamer.cli._common import PATH, json_option, print_json

_EPILOG = """\b
Example:
  gossamer inspect model.goss
"""


@click.command("inspect", epilog=_EPILOG)
@click.argument("bundle", type=PATH)
@click.option("--ops", is_flag=True, help="List every operator.")
@json_option
def command(bundle: Path, ops: bool, as_json: bool) -> None:
    """Show sections, signature, manifest and layers of BUNDLE. Runs nothing and trusts nothing."""
    from gossamer._result import layer_rows, layer_table
    from gossamer._tables import bytes_text, columns
    from gossamer.bundle.inspect import backend_name, inspect
    from gossamer.bundle.sign import read

    info = inspect(read(bundle), str(bundle))
    if as_json:
        value = info.to_json()
        if ops:
            value["ops"] = [
                {"name": o.name, "kind": o.kind, "pattern": o.pattern, "source": o.source} for o in info.ops
            ]
        print_json(value)
        return
    m = info.manifest
    head = " ".join(filter(None, [m.get("name", ""), m.get("version", "")]))
    click.echo(f"{head}  ({bytes_text(info.file_bytes)}, {info.signer})")
    for key in ("description", "license"):
        if m.get(key):
            click.echo(f"{key}: {m[key]}")
    for side in ("inputs", "outputs"):
        for port in m.get(side, []):
            quant = f" scale {port['scale']:.6g} zero point {port.get('zero_point', 0)}" if port.get("scale") else ""
            click.echo(f"{side[:-1]}: {port['name']} {port['dtype']}{port.get('shape', [])}{quant}")
            if port.get("postprocessing", {}).get("labels"):
                click.echo(f"  labels: {', '.join(port['postprocessing']['labels'][:8])}")
    click.echo(f"memory: {bytes_text(info.arena_bytes)} peak activations")
    for metric in m.get("metrics", []):
        base = f" (original {metric['baseline']:.4g})" if metric.get("has_baseline") and "baseline" in metric else ""
        click.echo(f"metric: {metric['name']} {metric.get('value', 0):.4g}{base} on {metric.get('dataset', '')}")
    click.echo("operators: " + ", ".join(f"{n} {k}" for k, n in info.op_counts().items()))
    click.echo()
    rows = [[s.kind.name.lower(), backend_name(s) or "-", str(s.offset), str(s.size)] for s in info.sections]
    click.echo(columns(["section", "backend", "offset B", "size B"], rows, left={0, 1}))
    click.echo()
    click.echo(layer_table(layer_rows(m)))
    if ops:
        click.echo()
        rows = [[str(i), o.kind, o.pattern, o.name, o.source] for i, o in enumerate(info.ops)]
        click.echo(columns(["#", "operator", "pattern", "name", "source"], rows, left={1, 2, 3, 4}))
