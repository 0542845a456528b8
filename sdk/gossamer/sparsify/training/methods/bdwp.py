"""BDWP: n:m sparse in both directions of training, a mask for the forward pass and one for the backward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from gossamer.sparsify.training.methods.sr_ste import SparseRefinedSTE

if TYPE_CHECKING:
    from gossamer.sparsify.training.sparsifier import Sparsifier


class BidirectionalPruning(SparseRefinedSTE):
    """``y = (m_f W) x`` and ``dL/dx = (m_b W)^T dL/dy``; the stored ``W`` gets the dense gradient of ``m_f W``.

    ``m_f`` keeps n of every m weights along the inputs of an output, ``m_b`` n of every m along the outputs of an
    input, both by the magnitudes of the stored weights and chosen anew after every optimiser step. Hardware with n:m
    units then runs both products at the sparse rate. What training leaves behind is ``m_f W``.

    Source: Fang et al., "Efficient N:M sparse DNN training using algorithm, architecture, and dataflow co-design"
    (arXiv 2309.13015), BDWP; 2:8 costs 0.56% accuracy on average there (abstract). The update of ``W`` could not be
    read: it is that of SR-STE here, with its defaults and with ``decay`` (2e-4) on what ``m_f`` prunes.
    """

    name: ClassVar[str] = "bdwp"
    title: ClassVar[str] = "n:m in the forward and, along the other direction, in the backward pass"
    source: ClassVar[str] = "Fang et al., arXiv 2309.13015"
    rule: ClassVar[str] = "y = (m_f W) x, dL/dx = (m_b W)^T dL/dy, m_f along inputs, m_b along outputs"
    patterns: ClassVar[tuple[str, ...]] = ("n:m",)
    two_way: ClassVar[bool] = True

    def start(self, run: Sparsifier) -> None:
        self._choose(run)

    def update(self, run: Sparsifier) -> None:
        if run.step_number % self.every == 0:
            self._choose(run)

    @staticmethod
    def _choose(run: Sparsifier) -> None:
        from gossamer.sparsify.training.two_way import backward_mask

        run.prune()
        for layer in run.layers:
            mask = layer.masked.backward_mask
            assert mask is not None
            mask.copy_(backward_mask(layer.pattern, layer.weight, getattr(layer.module, "groups", 1)))
