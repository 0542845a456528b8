"""Fine-tuning inside ``optimize``: the train stage, its options on the command line, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import gossamer
from gossamer._errors import InputError, RecipeError, UnsupportedError
from gossamer._optimize import STAGES
from gossamer_runtime import Session
from tests.finetune.conftest import network, task

RECIPE = {
    "version": 1,
    "sparsify": {"pattern": "1x4", "sparsity": 0.75},
    "train": {"epochs": 4, "batch": 32, "learning_rate": 0.01, "distill": {"weight": 0.5}, "quantization_aware": 1},
    "quantize": {"samples": 16},
    "target": {"measure": False},
}


@pytest.fixture
def files(trained, tmp_path):
    """The trained model, its examples in an .npz, a recipe, and calibration samples."""
    x, y = task(192, 1)
    np.savez(tmp_path / "train.npz", x=x, y=y)
    np.save(tmp_path / "calibration.npy", x[:16])
    (tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
    (tmp_path / "model.onnx").write_bytes(trained.read_bytes())
    return tmp_path


def right(bundle, x, y):
    with Session(bundle, verify=False) as session:
        return float(np.mean([int(session.run(a[None]).argmax()) == c for a, c in zip(x, y, strict=True)]))


def balanced(bundle, x, y):
    return float(np.mean([right(bundle, x[y == c], y[y == c]) for c in range(3)]))


def test_a_trained_sparse_bundle_keeps_what_one_shot_loses(files):
    x, y = task(300, 9)
    seen = []
    made = gossamer.optimize(
        files / "model.onnx", files / "recipe.yaml", files / "calibration.npy", train_data=files / "train.npz",
        key=False, progress=lambda *s: seen.append(s),
    )  # fmt: skip
    shot = gossamer.optimize(files / "model.onnx", {**RECIPE, "train": None}, files / "calibration.npy", key=False)
    dense = {**RECIPE, "train": None, "sparsify": None}
    whole = gossamer.optimize(files / "model.onnx", dense, files / "calibration.npy", key=False)
    assert right(made.data, x, y) > right(shot.data, x, y) + 0.03
    assert right(made.data, x, y) > right(whole.data, x, y) - 0.04
    rows = {row.name: row for row in made.layers}
    for name in ("body.1.conv", "body.3.conv"):
        assert rows[name].sparsity_percent >= 75 and rows[name].pruned_pattern == "1x4"
    assert "first convolution" in rows["body.0.conv"].reason and rows["head"].sparsity_percent < 10
    stages = list(dict.fromkeys(stage for stage, _, _ in seen))
    assert stages == ["load", "calibrate", "train", "lower", "choose", "encode", "emit", "sign"]
    assert [s for s in STAGES if s in stages] == stages
    assert max(done for stage, done, _ in seen if stage == "train") == 5 * 6  # epochs, batches
    assert len(made.training["epochs"]) == 5 and made.training["examples"].startswith("192 examples of 3 classes")
    assert "training 5 epochs on 192 examples" in made.summary() and not any(
        "quantised already" in n for n in made.notes
    )
    assert made.calibration_samples == 16 and made.to_json()["training"]["sparsities"]["body.1.conv"] == 0.75


def test_the_same_training_gives_the_same_bundle(files):
    arguments = (files / "model.onnx", {**RECIPE, "train": {"epochs": 1}}, files / "calibration.npy")
    a, b = (gossamer.optimize(*arguments, train_data=files / "train.npz", key=False).data for _ in range(2))
    assert a == b


def test_a_torch_module_can_be_trained_as_a_graph(files):
    import torch

    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(32, 3),
    ).eval()  # fmt: skip
    recipe = {**RECIPE, "train": {"epochs": 2, "batch": 64}, "quantize": None}
    made = gossamer.optimize(net, recipe, example_inputs=(torch.zeros(1, 3, 8, 8),), train_data=task(96, 1), key=False)
    assert sorted(round(row.sparsity_percent) for row in made.layers) == [0, 0, 75]


@pytest.mark.parametrize(
    ("recipe", "data", "error", "message"),
    [
        (RECIPE, None, InputError, "the recipe trains, which needs data"),
        ({**RECIPE, "train": None}, "train.npz", RecipeError, "the recipe has no train step"),
        (RECIPE, "absent", InputError, "no such file or folder"),
        (RECIPE, "calibration.npy", None, None),
    ],
)
def test_training_and_its_data_need_each_other(files, recipe, data, error, message):
    arguments = (files / "model.onnx", recipe, files / "calibration.npy")
    options = {"train_data": None if data is None else files / data, "key": False}
    if error is None:  # without labels: the model itself is the teacher
        assert "without labels" in gossamer.optimize(*arguments, **options).training["examples"]
        return
    with pytest.raises(error, match=message):
        gossamer.optimize(*arguments, **options)


def test_operators_that_cannot_be_trained_are_named(files):
    proto = network()
    proto.graph.node[2].op_type = "Shrink"
    onnx.save(proto, files / "odd.onnx")
    with pytest.raises(UnsupportedError, match="cannot be trained"):
        gossamer.optimize(
            files / "odd.onnx", RECIPE, files / "calibration.npy", train_data=files / "train.npz", key=False
        )


def test_command_line_trains_and_goes_on_from_its_checkpoint(cli, home, files):
    arguments = ["optimize", files / "model.onnx", "-r", files / "recipe.yaml", "-c", files / "calibration.npy"]
    arguments += ["-o", files / "m.goss", "--train-data", files / "train.npz", "--checkpoint", files / "run"]
    ran = cli(*arguments)
    assert ran.code == 0, ran.err
    assert "training 5 epochs on 192 examples" in ran.out and "train:" in ran.err
    first = (files / "m.goss").read_bytes()
    ran = cli(*arguments, "--json")
    assert ran.code == 0 and ran.json["training"]["resumed_epochs"] == 5
    assert (files / "m.goss").read_bytes() == first
    (files / "recipe.yaml").write_text(json.dumps({**RECIPE, "train": {**RECIPE["train"], "epochs": 6}}))
    ran = cli(*arguments)
    assert ran.code == 10 and "error: the checkpoints belong to another run: train.epochs was 4, is 6" in ran.err
    ran = cli(*arguments[:-4])
    assert ran.code == 10 and "--train-data" in ran.err


def test_a_search_trains_each_bundle_that_it_tries(files, monkeypatch):
    monkeypatch.setenv("GOSSAMER_CACHE", str(files / "cache"))
    x, y = task(150, 7)
    recipe = {**RECIPE, "target": {}, "train": {"epochs": 2, "batch": 32, "learning_rate": 0.01}}
    found = gossamer.optimize_auto(
        files / "model.onnx", recipe, files / "calibration.npy", eval_data=(x, y), max_accuracy_drop=0.5,
        train_data=files / "train.npz", checkpoint=files / "runs", sparsities=(0.5, 0.75), key=False,
    )  # fmt: skip
    built = sum(bool(t.sparsities) for t in found.trials)  # what prunes nothing trains nothing
    assert built >= 1 and len(list((files / "runs").iterdir())) == built
    assert bool(found.bundle.training) == bool(found.chosen.sparsities) and found.chosen.drop <= 0.5
    decided = balanced(found.bundle.data, x, y)
    assert found.chosen.accuracy == pytest.approx(decided) and found.chosen.drop == pytest.approx(
        found.baseline - decided
    )


def test_planning_a_training_loads_no_torch():
    code = (
        "import sys\n"
        "from gossamer.recipe import load_recipe\n"
        "from gossamer.finetune.stage import check\n"
        "check(load_recipe('1x4-75-gradual-int8'), 'data')\n"
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_the_graph_that_comes_out_is_the_graph_that_went_in(files):
    """Names, sources and metadata: what reports and manifests go by."""
    proto = onnx.load(files / "model.onnx")
    onnx.helper.set_model_props(proto, {"gossamer.manifest": json.dumps({"labels": ["a", "b", "c"], "logits": True})})
    onnx.save(proto, files / "named.onnx")
    made = gossamer.optimize(
        files / "named.onnx", {**RECIPE, "train": {"epochs": 1}}, files / "calibration.npy",
        train_data=files / "train.npz", key=False,
    )  # fmt: skip
    assert made.manifest["outputs"][0]["postprocessing"]["labels"] == ["a", "b", "c"]
    given = [n.name for n in ir.from_proto(proto).graph if n.op_type in ("Conv", "Gemm")]
    assert [row.name for row in made.layers] == given


def test_channels_are_rearranged_once_before_training(files):
    recipe = {**RECIPE, "sparsify": {**RECIPE["sparsify"], "rearrange": True}, "train": {"epochs": 2, "batch": 32}}
    made = gossamer.optimize(
        files / "model.onnx", recipe, files / "calibration.npy", train_data=files / "train.npz", key=False
    )
    rows = {row.name: row.sparsity_percent for row in made.layers}
    assert rows["body.1.conv"] >= 75 and rows["body.3.conv"] >= 75
    assert right(made.data, *task(300, 9)) > 0.6  # the function went through the training whole
