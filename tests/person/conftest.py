"""A small made-up person128: photos with a bright square in them (label 1) or none (label 0)."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HEADER = (
    "file,split,label,source,largest_person_area_fraction,n_persons_ge_0.5pct,n_person_boxes,mean_brightness,"
    "orig_width,orig_height"
)


@pytest.fixture(scope="session")
def tiny_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 train, 16 val and 16 test photos of 128x128 in two sources; source ``street`` has positives in train only."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(11)
    rows = [HEADER]
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for split, count in (("train", 48), ("val", 16), ("test", 16)):
            for i in range(count):
                label = i % 2
                source = "street" if split == "train" and i % 8 == 1 else "home"
                pixels = rng.integers(0, 90, (128, 128, 3)).astype(np.uint8)
                if label:
                    y, x = rng.integers(8, 60, 2)
                    pixels[y : y + 56, x : x + 56] = 250
                name = f"{source}/{split}{i}.jpg"
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
                archive.writestr(name, buffer.getvalue())
                area = 56 * 56 / 128**2 if label else 0.0
                rows.append(f"{name},{split},{label},{source},{area:.5f},{label},{label},60.0,128,128")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder
