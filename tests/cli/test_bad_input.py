"""Bad input: a clear error, the documented exit code, no traceback, nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.shellkit import PLAIN, leftovers, small_network, spawn


def assert_error(ran, code, *words):
    """Exit code, a first line that starts with "error:", and no traceback."""
    assert ran.code == code, ran.err
    lines = [line for line in ran.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, ran.err
    assert "Traceback" not in ran.err + ran.out
    assert "internal error" not in ran.err
    for word in words:
        assert word in ran.err, ran.err


def plain_recipe(folder):
    path = folder / "plain.yaml"
    path.write_text(json.dumps(PLAIN))
    return path


# Models


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".pt2"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"not a model at all\n" * 8])
def test_wrong_model_file(cli, home, tmp_path, suffix, content):
    model, out = tmp_path / f"m{suffix}", tmp_path / "out"
    out.mkdir()
    model.write_bytes(content)
    ran = cli("optimize", model, "-r", "dense-int8", "-c", tmp_path, "-o", out / "m.goss")
    assert_error(ran, 3, f"m{suffix}")
    assert leftovers(out) == []


def test_truncated_model(cli, work, home, tmp_path):
    data = work.model.read_bytes()
    model = tmp_path / "cut.onnx"
    for size in (1, len(data) // 3, len(data) - 7):
        model.write_bytes(data[:size])
        assert_error(cli("optimize", model, "-r", plain_recipe(tmp_path), "-o", tmp_path / "o.goss"), 3, "cut.onnx")
    assert not (tmp_path / "o.goss").exists()


def test_bit_flipped_model_never_crashes(cli, work, home, tmp_path):
    data = bytearray(work.model.read_bytes())
    rng = np.random.default_rng(0)
    model, recipe = tmp_path / "flip.onnx", plain_recipe(tmp_path)
    for _ in range(25):
        flipped = bytearray(data)
        flipped[int(rng.integers(0, 600))] ^= 1 << int(rng.integers(0, 8))
        model.write_bytes(flipped)
        ran = cli("optimize", model, "-r", recipe, "-o", tmp_path / "o.goss", "--unsigned")
        assert ran.code in (0, 3, 4, 7), ran.err
        assert "Traceback" not in ran.err and "internal error" not in ran.err, ran.err


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".pt2"])
def test_oversized_model(cli, home, tmp_path, suffix):
    model = tmp_path / f"huge{suffix}"
    model.touch()
    os.truncate(model, 5 << 30)
    ran = cli("optimize", model, "-r", plain_recipe(tmp_path), "-o", tmp_path / "o.goss")
    assert_error(ran, 3, f"huge{suffix}")


def test_missing_model_and_folder_as_model(cli, home, tmp_path):
    assert_error(cli("optimize", tmp_path / "no.onnx", "-r", "dense-int8", "-o", tmp_path / "o.goss"), 3, "no.onnx")
    assert_error(cli("optimize", tmp_path, "-r", "dense-int8", "-o", tmp_path / "o.goss"), 3)


def test_nan_weights(cli, home, tmp_path):
    onnx.save(small_network(nan=True), tmp_path / "nan.onnx")
    ran = cli("optimize", tmp_path / "nan.onnx", "-r", plain_recipe(tmp_path), "-o", tmp_path / "o.goss")
    assert_error(ran, 3, "w1")
    assert not (tmp_path / "o.goss").exists()


def test_dynamic_shape(cli, home, tmp_path):
    onnx.save(small_network(dynamic=True), tmp_path / "dyn.onnx")
    recipe = plain_recipe(tmp_path)
    ran = cli("optimize", tmp_path / "dyn.onnx", "-r", recipe, "-o", tmp_path / "o.goss")
    assert_error(ran, 4, "image", "--shape")
    assert not (tmp_path / "o.goss").exists()
    ran = cli("optimize", tmp_path / "dyn.onnx", "-r", recipe, "-o", tmp_path / "o.goss", "--shape", "image=1,3,16,16")
    assert ran.code == 0, ran.err


def test_unknown_operator(cli, home, tmp_path):
    onnx.save(small_network(op="Frobnicate"), tmp_path / "odd.onnx")
    ran = cli("optimize", tmp_path / "odd.onnx", "-r", plain_recipe(tmp_path), "-o", tmp_path / "o.goss")
    assert ran.code in (4, 7)
    assert_error(ran, ran.code, "Frobnicate", "stem_act")
    assert not (tmp_path / "o.goss").exists()


# Recipes and calibration


@pytest.mark.parametrize(
    ("recipe", "word"),
    [
        ({"version": 1, "sparsify": {"pattern": "1x4", "sparsity": 1.0}}, "sparsity"),
        ({"version": 1, "sparsify": {"pattern": "1x4", "sparsity": -1}}, "sparsity"),
        ({"version": 1, "sparsify": {"patern": "1x4", "sparsity": 0.5}}, "pattern"),
        ({"version": 1, "sparsify": {"pattern": "1x4", "sparsity": 0.5, "exclude": ["no_such"]}}, "no_such"),
        ({"version": 2}, "version"),
    ],
)
def test_bad_recipe(cli, work, home, tmp_path, recipe, word):
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(recipe, indent=1))
    ran = cli("optimize", work.model, "-r", path, "-o", tmp_path / "o.goss")
    assert_error(ran, 5, word)
    assert not (tmp_path / "o.goss").exists()


def test_calibration_missing_empty_and_no_pictures(cli, work, home, tmp_path):
    out = tmp_path / "o.goss"
    assert_error(cli("optimize", work.model, "-r", work.recipe, "-o", out), 6, "--calibration")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_error(cli("optimize", work.model, "-r", work.recipe, "-c", empty, "-o", out), 6, "no pictures")
    (empty / "a.png").write_bytes(b"this is text")
    assert_error(cli("optimize", work.model, "-r", work.recipe, "-c", empty, "-o", out), 6, "a.png")
    np.save(tmp_path / "x.npy", np.zeros((4, 3, 8, 8), np.float32))
    assert_error(cli("optimize", work.model, "-r", work.recipe, "-c", tmp_path / "x.npy", "-o", out), 6, "16")
    np.save(tmp_path / "x.npy", np.full((4, 3, 16, 16), np.nan, np.float32))
    assert_error(cli("optimize", work.model, "-r", work.recipe, "-c", tmp_path / "x.npy", "-o", out), 6, "NaN")
    assert not out.exists()


# Bundles

READERS = (["inspect"], ["verify"], ["run", "-i", "x.png"], ["profile"], ["sign"], ["report", "-o", "r.html"])


@pytest.mark.parametrize("command", READERS, ids=lambda c: c[0])
@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "flipped", "longer", "missing", "folder"])
def test_bad_bundle(cli, work, tmp_path, monkeypatch, command, kind):
    monkeypatch.chdir(tmp_path)
    data = work.bundle.read_bytes()
    path = tmp_path / "bad.goss"
    flipped = bytearray(data)
    flipped[9] ^= 0x10  # the format's version
    content = {"empty": b"", "text": b"hello\n" * 100, "truncated": data[:-100], "flipped": bytes(flipped)}
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(content.get(kind, data + b"\0" * 64))
    ran = cli(command[0], path, *command[1:])
    assert_error(ran, 8, "bad.goss")


@pytest.mark.parametrize("command", READERS, ids=lambda c: c[0])
def test_oversized_bundle_is_refused_before_it_is_read(cli, work, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.goss"
    path.write_bytes(work.bundle.read_bytes())
    os.truncate(path, (1 << 31) + 64)  # sparse: takes no room on the disk
    started = time.process_time()
    assert_error(cli(command[0], path, *command[1:]), 8, "bad.goss")
    assert time.process_time() - started < 5


def test_flipped_weight_breaks_the_signature(cli, work, tmp_path):
    data = bytearray(work.bundle.read_bytes())
    data[-2000] ^= 1
    path = tmp_path / "bad.goss"
    path.write_bytes(data)
    for command in (["verify", path], ["run", path, "-i", work.photos], ["profile", path]):
        assert_error(cli(*command), 9)


def test_untrusted_and_unsigned_bundle(cli, work, home, tmp_path):
    assert_error(cli("verify", work.bundle), 9, "trust")
    assert_error(cli("run", work.bundle, "-i", work.photos), 9)
    unsigned = tmp_path / "u.goss"
    assert cli("optimize", work.model, "-r", plain_recipe(tmp_path), "-o", unsigned, "--unsigned").code == 0
    assert_error(cli("verify", unsigned), 9, "gossamer sign")
    assert cli("verify", unsigned, "--no-signature").code == 0
    assert cli("run", unsigned, "-i", work.photos, "--no-verify").code == 0


# Inputs of a run


def test_picture_that_is_none(cli, work, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 almost a jpeg")
    assert_error(cli("run", work.bundle, "-i", bad), 10, "bad.jpg")
    assert_error(cli("run", work.bundle, "-i", tmp_path / "none.png"), 10, "none.png")
    assert_error(cli("run", work.bundle, "-i", tmp_path), 10, "bad.jpg")
    cut = tmp_path / "cut.png"
    cut.write_bytes((work.photos / "picture0.png").read_bytes()[:200])
    assert_error(cli("run", work.bundle, "-i", cut), 10, "cut.png")


def test_array_that_does_not_fit(cli, work, tmp_path):
    path = tmp_path / "x.npy"
    for array in (np.zeros((1, 3, 16, 16)), np.zeros((1, 3, 8, 16), np.float32), np.array(3.0)):
        np.save(path, array)
        assert_error(cli("run", work.bundle, "-i", path), 10, "x.npy")
    path.write_bytes(b"\x93NUMPY but no more")
    assert_error(cli("run", work.bundle, "-i", path), 10, "x.npy")


def test_array_with_pickle_is_refused(cli, work, tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert_error(cli("run", work.bundle, "-i", path), 10, "x.npy")


def test_unknown_isa(cli, work):
    assert_error(cli("profile", work.bundle, "--isa", "sse9"), 10, "sse9")


# Output


def test_output_folder_missing_read_only_or_no_file(cli, work, home, tmp_path):
    base = ["optimize", work.model, "-r", plain_recipe(tmp_path), "-o"]
    assert_error(cli(*base, tmp_path / "none" / "o.goss"), 11, "folder")
    assert_error(cli(*base, tmp_path), 11, "folder")
    assert_error(cli(*base, "/dev/full"), 11, "/dev/full")
    assert Path("/dev/full").is_char_device()
    assert_error(cli(*base, "/proc/o.goss"), 11, "/proc/o.goss")  # read-only even for root


def test_other_outputs_fail_alike(cli, work, tmp_path):
    bad = tmp_path / "none" / "file"
    assert_error(cli("profile", work.bundle, "--chrome-trace", bad), 11)
    assert_error(cli("report", work.bundle, "-o", bad), 11)
    assert_error(cli("run", work.bundle, "-i", work.photos, "-o", bad), 11)
    assert_error(cli("sign", work.bundle, "-o", bad), 11)


def test_full_disk_keeps_the_old_file(work, tmp_path):
    """A limit on the size of files stands for a disk that fills up while the bundle is written."""
    output = tmp_path / "o.goss"
    output.write_bytes(b"the old bundle")

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    env = {"GOSSAMER_HOME": str(work.home), "GOSSAMER_CACHE": str(tmp_path / "cache")}
    arguments = ["optimize", work.model, "-r", plain_recipe(tmp_path), "-o", output]
    process = spawn(*arguments, env=env, preexec_fn=small_files)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 11, err
    assert "cannot write the file" in err and "Traceback" not in err
    assert output.read_bytes() == b"the old bundle"
    assert leftovers(tmp_path, "cache", "plain.yaml") == ["o.goss"]


def test_full_tmpfs(work, tmp_path):
    """A real full file system, in a mount namespace of its own."""
    script = (
        "mount -t tmpfs -o size=8k tmpfs disk && "
        f"{sys.executable} -c 'from gossamer.cli import main; main()' optimize {work.model} "
        f"-r {plain_recipe(tmp_path)} -o disk/o.goss; code=$?; ls -A disk; exit $code"
    )
    (tmp_path / "disk").mkdir()
    probe = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs tmpfs disk"],
        cwd=tmp_path,
        capture_output=True,
    )
    if probe.returncode:
        pytest.skip("user namespaces with mounts are not allowed here")
    ran = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "GOSSAMER_HOME": str(work.home)},
    )
    assert ran.returncode == 11, ran.stderr
    assert "No space left" in ran.stderr
    assert ran.stdout.strip() == ""  # the disk is as empty as before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_ctrl_c_half_way(work, tmp_path, number, code):
    """The signal arrives while stages run: the exit code says so, and nothing is left behind."""
    out = tmp_path / "out"
    out.mkdir()
    env = {"GOSSAMER_HOME": str(work.home), "GOSSAMER_CACHE": str(tmp_path / "cache")}
    np.save(tmp_path / "many.npy", np.random.default_rng(0).random((3000, 3, 16, 16), np.float32))
    recipe = json.loads(work.recipe.read_text())
    recipe["quantize"]["samples"] = 3000
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    process = spawn(
        "optimize", work.model, "-r", tmp_path / "r.yaml", "-c", tmp_path / "many.npy", "-o", out / "o.goss", env=env
    )
    assert process.stderr is not None
    line = process.stderr.readline()  # "load: ... s": the first stage is over
    assert line.startswith("load"), line
    time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert "nothing half-written" in err
    assert leftovers(out) == []


# Keys


def test_keys_are_never_overwritten(cli, home):
    assert cli("keys", "new", "a").code == 0
    before = (home / "keys" / "a.key").read_bytes()
    assert_error(cli("keys", "new", "a"), 12, "exists already")
    assert (home / "keys" / "a.key").read_bytes() == before
    assert_error(cli("keys", "new", "../evil"), 12, "not a name")


def test_key_files_that_cannot_be_used(cli, work, home, tmp_path):
    copy = tmp_path / "c.goss"
    copy.write_bytes(work.bundle.read_bytes())
    assert_error(cli("sign", copy, "-k", "nobody"), 12, "nobody")
    bad = tmp_path / "bad.key"
    bad.write_text("-----BEGIN nothing-----")
    bad.chmod(0o600)
    assert_error(cli("sign", copy, "-k", bad), 12, "bad.key")
    assert cli("keys", "new", "open").code == 0
    (home / "keys" / "open.key").chmod(0o644)
    assert_error(cli("sign", copy, "-k", "open"), 12, "chmod 600")
    public = tmp_path / "p.pub"
    public.write_text("ssh-ed25519 AAAA me")
    assert_error(cli("keys", "trust", public), 12, "p.pub")
    assert copy.read_bytes() == work.bundle.read_bytes()


def test_damaged_trust_store_is_not_passed_over(cli, work, tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "trusted").mkdir(parents=True)
    (home / "trusted" / "x.pub").write_text("gossamer-ed25519 !!!!")
    monkeypatch.setenv("GOSSAMER_HOME", str(home))
    assert_error(cli("run", work.bundle, "-i", work.photos), 9, "x.pub")


# The shell itself


def test_errors_as_json(cli, home, tmp_path):
    ran = cli("inspect", tmp_path / "no.goss", "--json")
    assert ran.code == 8 and ran.out == ""
    error = json.loads(ran.err)["error"]
    assert error["type"] == "BundleError" and error["exit_code"] == 8
    assert error["where"].endswith("no.goss") and error["hint"]


def test_debug_shows_the_traceback(cli, home, tmp_path, monkeypatch):
    monkeypatch.setenv("GOSSAMER_DEBUG", "1")
    ran = cli("inspect", tmp_path / "no.goss")
    assert ran.code == 8
    assert "Traceback" in ran.err


def test_a_defect_is_reported_as_one(cli, monkeypatch, work):
    import gossamer.bundle.inspect as module

    def broken(*_):
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(module, "inspect", broken)
    ran = cli("inspect", work.bundle)
    assert ran.code == 1
    assert "internal error: ZeroDivisionError: on purpose" in ran.err
    assert "GOSSAMER_DEBUG=1" in ran.err and "Traceback" not in ran.err


# What looks right and is not


def test_the_bundle_does_not_replace_its_model(cli, work, home, tmp_path):
    model = tmp_path / "m.onnx"
    model.write_bytes(work.model.read_bytes())
    assert_error(cli("optimize", model, "-r", plain_recipe(tmp_path), "-o", model), 11, "replace its model")
    assert model.read_bytes() == work.model.read_bytes()


def test_a_folder_is_not_a_model(cli, home, tmp_path):
    ran = cli("optimize", tmp_path, "-r", plain_recipe(tmp_path), "-o", tmp_path / "o.goss")
    assert_error(ran, 3, "a folder")


def test_layers_that_do_not_exist_are_placed_in_the_recipe(cli, work, home, tmp_path):
    recipe = tmp_path / "r.yaml"
    head = "version: 1\nsparsify:\n  pattern: 1x4\n  sparsity: 0.5\n"
    for text, line in (
        ("  include:\n    - nosuch\n", 6),
        ("  layers:\n    - op: Conv\n      dense: true\n    - match: nosuch\n      dense: true\n", 8),
        ("  layers:\n    - dense: true\n      op: Convv\n", 7),
        ("quantize:\n  exclude: [nosuch]\n", 6),
    ):
        recipe.write_text(head + text)
        ran = cli("optimize", work.model, "-r", recipe, "-c", tmp_path, "-o", tmp_path / "o.goss")
        if "quantize" in text:
            ran = cli("optimize", work.model, "-r", recipe, "-c", work.photos, "-o", tmp_path / "o.goss")
        assert_error(ran, 5, f"r.yaml:{line}", "do:")


def test_a_full_standard_output(work):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    for options in ([], ["--json"]):
        with Path("/dev/full").open("w") as full:
            ran = subprocess.run(
                [sys.executable, "-m", "gossamer", "inspect", str(work.bundle), *options],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )
        assert ran.returncode == 11, ran.stderr
        assert "cannot write the output: No space left" in ran.stderr
        assert "internal error" not in ran.stderr and "Traceback" not in ran.stderr and "Exception" not in ran.stderr


def test_not_a_public_key_is_a_key_file_error(cli, home, tmp_path):
    path = tmp_path / "k.pub"
    path.write_bytes(b"\xff\xd8 not text")
    assert_error(cli("keys", "trust", path), 12, "k.pub")
    assert_error(cli("keys", "trust", tmp_path / "no.pub"), 12, "no.pub")


def test_run_names_keys_as_the_list_does(cli, work, home, tmp_path):
    from gossamer.bundle.verify import signer

    ran = cli("run", work.bundle, "-i", work.photos)
    assert_error(ran, 9, signer(work.bundle.read_bytes()).fingerprint, "gossamer keys trust")


def test_verify_against_another_network(cli, work, tmp_path):
    other = tmp_path / "other.onnx"
    network = small_network()
    for dim in network.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 12
    onnx.save(network, other)
    assert_error(cli("verify", work.bundle, "--against", other), 10, "the model that the bundle was made from")
