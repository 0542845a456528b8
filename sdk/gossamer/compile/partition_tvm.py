"""Compiles a partition with Apache TVM on the host: ONNX -> Relax -> LLVM -> a shared library as bytes."""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_TRIPLE = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
_GLIBC = ".2.17"


class CannotBuildError(Exception):
    """TVM is not installed, or cannot take this partition; the message says which."""


def build(model: Any, target: str = "host") -> bytes:
    """The shared library of an ONNX model for an architecture (x86_64 or aarch64 Linux, generic CPU; host: this one).

    Its function ``main`` takes the model's inputs in order. Raises ``CannotBuildError``.
    """
    arch = platform.machine() if target == "host" else target
    if arch not in _TRIPLE:
        raise CannotBuildError(f"it cannot build for {arch}, only for {', '.join(_TRIPLE)}")
    try:
        import tvm
        from tvm import relax
        from tvm.relax.frontend.onnx import from_onnx
    except ImportError as error:
        raise CannotBuildError(f"apache-tvm is not installed here ({error}); pip install 'gossamer[tvm]'") from error
    try:
        module = from_onnx(model, keep_params_in_input=False)
        machine = tvm.target.Target({"kind": "llvm", "mtriple": _TRIPLE[arch]})
        executable = relax.build(module, target=machine)
        with tempfile.TemporaryDirectory(prefix="gossamer-tvm-") as folder:
            path = Path(folder) / "partition.so"
            executable.export_library(str(path), fcompile=_linker(arch))
            return path.read_bytes()
    except CannotBuildError:
        raise
    except Exception as error:  # TVM raises its own errors, and plain ones for operators its importer lacks
        message = str(error).strip().splitlines()
        raise CannotBuildError(message[-1] if message else type(error).__name__) from error


def _linker(arch: str) -> Any:
    """Links object files with zig, which needs no compiler on the machine."""

    def link(output: str, objects: list[str], options: list[str] | None = None, **_: Any) -> None:
        command = [sys.executable, "-m", "ziglang", "cc", "-target", _TRIPLE[arch] + _GLIBC, "-shared", "-fPIC", "-s"]
        done = subprocess.run(
            [*command, "-o", output, *objects, *(options or [])], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CannotBuildError(f"linking failed: {done.stderr.strip() or done.stdout.strip()}")

    link.output_format = "so"  # type: ignore[attr-defined]  # read by TVM's export_library
    return link
