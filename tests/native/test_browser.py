"""The web runtime in headless Chromium: the int8 bytes of every operator are those of the native build."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gossamer.compile.plan import DType
from gossamer_runtime import Session
from tests.native import exact_plans, runners
from tests.native.plans import bundle
from tools.bench import web_hosts


@pytest.mark.slow
@pytest.mark.parametrize("relaxed", [True, False])
@pytest.mark.parametrize("plan", exact_plans.PLANS)
def test_chromium_gives_the_native_bytes(plan: str, relaxed: bool, tmp_path: Path) -> None:
    try:
        web_hosts.node()
        web_hosts.set_up()
        web_hosts.chromium()
    except web_hosts.HostError as error:
        pytest.skip(str(error))
    runners.artefact("wasm")  # skips without the build compiler
    data = bundle(exact_plans.PLANS[plan](DType.S8))
    rng = np.random.default_rng(11)
    (tmp_path / "model.goss").write_bytes(data)
    with Session(data, verify=False) as session:
        inputs = {p.name: rng.integers(-128, 128, p.shape).astype(np.int8) for p in session.inputs}
        expected = [np.asarray(y).tobytes() for y in session.run(inputs).values()]
    for i, x in enumerate(inputs.values()):
        (tmp_path / f"{i}.raw").write_bytes(x.tobytes())
    argument = {
        "model": "/models/model.goss",
        "inputs": [f"/models/{i}.raw" for i in range(len(inputs))],
        "wasm": "/wasm/",
        "warmup": 0,
        "runs": 0,
        "options": {"relaxed": relaxed},
    }
    answer = web_hosts.run("chromium", {"script": "/bench/session_page.mjs", "argument": argument}, tmp_path)
    assert [bytes(y) for y in answer["outputs"]] == expected
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    if not relaxed:
        assert answer["isa"] == "wasm128"
    elif "avx_vnni" in flags:
        assert answer["isa"] == "wasmdot", "the engine's dot product takes unsigned bytes on this machine"
    else:
        assert answer["isa"] in ("wasmrelaxed", "wasmdot")
