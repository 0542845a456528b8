"""Activation thresholds while training: hooks that zero small inputs of named layers, so that the rest adapts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gossamer._errors import CalibrationError, InputError
from gossamer.sparsify import arrays
from gossamer.sparsify.training.names import modules_named

if TYPE_CHECKING:
    from torch import Tensor, nn

MAX_VALUES = 1 << 20
"""Values kept per layer for its quantile."""


class ActivationThresholds:
    """Zeroes what is small in the inputs of named layers; rule and source: :mod:`gossamer.sparsify.activation`.

    >>> import torch
    >>> from gossamer.sparsify.training.activation import ActivationThresholds
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.SiLU(), torch.nn.Linear(32, 4))
    >>> thresholds = ActivationThresholds(model, ["2"], sparsity=0.5)
    >>> _ = thresholds.calibrate([torch.randn(64, 8)])
    >>> loss = model(torch.randn(16, 8)).square().mean(); loss.backward()
    >>> 0.3 < thresholds.measured()["2"] < 0.7
    True

    A zeroed activation passes no gradient. The hooks are not part of an exported graph: export the trained model, then
    put thresholds into the ONNX graph with :func:`gossamer.sparsify.activation.sparsify_activations`.

    Args:
        model: gets forward hooks.
        layers: names as in ``named_modules``.
        sparsity: share of zeros wanted, in [0, 1).
        per_sample: top-k: instead of a calibrated threshold, every sample keeps its own largest magnitudes, and what
            ties with the smallest of them.

    Raises:
        InputError: no layers, a name that is not there, or a sparsity out of range.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], sparsity: float, *, per_sample: bool = False):
        if not layers:
            raise InputError("activation thresholds need at least one layer", where="layers")
        if not 0.0 <= sparsity < 1.0:
            raise InputError(f"an activation sparsity is at least 0 and below 1, not {sparsity:g}", where="sparsity")
        known = modules_named(model, layers, "model")
        self.model, self.sparsity, self.per_sample = model, sparsity, per_sample
        self.thresholds: dict[str, float] = {}
        self._pools: dict[str, list[Tensor]] | None = None
        self._share = MAX_VALUES
        self._zeros: dict[str, Tensor | int] = dict.fromkeys(layers, 0)
        self._total: dict[str, int] = dict.fromkeys(layers, 0)
        self._hooks = [known[name].register_forward_pre_hook(self._hook(name)) for name in known]

    def calibrate(self, batches: Iterable[Any]) -> dict[str, float]:
        """Sets each layer's threshold to the quantile of its input's magnitude over ``batches``; returns them.

        The model runs without thresholds meanwhile, in the mode that it is in.

        Args:
            batches: what the model is called with; of a tuple or list, the first item.

        Raises:
            CalibrationError: no batches, or a layer that they do not reach.
        """
        import torch

        listed = list(batches)
        if not listed:
            raise CalibrationError("there are no calibration batches", hint="give at least one")
        self._pools = {name: [] for name in self._total}
        self._share = max(1, MAX_VALUES // len(listed))
        try:
            with torch.no_grad():
                for batch in listed:
                    self.model(batch[0] if isinstance(batch, (tuple, list)) else batch)
            for name, parts in self._pools.items():
                if not parts:
                    raise CalibrationError(f"layer '{name}' did not run", where=name, hint="name layers that do")
                pool = torch.cat(parts)
                rank = min(pool.numel(), max(1, math.ceil(self.sparsity * pool.numel() - 1e-9)))
                self.thresholds[name] = float(arrays.kth_smallest(pool, rank)) if self.sparsity else 0.0
        finally:
            self._pools = None
        return dict(self.thresholds)

    def measured(self) -> dict[str, float]:
        """Share of zeros in each layer's input since the last call (0 for a layer that did not run)."""
        found = {n: float(self._zeros[n]) / self._total[n] if self._total[n] else 0.0 for n in self._total}
        self._zeros, self._total = dict.fromkeys(found, 0), dict.fromkeys(found, 0)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Thresholds, to go on with."""
        return {"sparsity": self.sparsity, "per_sample": self.per_sample, "thresholds": dict(self.thresholds)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the thresholds of :meth:`state_dict`.

        Raises:
            InputError: they belong to other settings or layers.
        """
        mine = (self.sparsity, self.per_sample)
        if (state.get("sparsity"), state.get("per_sample")) != mine or not set(state["thresholds"]) <= set(self._total):
            raise InputError(
                "the saved thresholds belong to other settings or layers",
                where="ActivationThresholds.load_state_dict",
                hint="attach with the layers and sparsity of the saved run",
            )
        self.thresholds = {str(name): float(value) for name, value in state["thresholds"].items()}

    def close(self) -> None:
        """Takes the hooks off: the model computes as before."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _hook(self, name: str) -> Callable[..., Any]:
        def before(_module: nn.Module, args: tuple[Any, ...]) -> Any:
            if not args:
                raise InputError(
                    f"layer '{name}' is called with keyword arguments only", where=name, hint="pass its input by place"
                )
            x = args[0]
            if self._pools is not None:
                flat = x.detach().abs().float().reshape(-1)
                if flat.numel() > self._share:  # evenly spread, so that it is the same every time
                    flat = flat[:: -(-flat.numel() // self._share)]
                self._pools[name].append(flat)
                return None
            kept = self._kept(name, x)
            self._zeros[name] = self._zeros[name] + (~kept | (x == 0)).sum().detach()
            self._total[name] += x.numel()
            return (x.masked_fill(~kept, 0.0), *args[1:])

        return before

    def _kept(self, name: str, x: Tensor) -> Tensor:
        """What stays of an input, bool."""
        size = x.detach().abs()
        if not self.per_sample:
            if name not in self.thresholds:
                raise CalibrationError(
                    f"layer '{name}' has no threshold yet", where=name, hint="call calibrate(batches) first"
                )
            return size >= self.thresholds[name]
        rows = size.reshape(size.shape[0], -1)
        drop = min(rows.shape[1] - 1, int(self.sparsity * rows.shape[1] + 1e-9))
        if drop == 0:
            return size >= 0
        # Not kthvalue, which refuses to run on a GPU where only deterministic algorithms may.
        return size >= rows.topk(rows.shape[1] - drop, dim=1).values[:, -1].reshape(-1, *[1] * (size.ndim - 1))
