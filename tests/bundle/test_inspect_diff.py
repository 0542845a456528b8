"""Inspecting and comparing bundles; optimising twice gives the same bytes; other models give named differences."""

from __future__ import annotations

import json

import pytest

import gossamer
from gossamer.bundle.diff import diff
from gossamer.bundle.inspect import inspect
from tests.shellkit import PLAIN, RECIPE, small_network


def test_inspect_matches_the_session(work):
    from gossamer_runtime import Session

    info = inspect(work.bundle.read_bytes())
    with Session(work.bundle) as session:
        assert info.arena_bytes == session.arena_bytes
        assert json.loads(json.dumps(info.manifest))["name"] == session.manifest["name"]
        assert len(info.ops) == len(session.profile(1, 0).ops)
    patterns = {op.name: op.pattern for op in info.ops if op.pattern}
    stored = {layer["name"]: layer["pattern"] for layer in info.manifest["layers"]}
    assert patterns == stored
    assert sum(s.size for s in info.sections) <= info.file_bytes


def test_manifest_of_an_optimised_model(work):
    m = inspect(work.bundle.read_bytes()).manifest
    assert json.loads(m["recipe_json"])["sparsify"]["pattern"] == "1x4"
    roles = {s["role"]: s for s in m["provenance"]["sources"]}
    assert set(roles) == {"model", "calibration"}
    assert roles["model"]["bytes"] == work.model.stat().st_size
    assert str(work.folder) not in json.dumps(m)  # no path of this machine
    out = m["outputs"][0]
    assert out["postprocessing"]["labels"][0] == "ant" and out["postprocessing"]["logits"] is True
    assert m["inputs"][0]["image"] == {
        "layout": "LAYOUT_NCHW",
        "channels": "CHANNELS_RGB",
        "resize": "RESIZE_STRETCH",
        "std": [255.0],
    }


def test_diff(home):
    a = gossamer.optimize(small_network(0), PLAIN, key=False)
    assert diff(a.data, gossamer.optimize(small_network(0), PLAIN, key=False).data) == []
    b = gossamer.optimize(small_network(1), PLAIN, key=False)
    found = diff(a.data, b.data)
    assert {"stem", "mid", "last", "classifier"} <= {d.name for d in found if d.where == "weights"}
    assert not [d for d in found if d.where == "operator"]
    assert all(str(d).count("->") for d in found)


def test_optimize_keeps_calibration_forms_equal(home):
    import numpy as np

    x = np.random.default_rng(0).random((4, 3, 16, 16), np.float32)
    forms = [x, list(x[:, None]), [{"image": s[None]} for s in x], iter([s[None] for s in x]), {"image": x}]
    made = [gossamer.optimize(small_network(), RECIPE, form, key=False).data for form in forms]
    assert all(data == made[0] for data in made)


def test_result(home):
    result = gossamer.optimize(small_network(), PLAIN, name="tiny", version="2.1", license="MIT", labels=list("abcde"))
    assert result.path is None
    assert (result.manifest["name"], result.manifest["version"], result.manifest["license"]) == ("tiny", "2.1", "MIT")
    assert result.manifest["outputs"][0]["postprocessing"]["labels"] == list("abcde")
    assert [row.name for row in result.layers] == ["stem", "mid", "last", "classifier"]
    assert result.bundle_bytes == len(result.data)
    assert set(result.seconds) == {"load", "lower", "choose", "encode", "emit", "sign"}
    assert "peak activations" in result.summary() and "stem" in result.table()
    with pytest.raises(gossamer.ModelError, match="3 labels"):
        gossamer.optimize(small_network(), PLAIN, labels=list("abc"))


def test_progress_reports_every_stage(home):
    import numpy as np

    from gossamer._optimize import STAGES

    seen: list[str] = []
    ended: set[str] = set()

    def progress(stage, done, total):
        assert 0 <= done <= total and total >= 1
        if stage not in seen:
            seen.append(stage)
        if done == total:
            ended.add(stage)

    gossamer.optimize(small_network(), RECIPE, np.zeros((2, 3, 16, 16), np.float32), key=False, progress=progress)
    expected = [stage for stage in STAGES if stage != "train"]  # the recipe does not
    assert seen == expected and ended == set(expected)


def test_interrupt_between_stages_leaves_nothing(home, tmp_path):
    def stop(stage, done, _total):
        if stage == "sign" and done == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gossamer.optimize(small_network(), PLAIN, output=tmp_path / "o.goss", progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_verify_against_finds_another_model(home):
    result = gossamer.optimize(small_network(0), PLAIN)
    good = gossamer.verify_against(result.data, small_network(0), samples=4)
    assert good.ok and good.source == "seeded random inputs"
    assert good.outputs[0].top1_percent == 100.0
    other = gossamer.verify_against(result.data, small_network(1), samples=4)
    assert not other.ok
    with pytest.raises(gossamer.MismatchError, match="further"):
        other.check()
    limited = gossamer.verify_against(result.data, small_network(1), samples=4, max_abs_error=1e6)
    assert limited.ok and limited.limits == {"max_abs_error": 1e6}
