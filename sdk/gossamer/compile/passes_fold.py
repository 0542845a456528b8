"""What folds into a convolution or matrix product: per-channel constants behind it and zero padding before it."""

from __future__ import annotations

import numpy as np

from gossamer.compile.graph import Array, Graph, Node, Type
from gossamer.compile.report import LowerReport
from gossamer.compile.rewrite import OWN, Build

_FOLDABLE = {("", "Conv"), ("", "ConvTranspose"), (OWN, "Linear")}


def fold_affine(g: Graph, report: LowerReport) -> int:
    """Per-channel Mul, Div, Add, Sub after Conv or Linear go into weights and bias (batch normalisation arrives here
    as Mul and Add). Products are taken in double and rounded once."""
    changed = 0
    for node in list(g.nodes):
        if node.domain or node.op_type not in ("Mul", "Add", "Sub", "Div") or node not in g.nodes:
            continue
        for k in (0, 1):
            maker = g.producer(node.inputs[k])
            const = g.const(node.inputs[1 - k])
            if maker is None or const is None or const.dtype != np.float32:
                continue
            if (maker.domain, maker.op_type) not in _FOLDABLE:
                continue
            if g.sole_consumer(maker.outputs[0]) is not node:
                continue
            if _fold(g, maker, node, const.astype(np.float64), k):
                report.fuse(f"{node.op_type} into {maker.op_type}", maker.name, node.name)
                changed += 1
                break
    return changed


def _fold(g: Graph, maker: Node, node: Node, c: Array, k: int) -> bool:
    out = maker.outputs[0]
    shape = g.shape(out)
    if g.shape(node.outputs[0]) != shape or (node.op_type == "Div" and k == 1):
        return False
    axis = len(shape) - 1 if maker.op_type == "Linear" else 1
    full = (1,) * (len(shape) - c.ndim) + c.shape
    if c.size != 1 and (full[axis] != shape[axis] or c.size != shape[axis]):
        return False
    flat = np.broadcast_to(c.reshape(-1), (shape[axis],))
    weight, bias_name = maker.inputs[1], maker.input(2)
    w, bias = g.const(weight), g.const(bias_name)
    if (bias_name and (bias is None or bias.dtype != np.float32)) or (w is None and node.op_type in ("Mul", "Div")):
        return False
    if w is None or w.dtype != np.float32:
        return False
    b = np.zeros(shape[axis]) if bias is None else np.broadcast_to(bias.astype(np.float64).reshape(-1), (shape[axis],))
    scale, shift = np.ones(shape[axis]), np.zeros(shape[axis])
    if node.op_type == "Mul":
        scale = flat
    elif node.op_type == "Div":
        scale = 1.0 / flat
    elif node.op_type == "Add":
        shift = flat
    elif k == 0:
        shift = -flat
    else:
        scale, shift = -scale, flat
    if node.op_type in ("Mul", "Div") or (node.op_type == "Sub" and k == 1):
        if maker.op_type == "ConvTranspose":
            if int(maker.attrs.get("group", 1)) != 1:
                return False
            view = [1, -1] + [1] * (w.ndim - 2)
        elif maker.op_type == "Linear":
            view = [-1, 1] if maker.attrs.get("transB") else [1, -1]
        else:
            view = [-1] + [1] * (w.ndim - 1)
        weight = g.add_const(weight, w.astype(np.float64) * scale.reshape(view), np.float32)
    maker.inputs = [maker.inputs[0], weight, g.add_const(f"{maker.name}.bias", b * scale + shift, np.float32)]
    old = node.outputs[0]
    g.types[old] = Type(g.dtype(out), shape)
    maker.outputs = [old]
    g.remove([node])
    return True


def merge_pads(g: Graph, report: LowerReport) -> int:
    """Zero padding of the spatial axes before Conv becomes the convolution's own, also through DequantizeLinear."""
    changed = 0
    for conv in list(g.nodes):
        if conv.domain or conv.op_type != "Conv" or conv.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", b"NOTSET"):
            continue
        dq = g.producer(conv.inputs[0])
        pad = dq
        if dq is not None and dq.op_type == "DequantizeLinear":
            pad = g.producer(dq.inputs[0])
        else:
            dq = None
        if pad is None or pad.op_type != "Pad" or pad.domain != OWN or pad.attrs["mode"] != "constant":
            continue
        before, after = pad.attrs["before"], pad.attrs["after"]
        zero = 0.0
        if dq is not None:
            params = g.qparams.get(pad.outputs[0])
            if params is None:
                continue
            zero = float(params.zero_point)
        if len(before) != 4 or before[0] or before[1] or after[0] or after[1] or pad.attrs["value"] != zero:
            continue
        pads = [int(v) for v in conv.attrs.get("pads", [0, 0, 0, 0])]
        conv.attrs["pads"] = [pads[0] + before[2], pads[1] + before[3], pads[2] + after[2], pads[3] + after[3]]
        source = pad.inputs[0]
        if dq is not None:
            build = Build(g, dq)
            source = build("DequantizeLinear", [source, *dq.inputs[1:]], g.shape(source), dtype=np.float32)
            g.insert(dq, build.nodes)
        conv.inputs[0] = source
        g.touch()
        report.fuse("Pad into Conv", conv.name, pad.name)
        changed += 1
    if changed:
        g.remove_dead()
        g.sort()
    return changed
