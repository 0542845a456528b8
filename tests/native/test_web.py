"""The web runtime in Node: its own tests (``device_runtime/web/gossamer.test.mjs``) over bundles with native results,
and the profiler for Node."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gossamer.bundle.sign import sign
from gossamer.compile.plan import DType
from gossamer_runtime import Session
from gossamer_runtime._session import op_infos
from tests.native import exact_plans, plans, runners

WEB = runners.ROOT / "device_runtime" / "web"


def _case(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    """Writes a bundle, seeded inputs and the native outputs; describes them for the JavaScript side."""
    rng = np.random.default_rng(8)
    (folder / f"{name}.goss").write_bytes(data)
    with Session(data, isa="scalar", verify=False) as session:
        inputs = {
            p.name: rng.integers(-128, 128, p.shape).astype(p.dtype)
            if p.dtype == np.int8
            else rng.standard_normal(p.shape).astype(p.dtype)
            for p in session.inputs
        }
        outputs = session.run(inputs)
        described: dict[str, Any] = {"bundle": f"{name}.goss", "operators": len(op_infos(session))}
        for kind, arrays in (("inputs", inputs), ("outputs", outputs)):
            described[kind] = []
            for i, array in enumerate(arrays.values()):
                file = f"{name}.{kind}{i}.raw"
                (folder / file).write_bytes(np.ascontiguousarray(array).tobytes())
                described[kind].append({"file": file, "dtype": array.dtype.name, "shape": list(array.shape)})
    return described


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web")
    cases = [
        _case(folder, "network_s8", plans.sample("network_s8")),
        _case(folder, "network_f32", plans.sample("network_f32")),
        _case(folder, "convolutions", plans.bundle(exact_plans.convolutions(DType.S8))),
    ]
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    (folder / "signed.goss").write_bytes(sign(plans.sample("network_s8"), key))
    (folder / "signed.key").write_bytes(public)
    (folder / "cases.json").write_text(json.dumps({"cases": cases}))
    return folder


@pytest.mark.parametrize("build", ["wasm", "wasm-relaxed"])
def test_in_node(build: str, bundles: Path) -> None:
    command = runners.node(*(runners.RELAXED if build == "wasm-relaxed" else ()))
    wasm = runners.artefact(build).parent
    description = json.loads((bundles / "cases.json").read_text()) | {
        "wasm": str(wasm),
        "relaxed": build == "wasm-relaxed",
    }
    (bundles / "cases.json").write_text(json.dumps(description))
    environment = os.environ | {"GOSSAMER_TEST_BUNDLES": str(bundles)}
    # Not "node --test": it would start a child without the flags of this command.
    done = subprocess.run(
        [*command, str(WEB / "gossamer.test.mjs")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout or "fail 0" in done.stdout, done.stdout
    assert "skipped 0" in done.stdout, done.stdout


def _cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*runners.node(), str(runners.CLI), "--wasm", str(runners.artefact("wasm").parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_cli_gives_the_output_and_json_of_the_native_program(bundles: Path, tmp_path: Path) -> None:
    """With the seeded pattern that both make for themselves."""
    native = str(runners.artefact("x86_64-profiler")) if os.uname().machine == "x86_64" else pytest.skip("needs x86-64")
    model = str(bundles / "convolutions.goss")
    reports = []
    for name, command in (("a", None), ("b", [native])):
        out = tmp_path / f"{name}.raw"
        arguments = [model, "--runs", "3", "--seed", "9", "--json", "--output", str(out)]
        done = (
            _cli(*arguments)
            if command is None
            else subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)
        )
        assert done.returncode == 0, done.stderr
        reports.append((out.read_bytes(), json.loads(done.stdout)))
    (web_bytes, web), (native_bytes, other) = reports
    assert web_bytes == native_bytes
    assert set(other) <= set(web)
    assert [o["macs"] for o in web["operators"]] == [o["macs"] for o in other["operators"]]
    assert set(other["operators"][0]) == set(web["operators"][0])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "one model is needed"),
        (["{model}", "--runs", "0"], 2, "--runs takes 1..1000000"),
        (["{model}", "--threads", "2"], 2, "--threads takes 1..1"),
        (["{model}", "--frobnicate"], 2, "frobnicate"),
        (["{model}", "--verify", "00"], 2, "64 hexadecimal digits"),
        (["{model}", "--isa", "mmx"], 1, "no instruction set"),
        (["{model}", "--verify", "00" * 32], 1, ""),
        (["{model}", "--input", "{model}"], 1, "bytes; input"),
        (["nowhere.goss"], 1, "nowhere.goss"),
    ],
)
def test_cli_errors(arguments: list[str], code: int, message: str, bundles: Path) -> None:
    done = _cli(*[a.format(model=bundles / "network_s8.goss") for a in arguments])
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "at " not in done.stderr.splitlines()[-1][:6]  # no stack trace
    assert done.stdout == ""
