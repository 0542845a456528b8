"""The layers of a torch module that take part in sparse training, seen as the matrices that patterns work on."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gossamer._errors import RecipeError
from gossamer.sparsify.arrays import Array
from gossamer.sparsify.matrix import Columns, from_onnx, to_onnx
from gossamer.sparsify.patterns import NM, Blocks, Pattern, get, unit_counts
from gossamer.sparsify.training import two_way
from gossamer.sparsify.training.masked import Masked

if TYPE_CHECKING:
    from gossamer.recipe import LayerRule, SparsifyStep

PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class SparseLayer:
    """One weight with a mask.

    Attributes:
        name: of the module, as in ``named_modules``.
        module: the convolution or linear layer.
        pattern: what the mask looks like.
        own: its own final sparsity; None: the distribution over the network decides.
        masked: its parametrization.
        gradient: the last gradient of the masked weight, at pruned places too, for methods that grow; else None.
    """

    def __init__(self, name: str, module: nn.Module, pattern: Pattern, own: float | None, masked: Masked):
        self.name, self.module, self.pattern, self.own, self.masked = name, module, pattern, own, masked
        self.gradient: Tensor | None = None
        self._hook: torch.utils.hooks.RemovableHandle | None = None
        parametrize.register_parametrization(module, "weight", masked, unsafe=True)
        if masked.backward_mask is not None:
            two_way.install(module)
        _, self.columns = from_onnx(self.weight.detach())
        self._counts = unit_counts(self.weight.shape[0], self.columns, pattern.block)

    @property
    def weight(self) -> nn.Parameter:
        """The stored weight, pruned places included."""
        stored = self.module.parametrizations.weight.original  # type: ignore[union-attr]
        assert isinstance(stored, nn.Parameter)
        return stored

    @property
    def mask(self) -> Tensor:
        """bool, shape of the weight; change it through :meth:`set_mask`."""
        return self.masked.mask

    @property
    def size(self) -> int:
        """Weights."""
        return self.weight.numel()

    @property
    def sparsity(self) -> float:
        """Share of pruned weights now."""
        return 1.0 - int(self.mask.sum()) / self.size

    @property
    def unit_counts(self) -> npt.NDArray[np.int32]:
        """Real weights in each block of the pattern."""
        return self._counts

    def matrix(self, tensor: Tensor | None = None) -> Tensor:
        """A tensor of the weight's shape, by default its magnitude, as ``[R, K]``: patterns' scores."""
        source = self.weight.detach().abs() if tensor is None else tensor
        return from_onnx(source.float() if source.is_floating_point() else source)[0]  # type: ignore[no-any-return]

    def scored(self) -> tuple[Array, Columns]:
        """Magnitudes as :class:`gossamer.sparsify.assign.Target` wants them."""
        return self.matrix(), self.columns

    def units(self, scores: Tensor) -> Tensor:
        """Scores of blocks, ``[block rows, block columns]``, for scores ``[R, K]``.

        Raises:
            RecipeError: the pattern has no blocks (n:m).
        """
        return self._blocks().units(scores, self.columns)[0]  # type: ignore[no-any-return]

    def kept_units(self) -> Tensor:
        """bool ``[block rows, block columns]``: blocks that the mask keeps."""
        return self.units(self.matrix(self.mask).float()) > 0

    def set_units(self, keep: Tensor) -> None:
        """Keep these blocks, bool ``[block rows, block columns]``."""
        self.set_mask(self._blocks().expand(keep, int(self.weight.shape[0]), self.columns))

    def set_mask(self, mask: Tensor | None) -> None:
        """Take a mask ``[R, K]``; None keeps everything.

        Raises:
            RecipeError: it would leave the layer without any weight.
        """
        if mask is None:
            self.mask.fill_(True)
            return
        # n:m cannot be empty, and to look would make a GPU wait in every step of methods that choose anew.
        if not isinstance(self.pattern, NM) and not bool(mask.any()):
            raise RecipeError(
                f"the recipe leaves layer '{self.name}' empty: none of its {self.size} weights would stay",
                where=self.name,
                hint="lower its sparsity, give it a rule of its own, or exclude it",
            )
        self.mask.copy_(to_onnx(mask, tuple(self.weight.shape)))

    def keep_gradient(self, correct: Callable[[], None]) -> None:
        """From now on every backward pass leaves the dense gradient in ``gradient`` and a masked one for the
        optimiser, which ``correct`` may change."""
        self.gradient = torch.zeros_like(self.weight)

        @torch.no_grad()
        def take(weight: Tensor) -> None:
            if weight.grad is not None and self.gradient is not None:
                self.gradient.copy_(weight.grad)
                weight.grad.mul_(self.mask)
                correct()

        self._hook = self.weight.register_post_accumulate_grad_hook(take)  # type: ignore[no-untyped-call]

    def bake(self) -> None:
        """Replace the parametrization by a plain weight with plain zeros."""
        self.masked.leak.zero_()
        if self._hook is not None:
            self._hook.remove()
        if self.masked.backward_mask is not None:
            two_way.remove(self.module)
        parametrize.remove_parametrizations(self.module, "weight", leave_parametrized=True)

    def _blocks(self) -> Blocks:
        if not isinstance(self.pattern, Blocks):
            raise RecipeError(f"{self.pattern.name} has no blocks to drop and grow", where=self.name)
        return self.pattern


@dataclass(frozen=True)
class Chosen:
    """A module that is to be pruned; see :class:`SparseLayer`."""

    name: str
    module: nn.Module
    pattern: Pattern
    own: float | None


def choose(model: nn.Module, step: SparsifyStep) -> tuple[list[Chosen], dict[str, str]]:
    """The modules that a recipe's ``sparsify`` step prunes, and for the others with weights why not.

    As on an ONNX graph, the first convolution, depthwise and grouped convolutions and the last layer stay dense unless
    the step names them; first and last go by the order in which modules are registered.

    Raises:
        RecipeError: the step names a module that is not there, or nothing is left to prune.
    """
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, PRUNABLE)]
    names = [n for n, _ in found]
    for field, globs in (("include", step.include), ("exclude", step.exclude)):
        for i, glob in enumerate(globs):
            _check(f"sparsify.{field}[{i}]", glob, names)
    for i, override in enumerate(step.layers):
        if override.match is not None:
            _check(f"sparsify.layers[{i}]", override.match, names)
    first = next((n for n, m in found if not isinstance(m, nn.Linear)), None)
    chosen: list[Chosen] = []
    dense: dict[str, str] = {}
    owners: dict[int, str] = {}
    for name, module in found:
        rule = next((r for r in reversed(step.layers) if _rule_matches(r, name, module)), None)
        named = any(_glob(g, name) for g in step.include) or (rule is not None and rule.match is not None)
        reason = _why_dense(name, module, step, rule, named, is_first=name == first, is_last=name == names[-1])
        weight = module.weight
        assert isinstance(weight, Tensor)
        if reason is None and id(weight) in owners:
            reason = f"shares its weights with '{owners[id(weight)]}'"
        if reason is not None:
            dense[name] = reason
            continue
        owners[id(weight)] = name
        pattern = get(rule.pattern if rule is not None and rule.pattern else step.pattern)
        own = rule.sparsity if rule is not None else None
        chosen.append(Chosen(name, module, pattern, pattern.sparsity if isinstance(pattern, NM) else own))
    if not chosen:
        listed = "; ".join(f"{n}: {r}" for n, r in dense.items()) or "it has no layers with weights"
        raise RecipeError("the recipe prunes no layer of this model", where=listed, hint="name layers with `include`")
    return chosen, dense


def _why_dense(
    name: str,
    module: nn.Module,
    step: SparsifyStep,
    rule: LayerRule | None,
    named: bool,
    *,
    is_first: bool,
    is_last: bool,
) -> str | None:
    if any(_glob(g, name) for g in step.exclude):
        return "excluded by the recipe"
    if rule is not None and rule.dense:
        return "dense by a rule of the recipe"
    if named:
        return None
    groups = getattr(module, "groups", 1)
    depthwise = groups > 1 and groups == getattr(module, "in_channels", 0)
    if is_first and "first_conv" in step.keep_dense:
        return "first convolution: dense by default"
    if depthwise and "depthwise" in step.keep_dense:
        return "depthwise convolution: dense by default"
    if groups > 1 and not depthwise:
        return "grouped convolution: no sparse kernel"
    if is_last and "classifier" in step.keep_dense:
        return "last classifier: dense by default"
    return None


def _rule_matches(rule: LayerRule, name: str, module: nn.Module) -> bool:
    op = "Gemm" if isinstance(module, nn.Linear) else "Conv"
    if rule.op is not None and rule.op not in (op, "MatMul" if op == "Gemm" else op):
        return False
    return rule.match is None or _glob(rule.match, name)


def _glob(pattern: str, name: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def _check(field: str, glob: str, names: list[str]) -> None:
    if not any(_glob(glob, n) for n in names):
        near = difflib.get_close_matches(glob, names, n=3, cutoff=0.3) or names[:8]
        raise RecipeError(
            f"field '{field}' names no layer of this model: '{glob}'",
            hint=f"nearest layers: {', '.join(near)}",
            field=field,
        )
