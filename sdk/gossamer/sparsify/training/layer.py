"""The layers of a torch module that take part in sparse training, seen as the matrices that patterns work on."""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gossamer._errors import InputError, RecipeError
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
        gradient: the gradient of the masked weight, at pruned places too, summed over the backward passes since the
            last step, for methods that grow; else None.

    Args:
        tied: other modules that hold the same weight, and under which name; they get the mask, too.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        pattern: Pattern,
        own: float | None,
        masked: Masked,
        tied: tuple[tuple[nn.Module, str], ...] = (),
    ):
        self.name, self.module, self.pattern, self.own, self.masked = name, module, pattern, own, masked
        self.gradient: Tensor | None = None
        self._hook: torch.utils.hooks.RemovableHandle | None = None
        self._holders = ((module, "weight"), *tied)
        for holder, key in self._holders:
            parametrize.register_parametrization(holder, key, masked, unsafe=True)
            if masked.backward_mask is not None and isinstance(holder, PRUNABLE):
                two_way.install(holder)
        _, self.columns = from_onnx(self.weight.detach())
        self._counts = unit_counts(self.weight.shape[0], self.columns, pattern.block)

    @property
    def weight(self) -> nn.Parameter:
        """The stored weight, pruned places included; once the run is finished, the plain one."""
        lists = getattr(self.module, "parametrizations", None)
        stored = self.module.weight if lists is None else lists.weight.original
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

    def keep_gradient(self) -> None:
        """From now on every backward pass adds its dense gradient to ``gradient`` and leaves a masked one for the
        optimiser."""
        gradient = self.gradient = torch.zeros_like(self.weight)

        @torch.no_grad()
        def take(found: Tensor) -> Tensor:
            gradient.add_(found)
            return found * self.mask

        self._hook = self.weight.register_hook(take)  # type: ignore[no-untyped-call]

    def bake(self, *, zeros: bool = True) -> None:
        """Replace the parametrization by a plain weight with plain zeros (or, without ``zeros``, as it was before)."""
        if self._hook is not None:
            self._hook.remove()
        for holder, key in self._holders:
            _bake(holder, key, self.masked, zeros=zeros)

    def _blocks(self) -> Blocks:
        if not isinstance(self.pattern, Blocks):
            raise RecipeError(f"{self.pattern.name} has no blocks to drop and grow", where=self.name)
        return self.pattern


def plain_weights(model: nn.Module) -> int:
    """Make masked weights plain, with plain zeros, as :meth:`Sparsifier.finish` does: for copies of a model that a
    sparsifier is attached to.

    Returns:
        Weights that were masked.
    """
    count = 0
    for module in list(model.modules()):
        lists = getattr(module, "parametrizations", {})
        for key, masked in [(k, m[0]) for k, m in lists.items() if isinstance(m[0], Masked)]:
            _bake(module, key, masked, zeros=True)
            count += 1
    return count


def _bake(holder: nn.Module, key: str, masked: Masked, *, zeros: bool) -> None:
    masked.leak.zero_()
    if masked.backward_mask is not None and isinstance(holder, PRUNABLE):
        two_way.remove(holder)
    # torch takes the property off the class, which copies of the module share: not from theirs.
    shared = type(holder)
    holder.__class__ = type(shared.__name__, shared.__bases__, dict(shared.__dict__))
    parametrize.remove_parametrizations(holder, key, leave_parametrized=zeros)
    if key == "weight":  # in front again, where layers have it: optimisers' states go by the order
        for name in [n for n in holder._parameters if n != key]:
            holder._parameters[name] = holder._parameters.pop(name)


@dataclass(frozen=True)
class Chosen:
    """A module that is to be pruned; see :class:`SparseLayer`."""

    name: str
    module: nn.Module
    pattern: Pattern
    own: float | None
    weight: nn.Parameter
    tied: tuple[tuple[nn.Module, str], ...]


def choose(model: nn.Module, step: SparsifyStep) -> tuple[list[Chosen], dict[str, str]]:
    """The modules that a recipe's ``sparsify`` step prunes, and for the others with weights why not.

    As on an ONNX graph, the first convolution, depthwise and grouped convolutions and the last layer stay dense unless
    the step names them; first and last go by the order in which modules are registered.

    Raises:
        RecipeError: the step names a module or an operator that is not there, or nothing is left to prune.
        InputError: a weight is no plain parameter, as where a sparsifier is attached already.
    """
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, PRUNABLE)]
    names = [n for n, _ in found]
    for field, globs in (("include", step.include), ("exclude", step.exclude)):
        for i, glob in enumerate(globs):
            _check(f"sparsify.{field}[{i}]", glob, names)
    for i, override in enumerate(step.layers):
        if override.match is not None:
            _check(f"sparsify.layers[{i}]", override.match, names)
        if override.op is not None and not any(override.op in _operators(m) for _, m in found):
            has = sorted({op for _, m in found for op in _operators(m)})
            raise RecipeError(
                f"field 'sparsify.layers[{i}].op' names no operator with weights of this model: '{override.op}'",
                hint=f"it has {', '.join(has) or 'none'}",
                field=f"sparsify.layers[{i}].op",
            )
    first = next((n for n, m in found if not isinstance(m, nn.Linear)), None)
    chosen: list[Chosen] = []
    dense: dict[str, str] = {}
    owners: dict[int, str] = {}
    for name, module in found:
        rule = next((r for r in reversed(step.layers) if _rule_matches(r, name, module)), None)
        named = any(_glob(g, name) for g in step.include) or (rule is not None and rule.match is not None)
        reason = _why_dense(name, module, step, rule, named, is_first=name == first, is_last=name == names[-1])
        if reason is not None:
            dense[name] = reason
            continue
        weight = _plain(name, module)
        if id(weight) in owners:
            dense[name] = f"shares its weights with '{owners[id(weight)]}'"
            continue
        owners[id(weight)] = name
        tied = [(m, key) for m in model.modules() for key, p in m._parameters.items() if p is weight]
        pattern = get(rule.pattern if rule is not None and rule.pattern else step.pattern)
        own = rule.sparsity if rule is not None else None
        own = pattern.sparsity if isinstance(pattern, NM) else own
        others = tuple((m, key) for m, key in tied if m is not module)
        chosen.append(Chosen(name, module, pattern, own, weight, others))
    if not chosen:
        listed = "; ".join(f"{n}: {r}" for n, r in dense.items()) or "it has no layers with weights"
        raise RecipeError("the recipe prunes no layer of this model", where=listed, hint="name layers with `include`")
    return chosen, dense


def _plain(name: str, module: nn.Module) -> nn.Parameter:
    found = module._parameters.get("weight")
    if found is None:
        raise InputError(
            f"the weight of layer '{name}' is no plain parameter: something computes it",
            where=name,
            hint="finish() the sparsifier that is attached, remove the parametrization or weight norm, or exclude it",
        )
    if nn.parameter.is_lazy(found):
        raise InputError(f"layer '{name}' has no weight yet", where=name, hint="run the model once before attaching")
    assert isinstance(found, nn.Parameter)
    return found


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
    if rule.op is not None and rule.op not in _operators(module):
        return False
    return rule.match is None or _glob(rule.match, name)


def _operators(module: nn.Module) -> tuple[str, ...]:
    """What the module may be called in ONNX."""
    return ("Gemm", "MatMul") if isinstance(module, nn.Linear) else ("Conv",)


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
