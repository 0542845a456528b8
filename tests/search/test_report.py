"""The plot of the trials, and the page that shows it: their numbers are those of the search."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image

from gossamer.report import _tradeoffs, bundle_report
from gossamer.search.auto import optimize_auto
from tests.search.conftest import RECIPE


@pytest.fixture(scope="module")
def found(case):
    return optimize_auto(
        case.model, RECIPE, case.calibration, eval_data=(case.x[:60], case.y[:60]), sparsities=(0.5, 0.9),
        max_accuracy_drop=0.1, key=False,
    )  # fmt: skip


def test_plot_marks_every_trial_at_its_numbers(found):
    by_time, by_size = _tradeoffs.figure(found).axes
    for axes, x in ((by_time, lambda t: t.latency_us), (by_size, lambda t: t.bundle_bytes / 1e3)):
        marks = {(round(float(line.get_xdata()[0]), 6), round(float(line.get_ydata()[0]), 6))
                 for line in axes.lines if line.get_marker() in "os*" and len(line.get_xdata()) == 1}  # fmt: skip
        assert marks == {(round(x(t), 6), round(100 * t.drop, 6)) for t in found.trials}
        goal = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [line.get_ydata()[0] for line in goal] == [10.0]
    assert by_time.get_xlabel() == "latency, microseconds" and "balanced accuracy, points" in by_time.get_ylabel()
    stars = [line for line in by_time.lines if line.get_marker() == "*"]
    assert [line.get_xdata()[0] for line in stars] == [found.chosen.latency_us]


def test_png_is_a_picture_and_the_same_each_time(found):
    data = _tradeoffs.png(found)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG" and image.size[0] > 1000
    assert data == _tradeoffs.png(found)


def test_page_has_the_table_and_the_plot(found):
    text = bundle_report(found.bundle.data, search=found, verify=False, runs=2)
    section = text[text.index("<h2>Trade-offs</h2>") : text.index("<h2>Layers</h2>")]
    assert section.count("<svg") == 1 and section.count("<tr>") == len(found.trials) + 1
    assert section.count('<span class="tag">chosen</span>') == 1
    for trial in found.trials:
        assert f"{trial.latency_us:.1f}" in section and f"{trial.drop:+.4f}" in section
    assert "accuracy drop of at most 0.1" in section and "60 examples" in section
    assert not re.search(r"https?://(?!www\.w3\.org|creativecommons|purl)", section)
    assert "Trade-offs" not in bundle_report(found.bundle.data, verify=False, runs=2)
