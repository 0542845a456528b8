"""Node and headless Chromium as places to run engines in: what is installed, and plans for ``web/*_host.mjs``."""

from __future__ import annotations

import fcntl
import gzip
import json
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tools import build_native
from tools.bench.models import CACHE, ROOT

TOOL = Path(__file__).resolve().parent / "web"
PACKAGES = CACHE / "node"
WEB = ROOT / "device_runtime" / "web"
HOSTS = ("node", "chromium")
TIMEOUT_S = 1800
PINNED: dict[str, str] = json.loads((TOOL / "package.json").read_text(encoding="utf-8"))["dependencies"]
"""Exact versions of the npm packages that are used."""


class HostError(Exception):
    """A host is missing, or ended without an answer; the message says why."""


@cache
def node() -> str:
    """Path of Node 20 or newer; :class:`HostError` without."""
    found = shutil.which("node")
    if not found:
        raise HostError("node is missing: install Node.js 20 or newer")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < 20:
        raise HostError(f"node {version} is too old: install Node.js 20 or newer")
    return found


@cache
def chromium() -> str:
    """Path of Chromium or Chrome; :class:`HostError` without it or the package that drives it."""
    found = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if found is None:
        raise HostError("chromium is missing: apt-get install chromium")
    if not installed("playwright-core"):
        raise HostError("playwright-core is missing, which drives it: python -m tools.bench wasm installs it")
    return found


def installed(package: str) -> bool:
    """Whether ``set_up`` brought an npm package."""
    return (PACKAGES / "node_modules" / package / "package.json").exists()


def set_up() -> None:
    """Installs the packages of ``web/package.json`` into build/bench/node; nothing where they are there.

    Raises:
        HostError: npm is missing or fails.
    """
    wanted = (TOOL / "package.json").read_text(encoding="utf-8")
    done = PACKAGES / ".done"
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise HostError("npm is missing, which installs them")
    PACKAGES.mkdir(parents=True, exist_ok=True)
    with (PACKAGES / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests on two cores come here together
        if done.exists() and done.read_text(encoding="utf-8") == wanted:
            return
        (PACKAGES / "package.json").write_text(wanted, encoding="utf-8")
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        ended = subprocess.run(command, cwd=PACKAGES, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise HostError(f"npm install failed: {(ended.stderr.strip() or 'no message').splitlines()[-1]}")
        done.write_text(wanted, encoding="utf-8")


@cache
def wasm_folder() -> Path:
    """A folder with both builds of the core, made from the present sources."""
    folder = ROOT / "build" / "native" / "web"
    for target in ("wasm", "wasm-relaxed"):
        build_native.script().build(target, output_dir=folder)
    return folder


def download_bytes(folder: Path) -> dict[str, int]:
    """What a page loads, gzipped: the modules, and the larger of the two builds."""
    scripts = sum(len(gzip.compress((WEB / n).read_bytes(), 9)) for n in ("core.mjs", "gossamer.mjs", "profile.mjs"))
    builds = [len(gzip.compress((folder / n).read_bytes(), 9)) for n in ("gossamer.wasm", "gossamer-relaxed.wasm")]
    return {"javascript": scripts, "wasm": max(builds)}


def run(host: str, plan: dict[str, Any], models: Path, core: int | None = None) -> dict[str, Any]:
    """The answer of ``web/{host}_host.mjs`` to a plan.

    Args:
        host: a name of ``HOSTS``.
        plan: as in ``web/rounds.mjs``, or ``script`` and ``argument`` of a page; addresses start with ``/models/``
            (the files in ``models``), ``/wasm/`` (both builds), ``/gossamer/`` or ``/bench/``.
        models: folder with the files that the plan names.
        core: to pin the process and its children to.

    Raises:
        HostError: with what the host printed last.
    """
    whole = plan | {
        "folders": {
            "/bench/": str(TOOL),
            "/gossamer/": str(WEB),
            "/wasm/": str(wasm_folder()),
            "/models/": str(models),
            "/packages/": str(PACKAGES / "node_modules"),
        },
        "packages": str(PACKAGES),
        "chromium": chromium() if host == "chromium" else None,
    }
    pin = ["taskset", "-c", str(core)] if core is not None and shutil.which("taskset") else []
    with tempfile.TemporaryDirectory() as name:
        question, answer = Path(name) / "plan.json", Path(name) / "result.json"
        question.write_text(json.dumps(whole), encoding="utf-8")
        command = [*pin, node(), "--no-warnings", str(TOOL / f"{host}_host.mjs"), str(question), str(answer)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
        if ended.returncode != 0 or not answer.exists():
            raise HostError(f"{host} ended with exit code {ended.returncode}:\n{ended.stderr[-2000:]}")
        return dict(json.loads(answer.read_text(encoding="utf-8")))
