"""Every TFLite operator that is converted, alone or in small graphs, against LiteRT's own kernels."""

from __future__ import annotations

import numpy as np
import pytest

from tests.importers.synthetic import compare, kinds, random_inputs, run
from tests.tflite_file import Model

RNG = np.random.default_rng(7)
SAME, VALID = 0, 1
RELU, RELU_N1_TO_1, RELU6, TANH = 1, 2, 3, 4


def one(kind, shapes, out, options="", consts=(), dtype="float32", out_dtype=None, version=1, **values):
    """A model of one float operator: inputs of ``shapes``, then constants, to ``out``."""
    m = Model()
    m.inputs = [m.tensor(s, dtype) for s in shapes]
    fixed = [m.const(c, np.asarray(c).dtype.name) for c in consts]
    m.outputs = [m.tensor(out, out_dtype or dtype)]
    m.op(kind, [*m.inputs, *fixed], m.outputs, options, version, **values)
    return m.build()


def ints(*values):
    return np.array(values, np.int32)


def conv(size, channels, cout, kernel, padding, stride=(1, 1), dilation=(1, 1), act=0, depthwise=False, quant=None):
    """One convolution with random weights; ``quant`` is ``int8`` (per channel), ``uint8`` or None."""
    m = Model()
    kh, kw = kernel
    height, width = size
    shape = (1, kh, kw, cout) if depthwise else (cout, kh, kw, channels)
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padding == SAME:
        oh, ow = (-(-s // t) for s, t in zip(size, stride, strict=True))
    else:
        oh, ow = ((s - p) // t + 1 for s, p, t in zip(size, span, stride, strict=True))
    if quant is None:
        x = m.tensor((1, height, width, channels))
        w, b = m.const(RNG.normal(size=shape)), m.const(RNG.normal(size=cout))
        y = m.tensor((1, oh, ow, cout))
    elif quant == "int8":
        scales = RNG.uniform(0.005, 0.02, cout)
        x = m.tensor((1, height, width, channels), "int8", 0.05, 3)
        w = m.const(RNG.integers(-127, 128, shape), "int8", scale=scales, axis=3 if depthwise else 0)
        b = m.const(RNG.integers(-500, 500, cout), "int32", scale=scales.astype(np.float32) * np.float32(0.05))
        y = m.tensor((1, oh, ow, cout), "int8", 0.12, -5)
    else:
        x = m.tensor((1, height, width, channels), "uint8", 0.05, 120)
        w = m.const(RNG.integers(0, 256, shape), "uint8", scale=0.01, zero=131)
        b = m.const(RNG.integers(-500, 500, cout), "int32", scale=np.float32(0.05) * np.float32(0.01))
        y = m.tensor((1, oh, ow, cout), "uint8", 0.1, 90)
    m.inputs, m.outputs = [x], [y]
    values = {"padding": padding, "stride_h": stride[0], "stride_w": stride[1], "fused_activation_function": act}
    values |= {"dilation_h_factor": dilation[0], "dilation_w_factor": dilation[1]}
    if depthwise:
        m.op(
            "DEPTHWISE_CONV_2D",
            [x, w, b],
            [y],
            "DepthwiseConv2DOptions",
            3,
            depth_multiplier=cout // channels,
            **values,
        )
    else:
        m.op("CONV_2D", [x, w, b], [y], "Conv2DOptions", 3, **values)
    return m.build()


@pytest.mark.parametrize("quant", [None, "int8", "uint8"])
@pytest.mark.parametrize(
    "case",
    [
        {"size": (9, 7), "channels": 3, "cout": 5, "kernel": (3, 3), "padding": SAME},
        {"size": (8, 9), "channels": 3, "cout": 4, "kernel": (3, 2), "padding": SAME, "stride": (2, 2), "act": RELU6},
        {"size": (9, 8), "channels": 4, "cout": 3, "kernel": (2, 3), "padding": VALID, "stride": (2, 1), "act": RELU},
        {"size": (11, 11), "channels": 2, "cout": 3, "kernel": (3, 3), "padding": SAME, "dilation": (2, 3)},
        {
            "size": (6, 6),
            "channels": 4,
            "cout": 4,
            "kernel": (3, 3),
            "padding": SAME,
            "stride": (2, 2),
            "depthwise": True,
        },
        {
            "size": (7, 5),
            "channels": 3,
            "cout": 6,
            "kernel": (3, 3),
            "padding": VALID,
            "depthwise": True,
            "act": RELU_N1_TO_1,
        },
        {"size": (1, 1), "channels": 6, "cout": 5, "kernel": (1, 1), "padding": SAME},
        {"size": (5, 5), "channels": 1, "cout": 8, "kernel": (4, 4), "padding": SAME, "depthwise": True},
    ],
    ids=lambda c: "-".join(f"{k}{v}" for k, v in c.items() if k != "channels").replace(" ", ""),
)
def test_convolutions(case, quant):
    compare(conv(**case, quant=quant))


def test_grouped_convolution():
    m = Model()
    m.inputs = [m.tensor((1, 5, 5, 6))]
    m.outputs = [m.tensor((1, 5, 5, 4))]
    weights = [m.const(RNG.normal(size=(4, 3, 3, 3))), m.const(RNG.normal(size=4))]
    m.op("CONV_2D", [*m.inputs, *weights], m.outputs, "Conv2DOptions", stride_h=1, stride_w=1)
    model = compare(m.build())
    (node,) = [n for n in model.graph if n.op_type == "Conv"]
    assert node.attributes["group"].value == 2


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("quant", [False, True])
def test_fully_connected(keep, bias, quant):
    m = Model()
    shape, out = ((2, 3, 7), (2, 3, 5)) if keep else ((2, 3, 7), (6, 5))
    if quant:
        x = m.tensor(shape, "int8", 0.04, -2)
        w = m.const(RNG.integers(-127, 128, (5, 7)), "int8", scale=0.01)
        fixed = [m.const(RNG.integers(-90, 90, 5), "int32", scale=np.float32(0.04) * np.float32(0.01))]
        y = m.tensor(out, "int8", 0.05, 4)
    else:
        x, w, y = m.tensor(shape), m.const(RNG.normal(size=(5, 7))), m.tensor(out)
        fixed = [m.const(RNG.normal(size=5))]
    m.inputs, m.outputs = [x], [y]
    values = {"keep_num_dims": keep, "fused_activation_function": RELU}
    m.op("FULLY_CONNECTED", [x, w, *(fixed if bias else [-1])], [y], "FullyConnectedOptions", 5, **values)
    compare(m.build())


@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize("quant", [False, True])
def test_pooling(kind, padding, quant):
    m = Model()
    out = (1, 4, 3, 3) if padding == SAME else (1, 3, 2, 3)
    extra = ("int8", 0.1, 5) if quant else ()
    m.inputs, m.outputs = [m.tensor((1, 7, 5, 3), *extra)], [m.tensor(out, *extra)]
    values = {"padding": padding, "stride_h": 2, "stride_w": 2, "filter_height": 3, "filter_width": 2}
    m.op(kind, m.inputs, m.outputs, "Pool2DOptions", 2, fused_activation_function=RELU, **values)
    compare(m.build())


UNARY = ["ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "HARD_SWISH", "LOGISTIC", "NEG", "RELU", "RELU6"]
UNARY += ["RELU_N1_TO_1", "ROUND", "SIN", "SQUARE", "TANH", "GELU", "SIGN"]


@pytest.mark.parametrize("kind", UNARY)
@pytest.mark.parametrize("shape", [(2, 5), (1, 3, 4, 5)])
def test_unary(kind, shape):
    compare(one(kind, [shape], shape, "GeluOptions" if kind == "GELU" else ""))


@pytest.mark.parametrize("kind", ["LOG", "SQRT", "RSQRT"])
def test_unary_of_positive_numbers(kind):
    m = Model()
    m.inputs = [m.tensor((3, 4))]
    middle = m.tensor((3, 4))
    m.outputs = [m.tensor((3, 4))]
    m.op("EXP", m.inputs, [middle])
    m.op(kind, [middle], m.outputs)
    compare(m.build())


@pytest.mark.parametrize("kind,options", [("ADD", "AddOptions"), ("SUB", "SubOptions"), ("MUL", "MulOptions")])
@pytest.mark.parametrize("right", [(1, 4, 5, 3), (3,), (1, 1, 1, 3), (1,), (4, 1, 3)])
def test_binary_broadcasts(kind, options, right):
    values = {"fused_activation_function": RELU6}
    compare(one(kind, [(1, 4, 5, 3), right], (1, 4, 5, 3), options, **values))
    compare(one(kind, [(1, 4, 5, 3)], (1, 4, 5, 3), options, [RNG.normal(size=right).astype(np.float32)], **values))


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
def test_binary_int8(kind):
    m = Model()
    m.inputs = [m.tensor((1, 3, 3, 4), "int8", 0.1, 3), m.tensor((1, 3, 3, 4), "int8", 0.05, -7)]
    m.outputs = [m.tensor((1, 3, 3, 4), "int8", 0.2, 1)]
    m.op(kind, m.inputs, m.outputs, f"{kind.title()}Options", 2, fused_activation_function=RELU)
    compare(m.build())


@pytest.mark.parametrize("kind", ["MAXIMUM", "MINIMUM", "DIV", "SQUARED_DIFFERENCE", "GREATER", "LESS_EQUAL", "EQUAL"])
def test_more_binary(kind):
    logical = kind in ("GREATER", "LESS_EQUAL", "EQUAL")
    options = {"DIV": "DivOptions", "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions"}
    compare(one(kind, [(2, 3), (2, 3)], (2, 3), options.get(kind, ""), out_dtype="bool" if logical else None))


@pytest.mark.parametrize("shape", [(1, 6), (1, 3, 4, 5)])
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_softmax(shape, beta):
    compare(one("SOFTMAX", [shape], shape, "SoftmaxOptions", beta=beta))


def test_log_softmax_and_l2_normalization():
    compare(one("LOG_SOFTMAX", [(3, 5)], (3, 5), "LogSoftmaxOptions"))
    compare(one("L2_NORMALIZATION", [(1, 3, 3, 5)], (1, 3, 3, 5), "L2NormOptions"))


def test_leaky_relu_and_prelu():
    compare(one("LEAKY_RELU", [(1, 3, 3, 5)], (1, 3, 3, 5), "LeakyReluOptions", alpha=0.2))
    slope = RNG.uniform(0, 1, (1, 1, 5)).astype(np.float32)
    compare(one("PRELU", [(1, 3, 3, 5)], (1, 3, 3, 5), consts=[slope]))


@pytest.mark.parametrize("kind", ["MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"])
@pytest.mark.parametrize("axes", [(1, 2), (3,), (-1, 1), (2,)])
@pytest.mark.parametrize("keep", [False, True])
def test_reductions_after_a_convolution(kind, axes, keep):
    """The pool makes an NCHW value, so the axes have to be mapped."""
    m = Model()
    m.inputs = [m.tensor((1, 4, 6, 3))]
    middle = m.tensor((1, 2, 3, 3))
    kept = tuple(1 if i in [a % 4 for a in axes] else d for i, d in enumerate((1, 2, 3, 3)))
    dropped = tuple(d for i, d in enumerate((1, 2, 3, 3)) if i not in [a % 4 for a in axes])
    m.outputs = [m.tensor(kept if keep else dropped)]
    window = {"stride_h": 2, "stride_w": 2, "filter_height": 2, "filter_width": 2}
    m.op("MAX_POOL_2D", m.inputs, [middle], "Pool2DOptions", padding=VALID, **window)
    m.op(kind, [middle, m.const(ints(*axes), "int32")], m.outputs, "ReducerOptions", keep_dims=keep)
    compare(m.build())


@pytest.mark.parametrize("kind", ["ARG_MAX", "ARG_MIN"])
def test_arg_extremes(kind):
    options = f"{kind.title().replace('_', '')}Options"
    values = {"output_type": 2}
    compare(one(kind, [(2, 7)], (2,), options, [np.int32(1)], out_dtype="int32", **values))


def test_pads():
    rows = np.array([[0, 0], [1, 2], [0, 3], [2, 0]], np.int32)
    compare(one("PAD", [(1, 3, 4, 2)], (1, 6, 7, 4), "PadOptions", [rows]))
    compare(one("PADV2", [(1, 3, 4, 2)], (1, 6, 7, 4), "PadV2Options", [rows, np.float32(1.5)]))
    mirror = np.array([[0, 0], [1, 2], [2, 1], [0, 0]], np.int32)
    compare(one("MIRROR_PAD", [(1, 3, 4, 2)], (1, 6, 7, 2), "MirrorPadOptions", [mirror], mode=0))


@pytest.mark.parametrize("size", [(3, 4), (7, 12), (9, 5)])
@pytest.mark.parametrize("align,half", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("kind", ["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"])
def test_resize(kind, size, align, half):
    options = "ResizeBilinearOptions" if kind == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions"
    values = {"align_corners": align, "half_pixel_centers": half}
    compare(one(kind, [(1, 6, 5, 3)], (1, *size, 3), options, [ints(*size)], version=3, **values))


def test_space_and_depth():
    compare(one("SPACE_TO_DEPTH", [(1, 4, 6, 3)], (1, 2, 3, 12), "SpaceToDepthOptions", block_size=2))
    compare(one("DEPTH_TO_SPACE", [(1, 2, 3, 12)], (1, 4, 6, 3), "DepthToSpaceOptions", block_size=2))


def test_shape_changes():
    compare(one("RESHAPE", [(1, 4, 3, 2)], (2, 12), "ReshapeOptions", [ints(2, 12)], new_shape=ints(2, 12)))
    compare(one("SQUEEZE", [(1, 4, 1, 2)], (4, 2), "SqueezeOptions", squeeze_dims=ints(0, 2)))
    compare(one("EXPAND_DIMS", [(4, 2)], (4, 1, 2), consts=[ints(1)]))
    compare(one("TRANSPOSE", [(2, 3, 4)], (4, 2, 3), consts=[ints(2, 0, 1)]))
    compare(one("TILE", [(2, 3)], (4, 9), consts=[ints(2, 3)]))
    compare(one("BROADCAST_TO", [(1, 3)], (4, 3), consts=[ints(4, 3)], version=2))
    compare(one("GATHER", [(5, 3)], (2, 3), "GatherOptions", [ints(3, 1)], axis=0))
    compare(one("CAST", [(2, 3)], (2, 3), "CastOptions", out_dtype="int32", in_data_type=0, out_data_type=2))


def test_concatenation_and_pack():
    compare(one("CONCATENATION", [(1, 2, 3, 4), (1, 2, 3, 1)], (1, 2, 3, 5), "ConcatenationOptions", axis=-1))
    compare(one("PACK", [(2, 3), (2, 3)], (2, 2, 3), "PackOptions", values_count=2, axis=1))


def test_splits():
    m = Model()
    x, axis, sizes = m.tensor((2, 6, 3)), m.const(np.int32(1), "int32"), m.const(ints(1, 5), "int32")
    m.inputs = [x]
    halves = [m.tensor((2, 3, 3)) for _ in range(2)]
    pieces = [m.tensor((2, 1, 3)), m.tensor((2, 5, 3))]
    columns = [m.tensor((2, 6)) for _ in range(3)]
    m.outputs = [*halves, *pieces, *columns]
    m.op("SPLIT", [axis, x], halves, "SplitOptions", num_splits=2)
    m.op("SPLIT_V", [x, sizes, axis], pieces, "SplitVOptions", num_splits=2)
    m.op("UNPACK", [x], columns, "UnpackOptions", num=3, axis=2)
    compare(m.build())


@pytest.mark.parametrize(
    "begin,end,step,masks,out",
    [
        ((0, 1, 0), (2, 5, 3), (1, 2, 1), {}, (2, 2, 3)),
        ((0, -1, 0), (2, -7, 3), (1, -1, 1), {"end_mask": 2}, (2, 6, 3)),
        ((1, 0, 0), (2, 6, 3), (1, 1, 1), {"shrink_axis_mask": 1}, (6, 3)),
        ((0, 0, -1), (0, 0, 0), (1, 3, 1), {"begin_mask": 3, "end_mask": 7}, (2, 2, 1)),
    ],
)
def test_strided_slice(begin, end, step, masks, out):
    cuts = [ints(*begin), ints(*end), ints(*step)]
    compare(one("STRIDED_SLICE", [(2, 6, 3)], out, "StridedSliceOptions", cuts, **masks))


def test_slice_of_a_convolution_keeps_channels_first():
    m = Model()
    m.inputs = [m.tensor((1, 4, 4, 3))]
    middle, m.outputs = m.tensor((1, 4, 4, 3)), [m.tensor((1, 2, 4, 2))]
    window = {"stride_h": 1, "stride_w": 1, "filter_height": 3, "filter_width": 3}
    m.op("AVERAGE_POOL_2D", m.inputs, [middle], "Pool2DOptions", padding=SAME, **window)
    m.op("SLICE", [middle, m.const(ints(0, 1, 0, 1), "int32"), m.const(ints(1, 2, -1, 2), "int32")], m.outputs)
    assert kinds(compare(m.build())) == ["Transpose", "AveragePool", "Slice", "Transpose"]


def test_matrix_product():
    compare(one("BATCH_MATMUL", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), "BatchMatMulOptions"))
    compare(one("BATCH_MATMUL", [(2, 3, 4), (2, 5, 4)], (2, 3, 5), "BatchMatMulOptions", adj_y=True))


def test_requantise_between_uint8_and_int8():
    m = Model()
    m.inputs, m.outputs = [m.tensor((1, 4), "uint8", 0.1, 128)], [m.tensor((1, 4), "int8", 0.1, 0)]
    m.op("QUANTIZE", m.inputs, m.outputs)
    model = compare(m.build(), steps=0)
    assert kinds(model) == ["DequantizeLinear", "QuantizeLinear"]


def test_float16_weights_are_folded():
    m = Model()
    half = m.const(RNG.normal(size=(4, 3)), "float16")
    m.inputs, m.outputs = [m.tensor((2, 3))], [m.tensor((2, 4))]
    weights = m.tensor((4, 3))
    m.op("DEQUANTIZE", [half], [weights], version=3)
    m.op("FULLY_CONNECTED", [*m.inputs, weights, -1], m.outputs, "FullyConnectedOptions")
    assert kinds(compare(m.build())) == ["Gemm"]


def test_shape_arithmetic_is_folded():
    """SHAPE -> STRIDED_SLICE -> PACK -> RESHAPE, as Keras writes a flatten."""
    m = Model()
    x = m.tensor((1, 2, 3, 4))
    shape, batch, packed = m.tensor((4,), "int32"), m.tensor((), "int32"), m.tensor((2,), "int32")
    m.inputs, m.outputs = [x], [m.tensor((1, 24))]
    m.op("SHAPE", [x], [shape], "ShapeOptions", out_type=2)
    cuts = [m.const(ints(v), "int32") for v in (0, 1, 1)]
    m.op("STRIDED_SLICE", [shape, *cuts], [batch], "StridedSliceOptions", shrink_axis_mask=1)
    m.op("PACK", [batch, m.const(np.int32(24), "int32")], [packed], "PackOptions", values_count=2)
    m.op("RESHAPE", [x, packed], m.outputs, "ReshapeOptions")
    assert kinds(compare(m.build())) == ["Reshape"]


def test_a_run_of_spatial_operators_has_no_inner_transposes():
    m = Model()
    x, a, c, d = (m.tensor((1, 6, 6, 4)) for _ in range(4))
    joined, mean = m.tensor((1, 6, 6, 8)), m.tensor((1, 1, 1, 8))
    m.inputs, m.outputs = [x], [m.tensor((1, 6, 6, 8))]
    w, b = m.const(RNG.normal(size=(4, 3, 3, 4))), m.const(RNG.normal(size=4))
    m.op("CONV_2D", [x, w, b], [a], "Conv2DOptions", stride_h=1, stride_w=1)
    m.op("LOGISTIC", [a], [c])
    m.op("ADD", [c, m.const(RNG.normal(size=4))], [d], "AddOptions")
    m.op("CONCATENATION", [a, d], [joined], "ConcatenationOptions", axis=3)
    m.op("MEAN", [joined, m.const(ints(1, 2), "int32")], [mean], "ReducerOptions", keep_dims=True)
    m.op("MUL", [joined, mean], m.outputs, "MulOptions")
    model = compare(m.build())
    assert kinds(model) == ["Transpose", "Conv", "Sigmoid", "Add", "Concat", "ReduceMean", "Mul", "Transpose"]


def test_zero_padding_becomes_the_convolutions_own():
    m = Model()
    x, padded = m.tensor((1, 5, 5, 3), "int8", 0.1, 4), m.tensor((1, 8, 7, 3), "int8", 0.1, 4)
    rows = m.const(np.array([[0, 0], [1, 2], [2, 0], [0, 0]]), "int32")
    w = m.const(RNG.integers(-127, 128, (2, 3, 3, 3)), "int8", scale=[0.01, 0.02])
    b = m.const([5, -9], "int32", scale=np.array([0.01, 0.02], np.float32) * np.float32(0.1))
    m.inputs, m.outputs = [x], [m.tensor((1, 3, 3, 2), "int8", 0.3, 0)]
    m.op("PAD", [x, rows], [padded], "PadOptions", 2)
    m.op("CONV_2D", [padded, w, b], m.outputs, "Conv2DOptions", 3, padding=VALID, stride_h=2, stride_w=2)
    model = compare(m.build())
    (node,) = [n for n in model.graph if n.op_type == "Conv"]
    assert list(node.attributes["pads"].value) == [1, 2, 2, 0]
    assert "Pad" not in kinds(model)
    assert "op #0 PAD" in node.metadata_props["gossamer.source"]


def test_weight_only_quantisation_is_undone():
    m = Model()
    weights = m.const(RNG.integers(-127, 128, (4, 3)), "int8", scale=0.02)
    m.inputs, m.outputs = [m.tensor((2, 3))], [m.tensor((2, 4))]
    m.op("FULLY_CONNECTED", [*m.inputs, weights, -1], m.outputs, "FullyConnectedOptions")
    content = m.build()
    from gossamer.importers import load_model

    model, (x,) = load_model(content), random_inputs(content)
    (got,) = run(model, [x])
    exact = x @ (np.float32(0.02) * np.frombuffer(m.buffers[1].data, np.int8).reshape(4, 3).astype(np.float32)).T
    np.testing.assert_allclose(got, exact, rtol=1e-5)
