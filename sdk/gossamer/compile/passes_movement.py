"""Reshape and Transpose: neighbours compose, and both sink below arithmetic until they meet their inverse."""

from __future__ import annotations

from gossamer.compile.graph import Graph, Node
from gossamer.compile.rewrite import Build
from gossamer.compile.unary import unary_of

OWN = "gossamer"


def is_own_or_plain(node: Node, *ops: str) -> bool:
    """Whether a node is one of these operators, of ONNX or canonical."""
    return node.domain in ("", OWN) and node.op_type in ops


def compose_movement(g: Graph) -> int:
    """Reshape after Reshape and Transpose after Transpose become one."""
    changed = 0
    for node in list(g.nodes):
        before = g.producer(node.inputs[0]) if node.inputs and node.inputs[0] else None
        if before is None or before.op_type != node.op_type or before.domain != node.domain:
            continue
        if is_own_or_plain(node, "Reshape") and node.domain == OWN:
            node.inputs = [before.inputs[0]]
        elif is_own_or_plain(node, "Transpose"):
            rank = len(g.shape(node.inputs[0]))
            one = before.attrs.get("perm") or list(range(rank))[::-1]
            two = node.attrs.get("perm") or list(range(rank))[::-1]
            node.attrs["perm"] = [one[i] for i in two]
            node.inputs = [before.inputs[0]]
        else:
            continue
        g.touch()
        changed += 1
    return changed


def sink_movement(g: Graph) -> int:
    """Moves Reshape and Transpose below elementwise functions, so that they meet their inverse or a compute node's
    activation meets the compute node."""
    changed = 0
    for node in list(g.nodes):
        move = g.producer(node.inputs[0]) if node.inputs and node.inputs[0] else None
        if move is None or not (
            is_own_or_plain(move, "Reshape", "Transpose") and (move.domain == OWN or move.op_type != "Reshape")
        ):
            continue
        if g.sole_consumer(move.outputs[0]) is not node or move not in g.nodes:
            continue
        x = move.inputs[0]
        if x in g.consts:
            continue
        found = unary_of(g, node)
        if found is not None and found[1].channels == 0 and node.input(0) == move.outputs[0]:
            _swap(g, move, node, [x, *node.inputs[1:]])
            changed += 1
        elif (
            is_own_or_plain(node, "Add", "Sub", "Mul", "Div", "Max", "Min")
            and len(node.inputs) == 2
            and not node.domain
        ):
            other = g.producer(node.inputs[1])
            if (
                other is not None
                and other is not move
                and (other.op_type, other.domain, other.attrs) == (move.op_type, move.domain, move.attrs)
                and g.sole_consumer(other.outputs[0]) is node
                and g.shape(other.inputs[0]) == g.shape(x)
                and g.shape(other.outputs[0]) == g.shape(move.outputs[0])
            ):
                _swap(g, move, node, [x, other.inputs[0]])
                changed += 1
    if changed:
        g.remove_dead()
        g.sort()
    return changed


def _swap(g: Graph, move: Node, node: Node, inputs: list[str]) -> None:
    out = node.outputs[0]
    mid = g.add_value(out, g.dtype(out), g.shape(move.inputs[0]))
    node.inputs, node.outputs = inputs, [mid]
    moved = Node(move.op_type, [mid, *move.inputs[1:]], [out], dict(move.attrs), move.name, move.source, move.domain)
    g.nodes.remove(move)
    g.touch()
    g.insert(node, [moved], after=True)


def sink_integer_reshapes(g: Graph) -> int:
    """The same for quantised operands: an operator on dequantised reshaped values works on the values as they were."""
    changed = 0
    for node in list(g.nodes):
        if node.domain or node.op_type not in ("Add", "Sub", "Mul") or len(node.inputs) != 2:
            continue
        sides = [_reshaped(g, i) for i in node.inputs]
        if sides[0] is None or sides[1] is None:
            continue
        (dq_a, a), (dq_b, b) = sides[0], sides[1]
        out = node.outputs[0]
        if g.shape(a) != g.shape(b) or g.shape(node.inputs[0]) != g.shape(node.inputs[1]):
            continue
        build = Build(g, node)
        inputs = [
            build("DequantizeLinear", [q, *dq.inputs[1:]], g.shape(q), dtype=g.dtype(out))
            for dq, q in ((dq_a, a), (dq_b, b))
        ]
        made = build(node.op_type, inputs, g.shape(a))
        build.reshape(made, g.shape(out), out=out)
        build.done()
        changed += 1
    if changed:
        g.remove_dead()
        g.sort()
    return changed


def _reshaped(g: Graph, name: str) -> tuple[Node, str] | None:
    """(DequantizeLinear, value before the Reshape) of a float value made by them."""
    dq = g.producer(name)
    if dq is None or dq.domain or dq.op_type != "DequantizeLinear" or dq.inputs[0] in g.consts:
        return None
    move = g.producer(dq.inputs[0])
    if move is None or move.domain != OWN or move.op_type != "Reshape" or dq.inputs[0] not in g.qparams:
        return None
    g.qparams.setdefault(move.inputs[0], g.qparams[dq.inputs[0]])
    return dq, move.inputs[0]
