"""Detectors of every kind: which output means a person, in what order, what is assumed, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

import gossamer
from gossamer import InputError, ModelError, UnsupportedError
from gossamer.person.detector import open_detector
from gossamer_runtime import Session
from tests.person.detectors import GAIN, brightness

DARK, LIGHT = Image.new("RGB", (33, 21), (51, 51, 51)), Image.new("RGB", (33, 21), (178, 178, 178))
P_DARK, P_LIGHT = (1 / (1 + np.exp(-GAIN * (v / 255 - 0.5))) for v in (51, 178))


def probabilities(path: Path, **options: Any) -> list[float]:
    detector = open_detector(path, **options)
    return [detector.score(image).probability for image in (DARK, LIGHT)]


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {}),
        ({"labels": ["no person", "person"]}, {}),
        ({"labels": ["person", "none"], "person": 0}, {}),
        ({"labels": ["Person", "background"], "person": 0, "end": "Softmax"}, {}),
        ({"person": 0}, {"labels": ["person", "no person"]}),
        ({"labels": ["no person", "person"], "person": 0}, {"labels": ["person", "no person"]}),
        ({"outputs": 1, "person": 0}, {}),
        ({"outputs": 1, "person": 0, "end": "Sigmoid"}, {}),
        ({"outputs": 1, "person": 0, "end": "Sigmoid", "bias": 0.0}, {"labels": ["no person", "person"]}),
        ({"size": 24}, {}),
        ({"channels": 1}, {}),
        ({"batch": "N"}, {}),
        ({"metadata": False}, {}),
        ({"metadata": False}, {"preprocess": "unit"}),
    ],
)
def test_the_person_is_found_whatever_the_form(tmp_path: Path, settings: dict[str, Any], options: Any) -> None:
    path = brightness(tmp_path / "m.onnx", **settings)
    assert probabilities(path, **options) == pytest.approx([P_DARK, P_LIGHT], abs=1e-5)
    calls = [open_detector(path, **options).score(image).called for image in (DARK, LIGHT)]
    assert calls == [False, True]


def test_several_classes(tmp_path: Path) -> None:
    path = brightness(tmp_path / "m.onnx", outputs=3, person=2, labels=["cat", "dog", "person"])
    logit = GAIN * (178 / 255 - 0.5)
    expected = np.exp(logit) / (np.exp(logit) + 2)
    detector = open_detector(path)
    assert detector.score(LIGHT).probability == pytest.approx(expected, abs=1e-5)
    assert detector.score(LIGHT).margin == pytest.approx(logit - np.log(2), abs=1e-4)
    plain = brightness(tmp_path / "n.onnx", outputs=3, person=2)
    with pytest.raises(ModelError, match="name no person: none, for 3 outputs"):
        open_detector(plain)
    assert open_detector(plain, labels=["a", "b", "person"]).person == 2


def test_what_is_assumed_is_said(tmp_path: Path) -> None:
    said = open_detector(brightness(tmp_path / "a.onnx", labels=["no person", "person"]))
    assert said.assumed == ()
    silent = open_detector(brightness(tmp_path / "b.onnx", metadata=False))
    assert [a.split(":")[0] for a in silent.assumed] == ["preprocessing", "outputs"]
    assert silent.describe()["input"]["preprocessing"] == "NCHW rgb, squash, / 255"


def test_equal_outputs_go_to_the_first(tmp_path: Path) -> None:
    flat = brightness(tmp_path / "m.onnx", bias=GAIN / 2)
    black = Image.new("RGB", (8, 8))
    score = open_detector(flat).score(black)
    assert (score.probability, score.margin, score.called) == (0.5, 0.0, False)
    assert open_detector(flat, labels=["person", "none"]).score(black).called


def test_a_lone_output_may_mean_the_contrary(tmp_path: Path) -> None:
    path = brightness(tmp_path / "m.onnx", outputs=1, person=0, end="Sigmoid")
    found = probabilities(path, labels=["person", "no person"])
    assert found == pytest.approx([1 - P_DARK, 1 - P_LIGHT], abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "options", "error", "message"),
    [
        ({"labels": ["cat", "dog"]}, {}, ModelError, "labels name no person: 'cat', 'dog'"),
        ({"labels": ["person", "person"]}, {}, ModelError, "labels name no person"),
        ({}, {"labels": ["cat", "dog"]}, InputError, "labels name no person"),
        ({}, {"labels": ["a", "b", "person"]}, InputError, "3 labels for 2 outputs"),
        ({"labels": ["a", "b", "person"]}, {}, ModelError, "3 labels for output"),
        ({"channels": 5}, {}, ModelError, "takes no photo"),
        ({"channels": 5}, {"preprocess": "unit"}, ModelError, "takes no photo"),
        ({"size": "side"}, {}, UnsupportedError, "dynamic shape"),
    ],
)
def test_unfit_models_are_refused(
    tmp_path: Path, settings: dict[str, Any], options: Any, error: type[Exception], message: str
) -> None:
    path = brightness(tmp_path / "m.onnx", **settings)
    with pytest.raises(error, match=message):
        open_detector(path, **options)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model file"):
        open_detector(tmp_path / "m.h5")
    with pytest.raises(ModelError, match="cannot read the model"):
        open_detector(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(b"nothing like it")
    with pytest.raises(ModelError):
        open_detector(tmp_path / "m.onnx")
    two = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])],
        "two",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in "ab"],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 3, 8, 8])],
    )
    onnx.save(helper.make_model(two, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "t.onnx")
    with pytest.raises(ModelError, match="2 inputs and 1 outputs"):
        open_detector(tmp_path / "t.onnx")


def test_an_output_that_is_no_number(tmp_path: Path) -> None:
    path = brightness(tmp_path / "m.onnx", end="Log")
    with pytest.raises(ModelError, match="not a number") as caught:
        open_detector(path).score(DARK, "a.jpg")
    assert "a.jpg" in str(caught.value.where)


def test_bundles_say_what_they_take(tmp_path: Path) -> None:
    source = brightness(tmp_path / "m.onnx", size=16, labels=["person", "none"], person=0)
    recipe = {"version": 1, "name": "plain", "target": {"measure": False}}
    path = tmp_path / "m.goss"
    gossamer.optimize(source, recipe=recipe, output=path, key=False)

    def unsigned(p: Path) -> Session:
        return Session(p, verify=False)

    assert probabilities(path, session=unsigned) == pytest.approx([P_DARK, P_LIGHT], abs=1e-5)
    assert open_detector(path, session=unsigned).engine == "gossamer"
    with pytest.raises(gossamer.SignatureError):
        open_detector(path)


def test_weights_of_our_own_networks(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="weights need the [torch] extra")
    from gossamer.person.models import build
    from gossamer.person.preprocess import preprocess

    torch.manual_seed(0)
    network = build("v1-0.25-grey").eval()
    with torch.no_grad():
        network.classifier.weight *= 50
        logits = network(torch.from_numpy(preprocess(LIGHT, channels=1)))[0]
    path = tmp_path / "v1-0.25-grey_1x4_0.75.pt"
    torch.save(network.state_dict(), path)
    detector = open_detector(path)
    assert list(detector.input.shape) == [1, 1, 96, 96]
    assert detector.score(LIGHT).margin == pytest.approx(float(logits[1] - logits[0]), abs=1e-4)
    other = tmp_path / "weights.pt"
    path.rename(other)
    with pytest.raises(ModelError, match="does not start with its network's"):
        open_detector(other)
    assert open_detector(other, network="v1-0.25-grey").score(LIGHT).margin == detector.score(LIGHT).margin
    with pytest.raises(ModelError, match=r"not those of v2-0\.35"):
        open_detector(other, network="v2-0.35")
    with pytest.raises(InputError, match="no network"):
        open_detector(other, network="v9")
    for content in (b"no weights", b""):
        other.write_bytes(content)
        with pytest.raises(ModelError, match="this is no file of weights"):
            open_detector(other, network="v1-0.25")
