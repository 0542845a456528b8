"""One folder of model files for all tests of the benchmark: a network is traced once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="the networks are torch modules: pip install 'gossamer[torch]'")
    return tmp_path_factory.mktemp("bench")


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Hides a module from child processes, as if it were not installed."""

    def hide(name: str) -> None:
        folder = tmp_path / "hidden" / name
        folder.mkdir(parents=True)
        text = f"raise ModuleNotFoundError('hidden by the test', name={name!r})\n"
        (folder / "__init__.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", f"{folder.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    return hide
