"""Third-party detectors, unchanged, on person128: the command gives the numbers that the data's README states."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.person.dataset import open_photos
from gossamer.person.detector import open_detector
from gossamer.person.evaluation import evaluate_detector

# accuracy, TPR, TNR as the READMEs of person128 and of the models state them, measured with LiteRT and argmax
STATED = {
    "mlperf-tiny/vww_96_int8.tflite": (0.831, None, None),
    "wake-vision-zoo/wv_quality_k_4_c_5.tflite": (0.617, 0.737, 0.586),
    "wake-vision-zoo/wv_quality_mcunet-10fps_vww.tflite": (0.747, 0.689, 0.763),
    "wake-vision-zoo/wv_quality_mcunet-320kb-1mb_vww.tflite": (0.830, 0.820, 0.832),
    "wake-vision-zoo/wv_quality_micronets_vww4_128_128_INT8.tflite": (0.842, 0.713, 0.877),
    "wake-vision-zoo/wv_quality_mobilenetv2.tflite": (0.789, 0.796, 0.787),
    "wake-vision-zoo/wv_quality_ymac.tflite": (0.657, 0.749, 0.632),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STATED)
def test_stated_numbers_are_reproduced(data_dir: Path, name: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the [tflite] extra: pip install 'gossamer[tflite]'")
    detector = open_detector(data_dir / "models" / name)
    assert detector.engine == "LiteRT"
    report = evaluate_detector(detector, open_photos(data_dir / "person128"), "test")
    assert report.all["n"] == 792
    assert report.skipped["count"] == 0
    for key, stated in zip(("accuracy", "tpr", "tnr"), STATED[name], strict=True):
        if stated is not None:
            assert report.all[key]["value"] == pytest.approx(stated, abs=0.0006), key  # stated to three digits


@pytest.mark.slow
def test_a_file_that_litert_refuses_runs_on_the_imported_graph(data_dir: Path) -> None:
    detector = open_detector(data_dir / "models" / "tflite-micro" / "person_detect.tflite")
    assert detector.engine.startswith("onnxruntime")
    report = evaluate_detector(detector, open_photos(data_dir / "person128"), "test")
    assert report.all["balanced_accuracy"]["value"] > 0.7
    assert {n: r["n"] for n, r in report.sources.items()} == {"coco2017": 77, "voc2012animal": 701, "voc2012map": 14}
    distance = report.fine_grained["distance"]["slices"]
    assert {s: v["positives"] for s, v in distance.items()} == {"near": 17, "medium": 98, "far": 52}
    lighting = report.fine_grained["lighting"]["slices"]
    assert {s: v["n"] for s, v in lighting.items()} == {"dark": 122, "normal": 651, "bright": 19}
