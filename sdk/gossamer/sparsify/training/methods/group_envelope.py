"""Group envelope regularisation: a convex penalty that draws the network to a preset number of groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from gossamer._errors import RecipeError
from gossamer.sparsify.training.method import Method

if TYPE_CHECKING:
    from torch import Tensor

    from gossamer.sparsify.training.layer import SparseLayer
    from gossamer.sparsify.training.sparsifier import Sparsifier


class GroupEnvelope(Method):
    """The loss gains ``strength * S_k(W)``: S_k is the biconjugate of ``1/2 ||W||^2`` where at most k groups are
    nonzero, infinity elsewhere, that is half the squared k-support norm of the groups' Euclidean norms.

    k is preset: as many groups as the recipe's sparsity keeps, in each layer or (distribution ``global``) in all
    together. Large groups see plain weight decay, ``strength * w``; small ones are drawn to zero with a force that
    does not fade with them, ``strength * tau * w / ||w||``. At ``end`` the k largest groups are kept, the others are
    masked, the penalty is gone and the network has the rest of the run to recover.

    Source: Refael, Arbel and Huleihel, "Learning k-level structured sparse neural networks using group envelope
    regularization" (arXiv 2212.12921), with unit weights; Beck and Refael, "Sparse regularization via bidualization";
    Argyriou, Foygel and Srebro (arXiv 1204.5043), proposition 2.1, for the value. The paper trains with the proximal
    operator; here any optimiser follows the gradient, and the cut at ``end``, its place and ``strength`` are ours.
    Defaults: strength 5e-4, blocks of the pattern, the cut after 60% of the run.
    """

    name: ClassVar[str] = "group-envelope"
    title: ClassVar[str] = "convex penalty that draws to a preset number of blocks or filters"
    source: ClassVar[str] = "Refael, Arbel and Huleihel, arXiv 2212.12921; Argyriou et al., arXiv 1204.5043"
    rule: ClassVar[str] = "loss + strength * (1/2 ||.||^2 + [at most k groups])** of the groups' norms; keep the top k"
    patterns: ClassVar[tuple[str, ...]] = ("blocks",)
    penalised: ClassVar[bool] = True

    strength: float = Field(default=5e-4, gt=0.0, description="weight of the envelope in the loss")
    groups: Literal["blocks", "filters"] = Field(
        default="blocks", description="blocks of the pattern, or whole filters (in steps of the blocks' height)"
    )
    end: float = Field(
        default=0.6, gt=0.0, le=1.0, description="the k largest groups are kept from this share of steps"
    )

    def start(self, run: Sparsifier) -> None:
        import torch

        if self.groups == "filters" and run.target.distribution == "global":
            raise RecipeError(
                "filters of different layers differ in size and cannot share one k",
                hint="use distribution uniform or erk, or groups: blocks",
                field="sparsify.distribution",
            )
        self._keep(run)
        kept = [int((self._norms(layer, layer.mask.float()) > 0.5).sum()) for layer in run.layers]
        for layer in run.layers:
            layer.set_mask(None)
        run.memory.update(
            {f"k.{layer.name}": k for layer, k in zip(run.layers, kept, strict=True)},
            # A tensor, changed in place: a captured graph holds the penalty.
            strength=torch.full((), self.strength, device=run.generator.device),
            kept=False,
        )

    def update(self, run: Sparsifier) -> None:
        if not run.memory["kept"] and run.progress >= self.end:
            self.finish(run)

    def finish(self, run: Sparsifier) -> None:
        if not run.memory["kept"]:
            self._keep(run)
            run.memory["kept"] = True
            run.memory["strength"].zero_()

    def penalty(self, run: Sparsifier) -> Tensor:
        import torch

        from gossamer.sparsify.training.envelope import force

        with torch.no_grad():
            norms = [self._norms(layer, layer.weight) for layer in run.layers]
            ks = [int(run.memory[f"k.{layer.name}"]) for layer in run.layers]
            forces = [force(z, k) for z, k in zip(norms, ks, strict=True)]
            together = [i for i, x in enumerate(run.layers) if x.own is None and run.target.distribution == "global"]
            if together:
                whole = force(torch.cat([norms[i] for i in together]), sum(ks[i] for i in together))
                for i, part in zip(together, torch.split(whole, [norms[i].numel() for i in together]), strict=True):
                    forces[i] = part
            factors = [self._spread(x, f / z) for x, f, z in zip(run.layers, forces, norms, strict=True)]
        # 1/2 sum of factor w^2 is 1/2 <z, force> in value, and its gradient, factor w, is that of the envelope.
        parts = [(layer.weight.square() * factor).sum() for layer, factor in zip(run.layers, factors, strict=True)]
        strength: Tensor = run.memory["strength"]
        return torch.stack(parts).sum() * (0.5 * strength)

    def _keep(self, run: Sparsifier) -> None:
        from gossamer.sparsify.training.filters import choose_filters

        if self.groups == "blocks":
            run.prune(scores=self._squares)
            return
        for layer, mask in zip(run.layers, choose_filters(run, self._squares), strict=True):
            layer.set_mask(mask)

    @staticmethod
    def _squares(layer: SparseLayer) -> Tensor:
        return layer.matrix().square()

    def _norms(self, layer: SparseLayer, weight: Tensor) -> Tensor:
        """Euclidean norms of the groups of a tensor of the layer's shape, ``[groups]``; groups of nothing but padding
        count as zeros."""
        from gossamer.sparsify.blocks import cut

        matrix = layer.matrix(weight)
        squares: Tensor = cut(matrix.square(), *self._shape(layer)).sum(dim=(2, 3)).flatten()
        return squares.clamp(min=1e-30).sqrt()  # never 0: it divides

    def _spread(self, layer: SparseLayer, groups: Tensor) -> Tensor:
        """A value per group at each of its weights, in the weight's shape."""
        from gossamer.sparsify.matrix import to_onnx

        height, width = self._shape(layer)
        rows, columns = int(layer.weight.shape[0]), layer.columns.count
        high = -(-rows // height)
        spread = groups.reshape(high, 1, -1, 1).expand(high, height, -1, width).reshape(high * height, columns)
        return to_onnx(spread[:rows], tuple(layer.weight.shape))  # type: ignore[no-any-return]

    def _shape(self, layer: SparseLayer) -> tuple[int, int]:
        """Rows and columns of a group."""
        height, width = layer.pattern.block
        return height, width if self.groups == "blocks" else layer.columns.count
