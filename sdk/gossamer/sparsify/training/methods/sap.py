"""SAP: the PQ index of the weights says how much can be pruned next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from gossamer.sparsify.training.method import Method

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.sparsify.training.layer import SparseLayer
    from gossamer.sparsify.training.sparsifier import Sparsifier


class SAP(Method):
    """In each of ``iterations``, evenly over the run up to ``end``, the d weights that are left have the PQ index
    ``I = 1 - d^(1/q - 1/p) ||w||_p / ||w||_q``, 0 where all magnitudes are equal, near 1 where few carry all. From it
    follows how many to keep, ``m = ceil(d (1 + eta)^(q/(p-q)) (1 - I)^(qp/(q-p)))``; of the others the smallest
    ``floor(d clip(gamma (1 - m/d), 0, beta))`` are pruned for good.

    Over all layers together (``scope`` global; every layer keeps the target's ``min_fraction`` of all weights) or in
    each layer. Units are weights or the pattern's blocks by their mean magnitude.

    The rule alone chooses the sparsity. Here the target bounds it: an iteration that would pass it prunes only the
    smallest of its choice. With ``exact`` the run also never lags behind an even path to the target s: after iteration
    i of T at most ``(1 - s)^(i/T)`` of the weights are left, what is missing being pruned by one magnitude over all
    layers; so it ends at s and compares with others. Layers with a sparsity of their own are bounded by that.

    Source: Diao et al., "Pruning deep neural networks from a sparsity perspective" (arXiv 2302.05601), algorithm 1, and
    its code: p 0.5, q 1, beta 0.9. Its defaults of eta and gamma could not be read (its example takes 0.001 and 1.2); 0
    and 1 leave the bound as it stands. The source sets the weights back to their initial ones after each iteration and
    trains anew, 15 or 30 times; here training goes on, so that a run is as long as any other's. Other defaults: 15
    iterations over the first 75% of the run, which is ours, one index for all layers, and ``exact``.
    """

    name: ClassVar[str] = "sap"
    title: ClassVar[str] = "the PQ index of the weights sets how much each iteration prunes"
    source: ClassVar[str] = "Diao et al., arXiv 2302.05601, algorithm 1 and its code"
    rule: ClassVar[str] = (
        "I = 1 - d^(1/q-1/p) ||w||_p/||w||_q; m = ceil(d (1+eta)^(q/(p-q)) (1-I)^(qp/(q-p))); "
        "prune floor(d clip(gamma (1-m/d), 0, beta))"
    )
    patterns: ClassVar[tuple[str, ...]] = ("blocks",)

    p: float = Field(default=0.5, gt=0.0, description="exponent of the upper norm, below q")
    q: float = Field(default=1.0, gt=0.0, description="exponent of the lower norm")
    eta: float = Field(default=0.0, ge=0.0, description="relative error that pruning may make in the q norm")
    gamma: float = Field(default=1.0, gt=0.0, description="how much of the bound is used")
    beta: float = Field(default=0.9, gt=0.0, lt=1.0, description="largest share that one iteration prunes")
    iterations: int = Field(default=15, ge=1, description="how often is pruned")
    end: float = Field(default=0.75, gt=0.0, le=1.0, description="the last iteration as a share of all steps")
    scope: Literal["global", "layer"] = Field(default="global", description="one index for all layers, or one for each")
    exact: bool = Field(default=True, description="keep up with an even path that ends at the target's sparsity")

    @model_validator(mode="after")
    def _ordered(self) -> SAP:
        if self.p >= self.q:
            raise ValueError("p must be below q")
        return self

    def index(self, magnitudes: Tensor) -> float:
        """The PQ index of ``magnitudes`` (at least 0, any shape), in [0, 1); 0 where all are 0."""
        x = magnitudes.double()
        x = x / x.max()
        d = x.numel()
        ratio = float((x**self.p).sum() ** (1.0 / self.p) / (x**self.q).sum() ** (1.0 / self.q))
        return 1.0 - d ** (1.0 / self.q - 1.0 / self.p) * ratio if math.isfinite(ratio) else 0.0

    def to_prune(self, d: int, index: float) -> int:
        """How many of ``d`` units with this PQ index are pruned."""
        p, q = self.p, self.q
        # Equal magnitudes give an index of 0 but for rounding, which must not lift m past a whole number.
        kept: float = d * (1.0 + self.eta) ** (q / (p - q)) * (1.0 - index) ** (q * p / (q - p))
        m = math.ceil(kept - 1e-9 * d)
        return math.floor(d * min(max(self.gamma * (1.0 - m / d), 0.0), self.beta) + 1e-9)

    def least(self, iteration: int, sparsity: float) -> float:
        """The share of a final sparsity that is due after ``iteration``, from 1, with ``exact``."""
        if iteration >= self.iterations or sparsity == 0.0:
            return 1.0
        return float(1.0 - (1.0 - sparsity) ** (iteration / self.iterations)) / sparsity

    def start(self, run: Sparsifier) -> None:
        run.memory["iteration"] = 0

    def update(self, run: Sparsifier) -> None:
        done = run.memory["iteration"]
        if done >= self.iterations or run.progress < (done + 1) / self.iterations * self.end - 1e-9:
            return
        run.memory["iteration"] = done + 1
        free = [layer for layer in run.layers if layer.own is None]
        groups = [(free, run.target.wanted), *(([layer], layer.own) for layer in run.layers if layer.own is not None)]
        for layers, bound in groups:
            if not layers:
                continue
            if self.scope == "global":
                self._prune_together(layers, bound, run.target.min_fraction)
            else:
                self._prune_each(layers, bound)
        if self.exact:
            run.prune(self.least(done + 1, run.target.wanted), only_kept=True, distribution="global")

    def finish(self, run: Sparsifier) -> None:
        if self.exact and run.memory["iteration"] < self.iterations:
            run.prune(only_kept=True, distribution="global")
            run.memory["iteration"] = self.iterations

    def _prune_together(self, layers: list[SparseLayer], bound: float, min_fraction: float) -> None:
        import torch

        from gossamer.sparsify.distribute import global_threshold

        kept = [layer.kept_units() for layer in layers]
        scores = [torch.where(k, layer.units(layer.matrix()), -1.0) for layer, k in zip(layers, kept, strict=True)]
        left = torch.cat([s[k] for s, k in zip(scores, kept, strict=True)])
        everything, weights = sum(layer.size for layer in layers), sum(int(layer.mask.sum()) for layer in layers)
        pruned = self.to_prune(left.numel(), self.index(left)) / left.numel() * weights
        sparsity = min(bound, 1.0 - (weights - pruned) / everything)
        found = global_threshold(scores, [layer.unit_counts for layer in layers], sparsity, min_fraction)
        for layer, keep, before in zip(layers, found, kept, strict=True):
            layer.set_units(keep & before)

    def _prune_each(self, layers: list[SparseLayer], bound: float) -> None:
        import torch

        from gossamer.sparsify import arrays
        from gossamer.sparsify.distribute import round_half_up
        from gossamer.sparsify.training.regrow import nearest_count

        everything, weights = sum(layer.size for layer in layers), sum(int(layer.mask.sum()) for layer in layers)
        allowed = round_half_up(bound * everything) - (everything - weights)
        leaving: list[Tensor] = []
        scores: list[Tensor] = []
        sizes: list[Tensor] = []
        for layer in layers:
            kept = layer.kept_units().flatten()
            score = layer.units(layer.matrix()).flatten()
            left = score[kept]
            count = self.to_prune(left.numel(), self.index(left))
            leaving.append(arrays.stable_order(torch.where(kept, score, torch.inf))[:count])
            scores.append(score[leaving[-1]])
            sizes.append(arrays.like(layer.unit_counts.flatten(), kept)[leaving[-1]])
        order = arrays.stable_order(torch.cat(scores))
        size = torch.cat(sizes)
        # Where all may leave, they do: the nearest count to a larger sum is all of them.
        goes = arrays.scatter_true(size, order[: nearest_count(size[order], allowed)])
        for layer, places, go in zip(layers, leaving, goes.split([len(s) for s in sizes]), strict=True):
            keep = layer.kept_units().flatten()
            keep[places[go]] = False
            layer.set_units(keep.reshape(layer.unit_counts.shape))
