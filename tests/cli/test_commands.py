"""Every command on a good bundle: what it prints, its JSON, its exit code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

from tests.shellkit import LABELS, small_network, write_pictures

COMMANDS = [
    "optimize",
    "inspect",
    "verify",
    "run",
    "profile",
    "report",
    "keys",
    "sign",
    "diff",
    "recipes",
    "person",
    "doctor",
]


@pytest.mark.parametrize("command", [[], *([c] for c in COMMANDS), ["keys", "new"], ["recipes", "show"]])
def test_help_has_an_example(cli, command):
    ran = cli(*command, "--help")
    assert ran.code == 0
    assert "Example" in ran.out
    assert "gossamer" in ran.out


def test_help_lists_exit_codes(cli):
    out = cli("--help").out
    for code in ("3 model", "9 signature", "11 output", "14 mismatch", "130 Ctrl-C"):
        assert code in out


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from gossamer.cli._main import run; run(['--help']);"
        "heavy = {'torch', 'onnxruntime', 'onnx', 'onnx_ir', 'matplotlib', 'numpy', 'pydantic'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_optimize_writes_a_bundle_that_runs(cli, work, tmp_path):
    output = tmp_path / "out.goss"
    ran = cli("optimize", work.model, "-r", work.recipe, "-c", work.photos, "-o", output, "--json")
    assert ran.code == 0
    value = ran.json
    assert value["bundle_bytes"] == output.stat().st_size
    assert value["calibration_samples"] == 6
    layers = {row["name"]: row for row in value["layers"]}
    assert layers["stem"]["pattern"] == "dense"
    assert "first convolution" in layers["stem"]["reason"]
    assert layers["mid"]["sparsity_percent"] == pytest.approx(75.0, abs=1.0)
    ran = cli("run", output, "-i", work.photos / "picture0.png", "--json")
    assert ran.code == 0
    (result,) = ran.json["results"]
    classes = result["outputs"]["scores"]["classes"]
    assert {c["label"] for c in classes} == set(LABELS)
    assert sum(c["probability"] for c in classes) == pytest.approx(1.0)
    assert classes[0]["probability"] >= classes[-1]["probability"]


def test_optimize_is_reproducible(cli, work, tmp_path):
    for name in ("a.goss", "b.goss"):
        ran = cli("optimize", work.model, "-r", work.recipe, "-c", work.photos, "-o", tmp_path / name, "-q")
        assert ran.code == 0
    assert (tmp_path / "a.goss").read_bytes() == (tmp_path / "b.goss").read_bytes() == work.bundle.read_bytes()


def test_optimize_text_says_what_happened(cli, work, tmp_path):
    ran = cli("optimize", work.model, "-r", work.recipe, "-c", work.photos, "-o", tmp_path / "o.goss")
    assert "sparsity %" in ran.out
    assert "peak activations" in ran.out
    assert "quantize:" in ran.err  # progress, not on stdout


def test_inspect(cli, work):
    ran = cli("inspect", work.bundle)
    assert ran.code == 0
    assert "small" in ran.out and "trusted" in ran.out and "plan" in ran.out
    value = cli("inspect", work.bundle, "--ops", "--json").json
    assert value["file_bytes"] == work.bundle.stat().st_size
    assert value["signature"] == {
        "signed": True,
        "valid": True,
        "trusted": True,
        "signer": value["signature"]["signer"],
    }
    assert value["manifest"]["inputs"][0]["shape"] == [1, 3, 16, 16]
    assert value["operators"]["CONV"] == 3
    assert [s["kind"] for s in value["sections"]] == ["plan", "weights", "manifest", "signature"]
    assert len(value["ops"]) == sum(value["operators"].values())


def test_verify_against(cli, work):
    ran = cli("verify", work.bundle, "--against", work.model, "-i", work.photos, "--json")
    assert ran.code == 0
    value = ran.json
    assert value["signature"]["trusted"] is True
    assert value["against"]["samples"] == 6
    assert value["against"]["engine"].startswith("onnxruntime")
    assert value["against"]["outputs"][0]["max_abs_error"] > 0  # 75% of the weights are gone


def test_verify_against_passes_a_limit(cli, work):
    ran = cli("verify", work.bundle, "--against", work.model, "-i", work.photos, "--max-error", "1e-6")
    assert ran.code == 14
    assert "further from the original" in ran.err and "max abs error" in ran.err


def test_verify_against_is_tight_when_nothing_was_changed(cli, work, tmp_path):
    recipe = tmp_path / "plain.yaml"
    recipe.write_text(json.dumps({"version": 1, "target": {"measure": False}}))
    output = tmp_path / "plain.goss"
    assert cli("optimize", work.model, "-r", recipe, "-o", output).code == 0
    ran = cli("verify", output, "--against", work.model, "--json")
    assert ran.code == 0
    assert ran.json["against"]["limits"] == {"min_snr_db": 60.0}
    assert ran.json["against"]["outputs"][0]["max_abs_error"] < 1e-5


def test_run_takes_arrays_and_saves_outputs(cli, work, tmp_path):
    x = np.random.default_rng(0).random((3, 3, 16, 16), np.float32)
    np.save(tmp_path / "x.npy", x)
    output = tmp_path / "y.npz"
    ran = cli("run", work.bundle, "-i", tmp_path / "x.npy", "-o", output, "--json")
    assert ran.code == 0
    assert len(ran.json["results"]) == 3
    from gossamer_runtime import Session

    with Session(work.bundle) as session, np.load(output) as saved:
        assert saved["scores"].shape == (3, 1, 5)
        np.testing.assert_array_equal(saved["scores"][1], session.run(x[1:2]))


def test_run_shows_labels(cli, work):
    ran = cli("run", work.bundle, "-i", work.photos, "--top", "2")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert len(lines) == 6 * 3
    assert all(line.split()[-1] in LABELS for i, line in enumerate(lines) if i % 3)


def test_profile(cli, work, tmp_path):
    trace = tmp_path / "trace.json"
    ran = cli("profile", work.bundle, "--runs", "5", "--chrome-trace", trace, "--json")
    assert ran.code == 0
    value = ran.json
    assert value["latency"]["runs"] == 5
    assert sum(op["share_percent"] for op in value["ops"]) == pytest.approx(100.0)
    events = json.loads(trace.read_text())["traceEvents"]
    assert sum(e["ph"] == "X" and e["cat"] != "run" for e in events) == 5 * len(value["ops"])
    text = cli("profile", work.bundle, "--runs", "2", "--sort", "time", "--limit", "2").out
    assert "median us" in text and "more" in text and "Timings (microseconds): count=2" in text


def test_report(cli, work, tmp_path):
    page = tmp_path / "r.html"
    ran = cli("report", work.bundle, "-o", page, "-i", work.photos, "--against", work.model, "--runs", "3")
    assert ran.code == 0
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert text.count("<figure>") == 6


def test_keys_sign_diff(cli, work, home, tmp_path):
    made = cli("keys", "new", "release", "--json").json
    assert made["trusted"] is True
    copy = tmp_path / "copy.goss"
    shutil.copy(work.bundle, copy)
    assert cli("run", copy, "-i", work.photos).code == 9  # its key is in another home
    ran = cli("sign", copy, "-k", "release", "--json")
    assert (ran.code, ran.json["signer"]) == (0, made["fingerprint"])
    assert cli("run", copy, "-i", work.photos).code == 0
    ran = cli("diff", work.bundle, copy, "--json")
    assert ran.code == 14
    assert [d["where"] for d in ran.json["differences"]] == ["signature"]
    assert cli("diff", copy, copy).code == 0
    names = [k["name"] for k in cli("keys", "list", "--json").json["keys"]]
    assert "release" in names


def test_keys_trust_and_untrust(cli, home, tmp_path):
    other = tmp_path / "other"
    assert cli("keys", "new", "friend", "--folder", other).code == 0
    assert cli("keys", "trust", other / "friend.pub").code == 0
    assert (home / "trusted" / "friend.pub").is_file()
    assert cli("keys", "untrust", "friend").code == 0
    assert cli("keys", "untrust", "friend").code == 12


def test_recipes(cli):
    names = [r["name"] for r in cli("recipes", "list", "--json").json["recipes"]]
    assert "person-demo" in names
    assert cli("recipes", "show", names[0]).out.lstrip().startswith(("#", "version"))
    assert cli("recipes", "show", names[0], "--json").json["version"] == 1
    ran = cli("recipes", "show", "persn-demo")
    assert ran.code == 5 and "person-demo" in ran.err
    assert cli("recipes", "schema").json["title"]


def test_version_and_doctor(cli, home):
    from gossamer import __version__

    assert cli("version", "--json").json["gossamer"] == __version__
    assert cli("--version").out.strip().endswith(__version__)
    ran = cli("doctor", "--json")
    assert ran.code == 0
    assert {c["check"] for c in ran.json["checks"]} >= {"python", "native core", "keys", "onnxruntime"}


def test_usage_errors(cli):
    ran = cli("optimise")
    assert ran.code == 2 and "did you mean 'optimize'" in ran.err
    assert cli("run", "x.goss").code == 2
    ran = cli("profile", "x.goss", "--runs", "0", "--json")
    assert ran.code == 2
    assert json.loads(ran.err)["error"]["type"] == "UsageError"


def test_diff_names_what_changed(cli, work, tmp_path):
    onnx.save(small_network(seed=1), tmp_path / "small.onnx")
    output = tmp_path / "other.goss"
    photos = write_pictures(tmp_path / "photos")
    assert cli("optimize", tmp_path / "small.onnx", "-r", work.recipe, "-c", photos, "-o", output).code == 0
    ran = cli("diff", work.bundle, output, "--json")
    assert ran.code == 14
    found = {(d["where"], d["name"]) for d in ran.json["differences"]}
    assert ("weights", "mid") in found
    assert ("manifest", "provenance.sources[small.onnx].sha256") in found
