"""MaskSparsity: choose filters, pull only their batch-norm scales to zero, cut them, fine-tune what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from gossamer.sparsify.training.method import Method

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.sparsify.training.layer import SparseLayer
    from gossamer.sparsify.training.sparsifier import Sparsifier


class MaskSparsity(Method):
    """Filters with the least mean magnitude are marked; the loss gains ``strength * sum |gamma|`` over the batch-norm
    scales of marked filters alone, so that the others keep their capacity; where ``|gamma| < threshold`` they are cut.

    The mark is set once, at ``begin``, layer by layer or over the network as the recipe's distribution says; a block
    pattern of four rows marks four filters at a time. Cutting starts at ``end`` and is tried again every ``every``
    steps; what is still marked when the run finishes is cut then, so that the sparsity is the one asked for. A cut
    filter has weights, bias, scale and shift of 0, and is held there: its channel is a constant zero, and the weights
    of the next layer that read it get no gradient.

    The batch norm is the module registered next to the layer, or the one that ``norms`` names.

    Source: Jiang et al., "Pruning-aware sparse regularization for network pruning" (arXiv 2201.06776), and the authors'
    code for the gradient, ``strength * sign(gamma)``, and strength 5e-4; threshold 0.01. Marks from L1 magnitudes are
    ours (the paper takes any mask, such as that of a globally regularised network), and so are ``begin`` and ``end``:
    there the network is trained before. Defaults: marks at 20% of the run, cuts from 60% on, every 32 steps.
    """

    name: ClassVar[str] = "mask-sparsity"
    title: ClassVar[str] = "whole filters: L1 on the batch-norm scales of marked filters, then cut"
    source: ClassVar[str] = "Jiang et al., arXiv 2201.06776"
    rule: ClassVar[str] = "loss + strength * sum |gamma| over marked filters; cut where |gamma| < threshold"
    patterns: ClassVar[tuple[str, ...]] = ("blocks",)
    penalised: ClassVar[bool] = True

    strength: float = Field(default=5e-4, gt=0.0, description="weight of the L1 norm of marked filters' scales")
    threshold: float = Field(default=0.01, gt=0.0, description="marked filters with a smaller |scale| are cut")
    begin: float = Field(default=0.2, ge=0.0, lt=1.0, description="marks are set at this share; 0: trained before")
    end: float = Field(default=0.6, gt=0.0, le=1.0, description="cutting starts at this share of all steps")
    every: int = Field(default=32, ge=1, description="steps between two looks for filters to cut")
    norms: dict[str, str] = Field(default={}, description="layer to batch norm, where that is not the next module")

    @model_validator(mode="after")
    def _ordered(self) -> MaskSparsity:
        if self.end <= self.begin:
            raise ValueError("filters are cut after they are marked")
        return self

    def start(self, run: Sparsifier) -> None:
        import torch

        for layer in run.layers:
            norm = self._norm(run, layer)
            # A tensor from the start, changed in place: a captured graph holds the penalty.
            run.memory[f"marked.{layer.name}"] = torch.zeros_like(norm.weight, dtype=torch.bool)
        run.memory.update(marked=False, cut=False)
        self._follow(run)

    def update(self, run: Sparsifier) -> None:
        self._follow(run)

    def penalty(self, run: Sparsifier) -> Tensor:
        import torch

        scales = torch.cat([self._norm(run, layer).weight for layer in run.layers])
        marked = torch.cat([run.memory[f"marked.{layer.name}"] for layer in run.layers])
        return (scales.abs() * marked).sum() * self.strength

    def finish(self, run: Sparsifier) -> None:
        if not run.memory["marked"]:
            self._mark(run)
        self._cut(run, None)
        self._hold(run)

    def _follow(self, run: Sparsifier) -> None:
        if not run.memory["marked"] and run.progress >= self.begin:
            self._mark(run)
        if run.progress >= self.end and (not run.memory["cut"] or run.step_number % self.every == 0):
            self._cut(run, self.threshold)
        if run.memory["cut"]:
            self._hold(run)

    def _mark(self, run: Sparsifier) -> None:
        from gossamer.sparsify.training.filters import choose_filters

        for layer, mask in zip(run.layers, choose_filters(run, lambda x: x.matrix()), strict=True):
            if mask is not None:
                run.memory[f"marked.{layer.name}"].copy_(~mask.any(dim=1))
        run.memory["marked"] = True

    def _cut(self, run: Sparsifier, threshold: float | None) -> None:
        """Mask the marked filters whose scale is below the threshold; None: all of them."""
        for layer in run.layers:
            marked = run.memory[f"marked.{layer.name}"]
            small = marked if threshold is None else marked & (self._norm(run, layer).weight.abs() < threshold)
            layer.set_mask(layer.matrix(layer.mask) & ~small[:, None])
            marked.logical_and_(~small)
        run.memory["cut"] = True

    def _hold(self, run: Sparsifier) -> None:
        """Keep what belongs to cut filters at 0 whatever the optimiser did."""
        for layer in run.layers:
            gone = ~layer.mask.flatten(1).any(dim=1)
            norm = self._norm(run, layer)
            held: tuple[Tensor | None, ...] = (norm.weight, norm.bias, getattr(layer.module, "bias", None))
            for vector in held:
                if vector is not None:
                    vector.masked_fill_(gone, 0.0)

    def _norm(self, run: Sparsifier, layer: SparseLayer) -> Any:
        from gossamer.sparsify.training.filters import norm_behind

        key = f"norm.{layer.name}"
        if key not in run.cache:
            run.cache[key] = norm_behind(run.model, layer, self.norms)
        return run.cache[key]
