"""Measure the device agent: memory and CPU when idle, with and without pull mode, and how long updates of 1 MB take.

The fleet is a real `gossamer serve`, with a heartbeat a minute as by default. For the updates the device is held, and
hears ten times a second what it should run: an update's time is from the wish to the report that it runs. The load of
the machine is told, as it bends the times.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import gossamer
from gossamer.client import Client
from gossamer.device.book import Place
from gossamer.device.remote import Remote
from tools.bench_registry import rss_mb
from tools.serving import serving

MODES = {
    "serves calls": ["--bind", "127.0.0.1:0"],
    "serves calls, pulls": ["--bind", "127.0.0.1:0", "--fleet"],
    "pulls alone": ["--bind", "none", "--fleet"],
}


def make_bundle(folder: Path, seed: int) -> Path:
    """A signed bundle of a network with one large layer of noise: 1.05 MB."""
    weight = np.random.default_rng(seed).standard_normal((512, 512)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], "layer", transB=1)],
        "bench",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 512])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 512])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / f"{seed}.goss"
    onnx.save(model, folder / "model.onnx")
    recipe = {"version": 1, "name": "plain", "target": {"measure": False}}
    gossamer.optimize(folder / "model.onnx", recipe, None, path)
    return path


@contextlib.contextmanager
def agent(root: Path, options: Sequence[str]) -> Iterator[tuple[int, int]]:
    """A gossamer-agent: process id, and port or 0."""
    port_file = root.with_suffix(".port")
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "gossamer_runtime.agent._main", "--root", str(root), *options]
    with subprocess.Popen([*command, "--port-file", str(port_file), "--log-level", "ERROR"]) as process:
        try:
            while not (port_file.exists() and port_file.read_text().endswith("\n")):
                time.sleep(0.01)
            yield process.pid, int(port_file.read_text())
        finally:
            process.terminate()


def idle(pid: int, seconds: float) -> dict[str, float]:
    """Resident memory, and CPU in percent of one core."""

    def cpu() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    time.sleep(2)  # the start is over
    before, began = cpu(), time.monotonic()
    time.sleep(seconds)
    share = 100 * (cpu() - before) / (time.monotonic() - began)
    return {"rss_MB": round(rss_mb(pid), 1), "cpu_percent_of_core": round(share, 3)}


def pulls(client: Client, name: str, versions: Sequence[tuple[str, str]], count: int) -> list[float]:
    """Milliseconds of each update; the one before them, which may begin with what runs already, is left out."""
    times = []
    time.sleep(1)  # the fleet has heard what runs
    for i in range(count + 1):
        version, sha256 = versions[i % len(versions)]
        began = time.perf_counter()
        client.fleet.update(name, desired_version=version)
        while client.fleet.device(name).status.bundle_sha256 != sha256:
            time.sleep(0.005)
        times.append(1e3 * (time.perf_counter() - began))
    return times[1:]


def flashes(port: int, bundles: Sequence[Path], count: int) -> list[float]:
    """Milliseconds of each flash, as the agent measures it."""
    device = Remote(Place("bench", address=f"127.0.0.1:{port}"))
    found = [1e3 * device.flash(bundles[i % len(bundles)]).seconds for i in range(count)]
    device.close()
    return found


def spread(times: Sequence[float]) -> dict[str, float]:
    """Least, median and greatest."""
    low, mid, high = min(times), statistics.median(times), max(times)
    return {"min_ms": round(low), "median_ms": round(mid), "max_ms": round(high)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each idle measurement [default: %(default)s]")
    parser.add_argument("--updates", type=int, default=10, help="[default: %(default)s]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["GOSSAMER_HOME"] = str(folder / "home")
        bundles = [make_bundle(folder, seed) for seed in range(2)]
        settings = ["server.device_bind=127.0.0.1:0", "fleet.held_heartbeat_s=0.1"]
        with (
            serving(["registry", "fleet"], folder / "data", settings) as (_, (port, *_ports)),
            Client(f"127.0.0.1:{port}") as client,
        ):
            versions = [client.publish(path, "bench", str(i)) for i, path in enumerate(bundles)]
            wishes = [(v.name, v.sha256) for v in versions]
            for mode, arguments in MODES.items():
                root, device = folder / mode.replace(" ", "-").replace(",", ""), ""
                if "--fleet" in arguments:
                    device = enroll(client, root, f"127.0.0.1:{port}")
                found: dict[str, object] = {"mode": mode, "bundle_bytes": bundles[0].stat().st_size}
                with agent(root, arguments) as (pid, _):
                    found["idle"] = idle(pid, options.seconds)
                with contextlib.ExitStack() as stack:
                    if device:
                        stack.enter_context(client.fleet.acquire())  # heard with the first heartbeat of what starts now
                    pid, own = stack.enter_context(agent(root, arguments))
                    if own:
                        found["flash"] = spread(flashes(own, bundles, options.updates))
                    if device:
                        found["pull"] = spread(pulls(client, device, wishes, options.updates))
                    found["after_updates"] = {"rss_MB": round(rss_mb(pid), 1)}
                if device:
                    client.fleet.remove(device)
                found["load"] = round(os.getloadavg()[0], 1)
                print(json.dumps(found), flush=True)
    return 0


def enroll(client: Client, root: Path, address: str) -> str:
    """Enrol as the command does; the device's name."""
    command = [sys.executable, "-m", "gossamer_runtime.agent._main", "enroll", "--root", str(root)]
    command += ["--fleet", address, "--token-file", "-"]
    token = client.fleet.enrollment_token().token
    subprocess.run(command, input=token, text=True, check=True, stdout=subprocess.DEVNULL)
    return client.fleet.devices()[-1].name


if __name__ == "__main__":
    sys.exit(main())
