"""``gossamer doctor``."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
from collections.abc import Callable

import click

from gossamer.cli._common import json_option, print_json

_REQUIRED = ("numpy", "onnx", "onnx-ir", "onnxruntime", "click", "pydantic", "protobuf", "cryptography", "pillow")
_OPTIONAL = {
    "torch": "torch models: pip install 'gossamer[torch]'",
    "ai-edge-litert": "TFLite comparisons and LiteRT partitions: pip install 'gossamer[tflite]'",
    "pyarrow": "Wake Vision's parquet shards: pip install 'gossamer[person]'",
    "apache-tvm": "TVM partitions: pip install 'gossamer[tvm]'",
}


@click.command("doctor", epilog="\b\nExample:\n  gossamer doctor\n")
@json_option
def command(as_json: bool) -> int:
    """Check this installation: packages, native core, instruction sets, keys. Exit code 15 when the core is broken."""
    checks = [
        _check("python", lambda: f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} CPUs"),
        _check("native core", _core, code=15),
        _check("keys", _keys, code=12),
        *(_check(name, functools.partial(importlib.metadata.version, name), code=1) for name in _REQUIRED),
    ]
    for name, use in _OPTIONAL.items():
        try:
            checks.append({"check": name, "ok": True, "detail": importlib.metadata.version(name), "exit_code": 0})
        except importlib.metadata.PackageNotFoundError:
            checks.append({"check": name, "ok": True, "detail": f"not installed; for {use}", "exit_code": 0})
    if as_json:
        print_json({"checks": checks})
    else:
        for c in checks:
            click.echo(f"{'ok  ' if c['ok'] else 'FAIL'}  {c['check']:<15} {c['detail']}")
    return next((int(str(c["exit_code"])) for c in checks if not c["ok"]), 0)


def _check(name: str, probe: Callable[[], str], code: int = 1) -> dict[str, object]:
    try:
        return {"check": name, "ok": True, "detail": probe(), "exit_code": 0}
    except Exception as e:  # a doctor reports whatever is wrong
        return {"check": name, "ok": False, "detail": str(e).replace("\n", " "), "exit_code": code}


def _core() -> str:
    from gossamer_runtime._native import core_version, detect_isa, library_path

    return f"{core_version()}, best instruction set {detect_isa()}, {library_path()}"


def _keys() -> str:
    from gossamer.bundle import keys

    found = keys.list_keys()
    return f"{len(found)} keys, {sum(k.trusted for k in found)} trusted, under {keys.home()}"
