"""Whole-network rearrangement: channels in another order, so that block patterns keep more of the weights.

::

    import gossamer
    from gossamer.recipe import SparsifyStep
    from gossamer.sparsify.rearrange import rearrange

    model = gossamer.load("model.onnx")
    report = rearrange(model, SparsifyStep(pattern="1x4", sparsity=0.9))
    print(report.text())

The dense function stays the same: inputs, outputs, and every value in between up to the order of its channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.sparsify.rearrange.report import Held, LayerGain, RearrangeReport
    from gossamer.sparsify.rearrange.run import permute_like, rearrange

TITLE = "Whole-network rearrangement"
SOURCE = "arXiv 2105.14713 (1xN pattern, filter rearrangement); arXiv 2310.19509 (SparseByteNN)"
RULE = (
    "Channels that matter to the same outputs are put next to each other, through residuals, concatenations, depthwise "
    "layers and flattening, so that the blocks of 1x4, 4x1 or 4x4 that are kept hold as much magnitude as they can. "
    "Local search by swaps on the sum, over blocks, of what each holds above the weakest kept block; no run-time cost."
)

_RUN = ("permute_like", "rearrange")
_REPORT = ("Held", "LayerGain", "RearrangeReport")
__all__ = ["RULE", "SOURCE", "TITLE", "Held", "LayerGain", "RearrangeReport", "permute_like", "rearrange"]


def __getattr__(name: str) -> Any:
    """The search comes with onnx_ir, which reading the constants above does not need."""
    if name in _RUN:
        import gossamer.sparsify.rearrange.run as run

        return getattr(run, name)
    if name in _REPORT:
        import gossamer.sparsify.rearrange.report as report

        return getattr(report, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
