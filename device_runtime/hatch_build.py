"""Wheel hook: builds the native core with zig, into the wheel or beside the sources of an editable install.

Wheels also carry the static profilers of every machine, which ``gossamer device`` pushes to phones and boards;
compressed, for most who install the runtime push none.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_TAGS = {"x86_64-linux": "manylinux_2_17_x86_64", "aarch64-linux": "manylinux_2_17_aarch64"}


def _build_script(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gossamer_build_native", root / "build_native.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(root / "build_native.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class NativeBuildHook(BuildHookInterface[Any]):
    """Adds the wheel's platform tag and, in ``gossamer_runtime/_lib/``, ``libgossamer-<os>-<arch>.so`` and the programs
    ``gossamer-profile-<machine>.gz``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds for this machine; ``GOSSAMER_TARGET`` names another target, for cross-built wheels."""
        script = _build_script(Path(self.root))
        target = os.environ.get("GOSSAMER_TARGET") or script.host_target()
        if target not in _TAGS:
            raise ValueError(f"GOSSAMER_TARGET={target!r} makes no wheel; targets: {', '.join(_TAGS)}")
        if version == "editable":
            library = script.build(target, output_dir=script.LIBRARY_DIR)
        else:
            self._folder = tempfile.TemporaryDirectory()
            library = script.build(target, output_dir=Path(self._folder.name))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_TAGS[target]}"
        if version != "editable":
            files = {library.name: library}
            for name in script.PROFILERS:
                program = script.build(name, output_dir=Path(self._folder.name) / name)
                packed = program.with_name(f"{program.name}-{name.removesuffix('-profiler')}.gz")
                packed.write_bytes(gzip.compress(program.read_bytes(), 9, mtime=0))
                files[packed.name] = packed
            build_data["force_include"] |= {str(path): f"gossamer_runtime/_lib/{name}" for name, path in files.items()}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes the temporary build."""
        folder = getattr(self, "_folder", None)
        if folder is not None:
            folder.cleanup()
