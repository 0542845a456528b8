"""Whole networks in torch: the same numbers as ONNX Runtime, and back into the same graph."""

from __future__ import annotations

import copy
import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import gossamer
from gossamer import person
from tests.ort import run as onnxruntime

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gossamer[torch]'")

from torch import nn  # noqa: E402

TFLITE = ("vww_96_float", "kws_ref_model_float32", "pretrainedResnet", "ad01_fp32")
TORCH = ("mobilenet_v1_0.25", "mobilenet_v2_0.35", "resnet18_small", "tiny_vit", "ds_cnn")


@cache
def shipped() -> ir.Model:
    return gossamer.load(person.model_path())


@cache
def from_torch(name: str) -> ir.Model:
    from tests import models

    return gossamer.load(models.build(name), example_inputs=(models.example(name),), name=name)


def digest(model: ir.Model) -> str:
    """Of everything in a model: graph, names, metadata and weights."""
    return hashlib.sha256(ir.to_proto(model).SerializeToString(deterministic=True)).hexdigest()


def check_equal_and_back(model: ir.Model, samples: int = 3, tolerance: float = 1e-5) -> None:
    from gossamer.trainable import TrainableGraph

    network = TrainableGraph(model).eval()
    value = model.graph.inputs[0]
    assert value.shape is not None
    shape = [int(d) for d in value.shape.numpy()]
    x = np.random.default_rng(4).random((samples, *shape[1:]), dtype=np.float32) * 2 - 1
    want = np.concatenate([onnxruntime(model, {value.name or "": x[i : i + 1]})[0] for i in range(samples)])
    with torch.no_grad():
        made = network(torch.from_numpy(x)).numpy()
    assert made.shape == want.shape
    assert np.abs(made - want).max() <= tolerance * max(1.0, np.abs(want).max())
    assert digest(network.to_onnx()) == digest(model)


def test_the_shipped_model() -> None:
    check_equal_and_back(shipped())


@pytest.mark.parametrize("name", TFLITE)
def test_third_party_models(name: str, data_dir: Path) -> None:
    pytest.importorskip("tflite", reason="tflite is not installed: pip install 'gossamer[tflite]'")
    check_equal_and_back(gossamer.load(data_dir / f"models/mlperf-tiny/{name}.tflite"))


@pytest.mark.parametrize("name", TORCH)
def test_models_exported_from_torch(name: str) -> None:
    check_equal_and_back(from_torch(name), samples=2, tolerance=2e-5)


def test_layers_are_torch_layers_called_like_their_nodes() -> None:
    from gossamer.trainable import TrainableGraph

    network = TrainableGraph(shipped())
    weighted = [n for n in shipped().graph if n.op_type in ("Conv", "Gemm", "BatchNormalization")]
    assert list(network.names) == [n.name for n in weighted]
    assert all(module == node for node, module in network.names.items())
    modules = dict(network.named_modules())
    kinds = {"Conv": nn.Conv2d, "Gemm": nn.Linear, "BatchNormalization": nn.BatchNorm2d}
    assert all(type(modules[n.name or ""]) is kinds[n.op_type] for n in weighted)
    order = [n for n, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear, nn.BatchNorm2d))]
    assert order == [n.name for n in weighted]


def test_odd_names_are_cleaned_and_names_whose_levels_change_the_order_stay_flat() -> None:
    from gossamer.trainable.names import Names

    root = nn.Module()
    names = Names(["a.x", "b.y", "a.z"])
    assert [names.place(root, n, nn.Linear(1, 1)) for n in ("a.x", "b.y", "a.z")] == ["a_x", "b_y", "a_z"]
    root, names = nn.Module(), Names(["m/c;1:0.w", "m/c;1:0", "train"])
    placed = [names.place(root, n, nn.Linear(1, 1)) for n in ("m/c;1:0.w", "m/c;1:0", "train")]
    assert placed == ["m/c_1_0_w", "m/c_1_0", "train_"]
    assert [n for n, _ in root.named_modules()][1:] == placed


def train_one_step(network: nn.Module, x: torch.Tensor, lr: float = 0.05) -> None:
    optimiser = torch.optim.SGD(network.parameters(), lr=lr)
    loss = network(x).square().mean()
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()


def test_training_moves_weights_and_statistics_and_onnx_follows() -> None:
    from gossamer.trainable import TrainableGraph

    model = shipped()
    network = TrainableGraph(model)
    x = torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    train_one_step(network, x)
    trained = network.to_onnx()
    before, after = model.graph.initializers, trained.graph.initializers
    assert list(before) == list(after)
    assert [n.name for n in model.graph] == [n.name for n in trained.graph]
    assert trained.metadata_props == model.metadata_props
    for name in ("trunk.0.conv.weight", "trunk.0.norm.running_mean", "classifier.bias"):
        old, new = (g[name].const_value.numpy() for g in (before, after))  # type: ignore[union-attr]
        assert old.shape == new.shape and not np.array_equal(old, new)
    network.eval()
    want = onnxruntime(trained, {"image": x[:1].numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(network(x[:1]).numpy(), want, atol=1e-5)


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    from gossamer.trainable import TrainableGraph

    network = TrainableGraph(shipped(), freeze_batch_norm=True).train()
    norm = network.get_submodule("trunk.0.norm")
    before = norm.running_mean.clone()
    x = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        free = network(x)
        assert torch.equal(norm.running_mean, before)
        assert torch.allclose(network.eval()(x), free)


def test_shared_weights_share_a_layer_and_constants_of_their_own_are_written_apart() -> None:
    from gossamer.trainable import TrainableGraph
    from tests.compile.support import model, node, normal

    nodes = [
        node("Gemm", ["x", "w"], ["a"], transB=1),
        node("Gemm", ["a", "w"], ["b"], transB=1),
        node("Gemm", ["b", "w"], ["y"], transB=0),
    ]
    proto = model(nodes, {"x": (1, 4)}, ["y"], {"w": normal(4, 4)})
    network = TrainableGraph(ir.from_proto(proto))
    assert [n for n, _ in network.named_parameters()] == ["Gemm_a.weight", "Gemm_y.weight"]
    train_one_step(network, torch.from_numpy(normal(3, 4)), lr=0.01)
    trained = network.to_onnx()
    x = normal(1, 4, seed=5)
    with torch.no_grad():
        np.testing.assert_allclose(
            network(torch.from_numpy(x)).numpy(), onnxruntime(trained, {"x": x})[0], rtol=1e-5, atol=1e-5
        )


def test_weights_behind_constant_arithmetic_get_an_initializer_of_their_own() -> None:
    from gossamer.trainable import TrainableGraph
    from tests.compile.support import model, node, normal

    nodes = [node("Transpose", ["w"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["y"])]
    proto = model(nodes, {"x": (1, 4)}, ["y"], {"w": normal(3, 4)})
    network = TrainableGraph(ir.from_proto(proto))
    train_one_step(network, torch.from_numpy(normal(2, 4)))
    trained = network.to_onnx()
    x = normal(1, 4, seed=5)
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(x)).numpy(), onnxruntime(trained, {"x": x})[0], rtol=1e-5)


def test_biases_in_nodes_of_their_own_train_too() -> None:
    from gossamer.trainable import TrainableGraph
    from tests.compile.support import model, node, normal

    nodes = [
        node("Conv", ["x", "v"], ["c"]),
        node("Add", ["o", "c"], ["d"]),
        node("Flatten", ["d"], ["f"]),
        node("MatMul", ["f", "w"], ["m"]),
        node("Add", ["m", "b"], ["n"]),
        node("Add", ["n", "shift"], ["y"]),
    ]
    consts = {"v": normal(3, 2, 1, 1), "o": normal(3, 1, 1), "w": normal(12, 4), "b": normal(4), "shift": normal(4)}
    proto = model(nodes, {"x": (1, 2, 2, 2)}, ["y"], consts)
    network = TrainableGraph(ir.from_proto(proto))
    assert [n for n, _ in network.named_parameters()] == [
        "Conv_c.weight", "Add_d.bias", "MatMul_m.weight", "Add_n.bias",
    ]  # fmt: skip
    train_one_step(network, torch.from_numpy(normal(2, 2, 2, 2)), lr=0.01)
    made = {n: v.const_value.numpy() for n, v in network.to_onnx().graph.initializers.items()}  # type: ignore[union-attr]
    assert all(made[n].shape == c.shape for n, c in consts.items())
    assert {n for n, c in consts.items() if np.array_equal(made[n], c)} == {"shift"}


def test_files_are_loaded() -> None:
    from gossamer.trainable import TrainableGraph

    assert list(TrainableGraph(person.model_path()).names) == list(TrainableGraph(shipped()).names)


def test_a_copy_has_layers_of_its_own_and_state_dicts_resume() -> None:
    from gossamer.trainable import TrainableGraph

    network = TrainableGraph(from_torch("ds_cnn"))
    twin = copy.deepcopy(network)
    x = torch.randn(2, 1, 49, 10, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = twin.eval()(x)
    train_one_step(network, x)
    with torch.no_grad():
        assert torch.equal(twin.eval()(x), before)
        twin.load_state_dict(network.state_dict())
        assert torch.equal(twin.eval()(x), network.eval()(x))


def test_sparse_training_attaches_and_its_zeros_arrive_in_onnx() -> None:
    from gossamer.sparsify.training import Sparsifier
    from gossamer.trainable import TrainableGraph

    network = TrainableGraph(shipped())
    target = {"pattern": "1x4", "sparsity": 0.75}
    sparsifier = Sparsifier(network, target, "gradual-magnitude", total_steps=1)
    assert sparsifier.dense["trunk.0.conv"] == "first convolution: dense by default"
    assert sparsifier.dense["classifier"] == "last classifier: dense by default"
    assert sparsifier.layers[0].name == "trunk.1.branch.1.conv"
    train_one_step(network, torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)))
    sparsifier.step()
    reached = sparsifier.finish()
    initializers = network.to_onnx().graph.initializers
    for name, sparsity in reached.items():
        w = initializers[f"{name}.weight"].const_value.numpy()  # type: ignore[union-attr]
        assert np.mean(w == 0) == pytest.approx(sparsity, abs=0.01)
        assert sparsity == pytest.approx(0.75, abs=0.02)
