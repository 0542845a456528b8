"""What each layer costs at each sparsity, out of the cost table, which times what it lacks through the native core."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gossamer._errors import RecipeError
from gossamer.compile.cost import NOISE, LayerChoice, _Clock, choose
from gossamer.compile.cost_table import CostTable

if TYPE_CHECKING:
    from gossamer.recipe import Target
    from gossamer.search.bench import Bench


@dataclass(frozen=True)
class LayerCost:
    """Measured times of one layer.

    Attributes:
        name: of the layer in recipes.
        dense_us: median microseconds as the model came; None where the plan has no such operator.
        sparse_us: median microseconds by sparsity, of the sparsities where a sparse form is faster.
        reason: why it stays dense where ``sparse_us`` is empty, else "".
    """

    name: str
    dense_us: float | None
    sparse_us: dict[float, float]
    reason: str


def layer_costs(
    bench: Bench,
    sparsities: Sequence[float],
    *,
    table: CostTable | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[LayerCost]:
    """Times of every prunable layer, in the order of ``bench.layers``.

    Args:
        sparsities: to try, each in (0, 1).
        table: where times are kept; by default the file in the user's cache folder.

    Raises:
        LibraryError: the native core is missing.
    """
    shares = sorted({s for layer in bench.layers for s in bench.grid(layer, sparsities)})
    target = bench.recipe.target.model_copy(update={"kernels": "fastest"})
    plain = {c.name: c for c in choose(bench.plan({}), target, table=table)}
    pruned: dict[float, dict[str, LayerChoice]] = {}
    for i, share in enumerate(shares):
        chosen = {layer.name: share for layer in bench.layers if share in bench.grid(layer, sparsities)}

        def within(done: int, total: int, i: int = i) -> None:
            if progress:
                progress(i * total + done, len(shares) * total)

        pruned[share] = {c.name: c for c in choose(bench.plan(chosen), target, table=table, progress=within)}
    return [
        _cost(layer.name, plain.get(layer.op), {s: pruned[s].get(layer.op) for s in bench.grid(layer, sparsities)})
        for layer in bench.layers
    ]


def _cost(name: str, plain: LayerChoice | None, pruned: Mapping[float, LayerChoice | None]) -> LayerCost:
    timed = {s: c for s, c in pruned.items() if c is not None and c.measured and c.dense_us is not None}
    if not timed:
        told = next((c.reason for c in pruned.values() if c is not None), "it does not run in the core")
        return LayerCost(name, None, {}, told)
    # A model that has zeros already may run sparse as it is: that is what pruning further has to beat.
    now = plain.times_us[plain.pattern] if plain is not None and plain.measured else next(iter(timed.values())).dense_us
    assert now is not None
    faster = {
        share: choice.times_us[choice.pattern]
        for share, choice in timed.items()
        if choice.pattern != "dense" and choice.times_us[choice.pattern] < now * (1 - NOISE)
    }
    if faster:
        return LayerCost(name, now, faster, "")
    share = max(timed)
    return LayerCost(name, now, {}, f"no sparsity tried is faster: {timed[share].reason}")


def check_target(target: Target) -> None:
    """Refuses a target whose times cannot be measured here.

    Raises:
        RecipeError: the recipe turns measuring off.
        CompileError: it names another architecture, or an instruction set that this one does not have.
    """
    if target.measure is False:
        raise RecipeError(
            "automatic sparsity chooses by measured times, and the recipe turns measuring off",
            hint="write `measure: cached` or leave the field out",
            field="target.measure",
        )
    _Clock.open(target.model_copy(update={"measure": True}), CostTable(None))
