"""Third-party TFLite detectors inside torch give what LiteRT gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gossamer import InputError, ModelError
from gossamer.person.dataset import PersonDataset

torch = pytest.importorskip("torch", reason="teachers need the [torch] extra")
pytest.importorskip("tflite", reason="teachers need the [tflite] extra")

from gossamer.person import teachers  # noqa: E402 - after the skips
from gossamer.person.augment import resize  # noqa: E402


@pytest.mark.parametrize(
    ("path", "smallest_agreement"),
    [
        ("mlperf-tiny/vww_96_float.tflite", 1.0),
        ("wake-vision-zoo/wv_quality_micronets_vww4_128_128_INT8.tflite", 0.9),  # rounding steps are left out
    ],
)
def test_teacher_agrees_with_litert(data_dir: Path, tmp_path: Path, path: str, smallest_agreement: float) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the [tflite] extra")
    from tests import litert

    source = data_dir / "models" / path
    teachers.save_teachers({"t": source}, tmp_path / "t.npz")
    (teacher,) = teachers.load_teachers(tmp_path / "t.npz")
    people = PersonDataset(data_dir / "person128")
    images = torch.from_numpy(people.images(people.select("val")[:40])).permute(0, 3, 1, 2).float() / 255
    sized = resize(images, teacher.size)
    with torch.no_grad():
        margin, features = teacher(sized)
    assert features.shape[0] == 40
    assert features.shape[2] == features.shape[3]
    x = sized.permute(0, 2, 3, 1).numpy()
    if teacher.channels == 1:
        x = (x @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    if path.startswith("wake-vision-zoo"):  # uint8 pixels
        x = np.round(x * 255)
    scores = litert.run(source, x).astype(float)
    agree = ((scores[:, 1] > scores[:, 0]) == (margin.numpy() > 0)).mean()
    assert agree >= smallest_agreement
    assert np.corrcoef(scores[:, 1] - scores[:, 0], margin.numpy())[0, 1] > 0.85


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"nothing like it")
    with pytest.raises(ModelError, match="not a TFLite file"):
        teachers.extract(tmp_path / "x.tflite")
    with pytest.raises(InputError, match="not a teachers file"):
        teachers.load_teachers(tmp_path / "x.tflite")
