"""Damaged, hostile and unsupported .tflite files: a clear error each time, never a crash or a hang."""

from __future__ import annotations

import time

import numpy as np
import pytest

from gossamer._errors import GossamerError, ModelError, UnsupportedError
from gossamer.importers import load_model
from gossamer.importers.tflite import flatbuf
from tests.importers.test_tflite_ops import conv, one
from tests.tflite_file import Model, number

SAME = 0


def small() -> bytes:
    return conv((6, 6), 2, 4, (3, 3), SAME, quant="int8")


def edited(content: bytes, edit) -> bytes:
    model = flatbuf.read(content, "Model", "test")
    edit(model, model.subgraphs[0])
    return flatbuf.write(model, b"TFL3")


def test_a_round_trip_through_the_codec_keeps_every_field(data_dir):
    for path in sorted(data_dir.glob("models/*/*.tflite")):
        first = flatbuf.read(path.read_bytes(), "Model", path.name)
        second = flatbuf.read(flatbuf.write(first, b"TFL3"), "Model", path.name)
        assert_equal(first, second)


def assert_equal(left, right):
    assert type(left) is type(right)
    if isinstance(left, flatbuf.Record):
        assert vars(left).keys() == vars(right).keys()
        for key in vars(left):
            assert_equal(getattr(left, key), getattr(right, key))
    elif isinstance(left, list):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_equal(a, b)
    elif isinstance(left, np.ndarray):
        np.testing.assert_array_equal(left, right)
    else:
        assert left == right


@pytest.mark.parametrize("size", [0, 1, 4, 8, 15, 16, 40, 200])
def test_truncated(size, tmp_path):
    path = tmp_path / "cut.tflite"
    path.write_bytes(small()[:size])
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert "cut.tflite" in caught.value.where
    assert caught.value.hint


def test_every_truncation_of_a_small_file():
    content = small()
    for size in range(0, len(content), 7):
        with pytest.raises(ModelError):
            load_model(content[:size], name="cut.tflite")


def mutations(content: bytes, count: int, seed: int):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(content)
        kind = rng.integers(4)
        at = int(rng.integers(8, len(data)))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            at = at // 4 * 4
            data[at : at + 4] = int(rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(data)])).to_bytes(
                4, "little"
            )
        elif kind == 2:
            data[at : at + int(rng.integers(1, 64))] = b""
        else:
            for _ in range(int(rng.integers(1, 8))):
                data[int(rng.integers(8, len(data)))] = int(rng.integers(256))
        yield bytes(data)


def survive(content: bytes) -> bool:
    """Loads, or fails with an error of ours, in seconds; says whether it loaded."""
    start = time.process_time()
    try:
        load_model(content, name="fuzzed.tflite")
        loaded = True
    except GossamerError as error:
        assert error.message
        loaded = False
    assert time.process_time() - start < 10
    return loaded


@pytest.mark.parametrize("seed", range(4))
def test_mutated_small_models(seed):
    m = Model()
    m.inputs, m.outputs = [m.tensor((1, 4, 4, 2))], [m.tensor((1, 2, 6))]
    middle, padded = m.tensor((1, 2, 2, 2)), m.tensor((1, 2, 3, 2))
    window = {"stride_h": 2, "stride_w": 2, "filter_height": 2, "filter_width": 2}
    m.op("MAX_POOL_2D", m.inputs, [middle], "Pool2DOptions", padding=1, **window)
    rows = m.const([[0, 0], [0, 0], [1, 0], [0, 0]], "int32")
    m.op("PAD", [middle, rows], [padded], "PadOptions")
    m.op("RESHAPE", [padded, m.const([1, 2, 6], "int32")], m.outputs, "ReshapeOptions", new_shape=np.array([1, 2, 6]))
    for content in (small(), m.build()):
        results = [survive(data) for data in mutations(content, 150, seed)]
        assert any(results)
        assert not all(results)


@pytest.mark.slow
def test_mutated_real_models(data_dir):
    for path in sorted(data_dir.glob("models/*/*.tflite")):
        content = path.read_bytes()
        if len(content) < 100_000:
            for data in mutations(content, 60, 3):
                survive(data)


@pytest.mark.parametrize(
    "content",
    [b"GIF89a" + bytes(40), bytes(100), b"\xff" * 100, b"\x08\x01TFL3" + bytes(60)],
    ids=["gif", "zeros", "ones", "mark at the wrong place"],
)
def test_other_files_under_the_suffix(content, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a TFLite model"):
        load_model(path)


def test_nan_weights_name_the_tensor():
    weights = np.ones((3, 4), np.float32)
    weights[1, 2] = np.nan
    m = Model()
    m.inputs, m.outputs = [m.tensor((1, 4))], [m.tensor((1, 3))]
    m.op("FULLY_CONNECTED", [*m.inputs, m.const(weights, name="fc/w"), -1], m.outputs, "FullyConnectedOptions")
    with pytest.raises(ModelError, match="NaN") as caught:
        load_model(m.build())
    assert "fc/w" in caught.value.where


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_bad_scales(scale):
    def edit(model, main):
        main.tensors[main.inputs[0]].quantization.scale = np.array([scale], np.float32)

    with pytest.raises(ModelError, match="scale"):
        load_model(edited(small(), edit))


def test_a_zero_point_outside_of_its_type():
    def edit(model, main):
        main.tensors[main.inputs[0]].quantization.zero_point = np.array([300], np.int64)

    with pytest.raises(ModelError, match="zero point"):
        load_model(edited(small(), edit))


def test_shapes_that_contradict_each_other():
    def edit(model, main):
        main.tensors[main.outputs[0]].shape = np.array([1, 6, 7, 4], np.int32)

    with pytest.raises(ModelError, match="declared with shape") as caught:
        load_model(edited(small(), edit))
    assert "op #0 CONV_2D" in caught.value.where


def test_indices_and_order():
    def missing(model, main):
        main.operators[0].inputs = np.array([99, 1, 2], np.int32)

    def cycle(model, main):
        main.operators[0].inputs = np.array([main.outputs[0], 1, 2], np.int32)

    def unwritten(model, main):
        main.operators[0].outputs = np.array([], np.int32)

    for edit, words in ((missing, "does not exist"), (cycle, "before it is written"), (unwritten, "never written")):
        with pytest.raises(ModelError, match=words):
            load_model(edited(small(), edit))


def test_an_unknown_operator_is_extracted():
    model = load_model(one("CUMSUM", [(2, 3)], (2, 3), "CumsumOptions", [np.int32(1)]))
    (node,) = model.graph
    assert (node.domain, node.op_type) == ("gossamer.tflite", "CUMSUM")
    inner = flatbuf.read(node.attributes["tflite"].value, "Model", "inner")
    assert len(inner.subgraphs[0].operators) == 1
    assert list(inner.subgraphs[0].inputs) == [0]


def test_a_custom_operator_is_refused_by_name():
    m = Model()
    m.inputs, m.outputs = [m.tensor((2, 3))], [m.tensor((2, 3), name="answer")]
    m.op("CUSTOM", m.inputs, m.outputs, custom="MagicOp")
    with pytest.raises(UnsupportedError, match="MagicOp") as caught:
        load_model(m.build())
    assert "op #0" in caught.value.where
    assert "answer" in caught.value.where


def test_control_flow_is_refused_by_name():
    m = Model()
    m.inputs, m.outputs = [m.tensor((1,), "bool"), m.tensor((2, 3))], [m.tensor((2, 3))]
    m.op("IF", m.inputs, m.outputs, "IfOptions", then_subgraph_index=0, else_subgraph_index=0)
    with pytest.raises(UnsupportedError, match="IF"):
        load_model(m.build())


def test_an_operator_newer_than_the_schema():
    def edit(model, main):
        model.operator_codes[0].builtin_code = 100_000

    with pytest.raises(UnsupportedError, match="100000"):
        load_model(edited(small(), edit))


def test_sixteen_bit_activations_go_to_litert():
    m = Model()
    m.inputs = [m.tensor((1, 8), "int16", 0.01)]
    m.outputs = [m.tensor((1, 8), "int16", 0.01)]
    m.op("LOGISTIC", m.inputs, m.outputs)
    (node,) = load_model(m.build()).graph
    assert node.domain == "gossamer.tflite"


def test_tensors_of_types_without_numbers():
    def edit(model, main):
        main.tensors[main.inputs[0]].type = number("TensorType", "STRING")
        main.tensors[main.inputs[0]].quantization = None

    with pytest.raises(UnsupportedError):
        load_model(edited(small(), edit))


def test_shapes_of_a_tflite_model_cannot_be_changed():
    name = load_model(small()).graph.inputs[0].name
    fixed = tuple(load_model(small()).graph.inputs[0].shape.numpy())
    assert load_model(small(), input_shapes={name: fixed}).graph.inputs[0].name == name
    with pytest.raises(ModelError, match="'nosuch', which is not an input"):
        load_model(small(), input_shapes={"nosuch": fixed})
    with pytest.raises(ModelError, match="which is fixed to"):
        load_model(small(), input_shapes={name: (2, *fixed[1:])})
