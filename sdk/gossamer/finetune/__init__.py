"""Fine-tuning of a model that is given as a graph: sparse training, distillation and int8 training by a recipe.

``gossamer.optimize(..., train_data=...)`` runs it between loading and pruning; :func:`fine_tune` runs it alone. Needs
torch (``pip install gossamer[torch]``); importing this package does not load it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.finetune.run import Tuned, fine_tune

__all__ = ["Tuned", "fine_tune"]


def __getattr__(name: str) -> Any:
    """Loaded on first use."""
    if name in __all__:
        import gossamer.finetune.run as run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
