"""From runs to one folder of networks at their operating points, with a manifest; starts by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gossamer import InputError
from gossamer.person.dataset import PersonDataset

torch = pytest.importorskip("torch", reason="training needs the [torch] extra")

from gossamer.person.collect import collect, write_starts  # noqa: E402 - after the skip
from gossamer.person.fitting import fit  # noqa: E402
from gossamer.person.models import build, is_prunable  # noqa: E402
from gossamer.person.training import TrainSettings  # noqa: E402
from gossamer.recipe import SparsifyStep  # noqa: E402


def silent(_: str) -> None:
    pass


@pytest.mark.slow
def test_runs_become_networks_with_parents_and_shares(tiny_people: Path, tmp_path: Path) -> None:
    people = PersonDataset(tiny_people)
    common = {"bank": 64, "epochs": 20, "batch": 16, "warmup": 2, "ema_decay": 0.5, "label_smoothing": 0.0}
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

    import hashlib

    digests = tuple((n, hashlib.sha256((tmp_path / "starts" / f"{n}.pt").read_bytes()).hexdigest()) for n in names)
    candidates = (
        "v1-0.25+seed:1+from:v1-0.25-s1",
        "v1-0.25+gradual-magnitude:1x4:0.75,every=1+seed:1+from:v1-0.25-r1",
        "v1-0.25+sr-ste:2:4+seed:1+from:v1-0.25-s1",
    )
    settings = TrainSettings(candidates=candidates, initial=digests, **common)
    fit(people, settings, tmp_path / "second", log=silent, device="cpu", initial=tmp_path / "starts")
    entries = collect(
        people, [tmp_path / "first"], [tmp_path / "second"], tmp_path / "out", one_shot=[0.5], one_shot_of=["v1-0.25"]
    )
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == entries
    found = {e["file"]: (e["method"], e["pattern"], e["sparsity"], e["seed"], e["parent"]) for e in entries}
    assert found == {
        "v1-0.25-s1.pt": ("start", None, 0.0, 1, None),
        "v1-0.25-dense-s1.pt": ("dense", None, 0.0, 1, "v1-0.25-s1"),
        "v1-0.25-one-shot-1x4-0.5-s1.pt": ("one-shot", "1x4", 0.5, 1, "v1-0.25-s1"),
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
    with pytest.raises(InputError, match=r"no run\.json"):
        collect(people, [], [tmp_path / "starts"], tmp_path / "nowhere")
