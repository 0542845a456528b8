"""A small made-up person128: photos with a bright square in them (label 1) or none (label 0)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.person.packs import write_people


@pytest.fixture(scope="session")
def tiny_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 train, 16 val and 16 test photos of 128x128 in two sources; source ``street`` has positives in train only."""
    rng = np.random.default_rng(11)

    def photo(label: int) -> np.ndarray:
        pixels = rng.integers(0, 90, (128, 128, 3)).astype(np.uint8)
        if label:
            y, x = rng.integers(8, 60, 2)
            pixels[y : y + 56, x : x + 56] = 250
        return pixels

    return write_people(tmp_path_factory.mktemp("people"), photo, area=56 * 56 / 128**2, street=True)
