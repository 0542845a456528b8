"""A compiled plan in torch: the runtime's own arithmetic on batches, on a CPU or a GPU, to judge training by."""

from __future__ import annotations

from gossamer.quantize.qat.exact.plan_module import PlanModule

__all__ = ["PlanModule"]
