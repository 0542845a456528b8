"""Weights of a plan to constants: dense arrays, or the block streams of ``plan_format.h`` ("Sparse weights").

Fills inputs 1 (values) and 2 (index) of every CONV and GEMM and the ``P.W*`` slots, and input 1 of every DWCONV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer._errors import CompileError
from gossamer.compile.plan import DType, Op, OpKind, P, PatternLabel, Plan, Tensor, Weights
from gossamer.sparsify.blocks import INT8_LIMIT, Encoded, encode_blocks
from gossamer.sparsify.matrix import Columns, from_plan
from gossamer.sparsify.patterns import Pattern, get

WEIGHTED = (OpKind.CONV, OpKind.GEMM)
_DW_LIMIT = 255
"""DWCONV weights are kept in 16 bits inside +-255 (NUMERICS.md)."""


@dataclass(frozen=True)
class EncodedLayer:
    """What encoding did to one operator.

    Attributes:
        name: the operator's name.
        asked: the pattern its weights carried.
        pattern: the pattern that runs.
        weights: real weights.
        zeros: of these, zeros.
        blocks: stored blocks, 0 when dense.
        dense_bytes: bytes of the dense array.
        stored_bytes: bytes of values and index.
        reason: why the stored form is not the asked one, or "".
    """

    name: str
    asked: str
    pattern: str
    weights: int
    zeros: int
    blocks: int
    dense_bytes: int
    stored_bytes: int
    reason: str = ""

    @property
    def sparsity(self) -> float:
        return self.zeros / self.weights if self.weights else 0.0


def encode_weights(plan: Plan) -> list[EncodedLayer]:
    """Replaces ``Op.weights`` by constant inputs, in place, in the order of the operators.

    The form that runs is the one ``Weights.pattern`` names; dense weights may be stored as ``Weights.storage`` where
    that is smaller. It becomes dense when no block is absent or when the layer is a grouped convolution. Integer
    weights outside +-127 are split over blocks of equal column (exact, see NUMERICS.md).

    Returns:
        one record per operator with weights.

    Raises:
        CompileError: a weight is not finite, an unknown pattern, or depthwise weights beyond +-255.
    """
    return [_encode_op(op) for op in plan.ops if op.weights is not None]


def _encode_op(op: Op) -> EncodedLayer:
    weights = op.weights
    assert weights is not None
    dense = np.ascontiguousarray(weights.dense)
    if np.issubdtype(dense.dtype, np.floating):
        dense = dense.astype(np.float32, copy=False)
        if not np.isfinite(dense).all():
            raise CompileError("the weights hold NaN or infinity", where=_where(op), hint="repair the model's weights")
    elif dense.dtype not in (np.dtype(np.int8), np.dtype(np.int16)):
        raise CompileError(f"weights of type {dense.dtype} cannot be stored", where=_where(op))
    if op.kind is OpKind.DWCONV:
        return _encode_depthwise(op, weights, dense)
    if op.kind not in WEIGHTED:
        raise CompileError(f"operator {op.kind.name} takes no weights", where=_where(op))
    while len(op.inputs) < 3:
        op.inputs.append(None)
    wide = dense.dtype != np.float32 and bool((np.abs(dense.astype(np.int16)) > INT8_LIMIT).any())
    groups = op.p.get(P.GROUPS, 1) if op.kind is OpKind.CONV else 1
    reason = ""
    if wide and groups > 1:
        dense = _ungroup(dense, groups)
        op.p[P.GROUPS] = 1
        groups = 1
        reason = "integer weights beyond 127 are stored as split blocks of one ungrouped matrix"
    matrix, columns = from_plan(dense)
    pattern = None if weights.pattern == "dense" else _pattern(op, weights.pattern)
    if pattern is not None and groups > 1:
        pattern, reason = None, "dense: a grouped convolution has no sparse form"
    encoded, used = _choose_form(matrix, columns, pattern, wide)
    label = PatternLabel(used.label) if used is not None else PatternLabel.DENSE
    count = int(weights.dense.size)
    dense_bytes = count * (4 if dense.dtype == np.float32 else 1)
    if encoded is None and groups == 1 and weights.storage != "dense":
        # Runs dense and is stored in blocks: the core spreads them out at load.
        stored = _stored(matrix, _pattern(op, weights.storage))
        if stored.nbytes < dense_bytes:
            encoded = stored
            reason = f"stored in blocks of {stored.block[0]}x{stored.block[1]}"
    if pattern is not None and used is None and not reason:
        reason = f"dense: the zeros leave no block of {pattern.name} empty"
    elif wide and pattern is None and not reason:
        reason = "integer weights beyond 127 are stored as split blocks"
    zeros = count - int(np.count_nonzero(weights.dense))
    if encoded is None:
        narrow = dense if dense.dtype == np.float32 else dense.astype(np.int8)
        op.inputs[1] = _const(f"{op.name}.weight", narrow)
        op.inputs[2] = None
        _set_slots(op, PatternLabel.DENSE)
    else:
        op.inputs[1] = _const(f"{op.name}.weight", encoded.values)
        op.inputs[2] = _const(f"{op.name}.index", encoded.index)
        _set_slots(op, label, encoded, used)
    op.weights = None
    return EncodedLayer(
        name=op.name,
        asked=weights.pattern,
        pattern=used.name if used is not None else "dense",
        weights=count,
        zeros=zeros,
        blocks=encoded.blocks if encoded is not None else 0,
        dense_bytes=dense_bytes,
        stored_bytes=encoded.nbytes if encoded is not None else dense_bytes,
        reason=reason,
    )


def _choose_form(
    matrix: npt.NDArray[Any], columns: Columns, pattern: Pattern | None, wide: bool
) -> tuple[Encoded | None, Pattern | None]:
    """The stored blocks and their pattern, or (None, None) for dense."""
    if pattern is not None:
        found = pattern.measure(matrix, columns=columns)
        if wide or found.stored < matrix.size:
            return _stored(matrix, pattern), pattern
    if not wide:
        return None, None
    forms = [get("1x4"), get("4x4")]
    coded = [(encode_blocks(matrix, *form.block), form) for form in forms]
    return min(coded, key=lambda pair: pair[0].nbytes)


def _stored(matrix: npt.NDArray[Any], pattern: Pattern) -> Encoded:
    try:
        return pattern.encode(matrix)
    except ValueError:  # more than 65535 single weights in a row: blocks of four hold them
        return get("1x4").encode(matrix)


def _encode_depthwise(op: Op, weights: Weights, dense: npt.NDArray[Any]) -> EncodedLayer:
    if dense.dtype != np.float32:
        top = int(np.abs(dense.astype(np.int16)).max(initial=0))
        if top > _DW_LIMIT:
            raise CompileError(f"a depthwise weight of {top} is beyond {_DW_LIMIT}", where=_where(op))
        dense = dense.astype(np.int8 if top <= INT8_LIMIT else np.int16)
    while len(op.inputs) < 2:
        op.inputs.append(None)
    op.inputs[1] = _const(f"{op.name}.weight", dense)
    op.weights = None
    reason = "" if weights.pattern == "dense" else "dense: a depthwise convolution has no sparse form"
    zeros = int(dense.size) - int(np.count_nonzero(dense))
    size = int(dense.nbytes)
    return EncodedLayer(op.name, weights.pattern, "dense", int(dense.size), zeros, 0, size, size, reason)


def _ungroup(dense: npt.NDArray[Any], groups: int) -> npt.NDArray[Any]:
    """Grouped CONV weights ``[Cout, kh, kw, Cin/groups]`` as block-diagonal ones of all input channels."""
    rows, kh, kw, each = dense.shape
    full = np.zeros((rows, kh, kw, each * groups), dtype=dense.dtype)
    per = rows // groups
    for g in range(groups):
        full[g * per : (g + 1) * per, :, :, g * each : (g + 1) * each] = dense[g * per : (g + 1) * per]
    return full


def _pattern(op: Op, name: str) -> Pattern:
    try:
        return get(name)
    except ValueError as error:
        raise CompileError(str(error), where=_where(op)) from error


def _set_slots(op: Op, label: PatternLabel, encoded: Encoded | None = None, pattern: Pattern | None = None) -> None:
    br, bc = encoded.block if encoded is not None else (0, 0)
    op.p[P.WBR], op.p[P.WBC] = br, bc
    op.p[P.WBLOCKS] = encoded.blocks if encoded is not None else 0
    op.p[P.WENC] = encoded.encoding if encoded is not None else 0
    op.p[P.WLABEL] = int(label)
    op.p[P.WN], op.p[P.WM] = (pattern.n, pattern.m) if pattern is not None else (0, 0)


def _const(name: str, data: npt.NDArray[Any]) -> Tensor:
    return Tensor(name, DType.of(data.dtype), tuple(data.shape), data=np.ascontiguousarray(data))


def _where(op: Op) -> str:
    return f"operator '{op.name}'" + (f" ({op.source})" if op.source else "")
