"""From runs to one folder of networks at their operating points, with a manifest; starts by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer import InputError, ModelError
from gossamer.person.dataset import PersonDataset, labels
from tests.person.packs import write_people

torch = pytest.importorskip("torch", reason="training needs the [torch] extra")

from gossamer.person import collect as collecting  # noqa: E402 - after the skip
from gossamer.person.augment import Augmentation  # noqa: E402
from gossamer.person.collect import collect, quantize_collected, write_starts  # noqa: E402
from gossamer.person.fitting import fit  # noqa: E402
from gossamer.person.models import PersonNet, build, is_prunable  # noqa: E402
from gossamer.person.quantized import QuantizeSettings  # noqa: E402
from gossamer.person.run_folder import weights_file  # noqa: E402
from gossamer.person.training import TrainSettings, initial_digests  # noqa: E402
from gossamer.recipe import SparsifyStep  # noqa: E402


def silent(_: str) -> None:
    pass


CALM = Augmentation(
    min_area=1.0, max_aspect=1.0, colour=0.0, hue=0.0, grey=0.0, blur=0.0, noise=0.0, erase=0.0, mix=0.0
)


@pytest.fixture(scope="module")
def clear_people(tmp_path_factory: pytest.TempPathFactory) -> PersonDataset:
    """Photos of one label are bright, those of the other dark: eighty steps tell them apart, whatever the seed."""
    rng = np.random.default_rng(1)

    def photo(label: int) -> np.ndarray:
        return (rng.integers(0, 60, (128, 128, 3)) + 180 * label).astype(np.uint8)

    return PersonDataset(write_people(tmp_path_factory.mktemp("clear"), photo, area=0.3))


@pytest.mark.slow
def test_runs_become_networks_with_parents_and_shares(clear_people: PersonDataset, tmp_path: Path) -> None:
    people = clear_people
    common: dict[str, Any] = {
        "bank": 64, "epochs": 20, "batch": 16, "warmup": 2, "ema_decay": 0.5, "label_smoothing": 0.0,
        "dropout": 0.0, "learning_rate": 2e-3, "augmentation": CALM,
    }  # fmt: skip
    fit(people, TrainSettings(candidates=("v1-0.25+seed:1",), **common), tmp_path / "first", log=silent, device="cpu")
    names = write_starts([tmp_path / "first"], tmp_path / "starts", SparsifyStep(pattern="1x4", sparsity=0.75))
    assert names == ["v1-0.25-s1", "v1-0.25-r1"]
    x = torch.rand(2, 3, 96, 96)
    plain, moved = build("v1-0.25").eval(), build("v1-0.25").eval()
    for network, name in ((plain, "v1-0.25-s1"), (moved, "v1-0.25-r1")):
        network.load_state_dict(torch.load(tmp_path / "starts" / f"{name}.pt", weights_only=True))
    with torch.no_grad():
        assert torch.allclose(plain(x), moved(x), atol=1e-5)
    assert not torch.equal(plain.trunk[1][0][0].weight, moved.trunk[1][0][0].weight)

    candidates = (
        "v1-0.25+seed:1+from:v1-0.25-s1",
        "v1-0.25+gradual-magnitude:1x4:0.75,every=1+seed:1+from:v1-0.25-r1",
        "v1-0.25+sr-ste:2:4+seed:1+from:v1-0.25-s1",
    )
    settings = TrainSettings(candidates=candidates, initial=initial_digests(candidates, tmp_path / "starts"), **common)
    fit(people, settings, tmp_path / "second", log=silent, device="cpu", initial=tmp_path / "starts")
    entries = collect(
        people, [tmp_path / "first"], [tmp_path / "second"], tmp_path / "out", one_shot=[0.5], one_shot_of=["v1-0.25"]
    )
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == entries
    found = {e["file"]: (e["method"], e["pattern"], e["sparsity"], e["seed"], e["parent"]) for e in entries}
    assert found == {
        "v1-0.25-s1.pt": ("start", None, 0.0, 1, None),
        "v1-0.25-dense-s1.pt": ("dense", None, 0.0, 1, "v1-0.25-s1"),
        "v1-0.25-one-shot-1x4-0.5-s1.pt": ("one-shot", "1x4", 0.5, 1, "v1-0.25-dense-s1"),
        "v1-0.25-gradual-magnitude-rearranged-1x4-0.75-s1.pt": (
            "gradual-magnitude-rearranged",
            "1x4",
            0.75,
            1,
            "v1-0.25-s1",
        ),
        "v1-0.25-sr-ste-2-4-0.5-s1.pt": ("sr-ste", "2:4", 0.5, 1, "v1-0.25-s1"),
    }
    assert {e["steps"] for e in entries} == {80}
    for file, (_, _, share, _, _) in found.items():
        network = build("v1-0.25")
        network.load_state_dict(torch.load(tmp_path / "out" / file, weights_only=True))
        weights = torch.cat([m.weight.flatten() for m in network.modules() if is_prunable(m)])
        assert float((weights == 0).float().mean()) == pytest.approx(share, abs=2e-3), file
    assert all(e["settings"]["operating_point"] for e in entries if e["method"] != "one-shot")


def run_of(folder: Path, **networks: PersonNet) -> Path:
    """A folder as ``fit`` leaves it, with these networks."""
    folder.mkdir()
    settings = {"candidates": list(networks)}
    (folder / "run.json").write_text(json.dumps({"settings": settings, "steps": 3, "machine": {}}))
    for name, network in networks.items():
        torch.save(network.state_dict(), folder / weights_file(name))
    return folder


def told_apart(people: PersonDataset, seed: int = 0, sign: float = 1.0) -> PersonNet:
    """A network whose classifier looks along the line from the mean features of one label to those of the other."""
    torch.manual_seed(seed)
    network = build("v1-0.1")
    rows = people.select("train")
    x = torch.from_numpy(people.images(rows, size=96)).permute(0, 3, 1, 2).float() / 255
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics of the one pass
    with torch.no_grad():
        network(x)
        features = network.eval().features(x).mean(dim=(2, 3))
        label = torch.from_numpy(labels(rows)) == 1
        way = sign * (features[label].mean(0) - features[~label].mean(0))
        network.classifier.weight.copy_(torch.stack([-way, way]))
    return network


def test_runs_that_cannot_be_collected(clear_people: PersonDataset, tmp_path: Path) -> None:
    good = run_of(tmp_path / "good", **{"v1-0.1": told_apart(clear_people)})
    assert [e["file"] for e in collect(clear_people, [], [good], tmp_path / "out")] == ["v1-0.1-dense-s0.pt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no run\.json"):
        collect(clear_people, [], [tmp_path / "empty"], tmp_path / "out")
    (tmp_path / "empty" / "run.json").write_text("{}")
    with pytest.raises(InputError, match="not the record of a training run"):
        collect(clear_people, [], [tmp_path / "empty"], tmp_path / "out")
    again = run_of(tmp_path / "again", **{"v1-0.1": told_apart(clear_people)})
    with pytest.raises(InputError, match=r"a second network is called 'v1-0\.1-dense-s0'") as caught:
        collect(clear_people, [], [good, again], tmp_path / "out")
    assert caught.value.where == str(again)
    wrong = run_of(tmp_path / "wrong", **{"v1-0.1": told_apart(clear_people, sign=-1.0)})
    with pytest.raises(InputError, match="photos without a person score higher") as caught:
        collect(clear_people, [], [wrong], tmp_path / "out")
    assert caught.value.where == f"{wrong}: v1-0.1-dense-s0"
    (wrong / "v1-0.1.pt").write_bytes(b"cut")
    with pytest.raises(ModelError, match="no file of weights"):
        collect(clear_people, [], [wrong], tmp_path / "out")


def test_what_pruning_in_one_shot_leaves_without_an_operating_point_is_said(
    clear_people: PersonDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = collecting.balanced

    def balanced(network: PersonNet, *rest: Any) -> PersonNet:
        if any(bool((m.weight == 0).any()) for m in network.modules() if is_prunable(m)):
            raise InputError("photos without a person score higher than those with one")
        return real(network, *rest)

    monkeypatch.setattr(collecting, "balanced", balanced)
    run = run_of(tmp_path / "run", **{"v1-0.1": told_apart(clear_people)})
    entries = collect(clear_people, [], [run], tmp_path / "out", one_shot=[0.5], one_shot_of=["v1-0.1"])
    found = {e["method"]: (e["parent"], e["settings"]["operating_point"]) for e in entries}
    assert found == {"dense": (None, True), "one-shot": ("v1-0.1-dense-s0", False)}


def test_collected_networks_are_quantized_once(
    clear_people: PersonDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again only with other settings or other weights; what the manifest says besides is taken over."""
    folder, out, lines = tmp_path / "networks", tmp_path / "int8", []
    settings = QuantizeSettings(steps=0)

    def go(chosen: QuantizeSettings = settings, wanted: str = "v1-0.1-*") -> list[str]:
        lines.clear()
        entries = quantize_collected(clear_people, folder, out, [wanted], chosen, log=lines.append)
        assert json.loads((out / "manifest.json").read_text()) == entries
        return list(lines)

    collect(clear_people, [], [run_of(tmp_path / "one", **{"v1-0.1": told_apart(clear_people)})], folder)
    assert go() == ["v1-0.1-dense-s0"]
    assert go() == []
    entries = json.loads((folder / "manifest.json").read_text())
    entries[0]["parent"] = "someone"
    (folder / "manifest.json").write_text(json.dumps(entries))
    assert go() == []
    assert json.loads((out / "manifest.json").read_text())[0]["parent"] == "someone"
    assert go(QuantizeSettings(steps=0, rebalance=False)) == ["v1-0.1-dense-s0"]
    assert go() == ["v1-0.1-dense-s0"]
    before = (out / "v1-0.1-dense-s0.qdq.onnx").read_bytes()
    collect(clear_people, [], [run_of(tmp_path / "two", **{"v1-0.1": told_apart(clear_people, 1)})], folder)
    assert go() == ["v1-0.1-dense-s0"]
    assert (out / "v1-0.1-dense-s0.qdq.onnx").read_bytes() != before
    with pytest.raises(InputError, match="no network is called 'v9'"):
        go(wanted="v9")
