"""Attaches masks to a module, moves them as a method says, and leaves plain zeros behind."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gossamer._errors import InputError, RecipeError
from gossamer.sparsify.assign import Distribution, Target, assign
from gossamer.sparsify.patterns import NM
from gossamer.sparsify.training.layer import SparseLayer, choose
from gossamer.sparsify.training.masked import Masked
from gossamer.sparsify.training.method import Method
from gossamer.sparsify.training.registry import get_method

if TYPE_CHECKING:
    from gossamer.recipe import SparsifyStep


class Sparsifier:
    """Sparse training of any :class:`torch.nn.Module` in its owner's loop.

    >>> import torch
    >>> from gossamer.sparsify.training import Sparsifier
    >>> model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> target = {"pattern": "1x4", "sparsity": 0.75, "keep_dense": []}
    >>> sparsifier = Sparsifier(model, target, "gradual-magnitude", total_steps=100, optimizer=optimizer)
    >>> for _ in range(100):
    ...     loss = model(torch.randn(8, 16)).square().mean() + sparsifier.penalty()
    ...     optimizer.zero_grad(); loss.backward(); optimizer.step(); sparsifier.step()
    >>> report = sparsifier.finish()  # plain weights with plain zeros: export as ever
    >>> round(float((model[0].weight == 0).float().mean()), 2)
    0.75

    Masks are ``torch.nn.utils.parametrize`` parametrizations: ``model.state_dict()`` holds them, :meth:`state_dict`
    the rest. To resume, attach to a fresh model in the same way and load both. Works under AMP (masks are applied in
    the weight's own type), ``torch.compile`` (masks are buffers changed in place) and with gradients accumulated over
    several backward passes (call :meth:`step` once after ``optimizer.step()``).

    A ``copy.deepcopy`` of the model runs on with the masks of that moment; :func:`plain_weights` makes it plain. So
    does a moving average of the parameters, whose copy gets its masks from ``model.buffers()``. Every process of a
    distributed run grows by its own gradients: ``granet`` and ``rigl`` are for one process.

    Args:
        model: changed in place: pruned layers get parametrized weights. Attach before compiling it.
        target: what to prune and how far: a recipe's ``sparsify`` step, the same as a dict, a recipe, or the name or
            path of one. ``rearrange`` works on graphs and is not looked at here.
        method: how to get there: a method or its name. Default: the recipe's ``train.method`` with its options, else
            ``gradual-magnitude``.
        total_steps: optimiser steps of the whole run, at least 1.
        optimizer: needed by methods that move connections: the moments of new ones start at zero.
        seed: of methods that draw at random.

    Attributes:
        layers: the pruned layers.
        dense: name to reason, for the layers with weights that stay dense.
        step_number: optimiser steps so far.
        memory: numbers and tensors of the method, saved with the run.
        cache: what the method looked up in the model, not saved.

    Raises:
        RecipeError: the target names layers that are not there or prunes none, or the method cannot make its pattern.
        InputError: a weight is no plain parameter (a sparsifier is attached already), or what the method needs is
            missing. After any error the model is as it was.
    """

    def __init__(
        self,
        model: nn.Module,
        target: SparsifyStep | Mapping[str, Any] | Any,
        method: Method | str | None = None,
        *,
        total_steps: int,
        optimizer: torch.optim.Optimizer | None = None,
        seed: int = 0,
    ):
        if total_steps < 1:
            raise InputError(f"a run has at least 1 step, not {total_steps}", where="total_steps")
        self.target, self.method = _settings(target, method)
        self.total_steps, self.optimizer, self.step_number = total_steps, optimizer, 0
        self._progress: float | None = None
        self.memory: dict[str, Any] = {}
        self.cache: dict[str, Any] = {}
        self.model = model
        chosen, self.dense = choose(model, self.target)
        for c in chosen:
            kind = "n:m" if isinstance(c.pattern, NM) else "blocks"
            if kind not in self.method.patterns:
                raise RecipeError(
                    f"method '{self.method.name}' cannot make pattern {c.pattern.name}",
                    where=c.name,
                    hint=f"it takes {' and '.join(self.method.patterns)} patterns",
                )
        self.layers = tuple(
            SparseLayer(
                c.name,
                c.module,
                c.pattern,
                c.own,
                Masked(
                    c.weight.detach(),
                    dense_gradient=self.method.dense_gradient or self.method.straight_through,
                    leaking=self.method.leaking,
                    two_way=self.method.two_way,
                ),
                c.tied,
            )
            for c in chosen
        )
        self.generator = torch.Generator(device=chosen[0].weight.device).manual_seed(seed)
        self._finished = self._asked = False
        try:
            with torch.no_grad():
                self.method.start(self)
        except Exception:
            for layer in self.layers:
                layer.bake(zeros=False)
            raise
        if self.method.dense_gradient:
            for layer in self.layers:
                layer.keep_gradient()

    @property
    def progress(self) -> float:
        """How much of the run is over, 0..1."""
        return min(1.0, self.step_number / self.total_steps) if self._progress is None else self._progress

    @property
    def sparsity(self) -> float:
        """Share of pruned weights over the pruned layers."""
        total = sum(layer.size for layer in self.layers)
        return 1.0 - sum(int(layer.mask.sum()) for layer in self.layers) / total

    def penalty(self) -> Tensor | float:
        """What the method adds to the loss; 0.0 for most.

        Raises:
            InputError: the run is finished.
        """
        self._check_running("penalty")
        self._asked = True
        found = self.method.penalty(self)
        return 0.0 if found is None else found

    @torch.no_grad()
    def step(self, progress: float | None = None) -> None:
        """Call once after every ``optimizer.step()``.

        Args:
            progress: how much of the run is over, 0..1, where its length is not counted in steps.

        Raises:
            InputError: the run is finished, or the method adds to the loss, but :meth:`penalty` was never called.
            RecipeError: the recipe leaves a layer empty.
        """
        self._check_running("step")
        if self.method.penalised and not self._asked:
            raise InputError(
                f"method '{self.method.name}' adds a penalty to the loss, but nobody asked for it",
                where="Sparsifier.step",
                hint="train on `loss + sparsifier.penalty()`",
            )
        self.step_number += 1
        self._progress = progress
        self.method.update(self)
        for layer in self.layers:
            if layer.gradient is not None:
                layer.gradient.zero_()

    def targets(
        self, share: float = 1.0, matrix_of: Callable[[SparseLayer], Callable[[], tuple[Tensor, Any]]] | None = None
    ) -> list[Target]:
        """The layers as :func:`gossamer.sparsify.assign.assign` wants them.

        Args:
            share: 0..1 of the sparsity that a layer has of its own.
            matrix_of: gives what gives a layer's scores; by default magnitudes.
        """
        return [
            Target(
                layer.pattern,
                tuple(layer.weight.shape),
                layer.scored if matrix_of is None else matrix_of(layer),
                None if layer.own is None else layer.own * share,
            )
            for layer in self.layers
        ]

    @torch.no_grad()
    def prune(
        self,
        share: float = 1.0,
        *,
        scores: Callable[[SparseLayer], Tensor] | None = None,
        only_kept: bool = False,
        distribution: Distribution | None = None,
    ) -> None:
        """Choose all masks anew so that ``share`` of the final sparsity is reached.

        Args:
            share: 0..1 of the target's sparsity, of each layer's own too; n:m patterns are made whole.
            scores: ``[R, K]`` of a layer, at least 0; by default magnitudes.
            only_kept: what is pruned now stays pruned.
            distribution: instead of the target's.
        """

        def matrix_of(layer: SparseLayer) -> Callable[[], tuple[Tensor, Any]]:
            def scored() -> tuple[Tensor, Any]:
                found = layer.matrix() if scores is None else scores(layer)
                if only_kept:  # below a kept weight of 0, which would tie; padding stays at 0
                    found = torch.where(layer.matrix(~layer.mask), -1.0, found)
                return found, layer.columns

            return scored

        targets = self.targets(share, matrix_of)
        spread = distribution or self.target.distribution
        made = assign(targets, self.target.wanted * share, spread, self.target.min_fraction)
        for layer, found in zip(self.layers, made, strict=True):
            if not only_kept:
                layer.set_mask(found.mask)
            elif found.mask is not None:
                layer.set_mask(found.mask & layer.matrix(layer.mask))

    @torch.no_grad()
    def reset_moments(self, layer: SparseLayer, where: Tensor) -> None:
        """Zero the optimiser's moments of ``layer`` where a mask of the weight's shape is True."""
        if self.optimizer is None:
            return
        for value in self.optimizer.state.get(layer.weight, {}).values():
            if isinstance(value, Tensor) and value.shape == layer.weight.shape:
                value.masked_fill_(where, 0.0)

    @torch.no_grad()
    def settle(self) -> None:
        """Bring the masks to where the method has to end; :meth:`finish` does it, too. Where a run goes on after it,
        sparsity does not fall again.

        Raises:
            InputError: the run is finished.
            RecipeError: the recipe leaves a layer empty.
        """
        self._check_running("settle")
        self.method.finish(self)

    @torch.no_grad()
    def finish(self) -> dict[str, float]:
        """Turn the masks into plain zeros and take the parametrizations off; returns sparsity by layer.

        Parameters stay the same objects, but nothing holds the zeros any more: an optimiser that goes on fills them.
        A second call changes nothing.

        Raises:
            RecipeError: the recipe leaves a layer empty; masks stay attached.
        """
        if not self._finished:
            self.settle()
            self.reached = {layer.name: layer.sparsity for layer in self.layers}
            for layer in self.layers:
                layer.bake()
            self._finished = True
        return dict(self.reached)

    def state_dict(self) -> dict[str, Any]:
        """Step, method, target and random state; masks are in the model's own ``state_dict``."""
        return {
            "settings": self._identity(),
            "step_number": self.step_number,
            "progress": self._progress,
            # Copies: methods change their tensors in place.
            "memory": {k: v.clone() if isinstance(v, Tensor) else copy.copy(v) for k, v in self.memory.items()},
            "random": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken; load the model's state beside it.

        Raises:
            InputError: the state belongs to another recipe (the message names what differs), or its random state to
                another kind of device.
        """
        mine, saved = self._identity(), dict(state.get("settings", {}))
        for key in (*mine, *saved):
            if mine.get(key) != saved.get(key):
                raise InputError(
                    f"the saved run has another recipe: {key} was {saved.get(key)!r}, is {mine.get(key)!r}",
                    where="Sparsifier.load_state_dict",
                    hint="resume with the recipe it was started with, or start anew",
                )
        where = self.generator.device
        try:
            self.generator.set_state(state["random"].cpu())
        except RuntimeError as error:
            raise InputError(
                f"the saved run drew on another kind of device, this one draws on {where.type}",
                where="Sparsifier.load_state_dict",
                hint="resume on the kind of device that it was started on",
            ) from error
        self.step_number, self._progress = int(state["step_number"]), state.get("progress")
        self.memory = {
            key: value.to(where, copy=True) if isinstance(value, Tensor) else copy.copy(value)
            for key, value in state["memory"].items()
        }

    def _identity(self) -> dict[str, Any]:
        return {
            **self.method.settings(),
            "total_steps": self.total_steps,
            **{f"sparsify.{k}": v for k, v in self.target.model_dump(mode="json").items()},
        }

    def _check_running(self, asked: str) -> None:
        if self._finished:
            raise InputError(
                "this run is finished: its masks are plain zeros now",
                where=f"Sparsifier.{asked}",
                hint="attach a new Sparsifier to prune further",
            )


def _settings(target: Any, method: Method | str | None) -> tuple[SparsifyStep, Method]:
    from gossamer.recipe import SparsifyStep, load_recipe

    if isinstance(target, Mapping) and "version" not in target:
        target = {"version": 1, "sparsify": dict(target)}
    if not isinstance(target, SparsifyStep):
        recipe = load_recipe(target)
        if recipe.sparsify is None:
            raise RecipeError("the recipe has no sparsify step", where=recipe.name or None)
        target = recipe.sparsify
        if method is None and recipe.train is not None:
            method = recipe.train.made()
    found = get_method(method or "gradual-magnitude") if not isinstance(method, Method) else method
    return target, found
