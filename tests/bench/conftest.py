"""One folder of model files for all tests of the benchmark: a network is traced once."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="the networks are torch modules: pip install 'gossamer[torch]'")
    return tmp_path_factory.mktemp("bench")
