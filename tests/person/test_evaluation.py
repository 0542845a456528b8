"""Evaluation against numbers worked out by hand: AUC intervals, calibration, the five sets, whole reports."""

from __future__ import annotations

import html.parser
import json
import math
from pathlib import Path

import numpy as np
import pytest

from gossamer import InputError
from gossamer.person import dataset, metrics
from gossamer.person.calibration import calibration
from gossamer.person.detector import open_detector
from gossamer.person.evaluation import EvaluationReport, evaluate_detector
from gossamer.person.fine_grained import fine_grained
from tests.person import packs
from tests.person.detectors import brightness


@pytest.mark.parametrize(("auc", "m", "n"), [(0.5, 50, 50), (0.83, 167, 625), (0.97, 12, 30), (0.2, 9, 8)])
def test_auc_interval_solves_hanley_and_mcneils_equation(auc: float, m: int, n: int) -> None:
    size = (m + n) / 2  # Newcombe's change: both class sizes by their mean, inside the brackets
    for t in metrics.auc_interval(auc, m, n):
        q1, q2 = t / (2 - t), 2 * t * t / (1 + t)
        variance = (t * (1 - t) + (size - 1) * (q1 - t * t) + (size - 1) * (q2 - t * t)) / (m * n)
        assert abs(auc - t) == pytest.approx(metrics.Z_95 * math.sqrt(variance), rel=1e-6)


def test_auc_interval_at_the_ends_and_without_a_class() -> None:
    low, high = metrics.auc_interval(1.0, 10, 10)
    assert (0.75 < low < 0.85, high) == (True, 1.0)
    assert metrics.auc_interval(0.0, 10, 10) == pytest.approx((0.0, 1 - low))
    assert metrics.auc_interval(0.5, 0, 9) == (0.0, 1.0)
    with pytest.raises(ValueError, match=r"in 0\.\.1"):
        metrics.auc_interval(1.5, 3, 3)


def test_auc_interval_covers_the_truth_about_95_times_in_100() -> None:
    random = np.random.default_rng(5)
    truth = 0.7602  # P(X > Y), X ~ N(1, 1), Y ~ N(0, 1)
    inside = 0
    for _ in range(600):
        score = np.concatenate([random.normal(1, 1, 30), random.normal(0, 1, 50)])
        low, high = metrics.auc_interval(metrics.roc_auc([1] * 30 + [0] * 50, score), 30, 50)
        inside += low <= truth <= high
    assert 0.925 <= inside / 600 <= 0.985


def test_report_takes_decisions_and_ranking_of_its_own() -> None:
    label, score = [1, 1, 0, 0], [1.0, 0.5, 0.5, 0.0]
    r = metrics.binary_report(label, score, ranking=[4, 3, 2, 1], called=[True, False, False, False])
    assert (r["tpr"]["count"], r["tnr"]["count"], r["roc_auc"]) == (1, 2, 1.0)
    plain = metrics.binary_report(label, score)
    assert (plain["tpr"]["count"], plain["tnr"]["count"], plain["roc_auc"]) == (2, 1, 0.875)
    with pytest.raises(ValueError, match="as long as score"):
        metrics.binary_report(label, score, called=[True])


def test_calibration_by_hand() -> None:
    # four bins: 0.1 0.2 | 0.3 | (none) | 0.75 0.9 1.0
    label, probability = [0, 1, 0, 1, 1, 0], [0.1, 0.2, 0.3, 0.75, 0.9, 1.0]
    c = calibration(label, probability, bins=4)
    gaps = [abs(1 - 0.3), abs(0 - 0.3), abs(2 - 2.65)]
    assert c["ece"] == pytest.approx(sum(gaps) / 6)
    assert [(b["from"], b["n"], b["positives"]) for b in c["bins"]] == [(0.0, 2, 1), (0.25, 1, 0), (0.75, 3, 2)]
    assert [b["mean_probability"] for b in c["bins"]] == pytest.approx([0.15, 0.3, 2.65 / 3])
    assert 0 <= c["low"] <= c["high"] <= 1


def test_calibration_of_a_calibrated_and_of_an_overconfident_detector() -> None:
    random = np.random.default_rng(1)
    p = random.random(4000)
    label = (random.random(4000) < p).astype(int)
    good, bad = calibration(label, p), calibration(label, (p > 0.5).astype(float))
    assert good["ece"] < 0.03
    assert bad["ece"] == pytest.approx(0.25, abs=0.03)  # right three times in four, and sure every time
    assert bad["low"] < bad["ece"] < bad["high"] < bad["ece"] + 0.03
    assert good == calibration(label, p)  # seeded
    for wrong, message in (([0.5], "equally long"), ([0.5, 1.5], "not in 0..1"), ([0.5, math.nan], "not in 0..1")):
        with pytest.raises(ValueError, match=message):
            calibration([0, 1], wrong)
    assert calibration([], [])["ece"] is None


def test_the_five_sets_by_hand() -> None:
    label = [1, 1, 1, 1, 0, 0, 0, 0]
    called = [True, True, False, True, True, False, False, False]
    member = {
        "distance": ["near", "near", "far", "", "", "", "", ""],
        "lighting": ["dark", "normal", "dark", "", "dark", "dark", "bright", ""],
        "gender": ["female", "", "", "", "", "", "", ""],
        "age": [""] * 8,
        "depiction": ["", "", "", "", "person", "person", "none", ""],
    }
    found = fine_grained(label, called, member)
    assert list(found) == ["distance", "lighting", "gender", "depiction"]
    near = found["distance"]["slices"]["near"]
    assert (near["n"], near["positives"], near["negatives"], near["tnr"]) == (2, 2, 0, None)
    assert (near["tpr"]["count"], near["tpr"]["of"]) == (2, 2)
    # hits 2/2; false calls on all photos without a person 1/4: 2 / (1 + 1 + 1/4)
    assert near["f1"]["value"] == pytest.approx(2 / 2.25)
    a, b = metrics.wilson_interval(2, 2), metrics.wilson_interval(1, 4)
    low = math.hypot(2 / 2.25 - 2 * a[0] / (1 + a[0] + 0.25), 2 / 2.25 - 2 / (2 + b[1]))
    high = math.hypot(0.0, 2 / (2 + b[0]) - 2 / 2.25)
    assert near["f1"]["low"] == pytest.approx(2 / 2.25 - low)
    assert near["f1"]["high"] == pytest.approx(min(1.0, 2 / 2.25 + high))
    far, medium = found["distance"]["slices"]["far"], found["distance"]["slices"]["medium"]
    assert (far["tpr"]["count"], far["tpr"]["of"], far["f1"]["value"]) == (0, 1, 0.0)
    assert (medium["n"], medium["tpr"]["value"], medium["f1"]["value"]) == (0, None, None)
    assert (found["distance"]["n"], found["distance"]["of"]) == (3, 4)
    dark = found["lighting"]["slices"]["dark"]
    assert (dark["positives"], dark["negatives"]) == (2, 2)
    assert (dark["tpr"]["count"], dark["tnr"]["count"]) == (1, 1)
    assert dark["f1"]["value"] == pytest.approx(2 * 0.5 / (1 + 0.5 + 0.5))
    assert (found["lighting"]["n"], found["lighting"]["of"]) == (6, 8)
    drawn = found["depiction"]["slices"]["person"]
    assert (drawn["tpr"], drawn["tnr"]["count"], drawn["tnr"]["of"]) == (None, 1, 2)
    assert drawn["f1"]["value"] == pytest.approx(2 * 0.5 / (1 + 0.5 + 0.25))  # missed persons: 1 of 4
    for wrong, message in (
        ({"size": [""] * 8}, "unknown set 'size'"),
        ({"age": ["old"] * 8}, "unknown slice 'old' of age"),
        ({"age": [""] * 7}, "as long as label"),
    ):
        with pytest.raises(ValueError, match=message):
            fine_grained(label, called, wrong)


def pack(folder: Path) -> Path:
    """Eight photos, one of them damaged; a detector of brightness is wrong about one of each class."""
    rows = [
        packs.row(1, packs.jpeg(200), near=1, bright=1, predominantly_female=1, young=1),
        packs.row(1, packs.jpeg(160), far=1, normal_lighting=1, predominantly_male=1, middle_age=1),
        packs.row(1, packs.jpeg(90), far=1, normal_lighting=1, predominantly_male=1, older=1),  # missed
        packs.row(0, packs.jpeg(20), dark=1, non__person_non__depiction=1),
        packs.row(0, packs.jpeg(230), bright=1, person_depiction=1, depiction=1),  # a false call
        packs.row(0, packs.jpeg(100), normal_lighting=1, non__person_depiction=1, depiction=1),
        packs.row(0, packs.jpeg(40), dark=1, non__person_non__depiction=1),
        packs.row(1, b"", near=1, dark=1),
    ]
    packs.write_parquet(folder / "test-00000-of-00001.parquet", rows, group=3)
    return folder


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> EvaluationReport:
    folder = tmp_path_factory.mktemp("judged")
    detector = open_detector(brightness(folder / "<b>|.onnx", labels=["no person", "person"]))
    return evaluate_detector(detector, dataset.open_photos(pack(folder)))


def test_a_whole_report(judged: EvaluationReport) -> None:
    r = judged.all
    assert (r["n"], r["positives"], r["negatives"]) == (7, 3, 4)
    assert (r["tpr"]["count"], r["tnr"]["count"], r["accuracy"]["count"]) == (2, 3, 5)
    assert r["balanced_accuracy"]["value"] == pytest.approx((2 / 3 + 3 / 4) / 2)
    # scores by brightness: 230n 200p 160p 100n 90p 40n 20n: 2*3 + 2 of 12 pairs in order
    assert r["roc_auc"] == pytest.approx((3 + 3 + 2) / 12)
    sets = judged.fine_grained
    assert {s: (v["tpr"]["count"], v["tpr"]["of"]) for s, v in sets["distance"]["slices"].items()} == {
        "near": (1, 1),
        "medium": (0, 0),
        "far": (1, 2),
    }
    assert {s: v["tpr"]["count"] for s, v in sets["gender"]["slices"].items()} == {"female": 1, "male": 1, "unknown": 0}
    assert {s: v["tpr"]["count"] for s, v in sets["age"]["slices"].items()} == {
        "young": 1,
        "middle": 1,
        "older": 0,
        "unknown": 0,
    }
    assert {s: (v["tnr"]["count"], v["tnr"]["of"]) for s, v in sets["depiction"]["slices"].items()} == {
        "person": (0, 1),
        "other": (1, 1),
        "none": (2, 2),
    }
    assert (sets["lighting"]["slices"]["bright"]["tpr"]["of"], sets["lighting"]["slices"]["bright"]["tnr"]["of"]) == (
        1,
        1,
    )
    assert judged.skipped["count"] == 1
    assert judged.skipped["files"] == [{"file": "test-00000-of-00001.parquet#7", "reason": "empty, 0 bytes"}]
    assert list(judged.sources) == ["wake-vision"]
    assert judged.data["photos"] == 7
    assert judged.ties == 0
    value = json.loads(json.dumps(judged.to_json(), allow_nan=False))
    assert value["methods"]["ECE"].startswith("expected calibration error, 15 bins")


def test_tables_hold_counts_and_intervals(judged: EvaluationReport) -> None:
    text, markdown, page = judged.text(), judged.markdown(), judged.html()
    low, high = metrics.wilson_interval(2, 3)
    cell = f"66.7% (2/3; {100 * low:.1f} to {100 * high:.1f})"
    for out in (text, markdown, page):
        assert cell in out
        assert "distance: far" in out
        assert "1 photos skipped" in out
        assert "test-00000-of-00001.parquet#7" in out
    assert "| distance: far | 2 / 0 | 50.0%" in markdown
    assert "Newcombe" in markdown

    class Balanced(html.parser.HTMLParser):
        open: list[str] = []  # noqa: RUF012 - one parser

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag != "meta":
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "&lt;b&gt;|.onnx" in page
    assert "<b>" not in page
    assert "&lt;b>\\|.onnx" in markdown


def test_threshold_progress_and_splits(tmp_path: Path) -> None:
    photos = dataset.open_photos(pack(tmp_path))
    detector = open_detector(brightness(tmp_path / "m.onnx"))
    steps: list[tuple[int, int]] = []
    r = evaluate_detector(detector, photos, threshold=0.0, progress=lambda done, total: steps.append((done, total)))
    assert (r.all["tpr"]["count"], r.all["tnr"]["count"]) == (3, 0)
    assert r.decision == "its probability is at least 0"
    assert steps[-1] == (7, 8)
    with pytest.raises(InputError, match="unknown split 'train'"):
        evaluate_detector(detector, photos, "train")


def test_an_empty_class_and_unreadable_photos_are_errors(tmp_path: Path) -> None:
    detector = open_detector(brightness(tmp_path / "m.onnx"))
    shard = tmp_path / "test-00000-of-00001.parquet"
    packs.write_parquet(shard, [packs.row(1, packs.jpeg(9))] * 3)
    with pytest.raises(InputError, match="no photo without a person") as caught:
        evaluate_detector(detector, dataset.open_photos(tmp_path))
    assert "split test" in str(caught.value.where)
    packs.write_parquet(shard, [packs.row(1, b""), packs.row(0, b"x")])
    with pytest.raises(InputError, match="none of 2 photos could be read") as caught:
        evaluate_detector(detector, dataset.open_photos(tmp_path))
    assert "empty, 0 bytes" in str(caught.value.hint)
    packs.write_parquet(shard, [packs.row(1, packs.jpeg(9)), packs.row(0, b"x")])
    with pytest.raises(InputError, match="no photo without a person"):
        evaluate_detector(detector, dataset.open_photos(tmp_path))
