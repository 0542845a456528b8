"""ISS-P: in every step the smallest weights shrink a little, until they are cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from gossamer.sparsify.training.method import Method

if TYPE_CHECKING:
    from gossamer.sparsify.training.layer import SparseLayer
    from gossamer.sparsify.training.sparsifier import Sparsifier


class IterativeSoftShrinkage(Method):
    """After every optimiser step, the share of weights that is to be pruned, those of smallest magnitude now, is
    multiplied by ``ratio`` instead of being zeroed. So the network stays dense and trainable, and which weights are
    small goes on changing. At ``end`` of the run they are masked for good and the rest recovers.

    The share is each layer's final sparsity, by the target's distribution (global: one threshold over the layers, in
    the authors' code not offered). Units are weights, the pattern's blocks by their mean magnitude, or with n:m all but
    the n largest of every m inputs; as many units shrink as make up the share, rounded to the nearest, and units that
    tie with the largest of them too. Moments of the optimiser are left alone.

    Source: Wang et al., "Iterative soft shrinkage learning for efficient image super-resolution" (arXiv 2303.09650) and
    its code, which shrinks after each optimiser step by ``ist_ratio`` 0.95 for 100,000 steps, then prunes and
    fine-tunes. The paper itself could not be read. Defaults: that ratio, and the soft phase as a share of the run, one
    half, which was decided here (the code's options name 200,000 steps in total).
    """

    name: ClassVar[str] = "iss-p"
    title: ClassVar[str] = "smallest weights shrink by a ratio in every step, cut at the end"
    source: ClassVar[str] = "Wang et al., arXiv 2303.09650, from its code"
    rule: ClassVar[str] = "in every step the smallest p% of each layer: w <- ratio w; masked at `end`"

    ratio: float = Field(default=0.95, ge=0.0, lt=1.0, description="what small weights are multiplied with")
    end: float = Field(default=0.5, gt=0.0, le=1.0, description="share of all steps after which they are masked")

    def start(self, run: Sparsifier) -> None:
        run.memory["smallest"] = [
            _smallest(layers, sparsity) for layers, sparsity in zip(_groups(run), _sparsities(run), strict=True)
        ]
        run.memory["masked"] = False

    def update(self, run: Sparsifier) -> None:
        if run.memory["masked"]:
            return
        if run.progress >= self.end:
            self.finish(run)
            return
        for layers, smallest in zip(_groups(run), run.memory["smallest"], strict=True):
            if smallest:
                self._shrink(layers, smallest)

    def finish(self, run: Sparsifier) -> None:
        if not run.memory["masked"]:
            run.prune()
            run.memory["masked"] = True

    def _shrink(self, layers: list[SparseLayer], smallest: int) -> None:
        import torch

        from gossamer.sparsify import arrays
        from gossamer.sparsify.blocks import cut
        from gossamer.sparsify.matrix import to_onnx
        from gossamer.sparsify.patterns import NM

        # Every step does this, so nothing here waits for the device: a threshold instead of a list of places, and
        # padding, which scores 0 and is cut off again, instead of constants from the host.
        scores = [arrays.sum_axes(cut(layer.matrix(), *layer.pattern.block), (2, 3)) for layer in layers]
        means = [score / math.prod(layer.pattern.block) for score, layer in zip(scores, layers, strict=True)]
        bound = arrays.kth_smallest(torch.cat([mean.flatten() for mean in means]), smallest)
        for layer, mean in zip(layers, means, strict=True):
            if isinstance(layer.pattern, NM):
                small = ~layer.pattern.project(layer.matrix(), columns=layer.columns)
            else:
                rows, columns = layer.pattern.block
                small = arrays.repeat(arrays.repeat(mean <= bound, rows, 0)[: layer.weight.shape[0]], columns, 1)
            factor = torch.where(to_onnx(small, tuple(layer.weight.shape)), self.ratio, 1.0)
            layer.weight.mul_(factor.to(layer.weight.dtype))


def _groups(run: Sparsifier) -> list[list[SparseLayer]]:
    """Layers under one threshold; those with n:m patterns are alone."""
    if run.target.distribution != "global":
        return [[layer] for layer in run.layers]
    free = [layer for layer in run.layers if layer.own is None]
    return [*([free] if free else []), *([layer] for layer in run.layers if layer.own is not None)]


def _sparsities(run: Sparsifier) -> list[float]:
    """The final sparsity of every group."""
    from gossamer.sparsify.training.initial import layer_sparsities

    if run.target.distribution != "global":
        return layer_sparsities(run, run.target.distribution)
    return [run.target.wanted if group[0].own is None else group[0].own for group in _groups(run)]


def _smallest(layers: list[SparseLayer], sparsity: float) -> int:
    """Units that shrink; those of nothing but padding, whose score is the smallest, come on top."""
    from gossamer.sparsify.distribute import round_half_up

    if sparsity <= 0.0:
        return 0
    real = sum(int((layer.unit_counts > 0).sum()) for layer in layers)
    return round_half_up(sparsity * real) + sum(layer.unit_counts.size for layer in layers) - real
