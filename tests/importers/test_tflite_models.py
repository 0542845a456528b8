"""Third-party .tflite models: the imported ONNX in ONNX Runtime against LiteRT, on real photos and clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from ai_edge_litert.interpreter import Interpreter

from gossamer.importers import SOURCE, load_model
from gossamer.importers.tflite import flatbuf
from gossamer.importers.tflite.reader import read
from tests import litert, ort
from tests.compat.test_third_party import CASES
from tests.importers.synthetic import run

COUNT = 8
LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"


def run_onnx(proto: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    runner = ort.session(proto)
    (source,) = runner.get_inputs()
    return np.stack([runner.run(None, {source.name: x.reshape(source.shape)})[0][0] for x in batch])


def own_spread(content: bytes, batch: np.ndarray, expected: np.ndarray) -> int:
    """How many steps LiteRT's two sets of int8 kernels (XNNPACK and its own) are apart on these inputs.

    Their rounding differs, and a residual network with a saturating softmax makes many steps out of one: no third
    implementation can be asked to be closer to one of them than they are to each other.
    """
    own = np.stack([litert.run_plain(content, [x[None]])[0][0] for x in batch])
    return int(np.abs(own.astype(int) - expected.astype(int)).max())


def spread(batch: np.ndarray) -> np.ndarray:
    """A few inputs from all over the batch."""
    return batch[:: max(1, len(batch) // COUNT)][:COUNT]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.file.split("/")[1])
def test_agrees_with_litert(case, data_dir: Path):
    path = data_dir / "models" / f"{case.file}.tflite"
    content = path.read_bytes()
    model = load_model(path)
    batch = spread(case.make_inputs(data_dir))
    (source,), (target,) = model.graph.inputs, model.graph.outputs
    record = flatbuf.read(content, "Model", "model").subgraphs[0]
    first, last = record.tensors[record.inputs[0]], record.tensors[record.outputs[0]]
    assert (source.name, target.name) == (first.name, last.name)
    assert tuple(source.shape.numpy()) == tuple(first.shape)
    assert tuple(target.shape.numpy()) == tuple(last.shape)
    if any(node.op_type == LSTM for node in model.graph):
        got = run_with_lstm(model, batch)
    else:
        got = run_onnx(ir.to_proto(model), batch)
    expected = litert.run(litert.with_float_weights(content) if case.float_weights else content, batch)
    assert got.dtype == expected.dtype
    if expected.dtype.kind == "f":
        assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()
    else:
        steps = int(np.abs(got.astype(int) - expected.astype(int)).max())
        allowed = 2 if steps <= 2 else own_spread(content, batch.reshape(-1, *first.shape[1:]), expected)
        assert steps <= allowed
        # The same winner, or one that LiteRT puts within that distance of its own.
        chosen = expected[np.arange(len(expected)), got.argmax(1)].astype(int)
        assert (expected.max(1) - chosen <= allowed).all()


INT8 = [case for case in CASES if "lstm" not in case.file and "float" not in case.file and "fp32" not in case.file]
SKIP = {"SHAPE", "STRIDED_SLICE", "PACK"}


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in INT8 if c.file != "mlperf-tiny/pretrainedResnet"], ids=lambda c: c.file)
def test_every_operator_is_within_one_step(case, data_dir):
    """Each operator alone, fed with LiteRT's own activations of a real photo or clip."""
    content = litert.repaired((data_dir / "models" / f"{case.file}.tflite").read_bytes())
    graph = read(content, "model")
    main = graph.model.subgraphs[0]
    everything, x = main.operators, case.make_inputs(data_dir)[5]
    for op in graph.operators:
        if op.kind in SKIP:
            continue
        live = [i for i in op.inputs if i is not None and not graph.tensors[i].is_const]
        live = [i for i in live if graph.producer.get(i) is None or graph.producer[i].kind not in SKIP]
        made = [i for i in live if i not in graph.inputs]
        main.operators, main.inputs = everything, np.array(graph.inputs, np.int32)
        main.outputs = np.array([*made, *op.outputs], np.int32)
        interpreter = Interpreter(model_content=flatbuf.write(graph.model, b"TFL3"))
        interpreter.allocate_tensors()
        (source,) = interpreter.get_input_details()
        interpreter.set_tensor(source["index"], x.reshape(source["shape"]))
        interpreter.invoke()
        values = dict(
            zip(
                main.outputs,
                (interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()),
                strict=True,
            )
        )
        values[graph.inputs[0]] = x.reshape(graph.tensors[graph.inputs[0]].shape)
        main.operators, main.inputs = [everything[op.index]], np.array(live, np.int32)
        main.outputs = np.array(op.outputs, np.int32)
        if any(not graph.tensors[i].is_const and i not in live for i in op.inputs if i is not None):
            continue  # a RESHAPE by a computed shape: its own test folds it
        (got,) = run(load_model(flatbuf.write(graph.model, b"TFL3")), [values[i] for i in live])
        difference = np.abs(got.astype(int) - values[op.outputs[0]].astype(int))
        assert difference.max() <= 1, op.source
        assert difference.mean() <= (0.1 if op.kind == "AVERAGE_POOL_2D" else 0.01) or difference.size < 100, op.source


def run_with_lstm(model: ir.Model, batch: np.ndarray) -> np.ndarray:
    """ONNX Runtime before and behind the extracted operator, LiteRT for the operator itself."""
    (node,) = [n for n in model.graph if n.domain == "gossamer.tflite"]
    (read_from,), (made,) = node.inputs, node.outputs
    content = node.attributes["tflite"].value
    proto = ir.to_proto(model)
    if read_from is not model.graph.inputs[0]:
        first = onnx.utils.Extractor(proto).extract_model([model.graph.inputs[0].name], [read_from.name])
        batch = run_onnx(first, batch)
    hidden = litert.run(content, batch)
    rest = onnx.utils.Extractor(proto).extract_model([made.name], [model.graph.outputs[0].name])
    return run_onnx(rest, hidden)


@pytest.mark.parametrize("name", ["coral/keras_lstm_mnist_ptq", "tflite-micro/trained_lstm_int8"])
def test_extracted_operator_stands_alone(name, data_dir):
    model = load_model(data_dir / "models" / f"{name}.tflite")
    (node,) = [n for n in model.graph if n.domain == "gossamer.tflite"]
    assert node.op_type == LSTM
    content = node.attributes["tflite"].value
    assert content[4:8] == b"TFL3"
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert tuple(source["shape"]) == tuple(node.inputs[0].shape.numpy())
    assert tuple(target["shape"]) == tuple(node.outputs[0].shape.numpy())
    assert np.dtype(target["dtype"]) == node.outputs[0].dtype.numpy()
    graph = read(content, "extracted")
    assert [op.kind for op in graph.operators] == [LSTM]
    assert sum(t.is_variable for t in graph.tensors) == 2


def test_an_imported_model_can_be_imported_again(data_dir, caplog):
    first = load_model(data_dir / "models/tflite-micro/trained_lstm_int8.tflite")
    second = load_model(first)
    assert [(n.name, n.op_type, n.metadata_props[SOURCE]) for n in first.graph] == [
        (n.name, n.op_type, n.metadata_props[SOURCE]) for n in second.graph
    ]
    (node,) = [n for n in second.graph if n.domain == "gossamer.tflite"]
    assert node.attributes["tflite"].value[4:8] == b"TFL3"
    assert not caplog.records


def test_person_detect_loads_with_its_bad_quantized_dimension(data_dir):
    path = data_dir / "models/tflite-micro/person_detect.tflite"
    main = flatbuf.read(path.read_bytes(), "Model", "model").subgraphs[0]
    flat = [t for t in main.tensors if t.quantization is not None and len(t.shape) == 1]
    bad = [t for t in flat if t.quantization.quantized_dimension != 0]
    assert len(bad) == 14
    model = load_model(path)
    biases = [n.inputs[2].producer() for n in model.graph if n.op_type == "Conv"]
    per_channel = [b for b in biases if b.inputs[1].const_value.size > 1]
    assert len(per_channel) >= 14
    assert all(b.attributes["axis"].value == 0 for b in per_channel)


def test_its_own_photos_get_their_published_answers(data_dir):
    from PIL import Image

    folder = data_dir / "models/tflite-micro"
    images = [np.asarray(Image.open(folder / f)).view(np.int8) for f in ("person.bmp", "no_person.bmp")]
    got = run_onnx(ir.to_proto(load_model(folder / "person_detect.tflite")), np.stack(images))
    assert np.abs(got.astype(int) - [[-113, 113], [60, -60]]).max() <= 2


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.file.split("/")[1])
def test_every_node_says_where_it_comes_from(case, data_dir):
    model = load_model(data_dir / "models" / f"{case.file}.tflite")
    for node in model.graph:
        assert node.metadata_props[SOURCE].startswith("op #") or node.op_type == "Transpose"
        assert all(v.shape is not None and v.shape.is_static() for v in node.outputs), node.name
    names = [node.name for node in model.graph]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.file.split("/")[1])
def test_transposes_only_at_the_border(case, data_dir):
    """Nothing in these networks needs channels last between its convolutions."""
    model = load_model(data_dir / "models" / f"{case.file}.tflite")
    assert sum(node.op_type == "Transpose" for node in model.graph) <= 1
