"""``gossamer profile compare``: ratios by hand, pairs of operators, every kind of side, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gossamer._errors import InputError
from gossamer._profile_compare import compare, parse
from gossamer._profile_rounds import by_turns


def _profile(listed: list[tuple[str, str, float]], **more: Any) -> str:
    rows = [
        {"index": i, "name": f"op{i}", "kind": kind, "source": source, "kernel": "k", "median_us": us, "min_us": us,
         "p90_us": us}
        for i, (kind, source, us) in enumerate(listed)
    ]  # fmt: skip
    latency = {"runs": 9, "min_us": 10.0, "median_us": 20.0, "p90_us": 30.0}
    return json.dumps(
        {"model": "m", "isa": "neon", "threads": 2, "latency": latency, "ops": rows, "notes": ["hot"], **more}
    )


def test_pairs_and_ratios_by_hand():
    a = parse(_profile([("Conv", "c1", 100.0), ("Relu", "r", 5.0), ("Gemm", "g", 0.0)]), "a.json")
    b = parse(_profile([("Layout", "in", 7.0), ("Conv", "c1", 25.0), ("Gemm", "g", 4.0)]), "b.json")
    found = compare(a, b)
    ops = [(p.a and p.a.source, p.b and p.b.source, p.ratio) for p in found.pairs]
    assert ops == [(None, "in", None), ("c1", "c1", 0.25), ("r", None, None), ("g", "g", None)]
    value = found.to_json()
    assert value["a"]["ops_median_us"] == 105.0 and value["b"]["ops_median_us"] == 36.0
    assert value["ratios"]["ops_median_ratio"] == pytest.approx(36 / 105) and value["ratios"]["median_ratio"] == 1.0
    lines = found.table().splitlines()
    assert lines[0].split("  ")[0] == "A #" and "A median us  B median us" in lines[0]
    assert lines[3].split() == ["0", "1", "Conv", "100.0", "25.0", "0.25", "k", "k", "c1"]
    assert lines[-1].split() == ["all", "105.0", "36.0", "0.34", "sum", "of", "medians"]
    assert "A: a.json: m, isa=neon threads=2 runs=9" in found.summary() and "note: hot" in found.summary()


def test_other_sources_pair_by_kind():
    a = parse(_profile([("Conv", "x (a.py:1)", 8.0), ("Gemm", "y (a.py:2)", 2.0)]), "a")
    b = parse(_profile([("Conv", "x (b.py:9)", 4.0), ("Add", "z", 1.0), ("Gemm", "y (b.py:7)", 2.0)]), "b")
    assert [p.ratio for p in compare(a, b).pairs] == [0.5, None, 1.0]


def test_steady_state_is_compared():
    def warm(first: float, level: float) -> dict[str, Any]:
        return {"first_run_us": first, "runs_until_steady": 3, "steady_median_us": level, "steady_p90_us": level}

    a = parse(_profile([], warm_up=warm(100.0, 20.0)), "a")
    b = parse(_profile([], warm_up=warm(300.0, 10.0)), "b")
    ratios = compare(a, b).to_json()["ratios"]
    assert ratios["first_run_ratio"] == 3.0 and ratios["steady_median_ratio"] == 0.5
    assert "runs until steady" in compare(a, b).summary()


def test_files_and_bundles(cli, work, tmp_path):
    saved = tmp_path / "p.json"
    saved.write_text(cli("profile", work.bundle, "--runs", 3, "--json").out)
    same = cli("profile", "compare", saved, saved, "--json").json
    assert same["ratios"]["median_ratio"] == 1.0 and same["ratios"]["ops_median_ratio"] == 1.0
    assert all(op["a"] == op["b"] for op in same["ops"]) and len(same["ops"]) == len(
        json.loads(saved.read_text())["ops"]
    )
    ran = cli("profile", "compare", saved, work.bundle, "--runs", 4, "--json")
    assert ran.code == 0 and (ran.json["a"]["runs"], ran.json["b"]["runs"]) == (3, 4)
    assert [op["a"]["name"] for op in ran.json["ops"]] == [op["b"]["name"] for op in ran.json["ops"]]
    text = cli("profile", "compare", work.bundle, work.bundle, "--runs", 2).out
    assert "A median us" in text and "sum of medians" in text and "runs until steady" in text


def _by_turns(a: list[str], b: list[str], rounds: int) -> tuple[list[str], Any]:
    """Who was asked when, and the comparison; each side answers with its texts in their order."""
    asked: list[str] = []

    def side(name: str, answers: list[str]) -> Any:
        def measure() -> Any:
            asked.append(name)
            return parse(answers[asked.count(name) - 1], name)

        return measure

    return asked, by_turns(side("a", a), side("b", b), rounds)


def _round(us: float, conv_us: float, **more: Any) -> str:
    latency = {"runs": 4, "min_us": us / 2, "median_us": us, "p90_us": 2 * us}
    return _profile([("Conv", "c", conv_us), ("Relu", "r", 1.0)], latency=latency, **more)


def test_rounds_by_hand():
    a = [_round(10.0, 8.0), _round(30.0, 6.0, notes=["cold", "hot"]), _round(14.0, 40.0)]
    b = [_round(5.0, 4.0), _round(12.0, 2.0), _round(28.0, 1.0)]
    asked, found = _by_turns(a, b, 3)
    assert asked == list("abbaab")
    assert (found.a.runs, found.a.min_us, found.a.median_us, found.a.p90_us) == (12, 5.0, 14.0, 28.0)
    assert [(op.median_us, op.min_us) for op in found.a.ops] == [(8.0, 6.0), (1.0, 1.0)]
    assert found.a.notes == ("hot", "cold") and found.a.runs_until_steady is None
    assert found.pairs[0].ratio == 2.0 / 8.0 and found.round_ratios == [0.5, 0.4, 2.0]
    value = found.to_json()
    assert value["rounds"] == {
        "count": 3, "a_median_us": [10.0, 30.0, 14.0], "b_median_us": [5.0, 12.0, 28.0],
        "median_ratio": [0.5, 0.4, 2.0],
    }  # fmt: skip
    assert value["ratios"]["median_ratio"] == 12.0 / 14.0
    assert "3 rounds, A and B by turns, every other one B first" in found.summary()
    assert "B/A of the medians by round: 0.50 0.40 2.00" in found.summary()
    assert "rounds" not in compare(found.a, found.b).to_json()


def test_the_steady_state_of_rounds():
    def warm(until: int | None, us: float) -> dict[str, Any]:
        steady = {"steady_median_us": us, "steady_p90_us": 2 * us} if until is not None else {}
        return {"warm_up": {"first_run_us": 10 * us, "runs_until_steady": until, **steady}}

    steady = [_round(10.0, 1.0, **warm(2, 3.0)), _round(10.0, 1.0, **warm(7, 5.0))]
    drifting = [_round(10.0, 1.0, **warm(2, 3.0)), _round(10.0, 1.0, **warm(None, 5.0))]
    _, found = _by_turns(steady, drifting, 2)
    a, b = found.a, found.b
    assert (a.first_run_us, a.runs_until_steady, a.steady_median_us, a.steady_p90_us) == (30.0, 7, 4.0, 8.0)
    assert (b.first_run_us, b.runs_until_steady, b.steady_median_us, b.steady_p90_us) == (30.0, None, None, None)


def test_rounds_of_different_operators_are_refused():
    changed = _profile([("Conv", "c", 1.0), ("Add", "r", 1.0)])
    with pytest.raises(InputError, match="its operators are not the same in every round") as caught:
        _by_turns([_round(1.0, 1.0)] * 2, [_round(1.0, 1.0), changed], 2)
    assert caught.value.where == "b"


def test_bundles_in_rounds(cli, work, tmp_path):
    ran = cli("profile", "compare", work.bundle, work.bundle, "--runs", 3, "--rounds", 4, "--json")
    assert ran.code == 0 and (ran.json["a"]["runs"], ran.json["b"]["runs"]) == (12, 12)
    assert ran.json["rounds"]["count"] == 4 and len(ran.json["rounds"]["median_ratio"]) == 4
    assert min(ran.json["rounds"]["a_median_us"]) >= ran.json["a"]["min_us"] > 0
    assert "2 rounds, A and B by turns" in cli(
        "profile", "compare", work.bundle, work.bundle, "--runs", 2, "--rounds", 2
    ).out  # fmt: skip
    saved = tmp_path / "p.json"
    saved.write_text(_round(1.0, 1.0))
    ran = cli("profile", "compare", work.bundle, saved, "--rounds", 2)
    assert ran.code == 2 and f"{saved} is a saved profile" in ran.err
    assert cli("profile", "compare", work.bundle, work.bundle, "--rounds", 0).code == 2


def test_profile_itself_stays(cli, work, tmp_path):
    trace = tmp_path / "t.json"
    ran = cli("profile", work.bundle, "--runs", 2, "--perfetto", trace)
    assert ran.code == 0 and "Timings (microseconds): count=2" in ran.out and trace.exists()
    ran = cli("profile", "compare", "--help")
    assert ran.code == 0 and "Usage: gossamer profile compare [OPTIONS] A B" in ran.out and "Example" in ran.out


def test_static_profiler_json():
    text = json.dumps(
        {
            "model": "m.goss", "isa": "neon", "threads": 1, "runs": 5, "inference": {"median_us": 4, "min_us": 3.5,
            "p90_us": 5}, "operators": [{"index": 0, "name": "c", "kind": "Conv", "source": "s", "kernel": "k",
            "median_us": 3, "min_us": 3, "p90_us": 3}],
        }
    )  # fmt: skip
    side = parse(text, "phone.json")
    assert (side.runs, side.median_us, side.ops[0].median_us, side.first_run_us) == (5, 4.0, 3.0, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "a profile is a JSON object, not list"),
        ("{}", "not a profile: 'latency' is missing"),
        (_profile([("Conv", "c", -1.0)]), "median_us is -1.0, not a time in microseconds"),
        (_profile([("Conv", "c", float("nan"))]), "median_us is nan, not a time in microseconds"),
        (_profile([], ops=[3]), "an operator is a JSON object, not int"),
        (_profile([], ops={}), "the profile's operators are not a list"),
        (_profile([], latency=[]), "the profile's 'latency' is not an object"),
        (_profile([], threads="many"), "not a profile: invalid literal"),
    ],
)
def test_refused(text, message):
    with pytest.raises(InputError, match=r"x\.json") as caught:
        parse(text, "x.json")
    assert message in caught.value.message


def test_refused_on_the_command_line(cli, work, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    ran = cli("profile", "compare", bad, work.bundle, "--json")
    assert ran.code == 10 and json.loads(ran.err)["error"]["where"] == str(bad)
    ran = cli("profile", "compare", work.bundle, tmp_path / "none.goss", "--runs", 1)
    assert ran.code == 10 and "no such file" in ran.err
    ran = cli("profile", "compare", "device:nobody", work.bundle)
    assert ran.code == 10 and "no device is called 'nobody'" in ran.err
    assert cli("profile", "compare", work.bundle).code == 2
    broken = tmp_path / "broken.goss"
    broken.write_bytes(b"no bundle")
    assert cli("profile", "compare", broken, broken).code == 8
