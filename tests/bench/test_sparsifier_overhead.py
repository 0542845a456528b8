"""What sparse training costs: shares by hand, and a short real measurement."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

from tools.bench.sparsifier_overhead import FIRST, WARM, Contender, main, rows, table


def _contender(name, train, step):
    return Contender(name, "1x4" if name != "plain" else "", None, None, None, train, step)


def test_overheads_are_medians_of_the_rounds_own_ratios():
    plain = _contender("plain", [0.100, 0.200, 0.100, 0.100], [0.0] * 4)
    # Twice as slow a machine in the second round: 10% there, too.
    slow = _contender("slow", [0.105, 0.220, 0.110, 0.115], [0.0, 0.0, 0.0, 0.008])
    first, found = rows([plain, slow], 1, "wall")
    assert (first["attach_share"], first["all_share"]) == (0.0, 0.0)
    assert found["attach_share"] == pytest.approx(0.10)
    assert found["step_mean_ms"] == pytest.approx(2.0)
    assert found["step_worst_ms"] == pytest.approx(8.0)
    assert found["all_share"] == pytest.approx(0.10 + 0.002 / 0.100)
    assert (found["rounds"], found["threads"], found["clock"]) == (4, 1, "wall")
    head, plain_line, slow_line = table([first, found])
    assert head.split()[:2] == ["method", "pattern"]
    assert "SHORT" not in plain_line
    assert slow_line.endswith("+12.0% SHORT")


@pytest.mark.slow
def test_a_short_run_measures_what_is_asked_for(tmp_path):
    path = tmp_path / "rows.json"
    result = CliRunner().invoke(main, ["--methods", "sr-ste", "--rounds", "8", "--clock", "cpu", "--json", str(path)])
    assert result.exit_code == 0, result.output
    measured = json.loads(path.read_text())
    assert [(r["method"], r["pattern"]) for r in measured] == [("plain", ""), ("masks alone", "1x4"), ("sr-ste", "2:4")]
    assert all(r["train_ms"] > 1.0 for r in measured)
    assert measured[2]["step_mean_ms"] > measured[1]["step_mean_ms"]
    assert len(result.output.splitlines()) == 4


def test_schedules_are_under_way_in_the_rounds():
    from tools.bench.sparsifier_overhead import STEPS, contenders

    _, _, run = (c.run for c in contenders(["gradual-magnitude"]))
    assert run.step_number == FIRST
    assert 0.0 < run.method.share((FIRST + WARM) / STEPS) < 1.0
