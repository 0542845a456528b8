"""torch modules and .pt2 programs: outputs, sources, and what is refused."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gossamer[torch]'")

from gossamer._errors import ModelError, UnsupportedError  # noqa: E402
from gossamer.importers import SOURCE, load_model, source_of  # noqa: E402
from tests import models  # noqa: E402
from tests.importers.synthetic import run  # noqa: E402

FAST = ["ds_cnn", "tiny_vit", "resnet18_small"]
FULL = ["mobilenet_v1_0.25", "mobilenet_v2_0.35", "mobilenet_v1", "mobilenet_v2", "resnet18"]


def check(name: str) -> None:
    module, x = models.build(name), models.example(name)
    model = load_model(module, example_inputs=x)
    with torch.no_grad():
        expected = module(x).numpy()
    (got,) = run(model, [x.numpy()])
    assert np.abs(got - expected).max() <= 1e-4 * np.abs(expected).max()
    assert "BatchNormalization" not in {n.op_type for n in model.graph}
    assert all("models.py:" in source_of(n) for n in model.graph if n.op_type in ("Conv", "Gemm", "MatMul"))
    assert all(set(n.metadata_props) == {SOURCE} for n in model.graph)
    assert len({n.name for n in model.graph}) == len(model.graph)


@pytest.mark.parametrize("name", FAST)
def test_small_networks(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_larger_networks(name):
    check(name)


def test_weighted_nodes_carry_their_module_path():
    model = load_model(models.build("ds_cnn"), example_inputs=models.example("ds_cnn"))
    weighted = {n.name: source_of(n) for n in model.graph if n.op_type in ("Conv", "Gemm")}
    assert set(weighted) == {"stem.0", *(f"blocks.{i}.0" for i in range(8)), "fc"}
    assert all(source.startswith(f"{name} (models.py:") for name, source in weighted.items())


def test_the_module_is_left_as_it_was():
    module = models.build("ds_cnn")
    module.train()
    module.fc.eval()
    before = {n: p.clone() for n, p in module.state_dict().items()}
    load_model(module, example_inputs=models.example("ds_cnn"))
    assert module.training
    assert not module.fc.training
    assert all(torch.equal(before[n], p) for n, p in module.state_dict().items())


def test_numpy_and_several_inputs():
    class Two(torch.nn.Module):
        def forward(self, a, b):
            return torch.relu(a) + b

    a, b = np.ones((2, 3), np.float32), -np.ones((2, 3), np.float32)
    model = load_model(Two(), example_inputs=(a, b))
    assert [v.name for v in model.graph.inputs] == ["a", "b"]
    np.testing.assert_array_equal(run(model, [a, b])[0], np.zeros((2, 3)))


def test_missing_and_wrong_example_inputs():
    module = models.build("ds_cnn")
    with pytest.raises(ModelError, match="example inputs"):
        load_model(module)
    with pytest.raises(ModelError, match="tensors"):
        load_model(module, example_inputs="photo.jpg")
    with pytest.raises((ModelError, UnsupportedError)) as caught:
        load_model(module, example_inputs=torch.zeros(1, 3, 49, 10))
    assert "DSCNN" in caught.value.where


def test_data_dependent_python_is_refused_with_a_reason():
    class Branches(torch.nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(UnsupportedError, match=r"torch\.export") as caught:
        load_model(Branches(), example_inputs=torch.zeros(3))
    assert caught.value.hint


def saved(module, x, **options) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(module, (x,), **options), buffer)
    return buffer.getvalue()


def test_pt2_gives_the_same_network(tmp_path):
    module, x = models.build("ds_cnn"), models.example("ds_cnn")
    path = tmp_path / "keywords.pt2"
    path.write_bytes(saved(module, x))
    model = load_model(path)
    with torch.no_grad():
        expected = module(x).numpy()
    assert np.abs(run(model, [x.numpy()])[0] - expected).max() <= 1e-4 * np.abs(expected).max()
    assert model.graph.name == "keywords"
    assert source_of(next(iter(model.graph))).startswith("stem.0 (models.py:")


def rewritten(content: bytes, edit) -> bytes:
    """The archive with ``edit(members)`` applied; names are given without the root folder."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {n.split("/", 1)[1]: archive.read(n) for n in archive.namelist()}
    edit(members)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"m/{name}", data)
    return buffer.getvalue()


class Bomb:
    """Unpickling it leaves a trace."""

    fired = False

    def __reduce__(self):
        return (Bomb.fire, ())

    @staticmethod
    def fire():
        Bomb.fired = True


@pytest.fixture(scope="module")
def program() -> bytes:
    return saved(torch.nn.Linear(3, 2), torch.zeros(1, 3))


def test_pickled_objects_never_run(program):
    import pickle

    bomb = pickle.dumps(Bomb())

    def constant(members):
        members["data/constants/custom_obj_0"] = bomb

    def weights(members):
        config = json.loads(members["data/weights/model_weights_config.json"])
        config["config"]["weight"]["use_pickle"] = True
        members["data/weights/model_weights_config.json"] = json.dumps(config).encode()
        members["data/weights/weight_0"] = bomb

    def legacy(members):
        members["data/weights/model.pt"] = bomb

    def library(members):
        members["data/aotinductor/model/code.so"] = b"\x7fELF"

    for edit in (constant, weights, legacy, library):
        with pytest.raises(UnsupportedError):
            load_model(rewritten(program, edit), name="bad.pt2")

    def samples(members):
        members["data/sample_inputs/model.pt"] = bomb

    load_model(rewritten(program, samples), name="fine.pt2")
    assert not Bomb.fired


def test_foreign_operators_and_symbols_are_not_evaluated(program):
    def target(members):
        members["models/model.json"] = members["models/model.json"].replace(
            b"torch.ops.aten.linear.default", b"torch.load"
        )

    with pytest.raises(UnsupportedError, match=r"torch\.load"):
        load_model(rewritten(program, target), name="bad.pt2")
    batch = torch.export.Dim("batch", min=2, max=8)
    dynamic = saved(torch.nn.Linear(3, 2), torch.zeros(4, 3), dynamic_shapes=({0: batch},))
    with pytest.raises(UnsupportedError, match="dynamic dimension"):
        load_model(dynamic, name="dynamic.pt2")


def test_damaged_archives(program):
    rng = np.random.default_rng(2)
    for size in (10, 100, len(program) // 2, len(program) - 30):
        with pytest.raises((ModelError, UnsupportedError)):  # a cut may end in the inner archive of sample inputs
            load_model(program[:size], name="cut.pt2")
    for _ in range(20):
        data = bytearray(program)
        for _ in range(8):
            data[int(rng.integers(len(data)))] ^= 0x55
        try:
            load_model(bytes(data), name="noise.pt2")
        except (ModelError, UnsupportedError) as error:
            assert error.message

    def missing(members):
        del members["models/model.json"]

    with pytest.raises(ModelError, match=r"model\.json"):
        load_model(rewritten(program, missing), name="empty.pt2")


def test_a_pickled_checkpoint_inside_a_zip_is_refused():
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, buffer)
    with pytest.raises(UnsupportedError, match="pickled"):
        load_model(buffer.getvalue(), name="weights")


def test_nan_weights_name_the_parameter():
    module = torch.nn.Linear(3, 2)
    with torch.no_grad():
        module.weight[1, 2] = float("nan")
    with pytest.raises(ModelError, match="weight"):
        load_model(module, example_inputs=torch.zeros(1, 3))
