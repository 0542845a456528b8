"""Clean-up of the graph: no-ops go, equal nodes merge, movement nodes compose and sink, affine constants fold.

Every pass changes the graph in place and returns how many changes it made; ``run`` repeats them until nothing changes.
"""

from __future__ import annotations

from typing import Any

from gossamer.compile import passes_canonical, passes_decompose, passes_fuse, passes_qdq, passes_qoperator
from gossamer.compile.graph import Graph, Node
from gossamer.compile.infer import infer
from gossamer.compile.passes_fold import fold_affine, merge_pads
from gossamer.compile.passes_movement import compose_movement, sink_movement
from gossamer.compile.report import LowerReport
from gossamer.compile.rewrite import OWN


def run(g: Graph, report: LowerReport) -> None:
    """All passes, in order; the graph comes out canonical, fused, with quantised regions made explicit."""
    passes_qoperator.to_qdq(g)
    for name in infer(g):
        report.fuse("constant", name)
    for _ in range(20):
        changed = (
            remove_noops(g, report)
            + merge_equal(g)
            + passes_canonical.canonicalise(g)
            + compose_movement(g)
            + sink_movement(g)
            + passes_fuse.fuse(g, report)
            + fold_affine(g, report)
        )
        g.remove_dead()
        if not changed:
            break
    passes_qdq.make_integer(g, report)
    passes_decompose.expand_functions(g)
    for _ in range(20):
        changed = remove_noops(g, report) + compose_movement(g) + merge_pads(g, report)
        g.remove_dead()
        if not changed:
            break
    g.remove_dead()
    g.sort()


def remove_noops(g: Graph, report: LowerReport) -> int:
    """Identity, Dropout, casts to the same type, and every node that returns its input unchanged."""
    changed = 0
    for node in list(g.nodes):
        if node.domain not in ("", OWN) or not node.inputs or not node.inputs[0] or not node.outputs[0]:
            continue
        x, y = node.inputs[0], node.outputs[0]
        if any(o and (g.consumers(o) or g.is_output(o)) for o in node.outputs[1:]):
            continue
        if _noop(g, node, x, y) and g.bypass(node, x):
            report.fuse("no-op", node.name)
            changed += 1
    return changed


def _noop(g: Graph, node: Node, x: str, y: str) -> bool:
    same = g.types[x] == g.types[y]
    op = node.op_type
    if op in ("Identity", "Dropout"):
        return True
    if not same:
        return False
    if op in ("Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile"):
        return True
    if op == "Transpose":
        perm = node.attrs.get("perm") or list(range(len(g.shape(x))))[::-1]
        return list(perm) == list(range(len(g.shape(x))))
    if op in ("Concat", "Sum", "Max", "Min", "Mean"):
        return len(node.inputs) == 1
    if op == "Slice" and node.domain == OWN:
        return all(s == 1 for s in node.attrs["step"])
    if op == "Pad" and node.domain == OWN:
        return True  # nothing is padded when the shape is the same
    if op in ("Add", "Sub", "Mul", "Div", "Pow") and not node.domain:
        c = g.const(node.inputs[1])
        neutral = 0 if op in ("Add", "Sub") else 1
        return c is not None and c.size <= 4096 and bool((c == neutral).all())
    return False


def merge_equal(g: Graph) -> int:
    """Common subexpressions: nodes that compute the same thing from the same values; small equal constants."""
    changed = 0
    seen_const: dict[Any, str] = {}
    rename: dict[str, str] = {}
    for name, array in g.consts.items():
        if array.size <= 64 and not g.is_output(name):
            key: Any = (array.dtype.str, array.shape, array.tobytes())
            if seen_const.setdefault(key, name) != name:
                rename[name] = seen_const[key]
    if rename:
        for node in g.nodes:
            node.inputs = [rename.get(i, i) for i in node.inputs]
        g.touch()
    seen: dict[Any, Node] = {}
    for node in list(g.nodes):
        if node.captures or node.domain not in ("", OWN) or node.op_type.startswith(("Random", "Multinomial")):
            continue
        if any(not isinstance(v, (int, float, str, list, bytes)) for v in node.attrs.values()):
            continue
        attrs = tuple(sorted((k, repr(v)) for k, v in node.attrs.items()))
        key = (node.domain, node.op_type, tuple(node.inputs), attrs, len(node.outputs))
        first = seen.setdefault(key, node)
        if first is node or any(g.is_output(o) for o in node.outputs):
            continue
        for mine, theirs in zip(node.outputs, first.outputs, strict=True):
            if mine:
                g.replace_uses(mine, theirs)
        g.remove([node])
        changed += 1
    return changed
