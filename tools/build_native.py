"""Builds the C core: ``python -m tools.build_native --help``. The work is done by device_runtime/build_native.py, which
travels with the runtime's source distribution."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "device_runtime" / "build_native.py"


def main() -> int:
    """Runs the build script of the runtime and returns its exit code."""
    spec = importlib.util.spec_from_file_location("gossamer_build_native", SCRIPT)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return int(module.main())


if __name__ == "__main__":
    sys.exit(main())
