"""ONNX files: what is kept, what is fixed, what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from gossamer._errors import GossamerError, ModelError, UnsupportedError
from gossamer.importers import SOURCE, load_model, source_of
from tests import ort
from tests.importers.synthetic import run

RNG = np.random.default_rng(11)


def network(opset: int = 17, batch: int | str = 1, weights: np.ndarray | None = None, names=("conv", "act", "fc")):
    """Conv -> Relu -> global pool -> Flatten -> Gemm on [batch, 3, 8, 8]."""
    w = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32) if weights is None else weights
    fc = RNG.normal(size=(5, 4)).astype(np.float32)
    bias = np.arange(5, dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name=names[0], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name=names[1]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "fc", "bias"], ["y"], name=names[2], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 5])],
        [
            numpy_helper.from_array(w, "w"),
            numpy_helper.from_array(fc, "fc"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def reference(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return ort.run(proto, {"x": x})[0]


@pytest.mark.parametrize("how", ["path", "bytes", "proto", "ir"])
def test_every_door(how, tmp_path):
    proto = network()
    path = tmp_path / "net.onnx"
    onnx.save(proto, path)
    source = {"path": path, "bytes": path.read_bytes(), "proto": proto, "ir": ir.from_proto(proto)}[how]
    before = proto.SerializeToString()
    model = load_model(source)
    assert proto.SerializeToString() == before
    x = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(model, [x])[0], reference(proto, x), rtol=1e-5, atol=1e-6)
    assert source_of(next(iter(model.graph))) == "conv"
    assert all(v.shape.is_static() and v.type is not None for n in model.graph for v in n.outputs)


def test_nodes_without_names_get_one_and_a_source():
    model = load_model(network(names=("", "", "")))
    names = [n.name for n in model.graph]
    assert len(set(names)) == 5
    assert all(names)
    assert next(iter(model.graph)).metadata_props[SOURCE] == "Conv #0 'a'"


def test_duplicate_names_become_unique_and_stay_traceable():
    model = load_model(network(names=("same", "same", "same")))
    names = [n.name for n in model.graph if n.metadata_props[SOURCE] == "same"]
    assert names == ["same", "same#1", "same#2"]


@pytest.mark.parametrize("opset", [9, 11, 12])
def test_old_opsets_are_converted(opset):
    proto = network(opset)
    model = load_model(proto)
    assert model.opset_imports[""] >= 13
    x = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(model, [x])[0], reference(proto, x), rtol=1e-5, atol=1e-6)


def test_weights_listed_among_the_inputs_are_not_inputs():
    proto = network()
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3, 3, 3]))
    assert [v.name for v in load_model(proto).graph.inputs] == ["x"]


def test_functions_are_inlined():
    proto = network()
    twice = helper.make_function(
        "local",
        "Twice",
        ["v"],
        ["r"],
        [helper.make_node("Add", ["v", "v"], ["r"])],
        [helper.make_opsetid("", 17)],
    )
    proto.functions.append(twice)
    proto.opset_import.append(helper.make_opsetid("local", 1))
    proto.graph.node[1].op_type, proto.graph.node[1].domain = "Twice", "local"
    model = load_model(proto)
    assert [n.op_type for n in model.graph] == ["Conv", "Add", "GlobalAveragePool", "Flatten", "Gemm"]


def test_an_opset_of_the_future():
    with pytest.raises(UnsupportedError, match="opset 99"):
        load_model(network(99))


def test_quantised_models_pass_unchanged(tmp_path):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            rng = np.random.default_rng(0)
            self.batches = iter([{"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(4)])

        def get_next(self):
            return next(self.batches, None)

    plain, quantised = tmp_path / "plain.onnx", tmp_path / "qdq.onnx"
    onnx.save(network(), plain)
    quantize_static(plain, quantised, Reader(), quant_format=QuantFormat.QDQ, per_channel=True)
    model = load_model(quantised)
    x = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(model, [x])[0], ort.run(quantised, {"x": x})[0])
    assert sum(n.op_type == "QuantizeLinear" for n in model.graph) >= 2


def test_dynamic_shapes_name_the_input_and_the_way_out():
    with pytest.raises(UnsupportedError, match=r"input 'x' has a dynamic shape: \[batch\?, 3, 8, 8\]") as caught:
        load_model(network(batch="batch"))
    assert "input_shapes" in caught.value.hint


def test_input_shapes_fix_them():
    proto = network(batch="batch")
    model = load_model(proto, input_shapes={"x": (2, 3, 8, 8)})
    assert list(model.graph.outputs[0].shape) == [2, 5]
    x = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(model, [x])[0], reference(proto, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "shapes,words",
    [({"z": (1, 3, 8, 8)}, "not an input"), ({"x": (1, 3, 8)}, "rank"), ({"x": (1, 4, 8, 8)}, "fixed to 3")],
)
def test_input_shapes_that_do_not_fit(shapes, words):
    with pytest.raises(ModelError, match=words):
        load_model(network(batch="batch"), input_shapes=shapes)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite(bad):
    weights = np.ones((4, 3, 3, 3), np.float32)
    weights[2, 1, 0, 0] = bad
    with pytest.raises(ModelError, match=r"initializer 'w' holds 1 values .* at \(2, 1, 0, 0\)"):
        load_model(network(weights=weights))


def test_external_data_is_refused(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(network(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ModelError, match="external data is not read") as caught:
        load_model(path)
    assert "weights.bin" in caught.value.message


def outside():
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def in_a_function(proto):
    function = proto.functions.add(name="F", domain="d", input=["x"], output=["y"])
    function.node.add(op_type="Constant", output=["y"]).attribute.add(name="value", type=4).t.CopyFrom(outside())


def in_a_list(proto):
    proto.graph.node[0].attribute.add(name="many", type=9).tensors.add().CopyFrom(outside())


def in_a_list_of_graphs(proto):
    proto.graph.node[0].attribute.add(name="many", type=10).graphs.add().initializer.add().CopyFrom(outside())


def in_a_sparse_initializer(proto):
    proto.graph.sparse_initializer.add().values.CopyFrom(outside())


@pytest.mark.parametrize("hide", [in_a_function, in_a_list, in_a_list_of_graphs, in_a_sparse_initializer])
def test_external_data_is_refused_wherever_it_hides(hide):
    proto = network()
    hide(proto)
    with pytest.raises(ModelError, match=r"tensor 'hidden' lies in another file \('../../etc/passwd'\)"):
        load_model(proto.SerializeToString())


def test_operators_that_contradict_their_inputs():
    with pytest.raises(ModelError) as caught:
        load_model(network(weights=np.ones((4, 7, 3, 3), np.float32)))
    assert "conv" in str(caught.value)


def test_unknown_operators_and_attributes():
    proto = network()
    proto.graph.node[1].op_type = "Banana"
    with pytest.raises(ModelError, match="Banana"):
        load_model(proto)


def test_cycles_and_missing_values():
    proto = network()
    proto.graph.node[0].input[0] = "b"
    with pytest.raises(ModelError, match="'b' is read"):
        load_model(proto)
    proto = network()
    proto.graph.node[1].output[0] = "a"
    with pytest.raises(ModelError, match="written twice"):
        load_model(proto)


def test_mutated_files():
    content = network().SerializeToString()
    rng = np.random.default_rng(5)
    outcomes = set()
    for _ in range(400):
        data = bytearray(content)
        for _ in range(int(rng.integers(1, 6))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        if rng.integers(3) == 0:
            del data[int(rng.integers(len(data))) :]
        try:
            load_model(bytes(data), name="fuzzed.onnx")
            outcomes.add("loaded")
        except GossamerError as error:
            outcomes.add(type(error).__name__)
    assert "ModelError" in outcomes


@pytest.mark.parametrize(
    "name,content,words",
    [
        ("empty.onnx", b"", "empty"),
        ("noise.onnx", b"\xff\xfe" * 50, "ONNX"),
        ("photo.jpg", b"\xff\xd8\xff\xe0" + bytes(40), "not a model"),
        ("text.txt", b"hello, world", "not a model"),
        ("old.pth", b"\x80\x02}q\x00.", "pickled"),
        ("new.pt", b"PK\x03\x04" + bytes(40), "pickled"),
        ("net.h5", b"\x89HDF\r\n\x1a\n" + bytes(20), "Keras"),
        ("model.goss", b"GOSSAMER" + bytes(60), "bundle"),
        ("program.pt2", b"PK\x03\x04" + bytes(40), "archive"),
        ("program.pt2", b"nothing like a zip", "archive"),
    ],
)
def test_files_that_are_not_models(name, content, words, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(GossamerError, match=words) as caught:
        load_model(path)
    assert name in str(caught.value)
    assert caught.value.hint


def test_paths_that_are_not_files(tmp_path):
    with pytest.raises(ModelError, match="no such model file"):
        load_model(tmp_path / "missing.onnx")
    with pytest.raises(ModelError, match="folder"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="int"):
        load_model(42)


def test_a_model_without_outputs():
    proto = network()
    del proto.graph.output[:]
    with pytest.raises(ModelError, match="no outputs"):
        load_model(proto)
