"""Fixtures that every test room shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_data() -> Path:
    """Folder of third-party models and photos: ``GOSSAMER_DATA`` or ``../shared/data`` beside the checkout."""
    return Path(os.environ.get("GOSSAMER_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The shared data folder; skips by name where it is missing."""
    folder = shared_data()
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}: set GOSSAMER_DATA to the folder that holds models/ and person128/")
    return folder
