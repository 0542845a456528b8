"""Makes the integer regions of a QDQ graph explicit.

``DequantizeLinear`` moves down and ``QuantizeLinear`` moves up through nodes that only move data, pairs that meet
cancel, and functions of one quantised value become tables (node ``Lut`` of domain ``gossamer``, attribute ``fns``).
What remains between DequantizeLinear and QuantizeLinear is arithmetic, which lowering turns into int8 operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gossamer.compile.graph import Array, Graph, Node, QParams
from gossamer.compile.passes_movement import compose_movement, sink_integer_reshapes, sink_movement
from gossamer.compile.report import LowerReport
from gossamer.compile.unary import BINARY, Double, Function, Unary, clip_bounds, unary_of

OWN = "gossamer"
_MAX_TABLE = 1 << 18
"""Bytes of a per-channel table above which the function stays an operator."""


def make_integer(g: Graph, report: LowerReport) -> None:
    if not any(n.op_type in ("QuantizeLinear", "DequantizeLinear", "Cast") for n in g.nodes):
        return
    _casts(g)
    _note_params(g)
    for _ in range(50):
        changed = _merge_dequantize(g) + _push_down(g) + _pull_up(g) + _cancel(g, report) + _clamp_once(g, report)
        changed += compose_movement(g) + sink_movement(g) + sink_integer_reshapes(g)
        g.remove_dead()
        if not changed:
            break
        g.sort()
    _make_tables(g, report)
    _gates_to_tables(g, report)
    g.remove_dead()
    g.sort()


def params_of(g: Graph, node: Node) -> QParams | None:
    """Per-tensor parameters of a QuantizeLinear or DequantizeLinear of 8-bit values, else ``None``."""
    scale = g.const(node.inputs[1])
    integer = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
    if scale is None or scale.size != 1 or g.dtype(integer) not in (np.int8, np.uint8):
        return None
    zero = 0
    if node.input(2):
        z = g.const(node.input(2))
        if z is None or z.size != 1:
            return None
        zero = int(z.reshape(-1)[0])
    return QParams(float(scale.reshape(-1)[0]), zero)


def dequantized(g: Graph, name: str) -> Node | None:
    """The per-tensor DequantizeLinear that makes a float value from an 8-bit activation, else ``None``."""
    node = g.producer(name)
    if node is None or node.domain or node.op_type != "DequantizeLinear" or node.inputs[0] in g.consts:
        return None
    return node if params_of(g, node) is not None else None


def _casts(g: Graph) -> None:
    """A cast of 8-bit integers to float is a DequantizeLinear with scale 1 and zero point 0."""
    for node in g.nodes:
        if node.op_type != "Cast" or node.domain or node.inputs[0] in g.consts:
            continue
        x, kind = node.inputs[0], g.dtype(node.inputs[0])
        if kind in (np.int8, np.uint8) and g.dtype(node.outputs[0]) == np.float32:
            one, zero = g.add_const("one", np.float32(1), np.float32), g.add_const("zero", np.zeros((), kind), kind)
            node.op_type, node.attrs, node.inputs = "DequantizeLinear", {}, [x, one, zero]
    g.touch()


def _note_params(g: Graph) -> None:
    for node in g.nodes:
        if node.domain or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        params = params_of(g, node)
        if params is not None:
            name = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
            g.qparams.setdefault(name, params)


def _merge_dequantize(g: Graph) -> int:
    """One DequantizeLinear per integer value."""
    changed = 0
    first: dict[tuple[str, QParams], Node] = {}
    for node in list(g.nodes):
        if node.domain or node.op_type != "DequantizeLinear" or g.is_output(node.outputs[0]):
            continue
        params = params_of(g, node)
        if params is None:
            continue
        seen = first.setdefault((node.inputs[0], params), node)
        if seen is not node:
            g.replace_uses(node.outputs[0], seen.outputs[0])
            g.remove([node])
            changed += 1
    return changed


def _moves(node: Node) -> bool:
    if node.domain == OWN:
        return node.op_type in ("Reshape", "Slice", "Pad")
    if node.domain:
        return False
    if node.op_type == "Resize":
        return node.attrs.get("mode", "nearest") in ("nearest", b"nearest")
    return node.op_type in ("Transpose", "MaxPool", "GlobalMaxPool", "Concat", "Identity")


def _data_inputs(node: Node) -> list[int]:
    return list(range(len(node.inputs))) if node.op_type == "Concat" else [0]


def _quantize_pad(node: Node, params: QParams, low: int, high: int) -> None:
    if node.op_type == "Pad":
        q = np.rint(node.attrs["value"] / params.scale) + params.zero_point
        node.attrs["value"] = float(np.clip(q, low, high))


def _push_down(g: Graph) -> int:
    changed = 0
    for node in list(g.nodes):
        if not _moves(node) or len([o for o in node.outputs if o]) != 1:
            continue
        indices = _data_inputs(node)
        sources = [s for s in (dequantized(g, node.inputs[k]) for k in indices) if s is not None]
        if len(sources) < len(indices):
            continue
        first = sources[0]
        params = params_of(g, first)
        kind = g.dtype(first.inputs[0])
        if params is None or any(params_of(g, s) != params or g.dtype(s.inputs[0]) != kind for s in sources):
            continue
        if node.op_type == "Pad" and _pad_inexact(node, params, kind):
            continue
        out = node.outputs[0]
        moved = g.add_value(out, kind, g.shape(out))
        g.qparams[moved] = params
        for k, s in zip(indices, sources, strict=True):
            node.inputs[k] = s.inputs[0]
        info = np.iinfo(kind)
        _quantize_pad(node, params, info.min, info.max)
        node.outputs[0] = moved
        again = Node("DequantizeLinear", [moved, *first.inputs[1:]], [out], {}, node.name, node.source)
        g.insert(node, [again], after=True)
        changed += 1
    return changed


def _pad_inexact(node: Node, params: QParams, kind: np.dtype[Any]) -> bool:
    """Whether a constant padding value does not lie on the integer grid."""
    if node.attrs["mode"] != "constant":
        return False
    q = node.attrs["value"] / params.scale
    info = np.iinfo(kind)
    return bool(abs(q - round(q)) > 1e-3 or not info.min <= round(q) + params.zero_point <= info.max)


def _pull_up(g: Graph) -> int:
    changed = 0
    for node in list(g.nodes):
        if node.domain or node.op_type != "QuantizeLinear" or node.inputs[0] in g.consts:
            continue
        move = g.producer(node.inputs[0])
        params = params_of(g, node)
        if move is None or params is None or not _moves(move) or g.sole_consumer(move.outputs[0]) is not node:
            continue
        if len([o for o in move.outputs if o]) != 1 or g.dtype(move.inputs[0]) != np.float32:
            continue
        indices = _data_inputs(move)
        if move.op_type == "Concat" and sum(move.inputs[k] in g.consts for k in indices) == len(indices):
            continue
        q_type = g.dtype(node.outputs[0])
        made: list[Node] = []
        quantized: dict[str, str] = {}
        for k in indices:
            x = move.inputs[k]
            if x not in quantized:
                q = g.add_value(node.outputs[0], q_type, g.shape(x))
                g.qparams[q] = params
                made.append(Node("QuantizeLinear", [x, *node.inputs[1:]], [q], {}, node.name, node.source))
                quantized[x] = q
            move.inputs[k] = quantized[x]
        info = np.iinfo(q_type)
        _quantize_pad(move, params, info.min, info.max)
        move.outputs = [node.outputs[0], *move.outputs[1:]]
        g.qparams[node.outputs[0]] = params
        g.insert(move, made)
        g.remove([node])
        changed += 1
    return changed


def quantize_const(value: Array, params: QParams, kind: np.dtype[Any]) -> Array:
    info = np.iinfo(kind)
    q = np.rint(value.astype(np.float32) / np.float32(params.scale)) + params.zero_point
    return np.asarray(np.clip(q, info.min, info.max).astype(kind))


def _cancel(g: Graph, report: LowerReport) -> int:
    """Quantise after dequantise: nothing when the parameters agree, else a table. Quantise of a constant is folded."""
    changed = 0
    for node in list(g.nodes):
        if node.domain or node.op_type != "QuantizeLinear" or node not in g.nodes:
            continue
        params = params_of(g, node)
        if params is None:
            continue
        out, kind = node.outputs[0], g.dtype(node.outputs[0])
        value = g.const(node.inputs[0])
        if value is not None and not g.is_output(out):
            name = g.add_const(out, quantize_const(value, params, kind), kind)
            g.qparams[name] = params
            g.replace_uses(out, name)
            g.remove([node])
            changed += 1
            continue
        dq = dequantized(g, node.inputs[0])
        if dq is None:
            continue
        q = dq.inputs[0]
        if params_of(g, dq) == params and g.dtype(q) == kind:
            changed += g.bypass(node, q)
        else:
            node.op_type, node.domain, node.inputs, node.attrs = "Lut", OWN, [q], {"fns": []}
            report.fuse("requantise to table", node.name)
            g.touch()
            changed += 1
    return changed


def _clamp_once(g: Graph, report: LowerReport) -> int:
    """Quantise, dequantise, Relu/Clip, quantise with the same parameters: the first pair is dropped (exact, since
    quantisation is monotonic), and the clamp fuses into the operator before it."""
    changed = 0
    for node in list(g.nodes):
        if node.domain or node.op_type != "QuantizeLinear" or node not in g.nodes:
            continue
        clip = g.producer(node.inputs[0])
        if clip is None or clip_bounds(g, clip) is None or g.sole_consumer(clip.outputs[0]) is not node:
            continue
        dq = dequantized(g, clip.inputs[0])
        if dq is None or g.sole_consumer(dq.outputs[0]) is not clip:
            continue
        first = g.producer(dq.inputs[0])
        if first is None or first.op_type != "QuantizeLinear" or g.sole_consumer(first.outputs[0]) is not dq:
            continue
        if params_of(g, first) != params_of(g, node) or g.dtype(first.outputs[0]) != g.dtype(node.outputs[0]):
            continue
        clip.inputs[0] = first.inputs[0]
        g.remove([dq, first])
        report.fuse("clamp before quantise", clip.name)
        changed += 1
    return changed


def _make_tables(g: Graph, report: LowerReport) -> None:
    for node in list(g.nodes):
        if node.domain or node.op_type != "QuantizeLinear" or params_of(g, node) is None:
            continue
        fns: list[Unary] = []
        names: list[str] = []
        value, channels = node.inputs[0], 0
        while dequantized(g, value) is None:
            maker = g.producer(value)
            found = unary_of(g, maker) if maker is not None and len(g.consumers(value)) == 1 else None
            if maker is None or found is None or g.is_output(value):
                break
            value, function = found
            channels = max(channels, function.channels)
            fns.insert(0, function)
            names.insert(0, maker.name)
        dq = dequantized(g, value)
        shape = g.shape(node.outputs[0])
        if dq is None or not fns or channels * 256 > _MAX_TABLE or (channels and len(shape) < 2):
            continue
        node.op_type, node.domain, node.inputs, node.attrs = "Lut", OWN, [dq.inputs[0]], {"fns": fns}
        node.name = names[-1]
        report.fuse("function to table", *names)
        g.touch()


def _gates_to_tables(g: Graph, report: LowerReport) -> None:
    """An operator on a quantised value and a table of the same value (x * Sigmoid(x) quantised in between) is itself a
    function of that value. The inner rounding is part of the new table, so the result stays the same."""
    for node in list(g.nodes):
        if node.domain or node.op_type != "QuantizeLinear" or params_of(g, node) is None:
            continue
        maker = g.producer(node.inputs[0])
        if maker is None or maker.domain or maker.op_type not in BINARY or g.sole_consumer(node.inputs[0]) is not node:
            continue
        sides = [s for s in (dequantized(g, i) for i in maker.inputs) if s is not None]
        if len(sides) != 2 or len(maker.inputs) != 2:
            continue
        for k in (0, 1):
            x, gate = sides[k], sides[1 - k]
            inner = g.producer(gate.inputs[0])
            if inner is None or (inner.op_type, inner.domain) != ("Lut", OWN) or inner.inputs[0] != x.inputs[0]:
                continue
            table = _quantized_function(g, inner)
            if table is None or len(g.consumers(gate.outputs[0])) != 1:
                continue
            apply = BINARY[maker.op_type]
            fn = _both(apply, table, first=k == 0)
            node.op_type, node.domain, node.attrs = "Lut", OWN, {"fns": [Unary(fn)]}
            node.inputs, node.name = [x.inputs[0]], maker.name
            report.fuse("gate to table", inner.name, maker.name)
            g.touch()
            break


def _both(apply: Callable[[Double, Double], Double], gate: Function, *, first: bool) -> Function:
    return lambda v: apply(v, gate(v)) if first else apply(gate(v), v)


def _quantized_function(g: Graph, lut: Node) -> Function | None:
    """The function of a Lut node from real values to real values, its rounding included; ``None`` per channel."""
    fns: list[Unary] = lut.attrs["fns"]
    params = g.qparams.get(lut.outputs[0])
    if params is None or any(f.channels for f in fns):
        return None
    info = np.iinfo(g.dtype(lut.outputs[0]))

    def function(values: Double) -> Double:
        for f in fns:
            values = f.fn(values)
        q = np.clip(np.rint(values / params.scale) + params.zero_point, info.min, info.max)
        return np.asarray((q - params.zero_point) * params.scale)

    return function
