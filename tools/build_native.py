"""Builds the C core: ``python -m tools.build_native --help``. The work is done by device_runtime/build_native.py, which
travels with the runtime's source distribution; ``script()`` is that file as a module."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

SCRIPT = Path(__file__).resolve().parent.parent / "device_runtime" / "build_native.py"


@functools.cache
def script() -> ModuleType:
    """The build script of the runtime."""
    spec = importlib.util.spec_from_file_location("gossamer_build_native", SCRIPT)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Runs the build script and returns its exit code."""
    return int(script().main())


if __name__ == "__main__":
    sys.exit(main())
