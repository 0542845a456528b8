"""Pooling, reductions and movement, each alone, f32 and QDQ, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.compile.plan import OpKind
from tests.compile.support import (
    check_f32,
    check_int8,
    model,
    node,
    normal,
)

Shape = tuple[int, ...]


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


# --- pooling and reductions

POOLS = {
    "max": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "max ceil": ("MaxPool", {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}),
    "max dilated": ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    "max same": ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "global max": ("GlobalMaxPool", {}),
    "average": ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 0, 1, 2]}),
    "average counts": ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    "average ceil": ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "average ceil counts": (
        "AveragePool",
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1, "count_include_pad": 1},
    ),
    "global average": ("GlobalAveragePool", {}),
}


@pytest.mark.parametrize("name", POOLS)
def test_pool(name: str) -> None:
    op, attrs = POOLS[name]
    proto = model([node(op, ["x"], ["y"], **attrs)], {"x": (2, 6, 10, 12)}, ["y"], opset=19)
    check_f32(proto)
    check_int8(proto)


def test_pool_over_one_axis() -> None:
    for op in ("MaxPool", "AveragePool"):
        proto = model([node(op, ["x"], ["y"], kernel_shape=[3], strides=[2], pads=[1, 1])], {"x": (2, 6, 11)}, ["y"])
        check_f32(proto)
        check_int8(proto)


REDUCTIONS = {"spatial": [2, 3], "last": [-1], "channel": [1], "first and last": [0, 3], "all": None}


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceL1"])
@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("keep", [0, 1])
def test_reduce(op: str, name: str, keep: int) -> None:
    axes = REDUCTIONS[name]
    consts = {} if axes is None else {"axes": ints(*axes)}
    proto = model([node(op, ["x", *consts], ["y"], keepdims=keep)], {"x": (2, 3, 4, 5)}, ["y"], consts)
    check_f32(proto)
    if op in ("ReduceMean", "ReduceSum"):
        check_int8(proto)


def test_mean_over_the_plane_stays_channel_blocked() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("ReduceMean", ["c"], ["y"], axes=[2, 3], keepdims=0)]
    plan = check_f32(model(nodes, {"x": (2, 3, 6, 6)}, ["y"], {"w": normal(5, 3, 3, 3)}, opset=13))
    assert OpKind.AVGPOOL in [o.kind for o in plan.ops]
    assert OpKind.REDUCE not in [o.kind for o in plan.ops]


# --- movement

PERMS: dict[str, tuple[Shape, list[int]]] = {
    "matrix": ((3, 5), [1, 0]),
    "nhwc to nchw": ((2, 4, 5, 3), [0, 3, 1, 2]),
    "nchw to nhwc": ((2, 3, 4, 5), [0, 2, 3, 1]),
    "heads": ((2, 4, 3, 5), [0, 2, 1, 3]),
    "six": ((2, 1, 3, 2, 2, 3), [5, 0, 3, 1, 4, 2]),
}


@pytest.mark.parametrize("name", PERMS)
def test_transpose(name: str) -> None:
    shape, perm = PERMS[name]
    proto = model([node("Transpose", ["x"], ["y"], perm=perm)], {"x": shape}, ["y"])
    check_f32(proto)
    check_int8(proto)


def test_layout_meets_nhwc_transposes_in_one_operator_each() -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "w"], ["c"]),
        node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1]),
    ]
    plan = check_f32(model(nodes, {"x": (2, 6, 7, 3)}, ["y"], {"w": normal(5, 3, 3, 3)}))
    assert [o.kind for o in plan.ops] == [OpKind.LAYOUT, OpKind.CONV, OpKind.LAYOUT]
    assert [plan.ops[0].p[0], plan.ops[2].p[0]] == [1, 1]


SLICES = {
    "plain": ([1, 2], [3, 9], [2, 3], None),
    "step": ([0], [100], [3], [2]),
    "negative": ([-1], [-100], [2], [-1]),
    "from the end": ([-3, -4], [-1, 100], [1, 3], [1, 2]),
}


@pytest.mark.parametrize("name", SLICES)
def test_slice(name: str) -> None:
    starts, ends, axes, steps = SLICES[name]
    consts = {"s": ints(*starts), "e": ints(*ends), "a": ints(*axes)}
    if steps is not None:
        consts["p"] = ints(*steps)
    proto = model([node("Slice", ["x", *consts], ["y"])], {"x": (2, 6, 5, 9)}, ["y"], consts)
    check_f32(proto)
    check_int8(proto)


def test_split_and_concat() -> None:
    nodes = [
        node("Split", ["x", "sizes"], ["a", "b", "c"], axis=1),
        node("Concat", ["c", "a", "b", "a"], ["y"], axis=1),
    ]
    proto = model(nodes, {"x": (2, 7, 3, 4)}, ["y"], {"sizes": ints(1, 4, 2)})
    check_f32(proto)
    check_int8(proto)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_concat_of_convolutions(axis: int) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Conv", ["x", "v"], ["b"]),
        node("Concat", ["a", "b"], ["y"], axis=axis),
    ]
    proto = model(nodes, {"x": (1, 3, 6, 6)}, ["y"], {"w": normal(6, 3, 3, 3), "v": normal(6, 3, 3, 3, seed=2)})
    check_f32(proto)
    plan = check_int8(proto, weights=("w", "v"), after=("a", "b", "y"), steps=2)
    assert OpKind.CONCAT in [o.kind for o in plan.ops]


@pytest.mark.parametrize("index", [2, -1, [0, 2, 4], [3, 0, 0, 5]])
def test_gather_with_constant_index(index: int | list[int]) -> None:
    for axis in (0, 1, 2):
        limited = np.asarray(index) % (6 if axis == 1 else 3)
        nodes = [node("Gather", ["x", "i"], ["y"], axis=axis)]
        proto = model(nodes, {"x": (3, 6, 3)}, ["y"], {"i": limited.astype(np.int64)})
        check_f32(proto)
        check_int8(proto)


PADS = {
    "constant": ("constant", [0, 0, 1, 2, 0, 0, 3, 0], 0.0),
    "value": ("constant", [0, 1, 0, 0, 0, 2, 0, 0], 1.5),
    "edge": ("edge", [0, 0, 2, 1, 0, 0, 1, 2], None),
    "reflect": ("reflect", [0, 0, 2, 1, 0, 0, 1, 3], None),
    "negative": ("constant", [0, 0, -1, 2, 0, 0, 1, -2], 0.0),
}


@pytest.mark.parametrize("name", PADS)
def test_pad(name: str) -> None:
    mode, pads, value = PADS[name]
    consts = {"p": ints(*pads), **({} if value is None else {"v": np.float32(value)})}
    proto = model([node("Pad", ["x", *consts], ["y"], mode=mode)], {"x": (2, 3, 5, 6)}, ["y"], consts)
    check_f32(proto)
    check_int8(proto)


def test_pad_merges_into_the_convolution() -> None:
    nodes = [node("Pad", ["x", "p"], ["t"]), node("Conv", ["t", "w"], ["y"], strides=[2, 2])]
    consts = {"p": ints(0, 0, 0, 1, 0, 0, 1, 2), "w": normal(4, 3, 3, 3)}
    proto = model(nodes, {"x": (1, 3, 8, 8)}, ["y"], consts)
    assert OpKind.PAD not in [o.kind for o in check_f32(proto).ops]
    assert OpKind.PAD not in [o.kind for o in check_int8(proto, weights=("w",)).ops]


def test_reshape_family() -> None:
    nodes = [
        node("Flatten", ["x"], ["f"], axis=2),
        node("Unsqueeze", ["f", "axes"], ["u"]),
        node("Reshape", ["u", "shape"], ["r"]),
        node("Squeeze", ["r", "axes"], ["y"]),
    ]
    consts = {"axes": ints(0), "shape": ints(1, 0, -1, 2)}
    plan = check_f32(model(nodes, {"x": (2, 3, 4, 5)}, ["y"], consts))
    assert [o.kind for o in plan.ops] == [OpKind.RESHAPE]


def test_shape_arithmetic_folds() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Concat", ["n", "rest"], ["t"], axis=0),
        node("Reshape", ["x", "t"], ["y"]),
    ]
    consts = {"zero": ints(0), "rest": ints(-1)}
    plan = check_f32(model(nodes, {"x": (2, 3, 4)}, ["y"], consts))
    assert [o.kind for o in plan.ops] == [OpKind.RESHAPE]


def test_tile_and_expand() -> None:
    check_f32(model([node("Tile", ["x", "r"], ["y"])], {"x": (2, 3)}, ["y"], {"r": ints(2, 3)}))
    check_f32(model([node("Expand", ["x", "s"], ["y"])], {"x": (3, 1)}, ["y"], {"s": ints(2, 3, 4)}))
    nodes = [node("Expand", ["x", "s"], ["e"]), node("Add", ["e", "z"], ["y"])]
    plan = check_f32(model(nodes, {"x": (3, 1), "z": (2, 3, 4)}, ["y"], {"s": ints(2, 3, 4)}))
    assert [o.kind for o in plan.ops] == [OpKind.BINARY]


def test_space_and_depth() -> None:
    for mode in ("DCR", "CRD"):
        check_f32(model([node("DepthToSpace", ["x"], ["y"], blocksize=2, mode=mode)], {"x": (1, 12, 3, 2)}, ["y"]))
    check_f32(model([node("SpaceToDepth", ["x"], ["y"], blocksize=2)], {"x": (1, 3, 4, 6)}, ["y"]))


RESIZES = {
    "nearest up": ("nearest", (1, 1, 2, 3), {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    "nearest half": ("nearest", (1, 1, 1.5, 2.5), {}),
    "nearest ceil": ("nearest", (1, 1, 0.6, 0.5), {"nearest_mode": "ceil"}),
    "nearest prefer ceil": ("nearest", (1, 1, 2, 0.5), {"nearest_mode": "round_prefer_ceil"}),
    "linear half": ("linear", (1, 1, 2, 2), {}),
    "linear corners": ("linear", (1, 1, 2, 3), {"coordinate_transformation_mode": "align_corners"}),
    "linear asymmetric": ("linear", (1, 1, 0.5, 1.7), {"coordinate_transformation_mode": "asymmetric"}),
    "linear pytorch": ("linear", (1, 1, 3, 1.3), {"coordinate_transformation_mode": "pytorch_half_pixel"}),
}


@pytest.mark.parametrize("name", RESIZES)
def test_resize(name: str) -> None:
    mode, scales, attrs = RESIZES[name]
    proto = model(
        [node("Resize", ["x", "", "s"], ["y"], mode=mode, **attrs)],
        {"x": (1, 5, 6, 7)}, ["y"], {"s": np.asarray(scales, np.float32)},
    )  # fmt: skip
    check_f32(proto)
    check_int8(proto)


def test_resize_by_sizes() -> None:
    proto = model(
        [node("Resize", ["x", "", "", "s"], ["y"], mode="linear")], {"x": (1, 5, 6, 7)}, ["y"], {"s": ints(1, 5, 9, 4)}
    )
    check_f32(proto)
