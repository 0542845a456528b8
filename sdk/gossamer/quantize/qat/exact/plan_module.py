"""PlanModule: runs what the compiler made, operator by operator, with the numbers that the core gives.

Interpreting the plan, not the ONNX graph, means that every fusion, table and fold of the compiler is in the result.
int8 operators follow ``device_runtime/native/NUMERICS.md`` and are equal bit for bit; float32 ones are close, as they
are between any two targets of the core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gossamer._errors import InputError, UnsupportedError
from gossamer.compile.plan import DType, Op, OpKind, Plan
from gossamer.compile.plan import Tensor as PlanTensor
from gossamer.quantize.qat.exact import elementwise, movement, pooling, products
from gossamer.quantize.qat.exact.state import TORCH, WEIGHTED, Rule, State, requantised

RULES: dict[OpKind, Rule] = {**products.RULES, **elementwise.RULES, **pooling.RULES, **movement.RULES}


class PlanModule(nn.Module):
    """A plan as a torch module without parameters.

    Args:
        plan: as ``gossamer.compile.lower.lower`` returns it (weights not encoded yet).
        borders: scale and zero point of 8-bit inputs and outputs by name, where the plan does not give them.

    Raises:
        UnsupportedError: the plan hands operators to another engine, which are named.
    """

    zero: Tensor

    def __init__(self, plan: Plan, borders: Mapping[str, tuple[float, int]] | None = None) -> None:
        super().__init__()
        self._borders = dict(borders or {})
        foreign = [op for op in plan.ops if op.kind not in RULES]
        if foreign:
            raise UnsupportedError(
                "these operators run outside the core, so their results cannot be known here: "
                + ", ".join(f"'{op.name}' at {op.source}" for op in foreign)
            )
        self.plan = plan
        self.register_buffer("zero", torch.zeros((), dtype=torch.float32), persistent=False)
        self._constants: dict[int, str] = {}
        self._weights: dict[int, str] = {}
        for op in plan.ops:
            for tensor in op.inputs:
                if tensor is not None and tensor.is_const and id(tensor) not in self._constants:
                    self._constants[id(tensor)] = self._keep(_array(tensor))
            dense = _dense(op)
            if dense is not None:
                self._weights[id(op)] = self._keep(torch.from_numpy(np.array(dense)))
        self._last = _last_uses(plan)

    def _keep(self, tensor: Tensor) -> str:
        name = f"t{len(self._buffers)}"
        self.register_buffer(name, tensor, persistent=False)
        return name

    @torch.no_grad()
    def forward(self, *inputs: Tensor, batch: int = 64, watch: Callable[[Op, Tensor], None] | None = None) -> Any:
        """The outputs as float32, 8-bit ones dequantised: a tensor, or a tuple of several.

        Args:
            inputs: ``[B, ...]``; float32 in the model's own scale, or 8-bit integers where the plan takes those.
            batch: samples that are computed at a time.
            watch: called with every operator and its result ``[samples, *shape]``.

        Raises:
            InputError: a wrong number of inputs, or a shape that does not fit.
        """
        outputs = self.raw(*inputs, batch=batch, watch=watch)
        real = [self._real(y, t) for y, t in zip(outputs, self.plan.outputs, strict=True)]
        return real[0] if len(real) == 1 else tuple(real)

    @torch.no_grad()
    def raw(
        self, *inputs: Tensor, batch: int = 64, watch: Callable[[Op, Tensor], None] | None = None
    ) -> tuple[Tensor, ...]:
        """The outputs in the plan's own types, batch first; arguments as for :meth:`forward`."""
        values = self._inputs(inputs)
        starts = range(0, values[0].shape[0], batch)
        parts = [self._run([v[start : start + batch] for v in values], watch) for start in starts]
        return tuple(
            y.flatten(0, 1) if y.dim() > 1 else y
            for y in (torch.cat([p[k] for p in parts]) for k in range(len(parts[0])))
        )

    def _inputs(self, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        wanted = self.plan.inputs
        if len(inputs) != len(wanted):
            raise InputError(f"{len(inputs)} inputs given, the model has {len(wanted)}")
        values = []
        for x, t in zip(inputs, wanted, strict=True):
            fits = x.dim() == len(t.shape) and tuple(x.shape[1:]) == t.shape[1:]
            if not fits or not t.shape or x.shape[0] % t.shape[0] or x.shape[0] == 0:
                raise InputError(
                    f"input '{t.name}' has shape {list(x.shape)}, the model takes {list(t.shape)}",
                    hint="batch first: any multiple of the model's own",
                )
            x = x.to(self.zero.device)
            if x.is_floating_point() and t.dtype in (DType.S8, DType.U8):
                scale, zero = self._params(t)
                low, high = (0, 255) if t.dtype is DType.U8 else (-128, 127)
                x = requantised(x.float() / (self.zero + scale), zero, low, high)
            values.append(x.to(TORCH[t.dtype]).reshape(-1, *t.shape))
        return values

    def _run(self, inputs: list[Tensor], watch: Callable[[Op, Tensor], None] | None) -> list[Tensor]:
        buffers = {name: b for name, b in self._buffers.items() if b is not None}
        state = State(
            values={id(t): x for t, x in zip(self.plan.inputs, inputs, strict=True)},
            constants={key: buffers[name] for key, name in self._constants.items()},
            weights={key: buffers[name] for key, name in self._weights.items()},
            zero=self.zero,
        )
        for k, op in enumerate(self.plan.ops):
            made = RULES[op.kind](state, op)
            state.values[id(op.outputs[0])] = made
            if watch is not None:
                watch(op, made)
            for key in self._last[k]:
                state.values.pop(key, None)
        return [state.values[id(t)] for t in self.plan.outputs]

    def _real(self, y: Tensor, t: PlanTensor) -> Tensor:
        if y.is_floating_point():
            return y
        scale, zero = self._params(t)
        return (y.to(torch.int64) - zero).to(torch.float32) * (self.zero + scale)

    def _params(self, t: PlanTensor) -> tuple[float, int]:
        """Scale and zero point of an input or output; 1 and 0 where it is plain integers."""
        return (t.scale, t.zero_point) if t.scale else self._borders.get(t.name, (1.0, 0))


def _dense(op: Op) -> Any:
    """The whole weights of a weighted operator; those of a depthwise one may stand in its values input."""
    if op.weights is not None:
        return op.weights.dense
    values = op.inputs[1] if op.kind in WEIGHTED else None
    return None if values is None else values.data


def _array(tensor: PlanTensor) -> Tensor:
    assert tensor.data is not None
    array = tensor.data
    if array.dtype == np.uint32:
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array)).reshape(tensor.shape)


def _last_uses(plan: Plan) -> list[list[int]]:
    """Per operator, the activations that nothing reads after it."""
    needed = {id(t) for t in plan.outputs}
    last: list[list[int]] = []
    for op in reversed(plan.ops):
        read = {id(t) for t in op.inputs if t is not None and not t.is_const}
        last.append([key for key in read if key not in needed])
        needed |= read
    return last[::-1]
