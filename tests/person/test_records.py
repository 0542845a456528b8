"""Records of trained networks: accuracy photo by photo, zeros, sizes, timing in turns, resuming, damaged weights."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gossamer._errors import InputError, ModelError, OutputError  # noqa: E402
from gossamer.person import calibration_inputs, dataset, latency, records, run_record  # noqa: E402
from gossamer.person.calibration_inputs import calibration_images  # noqa: E402
from gossamer.person.evaluate import bundle_predictor, evaluate, onnx_predictor  # noqa: E402
from gossamer.person.models import build, is_prunable  # noqa: E402
from gossamer.person.onnx_export import to_onnx  # noqa: E402
from tools import person_records  # noqa: E402

NETWORK = "v1-0.1"


def network(seed=0, sparsity=0.0, name=NETWORK):
    """A network with random weights, its weakest 1x4 blocks at zero, that says both classes."""
    torch.manual_seed(seed)
    made = build(name)
    torch.nn.init.normal_(made.classifier.weight, std=1.0)
    for layer in made.modules():
        if is_prunable(layer) and sparsity:
            blocks = layer.weight.data.view(layer.out_channels, -1, 4)
            score = blocks.abs().sum(2)
            blocks[score <= score.flatten().kthvalue(int(sparsity * score.numel())).values] = 0.0
    return made.eval()


@pytest.fixture(scope="module", autouse=True)
def _few_photos_calibrate():
    """Eight instead of a hundred, for the sake of time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration_inputs, "calibration_images", functools.partial(calibration_images, count=8))
        yield


@pytest.fixture(scope="module")
def people(tiny_people):
    return records.DecodedPeople(tiny_people)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Weights of a dense and a sparse network."""
    folder = tmp_path_factory.mktemp("runs")
    torch.save(network().state_dict(), folder / "dense.pt")
    torch.save(network(1, 0.75).state_dict(), folder / "sparse.pt")
    return folder


def run(file="sparse.pt", **changes):
    entry = {"file": file, "network": NETWORK, "method": "gradual", "pattern": "1x4", "sparsity": 0.75, "seed": 1}
    return records.Run.checked({**entry, "steps": 3, "settings": {"batch": 8}, **changes}, "here")


@pytest.fixture(scope="module")
def measured(people, runs):
    return records.measure(people, run(parent="dense"), folder=runs)


def test_accuracy_is_that_of_float_and_of_the_bundle(measured, people):
    record = measured.record
    net = network(1, 0.75)
    for split in ("val", "test"):
        floats = evaluate(onnx_predictor(to_onnx(net)), people, split)
        ints = evaluate(bundle_predictor(measured.bundle, verify=False), people, split)
        assert getattr(record.float_, split).model_dump() == run_record.SlicedReport.model_validate(floats).model_dump()
        assert getattr(record.int8, split).model_dump() == run_record.SlicedReport.model_validate(ints).model_dump()
        photos = people.select(split)
        with torch.no_grad():
            x = torch.from_numpy(people.images(photos, size=96)).permute(0, 3, 1, 2).float() / 255
            called = (net(x)[:, 1] >= net(x)[:, 0]).numpy()
        calls = getattr(record.calls, split)
        assert calls.photos == 16
        np.testing.assert_array_equal(calls.bits("label"), dataset.labels(photos) == 1)
        np.testing.assert_array_equal(calls.bits("float"), called)
        right = calls.bits("int8") == calls.bits("label")
        assert ints["all"]["accuracy"]["count"] == int(right.sum())


def test_zeros_bytes_and_names(measured):
    record = measured.record
    net = network(1, 0.75)
    weights = [m.weight for m in net.modules() if is_prunable(m)]
    assert record.zeros == sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert 0.72 < record.zeros < 0.78
    assert record.bundle.zeros < record.zeros  # depthwise layers and the classifier are dense
    assert record.bundle.bytes == len(measured.bundle) < record.bundle.dense_bytes == len(measured.dense_bundle)
    assert record.bundle.stored_sparse > 0
    assert record.bundle.sha256 == records.digest(measured.bundle)
    assert (record.name, record.parent, record.steps, record.settings) == ("sparse", "dense", 3, {"batch": 8})
    assert record.bundle.latency_us is None and record.machine is None
    assert record.quantization == "static" and record.qdq_sha256 is None


def test_stored_dense_decides_alike(measured, people):
    both = [
        evaluate(bundle_predictor(b, verify=False), people, "test") for b in (measured.bundle, measured.dense_bundle)
    ]
    assert both[0] == both[1]


def test_measuring_again_gives_the_same(measured, people, runs):
    again = records.measure(people, run(parent="dense"), folder=runs)
    mine, theirs = again.record.to_json(), measured.record.to_json()
    assert (mine["int8"], mine["float"], mine["calls"]) == (theirs["int8"], theirs["float"], theirs["calls"])


def test_record_file_round_trip(measured, tmp_path):
    path = run_record.write_record(tmp_path / "r.json", measured.record)
    assert run_record.read_record(path) == measured.record
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]
    value = json.loads(path.read_text())
    assert value["schema"] == "gossamer.person.run/1"
    assert value["float"]["test"]["sources"]["home"]["n"] == 16


def test_bits_round_trip():
    said = np.array([1, 0, 0, 1, 1, 0, 1, 0, 1], bool)
    assert run_record.packed(said) == "9a80"
    calls = run_record.Calls(photos=9, label="0000", float="ff80", int8=run_record.packed(said))
    np.testing.assert_array_equal(calls.bits("int8"), said)
    assert calls.bits("float").all()


def test_qdq_model_is_compiled_as_it_is(people, runs, tmp_path):
    import onnx_ir as ir

    from gossamer._load import load
    from gossamer.quantize import quantize
    from gossamer.recipe import load_recipe

    net = network(1, 0.75)
    torch.save(net.state_dict(), tmp_path / "q.pt")
    step = load_recipe("dense-int8").quantize
    inner = load(to_onnx(net))
    graph = quantize(inner, step, [{"image": image[None]} for image in calibration_images(people, count=8)])
    ir.save(graph, tmp_path / "q.onnx")
    made = records.measure(people, run("q.pt", qdq="q.onnx"), folder=tmp_path)
    assert made.record.quantization == "qat"
    assert made.record.qdq_sha256 == records.digest((tmp_path / "q.onnx").read_bytes())
    predict = onnx_predictor(tmp_path / "q.onnx")
    theirs = evaluate(predict, people, "test")["all"]["accuracy"]["count"]
    assert abs(made.record.int8.test.all.model_dump()["accuracy"]["count"] - theirs) <= 1
    with pytest.raises(ModelError, match="cannot be read"):
        records.measure(people, run("q.pt", qdq="none.onnx"), folder=tmp_path)


def test_grey_networks_see_luma(people, tmp_path):
    net = network(2, 0.5, NETWORK + "-grey")
    torch.save(net.state_dict(), tmp_path / "grey.pt")
    made = records.measure(people, run("grey.pt", network=NETWORK + "-grey"), folder=tmp_path)
    report = evaluate(onnx_predictor(to_onnx(net)), people, "test")
    assert made.record.float_.test.model_dump()["all"] == report["all"]


def test_photos_that_calibrate_are_spread_over_train(people):
    rows = people.select("train")
    assert calibration_images(people).shape == (48, 3, 96, 96)  # all there are
    colour, grey = calibration_images(people, count=3), calibration_images(people, 1, count=3)
    pixels = people.images([rows[0], rows[24], rows[47]], size=96).transpose(0, 3, 1, 2) / np.float32(255)
    np.testing.assert_array_equal(colour, pixels)
    assert grey[:, 0] == pytest.approx(np.tensordot((0.299, 0.587, 0.114), pixels, (0, 1)), abs=1e-6)


# Bad weights


def test_bad_weights(people, runs, tmp_path):
    def fails(file, said, **changes):
        with pytest.raises(ModelError, match=said) as caught:
            records.measure(people, run(file, **changes), folder=tmp_path)
        assert str(tmp_path / file) in str(caught.value)

    fails("none.pt", "no such weights file")
    (tmp_path / "text.pt").write_text("hello")
    fails("text.pt", "no file of weights")
    whole = (runs / "sparse.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    fails("cut.pt", "no file of weights")
    torch.save([1, 2], tmp_path / "list.pt")
    fails("list.pt", "no state_dict")
    (tmp_path / "whole.pt").write_bytes(whole)
    fails("whole.pt", "not those of v1-0.25", network="v1-0.25")
    state = network().state_dict()
    state["trunk.3.1.0.weight"][2, 1] = float("nan")
    torch.save(state, tmp_path / "nan.pt")
    fails("nan.pt", "'trunk.3.1.0.weight' holds 1 values that are not finite")
    torch.save({"trunk.0.0.parametrizations.weight.original": torch.zeros(1)}, tmp_path / "masked.pt")
    fails("masked.pt", "masked still")
    with pytest.raises(InputError, match="no network 'resnet'"):
        records.measure(people, run("whole.pt", network="resnet"), folder=tmp_path)


def test_impossible_entries():
    for changes, field in (({"file": ""}, "file"), ({"sparsity": 2}, "sparsity"), ({"seed": None}, "seed")):
        with pytest.raises(InputError, match=f"field '{field}'") as caught:
            run(**changes)
        assert caught.value.where == "here"


# Timing


def test_turns_go_forward_and_back(measured, monkeypatch):
    order = []

    def burst(session, x, count):
        order.append((len(session.manifest["layers"]), session.manifest["name"], count))
        return np.full(count, 1000.0)

    monkeypatch.setattr(latency, "_burst", burst)
    bundles = {"a": measured.bundle, "b": measured.dense_bundle}
    found = latency.time_in_turns(bundles, runs=7, rounds=3)
    counted = order[2:]  # the first tries
    assert [c for _, _, c in counted] == [5, 3] * 6  # at least five to warm up, then a third of seven, rounded up
    assert found["a"].runs == 9 and found["a"].rounds == 3
    assert found["a"].median == found["a"].min == found["a"].p90 == 1000.0


def test_timing_is_real(measured):
    found = latency.time_in_turns({"sparse": measured.bundle, "dense": measured.dense_bundle}, runs=60, rounds=6)
    for one in found.values():
        assert 0 < one.min <= one.median <= one.p90
        assert one.runs == 60
    with pytest.raises(ValueError, match="at least 1"):
        latency.time_in_turns({}, runs=0)


def test_timed_records_share_a_session(measured):
    pair = (measured.bundle, measured.dense_bundle)
    other = measured.record.model_copy(update={"name": "other"})
    one, two = records.timed([measured.record, other], [pair, pair], runs=6, rounds=2)
    assert one.machine == two.machine and one.machine.threads == 1
    assert one.bundle.latency_us.runs == 6 and one.bundle.dense_latency_us.runs == 6
    assert run_record.checked(one.to_json(), "x") == one
    with pytest.raises(InputError, match="not that of the record"):
        records.timed([measured.record], [(measured.dense_bundle, measured.bundle)])


# The tool


def manifest(folder: Path, *entries):
    base = {"network": NETWORK, "method": "gradual", "pattern": "1x4", "sparsity": 0.75, "seed": 0, "parent": None}
    (folder / "manifest.json").write_text(json.dumps([{**base, "steps": 1, "settings": {}, **e} for e in entries]))


def tool(runs, people, out):
    return person_records.main(
        [str(runs), "--data", str(people.folder), "-o", str(out), "--runs-timed", "4", "--rounds", "2"]
    )


@pytest.mark.slow
def test_tool_resumes_and_times_everything_together(people, runs, tmp_path, capsys, monkeypatch):
    folder, out = tmp_path / "runs", tmp_path / "out"
    (folder / "first").mkdir(parents=True)
    for name in ("dense", "sparse"):
        (folder / "first" / f"{name}.pt").write_bytes((runs / f"{name}.pt").read_bytes())
    dense = {"file": "dense.pt", "method": "dense", "pattern": None, "sparsity": 0}
    sparse = {"file": "sparse.pt", "parent": "dense.pt"}
    manifest(folder / "first", dense, {"file": "none.pt"})
    assert tool(folder, people, out) == ModelError.exit_code  # one fails, the other is measured and timed
    captured = capsys.readouterr()
    assert "first__none: error: no such weights file" in captured.err and "1 of 2 networks" in captured.out
    before = run_record.read_record(out / "first__dense.json")
    assert before.machine is not None and before.pattern == "dense"

    manifest(folder / "first", dense, sparse)
    measured = []
    real = person_records.measure
    monkeypatch.setattr(person_records, "measure", lambda *a, **k: measured.append(k["name"]) or real(*a, **k))
    assert tool(folder, people, out) == 0
    assert measured == ["first__sparse"]
    one, two = (run_record.read_record(out / f"first__{n}.json") for n in ("dense", "sparse"))
    assert two.parent == "first__dense"
    assert one.machine == two.machine and one.machine != before.machine
    assert one.int8 == before.int8
    assert sorted(p.name for p in (out / "bundles").iterdir()) == [
        "first__dense.dense.goss", "first__dense.goss", "first__sparse.dense.goss", "first__sparse.goss",
    ]  # fmt: skip

    assert tool(folder, people, out) == 0  # nothing to do
    assert measured == ["first__sparse"]
    assert run_record.read_record(out / "first__dense.json").machine == one.machine

    (out / "first__dense.json").write_text("{")
    torch.save(network(5, 0.75).state_dict(), folder / "first" / "sparse.pt")
    assert tool(folder, people, out) == 0  # a damaged record, and other weights
    assert measured == ["first__sparse", "first__dense", "first__sparse"]


def test_tool_feeds_the_report(people, runs, tmp_path):
    from gossamer.report.pareto import collect, render

    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "sparse.pt").write_bytes((runs / "sparse.pt").read_bytes())
    manifest(tmp_path / "runs", {"file": "sparse.pt", "parent": "dense.pt"})
    assert tool(tmp_path / "runs", people, tmp_path / "out") == 0
    data = collect([tmp_path / "out"])
    assert [p.kind.label for p in data.points] == ["v1-0.1 gradual 1x4 75%"]
    assert data.machine.session == run_record.read_record(tmp_path / "out" / "sparse.json").machine.session
    assert data.photos == 16 and data.positives == 8
    value = data.points[0].accuracy.mean
    assert value == run_record.read_record(tmp_path / "out" / "sparse.json").int8.test.all.balanced_accuracy.value
    assert f"{100 * value:.1f}" in render(data)


def test_bad_manifests(people, tmp_path, capsys):
    out = tmp_path / "out"

    def fails(said):
        assert tool(tmp_path, people, out) == InputError.exit_code
        assert said in capsys.readouterr().err

    fails("no manifest.json")
    (tmp_path / "manifest.json").write_text("{")
    fails("not JSON")
    (tmp_path / "manifest.json").write_text("{}")
    fails("not a list")
    manifest(tmp_path, {"file": "a.pt"}, {"file": "b.pt", "sparsity": "much"})
    fails("field 'sparsity'")
    assert tool(tmp_path, people, out) == InputError.exit_code
    assert "manifest.json, entry 1" in capsys.readouterr().err
    manifest(tmp_path, {"file": "a.pt"}, {"file": "a.pt"})
    fails("two entries are called 'a'")


def test_a_parent_in_another_manifest_is_found(tmp_path):
    for folder, entries in (("float", [{"file": "a-s1.pt"}]), ("int8", [{"file": "a-s2.pt", "parent": "a-s1"}])):
        (tmp_path / folder).mkdir()
        manifest(tmp_path / folder, *entries)
    parents = {job.name: job.run.parent for job in person_records.jobs(tmp_path)}
    assert parents == {"float__a-s1": None, "int8__a-s2": "float__a-s1"}
    (tmp_path / "more").mkdir()
    manifest(tmp_path / "more", {"file": "a-s1.pt"})  # which of both is not said
    assert {j.name: j.run.parent for j in person_records.jobs(tmp_path)}["int8__a-s2"] == "a-s1"


def test_a_quantised_model_that_is_gone_is_named(people, runs, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "sparse.pt").write_bytes((runs / "sparse.pt").read_bytes())
    made = records.measure(people, run("sparse.pt"), folder=folder)
    qat = {"quantization": "qat", "qdq_sha256": "0" * 64}
    out = person_records.Folder(tmp_path / "out")
    run_record.write_record(out.record("sparse"), made.record.model_copy(update=qat))
    out.bundle("sparse").write_bytes(made.bundle)
    out.dense("sparse").write_bytes(made.dense_bundle)
    manifest(folder, {"file": "sparse.pt", "qdq": "gone.onnx"})
    assert tool(folder, people, tmp_path / "out") == ModelError.exit_code
    assert "sparse: error: the model cannot be read" in capsys.readouterr().err


def test_records_that_cannot_be_written(people, runs, tmp_path, capsys):
    (tmp_path / "sparse.pt").write_bytes((runs / "sparse.pt").read_bytes())
    manifest(tmp_path, {"file": "sparse.pt"})
    assert tool(tmp_path, people, tmp_path / "sparse.pt" / "out") == OutputError.exit_code
    assert "cannot make the folder" in capsys.readouterr().err
