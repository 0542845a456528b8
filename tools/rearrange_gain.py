"""How much magnitude a rearrangement of channels wins back for block patterns, beside unstructured pruning.

``python -m tools.rearrange_gain MODEL... [--pattern 1x4] [--sparsity 0.9] [--effort 4] [--control] [--json FILE]``.
Every model is loaded anew for each row. ``unstructured`` is the share of the pruned layers' summed magnitude that
unstructured masks keep at that sparsity, ``plain`` what the pattern keeps in the order of the file, ``moved`` what it
keeps rearranged, ``gap`` the share of unstructured - plain that this wins. ``--control`` adds the gap that the same
search wins once every output's weights have been shuffled among its inputs, each output on its own: what chance alone
offers in layers of these shapes, as nothing is left that outputs have in common.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

if TYPE_CHECKING:
    import onnx_ir


def shuffled(model: onnx_ir.Model, seed: int) -> onnx_ir.Model:
    """Every output's weights shuffled among its input channels, tap by tap, in place; depthwise layers stay."""
    import onnx_ir

    from gossamer.sparsify.layers import find_layers

    rng = np.random.default_rng(seed)
    for layer in find_layers(model)[0]:
        weight = layer.weight
        axis = 0 if layer.transposed and weight.ndim == 2 else 1
        if weight.shape[axis] > 1:
            layer.value.const_value = onnx_ir.tensor(rng.permuted(weight, axis=axis), name=layer.value.name)
    return model


def row(
    path: str, pattern: str, sparsity: float, effort: int, seconds: float, control: bool, seed: int
) -> dict[str, Any]:
    """One line of the table; shares in [0, 1]."""
    import gossamer
    from gossamer.recipe import SparsifyStep
    from gossamer.sparsify.rearrange import rearrange

    step = SparsifyStep(pattern=pattern, sparsity=sparsity)
    free = SparsifyStep(pattern="unstructured", sparsity=sparsity)
    model = gossamer.load(path)
    unstructured = rearrange(model, free)  # no order suits it better than another: counts alone
    report = rearrange(model, step, seed=seed, seconds=seconds, effort=effort)
    found = {
        "model": Path(path).stem,
        "pattern": pattern,
        "sparsity": sparsity,
        "effort": effort,
        "unstructured": unstructured.before,
        "plain": report.before,
        "moved": report.after,
        "gap": _gap(unstructured.before, report.before, report.after),
        "seconds": round(report.seconds, 2),
        "finished": report.finished,
        "layers": [
            {"name": a.name, "unstructured": b.before, "plain": a.before, "moved": a.after,
             "gap": _gap(b.before, a.before, a.after)}
            for a, b in zip(report.layers, unstructured.layers, strict=True)
        ],
    }  # fmt: skip
    if control:
        other = shuffled(gossamer.load(path), seed)
        chance = rearrange(other, step, seed=seed, seconds=seconds, effort=effort)
        found["control_gap"] = _gap(rearrange(other, free).before, chance.before, chance.after)
    return found


def _gap(unstructured: float, plain: float, moved: float) -> float | None:
    return None if unstructured - plain < 1e-9 else (moved - plain) / (unstructured - plain)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


@click.command(help=__doc__)
@click.argument("models", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--pattern", "patterns", multiple=True, default=("1x4", "4x1", "4x4"), show_default=True)
@click.option("--sparsity", "sparsities", multiple=True, type=float, default=(0.75, 0.9), show_default=True)
@click.option("--effort", "efforts", multiple=True, type=int, default=(4,), show_default=True, help="kicks per block")
@click.option("--seconds", default=300.0, show_default=True, help="time limit of one search")
@click.option("--seed", default=0, show_default=True)
@click.option("--control/--no-control", help="also search in shuffled weights")
@click.option("--layers/--no-layers", help="a line per layer, too")
@click.option("--json", "target", type=click.Path(dir_okay=False), help="write the rows to this file")
def main(
    models: tuple[str, ...], patterns: tuple[str, ...], sparsities: tuple[float, ...], efforts: tuple[int, ...],
    seconds: float, seed: int, control: bool, layers: bool, target: str | None,
) -> None:  # fmt: skip
    rows = []
    head = "model                 pattern  zeros  effort  unstructured   plain   moved     gap  control       s"
    click.echo(head)
    for path in models:
        for pattern in patterns:
            for sparsity in sparsities:
                for effort in efforts:
                    found = row(path, pattern, sparsity, effort, seconds, control, seed)
                    rows.append(found)
                    late = "" if found["finished"] else " (time limit)"
                    click.echo(
                        f"{found['model'][:21]:<21} {pattern:<7} {sparsity:6.0%} {effort:7d} "
                        f"{found['unstructured']:13.2%} {found['plain']:7.2%} {found['moved']:7.2%} "
                        f"{_percent(found['gap']):>7} {_percent(found.get('control_gap')):>8} "
                        f"{found['seconds']:7.1f}{late}"
                    )
                    for one in found["layers"] if layers else ():
                        click.echo(
                            f"{'':39} {one['unstructured']:13.2%} {one['plain']:7.2%} {one['moved']:7.2%} "
                            f"{_percent(one['gap']):>7}  {one['name']}"
                        )
    if target:
        Path(target).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
