"""Warm-up against steady state, and clock and heat from a /sys made here: exact values."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from gossamer_runtime import Session
from gossamer_runtime._conditions import describe, read
from gossamer_runtime._steady import warm_up


def test_slow_start_is_warm_up():
    found = warm_up([90.0, 40.0, 20.0, *[10.0] * 9, 12.0, *[10.0] * 7])
    assert (found.runs, found.first_run_us, found.runs_until_steady, found.steady_runs) == (20, 90.0, 3, 17)
    assert (found.steady_min_us, found.steady_median_us, found.steady_p90_us) == (10.0, 10.0, 10.0)
    assert found.line() == (
        "Warm-up (microseconds): first run=90.0, steady after 3 of 20 runs; steady state: count=17 "
        "min=10.0 median=10.0 p90=10.0"
    )


def test_single_slow_runs_do_not_end_the_steady_state():
    times = [10.0] * 20
    times[7] = times[15] = 60.0
    assert warm_up(times).runs_until_steady == 0


def test_a_fast_start_that_slows_down_is_not_steady_yet():
    found = warm_up([5.0] * 8 + [10.0] * 32)
    assert found.runs_until_steady == 6  # of runs 6 to 10, three are at the level
    assert found.steady_p90_us == 10.0


def test_drift_is_said():
    found = warm_up([10.0 + i for i in range(20)])
    assert found.runs_until_steady is None and found.steady_median_us is None and found.steady_runs == 0
    assert found.reason == "still drifting, from a median of 22.0 us to 27.0 us in the later half"
    assert "not told apart: still drifting" in found.line()


def test_two_levels_that_alternate():
    # window medians are 5 or 10, the level is their mean
    found = warm_up([5.0, 10.0] * 20)
    assert found.runs_until_steady is None and found.reason == "no 5 runs in a row at the level"


def test_too_few():
    found = warm_up([3.0] * 9)
    assert (found.runs_until_steady, found.reason) == (None, "9 runs are too few, 10 are needed")


def _sys(root: Path, khz: int, millidegrees: int, governor: str = "performance") -> Path:
    for i in range(2):
        folder = root / f"devices/system/cpu/cpu{i}/cpufreq"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scaling_cur_freq").write_text(f"{khz - 100000 * i}\n")
        (folder / "cpuinfo_max_freq").write_text("2400000\n")
        (folder / "scaling_governor").write_text(f"{governor}\n")
    for i, value in enumerate((millidegrees, -274000)):  # the second sensor is off
        zone = root / f"class/thermal/thermal_zone{i}"
        zone.mkdir(parents=True, exist_ok=True)
        (zone / "temp").write_text(f"{value}\n")
        (zone / "type").write_text("cpu-thermal\n")
    return root


def test_clock_and_heat(tmp_path):
    before = read(_sys(tmp_path, 2_400_000, 51_250))
    assert before.mhz == {0: 2400.0, 1: 2300.0} and before.celsius == {"thermal_zone0 (cpu-thermal)": 51.25}
    machine, notes = describe(before, read(tmp_path), tmp_path)
    assert notes == []
    after = read(_sys(tmp_path, 1_500_000, 84_000, "schedutil"))
    machine, notes = describe(before, after, tmp_path)
    assert machine == {
        "start_mhz": 2400.0, "end_mhz": 1500.0, "max_mhz": 2400.0, "start_celsius": 51.25, "end_celsius": 84.0,
        "governors": ["schedutil"],
    }  # fmt: skip
    assert notes == [
        "the fastest core's clock fell from 2400 MHz to 1500 MHz: times may have grown",
        "the fastest core ended at 1500 MHz of at most 2400 MHz: throttled or saving power",
        "cpufreq governor schedutil: the clock follows the load",
        "thermal_zone0 (cpu-thermal) rose from 51.2 °C to 84.0 °C",
    ]


def test_a_machine_that_tells_nothing_says_so(tmp_path):
    machine, notes = describe(read(tmp_path), read(tmp_path), tmp_path)
    assert machine["start_mhz"] is None and machine["end_celsius"] is None
    assert notes == [
        f"clock unknown: this machine shows none under {tmp_path}/devices/system/cpu/cpu*/cpufreq",
        f"temperature unknown: this machine shows none under {tmp_path}/class/thermal",
    ]


def test_unreadable_sensors_are_left_out(tmp_path):
    _sys(tmp_path, 2_000_000, 40_000)
    (tmp_path / "class/thermal/thermal_zone0/temp").write_text("n/a")
    (tmp_path / "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").write_text("<unknown>\n")
    found = read(tmp_path)
    assert found.celsius == {} and found.mhz == {1: 1900.0}


def test_profile_has_them(work, tmp_path, monkeypatch):
    monkeypatch.setattr(read, "__defaults__", (_sys(tmp_path, 2_400_000, 51_250),))
    with Session(work.bundle) as session:
        profile = session.profile(runs=12, warmup=3)
    value = profile.to_json()
    assert value["warm_up"]["runs"] == 15 and value["warm_up"]["first_run_us"] > 0
    assert value["machine"]["start_mhz"] == 2400.0
    text = profile.summary()
    assert "Warm-up (microseconds): first run=" in text
    assert "clock=2400 to 2400 MHz temperature=51 to 51 °C" in text


def test_trace_is_chrome_trace_event_format(work):
    """The keys that the format asks for, microseconds, slices of a track one after the other or one in the other."""
    with Session(work.bundle) as session:
        profile = session.profile(runs=4, warmup=2)
    trace = json.loads(profile.chrome_trace())
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"} and trace["displayTimeUnit"] in ("ms", "ns")
    for e in trace["traceEvents"]:
        assert isinstance(e["name"], str) and e["name"] and e["ph"] in ("M", "X")
        assert isinstance(e["pid"], int) and isinstance(e["tid"], int) and e["ts"] >= 0
        if e["ph"] == "X":
            assert isinstance(e["dur"], float) and e["dur"] >= 0 and isinstance(e["cat"], str)
    slices = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    whole = [e for e in slices if e["tid"] == 2]
    assert [e["name"] for e in whole] == ["warm-up 0", "warm-up 1", *(f"inference {i}" for i in range(4))]
    assert min(e["dur"] for e in whole[2:]) == pytest.approx(profile.latency.min_us)  # microseconds, as the profile's
    for one, two in itertools.pairwise(whole):
        assert two["ts"] == pytest.approx(one["ts"] + one["dur"])
    runs = [e for e in slices if e["tid"] == 1 and e["cat"] == "run"]
    ops = [e for e in slices if e["tid"] == 1 and e["cat"] != "run"]
    assert len(runs) == 4 and len(ops) == 4 * len(profile.ops)
    assert runs[0]["ts"] == pytest.approx(whole[-1]["ts"] + whole[-1]["dur"])
    for i, run in enumerate(runs):
        inner = ops[i * len(profile.ops) : (i + 1) * len(profile.ops)]
        assert inner[0]["ts"] == run["ts"] and sum(e["dur"] for e in inner) == pytest.approx(run["dur"])
