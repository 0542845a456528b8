"""Runs a bundle on every target that this machine can run or emulate: the subjects of the exactness tests.

``RUNNERS`` names them all; ``runner(name)`` makes one or skips the test with what to install. Programs are built by
``tools.build_native`` on first use (its cache makes later ones quick).
"""

from __future__ import annotations

import functools
import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer_runtime import Session
from gossamer_runtime._native import detect_isa, library, parse_isa
from tools import build_native

ROOT = Path(__file__).resolve().parent.parent.parent
CLI = ROOT / "device_runtime" / "web" / "node-cli.mjs"
Arrays = list[np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Runner:
    """``run(bundle, inputs, folder)`` gives the outputs in the model's order; ``folder`` is for its files."""

    name: str
    run: Callable[[bytes, Sequence[np.ndarray[Any, Any]], Path], Arrays]


def native(isa: str) -> Runner:
    """This process, with no kernel above ``isa``."""

    def run(bundle: bytes, inputs: Sequence[np.ndarray[Any, Any]], folder: Path) -> Arrays:
        with Session(bundle, isa=isa, verify=False) as session:
            result = session.run(dict(zip([p.name for p in session.inputs], inputs, strict=True)))
            return [np.asarray(result[p.name]) for p in session.outputs]

    return Runner(f"native-{isa}", run)


def program(name: str, command: Sequence[str]) -> Runner:
    """A program with the arguments of gossamer-profile."""

    def run(bundle: bytes, inputs: Sequence[np.ndarray[Any, Any]], folder: Path) -> Arrays:
        with Session(bundle, isa="scalar", verify=False) as session:
            ports = session.outputs
        folder.mkdir(parents=True, exist_ok=True)
        model = folder / "model.goss"
        model.write_bytes(bundle)
        arguments = [str(model), "--runs", "1", "--warmup", "0"]
        for i, x in enumerate(inputs):
            path = folder / f"input{i}.raw"
            path.write_bytes(np.ascontiguousarray(x).tobytes())
            arguments += ["--input", str(path)]
        for i in range(len(ports)):
            arguments += ["--output", str(folder / f"output{i}.raw")]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=600)
        if done.returncode != 0:
            raise RuntimeError(f"{name} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
        return [
            np.frombuffer((folder / f"output{i}.raw").read_bytes(), p.dtype).reshape(p.shape)
            for i, p in enumerate(ports)
        ]

    return Runner(name, run)


@functools.cache
def artefact(target: str) -> Path:
    """What ``tools.build_native`` makes of a target; skips without the build compiler."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is missing, which cross-compiles the core: pip install ziglang==0.17.1")
    return Path(build_native.script().build(target))


def qemu(name: str) -> str:
    """Path of a user-mode emulator, or a skip."""
    for candidate in (f"qemu-{name}-static", f"qemu-{name}"):
        found = shutil.which(candidate)
        if found:
            return found
    return pytest.skip(f"qemu-{name}-static is missing, which runs {name} programs: apt-get install qemu-user-static")


def node(*flags: str) -> list[str]:
    """Node 20 or newer with flags, or a skip."""
    found = shutil.which("node")
    if not found:
        pytest.skip("node is missing, which runs the WASM builds: install Node.js 20 or newer")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < 20:
        pytest.skip(f"node {version.strip()} is too old to run the WASM builds: install Node.js 20 or newer")
    if flags and subprocess.run([found, *flags, "-e", "0"], capture_output=True, check=False).returncode != 0:
        flags = ()  # newer ones have it on and no longer know the flag
    return [found, "--no-warnings", *flags]


def _emulated(target: str, arch: str, cpu: str | None) -> Callable[[], Runner]:
    def make() -> Runner:
        command = [qemu(arch), *(["-cpu", cpu] if cpu else []), str(artefact(target))]
        return program(f"{target}-{cpu or arch}", command)

    return make


# The baseline compiler of V8 11.3 (Node 20) gets the int8 dot product of relaxed SIMD wrong, which the core finds out;
# without that compiler the kernels can be tried there too.
RELAXED = ("--experimental-wasm-relaxed-simd", "--no-liftoff")


def _wasm(target: str, *flags: str) -> Callable[[], Runner]:
    def make() -> Runner:
        folder = artefact(target).parent
        return program(target, [*node(*flags), str(CLI), "--wasm", str(folder)])

    return make


def _native(isa: str) -> Callable[[], Runner]:
    def make() -> Runner:
        best = detect_isa()
        order = (
            ["scalar", "avx2", "avxvnni", "avx512vnni"]
            if best.startswith(("avx", "scalar"))
            else ["scalar", "neon", "neondot"]
        )
        if isa not in order or not library().gs_test_isa_runs(parse_isa(isa)):
            pytest.skip(f"this machine (best: {best}) does not run {isa}")
        return native(isa)

    return make


RUNNERS: dict[str, Callable[[], Runner]] = {
    "scalar": _native("scalar"),
    "avx2": _native("avx2"),
    "avxvnni": _native("avxvnni"),
    "avx512vnni": _native("avx512vnni"),
    "aarch64-neondot": _emulated("aarch64-profiler", "aarch64", "cortex-a76"),
    "aarch64-neon": _emulated("aarch64-profiler", "aarch64", "cortex-a72"),
    "armv7-neon": _emulated("armv7-profiler", "arm", None),
    "x86_64-static": lambda: program("x86_64-static", [str(artefact("x86_64-profiler"))]),
    "wasm": _wasm("wasm"),
    "wasm-relaxed": _wasm("wasm-relaxed", *RELAXED),
    "wasm-relaxed-tiers": _wasm("wasm-relaxed", "--experimental-wasm-relaxed-simd"),
}


def runner(name: str) -> Runner:
    """The runner of that name; skips the test where its tools are missing."""
    return RUNNERS[name]()
