"""Models that are given as files of other frameworks, trained by pictures in folders."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import gossamer
from gossamer_runtime import Session

RECIPE = {
    "version": 1,
    "sparsify": {"pattern": "1x4", "sparsity": 0.5},
    "train": {"epochs": 1, "batch": 4, "distill": {}, "mirror": True},
    "quantize": {"samples": 4},
    "target": {"measure": False},
}


@pytest.fixture
def photos(tmp_path):
    """Two classes of four pictures, by number: dark ones and ones with a bright square."""
    rng = np.random.default_rng(0)
    for label in (0, 1):
        (tmp_path / "photos" / str(label)).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 90, (64, 64, 3)).astype(np.uint8)
            pixels[8 + i : 40 + i, 10:42] = 240 if label else 60
            Image.fromarray(pixels).save(tmp_path / "photos" / str(label) / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("name", "int8"), [("mlperf-tiny/vww_96_float.tflite", False), ("tflite-micro/person_detect.tflite", True)]
)
def test_tflite_float_and_int8(data_dir, photos, name, int8):
    made = gossamer.optimize(data_dir / "models" / name, RECIPE, photos, train_data=photos, key=False)
    sparse = [row for row in made.layers if row.pruned_pattern == "1x4"]
    assert len(sparse) > 8 and all(row.sparsity_percent >= 50 - 0.5 for row in sparse)
    assert any("quantised already" in note for note in made.notes) == int8
    assert made.training["examples"].startswith("8 examples of 2 classes")
    assert np.isfinite(made.training["epochs"][0]["loss"])
    with Session(made.data, verify=False) as session:
        port = session.inputs[0]
        assert (port.dtype == np.int8) == int8
        assert session.run(np.zeros(port.shape, port.dtype)).shape[-1] == 2


def test_exported_program(tmp_path, photos):
    import torch

    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, 2), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 2),
    ).eval()  # fmt: skip
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 32, 32),)), tmp_path / "net.pt2")
    made = gossamer.optimize(tmp_path / "net.pt2", RECIPE, photos, train_data=photos, key=False)
    assert [round(row.sparsity_percent / 10) for row in made.layers] == [0, 5, 0]
