"""Small graphs, one for every construct that channels pass through, and what checks that a permutation is safe."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import helper, numpy_helper

import gossamer
from gossamer.sparsify.rearrange.apply import Permutations, apply, permutations
from gossamer.sparsify.rearrange.axes import Axes
from gossamer.sparsify.rearrange.follow import follow

Arrays = dict[str, np.ndarray]


def graph(text: str, weights: dict[str, tuple[int, ...] | np.ndarray], seed: int = 0) -> ir.Model:
    """A model from ONNX text whose free names are constants: an array, or seeded noise of a shape, each channel of
    which has a strength of its own."""
    rng = np.random.default_rng(seed)
    proto = onnx.parser.parse_model(text)
    for name, given in weights.items():
        values = np.asarray(given) if isinstance(given, (np.ndarray, np.generic)) else noise(given, rng)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    for i, node in enumerate(proto.graph.node):
        node.name = node.name or f"{node.output[0]}.{i}"
    return gossamer.load(proto)


def noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Normal values, float32, scaled to keep activations of order one."""
    values = rng.standard_normal(shape)
    for axis in range(min(2, len(shape))):
        values *= rng.uniform(0.3, 1.7, [n if i == axis else 1 for i, n in enumerate(shape)])
    return (values / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)


def inputs(model: ir.Model, seed: int = 1) -> Arrays:
    """Seeded noise for every input; whole numbers for integer ones."""
    rng = np.random.default_rng(seed)
    found: Arrays = {}
    for value in model.graph.inputs:
        kind = value.dtype.numpy()
        values = rng.standard_normal(tuple(value.shape.numpy()))
        found[value.name] = (np.round(values * 40) if np.issubdtype(kind, np.integer) else values).astype(kind)
    return found


def run(model: ir.Model, feeds: Arrays) -> list[np.ndarray]:
    """ONNX Runtime on the graph as it is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def scramble(model: ir.Model, seed: int = 0) -> tuple[Permutations, Axes]:
    """Permutes every free set of channels at random, in place: a far harder trial of what is tied than a search."""
    axes = follow(model)
    rng = np.random.default_rng(seed)
    orders: dict[int, np.ndarray] = {}
    for value in [*model.graph.initializers.values(), *(n.outputs[0] for n in model.graph if n.op_type == "Constant")]:
        for layout in axes.resolved(value):
            for segment in layout or ():
                if not segment.fixed and segment.variable not in orders:
                    orders[segment.variable] = rng.permutation(segment.size)
    found = permutations(model, axes, orders)
    apply(model, found)
    return found, axes


def assert_same(before: list[np.ndarray], after: list[np.ndarray], tolerance: float = 1e-5) -> None:
    """Float outputs within ``tolerance`` of their largest magnitude, all others equal."""
    assert len(before) == len(after)
    for a, b in zip(before, after, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if np.issubdtype(a.dtype, np.floating):
            assert np.abs(a - b).max() <= tolerance * np.abs(a).max()
        else:
            np.testing.assert_array_equal(a, b)


def free(axes: Axes, model: ir.Model, name: str) -> list[list[tuple[int, int]]]:
    """Per axis of a constant: ``(size, inner)`` of its segments, size 0 for fixed ones."""
    value = model.graph.initializers[name]
    return [
        [(0 if s.fixed else s.size, s.width if s.fixed else s.inner) for s in layout or ()]
        for layout in axes.resolved(value)
    ]


def make(nodes: list, x: tuple[int, ...], y: tuple[int, ...], weights: dict[str, np.ndarray]) -> ir.Model:
    """A model from nodes, float32 input ``x`` and output ``y``."""
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x)],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, y)],
            [numpy_helper.from_array(v, n) for n, v in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    for i, node in enumerate(proto.graph.node):
        node.name = node.name or f"{node.output[0]}.{i}"
    return gossamer.load(proto)
