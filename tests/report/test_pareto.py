"""The Pareto report: means, spreads, interpolation and intervals by hand; what it refuses; the page and the plot."""

from __future__ import annotations

import copy
import io
import json
import math
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from gossamer._errors import InputError
from gossamer.person.metrics import Z_95, sliced_report
from gossamer.person.run_record import packed
from gossamer.report import _pareto_compare as compare
from gossamer.report._pareto_points import Kind, Spread, front, points, read_all
from gossamer.report.pareto import collect, render

LABEL = np.array([1] * 10 + [0] * 20)


def record(
    network="v1-0.5", method="dense", pattern="1x4", sparsity=0.0, seed=0, *, missed=0, false=0, floats=(0, 0),
    size=1000, us=100.0, quantization="static", parent=None, session="s1",
):  # fmt: skip
    """A record whose bundle misses the first ``missed`` of 10 persons and calls the first ``false`` of 20 others so."""

    def said(wrong):
        called = LABEL.copy()
        called[: wrong[0]] = 0
        called[10 : 10 + wrong[1]] = 1
        return called

    def both(wrong):
        report = sliced_report(LABEL, said(wrong).astype(float), ["home"] * 30, np.where(LABEL, 0.2, 0.0))
        return {"val": report, "test": copy.deepcopy(report)}

    calls = {
        "photos": 30,
        "label": packed(LABEL),
        "float": packed(said(floats)),
        "int8": packed(said((missed, false))),
    }
    timed = {"median": us, "min": us * 0.9, "p90": us * 1.1, "runs": 360, "rounds": 12}
    return {
        "schema": "gossamer.person.run/1",
        "name": f"{network}-{method}-{sparsity}-{seed}-{quantization}",
        "network": network,
        "method": method,
        "pattern": "dense" if method in ("dense", "start") else pattern,
        "sparsity": sparsity,
        "zeros": sparsity,
        "seed": seed,
        "steps": 10,
        "parent": parent,
        "quantization": quantization,
        "settings": {},
        "trained_on": {},
        "weights_sha256": "a" * 64,
        "qdq_sha256": "b" * 64 if quantization == "qat" else None,
        "float": both(floats),
        "int8": both((missed, false)),
        "calls": {"val": calls, "test": dict(calls)},
        "bundle": {
            "bytes": size,
            "dense_bytes": 2 * size,
            "zeros": sparsity,
            "stored_sparse": 3,
            "sha256": "c" * 64,
            "dense_sha256": "d" * 64,
            "latency_us": timed,
            "dense_latency_us": {**timed, "median": 2 * us},
        },
        "machine": {"cpu": "a chip", "isa": "avx2", "threads": 1, "core": "0.1.0", "session": session},
    }


@pytest.fixture
def write(tmp_path):
    """Writes records into a folder and returns it."""

    def of(records, name="records"):
        folder = tmp_path / name
        folder.mkdir()
        for i, value in enumerate(records):
            (folder / f"r{i:02}.json").write_text(json.dumps(value))
        return folder

    return of


def dense_and_sparse():
    """Dense v1-0.25 (1000 bytes, 50 us), v1-0.5 (3000, 100); sparse at 1500 and 60, and smaller than any dense."""
    out = []
    for seed in (0, 1):
        out.append(record("v1-0.25", seed=seed, missed=4, false=4, size=1000, us=50.0))  # .6, .8: .70
        out.append(record("v1-0.5", seed=seed, missed=2 + seed, false=2, size=3000, us=100.0))  # .8/.7, .9: .85, .80
        out.append(
            record("v1-0.5", "gradual", sparsity=0.75, seed=seed, missed=2, false=2 + 2 * seed, size=1500, us=60.0)
        )
        out.append(record("v1-0.5", "gradual", sparsity=0.95, seed=seed, missed=5, false=5, size=500, us=40.0))
    return out


def test_spread_by_hand():
    spread = Spread.of([0.2, 0.4, 0.9])
    assert spread.mean == pytest.approx(0.5)
    assert (spread.low, spread.high, spread.n) == (0.2, 0.9, 3)
    assert spread.std == pytest.approx(math.sqrt((0.09 + 0.01 + 0.16) / 2))
    assert Spread.of([0.3]).std is None


def test_points_group_by_kind_and_average_over_seeds(write):
    found = points(read_all([write(dense_and_sparse())]))
    assert [p.kind.label for p in found] == [
        "v1-0.25 dense",
        "v1-0.5 dense",
        "v1-0.5 gradual 1x4 75%",
        "v1-0.5 gradual 1x4 95%",
    ]
    dense, sparse = found[1], found[2]
    assert dense.accuracy.mean == pytest.approx((0.85 + 0.80) / 2)
    assert (dense.accuracy.low, dense.accuracy.high) == (pytest.approx(0.80), pytest.approx(0.85))
    assert dense.tpr.mean == pytest.approx(0.75) and dense.tnr.mean == pytest.approx(0.9)
    assert sparse.accuracy.mean == pytest.approx((0.85 + 0.80) / 2)
    assert (sparse.at("bytes"), sparse.at("latency_us"), sparse.dense_latency_us.mean) == (1500, 60, 120)
    assert list(sparse.runs) == [0, 1]


def test_dense_accuracy_is_read_off_the_line_and_never_beyond_it(write):
    data = collect([write(dense_and_sparse())])
    rows = {(row.point.kind.sparsity, row.axis): row for row in data.against_dense}
    by_size = rows[0.75, "bytes"]  # 1500 lies a quarter of the way from 1000 to 3000
    (left, left_share), (right, right_share) = by_size.between
    assert (left.kind.network, left_share) == ("v1-0.25", 0.75)
    assert (right.kind.network, right_share) == ("v1-0.5", 0.25)
    assert by_size.dense_accuracy == pytest.approx(0.75 * 0.70 + 0.25 * 0.825)
    # seed 0: .85 - (.75 * .70 + .25 * .85), seed 1: .80 - (.75 * .70 + .25 * .80)
    assert by_size.difference.seeds.high == pytest.approx(0.85 - 0.7375)
    assert by_size.difference.seeds.low == pytest.approx(0.80 - 0.725)
    assert by_size.difference.paired and by_size.difference.seeds.n == 2
    by_time = rows[0.75, "latency_us"]  # 60 lies a fifth of the way from 50 to 100
    assert by_time.dense_accuracy == pytest.approx(0.8 * 0.70 + 0.2 * 0.825)
    for axis in ("bytes", "latency_us"):
        beyond = rows[0.95, axis]
        assert beyond.between is None and beyond.difference is None and beyond.dense_accuracy is None
        assert beyond.reason == "no dense model measured there: below all 2 measured"


def test_at_a_measured_width_the_line_is_that_width(write):
    folder = write([
        record("v1-0.25", size=1000, missed=4),
        record("v1-0.5", size=3000, missed=2),
        record("v1-0.5", "random", sparsity=0.5, size=3000, missed=5),
    ])  # fmt: skip
    row = collect([folder]).against_dense[0]
    assert row.dense_accuracy == pytest.approx(0.9)
    assert row.difference.seeds.mean == pytest.approx(0.75 - 0.9)


def test_interval_of_a_difference_from_the_photos(write):
    """Persons 0..3 missed by the dense one alone, person 9 never; others equal."""
    folder = write([record("v1-0.5", missed=4, size=1000), record("v1-0.5", "gradual", sparsity=0.5, size=1000)])
    made = compare.against_dense(points(read_all([folder])))[0].difference
    gaps = np.array([1.0] * 4 + [0.0] * 6)
    half = Z_95 * math.sqrt(gaps.var(ddof=1) / 10 / 4)
    assert made.photos == (pytest.approx(0.2 - half), pytest.approx(0.2 + half))
    assert made.seeds.mean == pytest.approx(0.2)
    assert made.verdict == "better"


def test_verdict_needs_photos_and_every_seed(write):
    def verdict(name, dense_missed, sparse_missed):
        rows = [record(seed=s, missed=m, size=1000) for s, m in enumerate(dense_missed)]
        rows += [record(method="set", sparsity=0.5, seed=s, missed=m, size=1000) for s, m in enumerate(sparse_missed)]
        return collect([write(rows, name)]).against_dense[0].difference.verdict

    assert verdict("a", (0, 0), (5, 6)) == "worse"
    assert verdict("b", (5, 6), (0, 0)) == "better"
    assert verdict("c", (1, 1), (0, 0)) == "not told apart"  # one photo in ten
    assert verdict("d", (6, 0), (0, 1)) == "not told apart"  # the seeds do not agree


def test_unpaired_seeds_are_said_to_be(write):
    folder = write(
        [record(seed=0, missed=4, size=1000), record(method="set", sparsity=0.5, seed=7, missed=2, size=1000)]
    )
    made = collect([folder]).against_dense[0].difference
    assert not made.paired
    assert made.seeds.mean == pytest.approx(0.1)


def test_curves_keep_to_family_and_quantisation(write):
    folder = write([
        record("v1-0.25", size=1000),
        record("v1-0.5", size=2000),
        record("v1-0.25", size=1010, quantization="qat"),
        record("v2-0.35", size=1400),
        record("v1-0.5", "gradual", sparsity=0.5, size=1500, quantization="qat"),
        record("v2-0.5", "gradual", sparsity=0.5, size=1500),
    ])  # fmt: skip
    found = points(read_all([folder]))
    by = {(p.kind.network, p.kind.quantization): p for p in found if not p.kind.dense}
    curve = compare.dense_curve(found, by["v1-0.5", "qat"], "bytes")
    assert [(p.kind.network, p.kind.quantization) for p in curve] == [("v1-0.25", "qat")]
    assert [p.kind.network for p in compare.dense_curve(found, by["v2-0.5", "static"], "bytes")] == ["v2-0.35"]
    assert Kind("v1-0.25-grey", "dense", "dense", 0.0, "static").family == "v1-*-grey"


def test_loss_is_against_the_dense_float_parent(write):
    rows = [record("v1-0.5", seed=s, missed=3, floats=(1 + s, 0)) for s in (0, 1)]  # float: .95, .90
    rows += [record("v1-0.5", "gradual", sparsity=0.5, seed=s, missed=4) for s in (0, 1)]  # .80
    rows.append(record("v1-0.5", "set", sparsity=0.5, seed=1, missed=0, parent="v1-0.5-dense-0.0-0-static"))
    rows.append(record("v1-0.25", "set", sparsity=0.5, seed=0))
    data = collect([write(rows)])
    losses = {p.kind.label: s for p, s in zip(data.points, data.losses, strict=True)}
    gradual = losses["v1-0.5 gradual 1x4 50%"]
    assert (gradual.low, gradual.high) == (pytest.approx(0.80 - 0.95), pytest.approx(0.80 - 0.90))
    assert losses["v1-0.5 set 1x4 50%"].mean == pytest.approx(1.0 - 0.95)  # seed 1, but the parent named
    assert losses["v1-0.25 set 1x4 50%"] is None


def with_starts():
    """Starts at sizes of their own, the larger one more accurate than all dense ones."""
    out = dense_and_sparse()
    for seed in (0, 1):
        out.append(record("v1-0.25", "start", seed=seed, missed=6, size=900, us=45.0))
        out.append(record("v1-0.5", "start", seed=seed, missed=0, size=2000, us=70.0, floats=(2, 0)))
    return out


def test_starts_are_dense_references_and_no_way_of_pruning(write):
    plain, data = collect([write(dense_and_sparse(), "plain")]), collect([write(with_starts(), "starts")])
    assert [p.kind.label for p in data.points][:5] == [
        "v1-0.25 dense",
        "v1-0.5 dense",
        "v1-0.25 start",
        "v1-0.5 start",
        "v1-0.5 gradual 1x4 75%",
    ]
    assert [r.to_json() for r in data.against_dense] == [r.to_json() for r in plain.against_dense]
    assert data.ranking.keys() == plain.ranking.keys() == {("v1-0.5", 0.75), ("v1-0.5", 0.95)}
    for axis in compare.AXES:
        assert [p.kind for p in data.front(axis)] == [p.kind for p in plain.front(axis)]
    text = render(data)
    assert "before that training (v1-0.25 start, v1-0.5 start)" in text
    assert "v1-*, start (dense)" in text and "start dense" not in text and "0% zeros asked for" not in text
    assert "before that training" not in render(plain)


def test_starts_stand_for_dense_ones_where_there_are_no_others(write):
    rows = [
        record("v1-0.25", "start", missed=4, size=1000),
        record("v1-0.5", "start", missed=2, size=3000),
        record("v1-0.5", "gradual", sparsity=0.5, missed=1, size=2000),
    ]
    data = collect([write(rows)])
    row = data.against_dense[0]
    assert [p.kind.label for p, _ in row.between] == ["v1-0.25 start", "v1-0.5 start"]
    assert row.dense_accuracy == pytest.approx((0.8 + 0.9) / 2)
    assert "no dense model" not in " ".join(data.warnings)
    assert [p.kind.label for p in data.front("bytes")] == ["v1-0.25 start", "v1-0.5 gradual 1x4 50%"]


def test_loss_against_a_start_and_of_dense_networks_themselves(write):
    rows = [
        record("v1-0.5", "start", floats=(2, 0)),  # .9 as float
        record("v1-0.5", missed=3, floats=(1, 0), parent="v1-0.5-start-0.0-0-static"),  # .95, as int8 .85
        record("v1-0.5", "gradual", sparsity=0.5, missed=4, parent="v1-0.5-start-0.0-0-static"),  # .80
        record("v1-0.5", "set", sparsity=0.5, missed=4),
    ]
    data = collect([write(rows)])
    losses = {p.kind.label: s.mean for p, s in zip(data.points, data.losses, strict=True)}
    assert losses["v1-0.5 dense"] == pytest.approx(0.85 - 0.95)
    assert losses["v1-0.5 start"] == pytest.approx(1.0 - 0.9)
    assert losses["v1-0.5 gradual 1x4 50%"] == pytest.approx(0.80 - 0.9)  # the parent named
    assert losses["v1-0.5 set 1x4 50%"] == pytest.approx(0.80 - 0.95)  # none named: the longer trained of the seed


def test_lines_of_the_plot_tell_every_way_apart(write):
    """Twelve ways, one of them over three n:m patterns, one also with quantisation-aware training."""
    from gossamer.report._pareto_plot import figure

    rows = [record("v1-0.25"), record("v1-0.5", size=3000)]
    rows += [record("v1-0.5", f"way{i}", sparsity=s, size=2000) for i in range(11) for s in (0.5, 0.75)]
    rows += [record("v1-0.5", "way0", sparsity=s, size=2100, quantization="qat") for s in (0.5, 0.75)]
    rows += [
        record("v1-0.5", "sr-ste", pattern, sparsity=s, size=1500)
        for pattern, s in (("2:4", 0.5), ("1:4", 0.75), ("1:10", 0.9))
    ]
    axes = figure(collect([write(rows)]).points, "test").axes[0]
    drawn = {
        line.get_label(): line
        for line in axes.get_lines()
        if line.get_linestyle() != "None" and len(line.get_xdata()) > 1
    }
    names = {"dense v1-*", "sr-ste n:m", "way0 1x4 (qat)", *(f"way{i} 1x4" for i in range(11))}
    assert names <= drawn.keys()
    looks = {(line.get_color(), str(line._dash_pattern)) for name, line in drawn.items() if name in names}
    assert len(looks) == len(names)
    assert drawn["way0 1x4"].get_color() == drawn["way0 1x4 (qat)"].get_color()
    assert len(drawn["sr-ste n:m"].get_xdata()) == 3


def test_front(write):
    data = collect([write(dense_and_sparse())])
    assert [p.kind.label for p in data.front("bytes")] == [
        "v1-0.5 gradual 1x4 95%",  # .625 at 500
        "v1-0.25 dense",  # .70 at 1000
        "v1-0.5 gradual 1x4 75%",  # .825 at 1500; the dense one has as much at 3000
    ]
    assert front([], "bytes") == []


def test_ranking_by_sparsity(write):
    rows = [record("v1-0.5", seed=s) for s in (0, 1)]
    for method, missed in (("random", 6), ("gradual", 1), ("one-shot", 3)):
        rows += [record("v1-0.5", method, sparsity=0.9, seed=s, missed=missed + s) for s in (0, 1)]
    rows.append(record("v1-0.5", "gradual", sparsity=0.5))
    ranks = collect([write(rows)]).ranking
    assert list(ranks) == [("v1-0.5", 0.5), ("v1-0.5", 0.9)]
    assert [r.point.kind.method for r in ranks["v1-0.5", 0.9]] == ["gradual", "one-shot", "random"]
    assert [r.place for r in ranks["v1-0.5", 0.9]] == [1, 2, 3]
    behind = ranks["v1-0.5", 0.9][2].behind
    assert behind.seeds.mean == pytest.approx(-0.25) and behind.verdict == "worse"


# Refusals and warnings


def damaged(change):
    value = copy.deepcopy(record())
    change(value)
    return value


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda v: v.pop("network"), "'network'"),
        (lambda v: v.pop("int8"), "'int8'"),
        (lambda v: v.update(seed="three"), "'seed'"),
        (lambda v: v.update(sparsity=1.5), "'sparsity'"),
        (lambda v: v.update(surprise=1), "'surprise'"),
        (lambda v: v.update(schema="gossamer.person.run/9"), "'schema'"),
        (lambda v: v["bundle"]["latency_us"].update(median=0.0), "'bundle.latency_us.median'"),
        (lambda v: v["bundle"].update(bytes=-1), "'bundle.bytes'"),
        (lambda v: v["int8"]["test"]["all"].pop("n"), "'int8.test.all.n'"),
        (lambda v: v["int8"]["test"]["all"]["tpr"].update(value=None), "'int8.test.all.tpr.value'"),
        (
            lambda v: v["int8"]["test"]["all"]["balanced_accuracy"].update(value=float("nan")),
            "balanced_accuracy.value'",
        ),
        (lambda v: v["calls"]["test"].update(int8="00"), "30 bits"),
        (lambda v: v.update(method="dense", sparsity=0.5), "method 'dense' with sparsity 0.5"),
        (lambda v: v.update(method="start", sparsity=0.5), "method 'start' with sparsity 0.5"),
        (lambda v: v["bundle"].update(latency_us=None), "come together"),
    ],
)
def test_damaged_record_names_file_and_field(write, change, field):
    folder = write([record(seed=1), damaged(change)])
    with pytest.raises(InputError) as caught:
        collect([folder])
    assert field in caught.value.message
    assert caught.value.where == str(folder / "r01.json")


def test_files_that_are_no_records(tmp_path):
    for content, said in (
        ("", "not JSON"),
        ("[]", "'schema' is 'list'"),
        ("{", "not JSON"),
        ("{}", "'schema' is None"),
    ):
        path = tmp_path / "x.json"
        path.write_text(content)
        with pytest.raises(InputError, match=said):
            collect([path])
    with pytest.raises(InputError, match="cannot be read"):
        collect([tmp_path / "none.json"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no records in the folder"):
        collect([tmp_path / "empty"])


def test_two_machines_are_refused_and_two_sessions_warned_of(write):
    other = record(seed=1)
    other["machine"]["cpu"] = "another chip"
    with pytest.raises(InputError, match=r"'machine.cpu' is 'another chip', and 'a chip' in"):
        collect([write([record(), other])])
    data = collect([write([record(), record(seed=1, session="s2")], "sessions")])
    assert "2 sessions (s1, s2)" in data.warnings[0]


def test_record_without_latency_is_refused(write):
    bare = record()
    bare["machine"] = bare["bundle"]["latency_us"] = bare["bundle"]["dense_latency_us"] = None
    with pytest.raises(InputError, match="latency was not measured"):
        collect([write([bare])])


def test_the_same_seed_twice_and_other_photos_are_refused(write):
    with pytest.raises(InputError, match=r"seed 0 of 'v1-0.5 dense' is in .*r00.json already"):
        collect([write([record(), record()])])
    fewer = record(seed=1)
    fewer["int8"]["test"]["all"]["n"] = 29
    with pytest.raises(InputError, match=r"'int8.test.all' counts 29 photos, 10 with a person; 30 and 10 in"):
        collect([write([record(), fewer], "fewer")])


def test_warnings_say_what_is_thin(write):
    bare = record("v1-0.5", "set", sparsity=0.5)
    bare["calls"] = None
    data = collect([write([bare])])
    text = " ".join(data.warnings)
    assert "One seed only" in text and "no dense model" in text and "called on every photo" in text
    assert data.against_dense[0].reason == "no dense model measured there"
    assert "set 1x4" in render(data)


# The page, the plot, the command


class Page(HTMLParser):
    """Tags, links and the text of every table row."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.rows = set(), [], []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.rows[-1][-1] += data


def test_page_is_self_contained_and_holds_the_numbers(write):
    data = collect([write(dense_and_sparse())])
    text = render(data)
    page = Page(text)
    assert "script" not in page.tags and "link" not in page.tags and "img" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    assert "svg" in page.tags
    row = next(r for r in page.rows if r[:2] == ["v1-0.5", "gradual"])
    assert row[3:7] == ["75", "75.0", "2", "10"]
    assert row[8] == "82.5" and row[9] == "80.0..85.0" and row[14] == "1,500" and row[15] == "60.0"
    beside = next(r for r in page.rows if r[0] == "v1-0.5 gradual 1x4 75%")
    assert " ".join(beside[2].split()) == "75% v1-0.25 dense, 25% v1-0.5 dense"
    assert beside[5].startswith("+9.4 (+7.5..+11.")
    assert sum("no dense model measured there: below" in r[-1] for r in page.rows) == 2
    assert "30 test photos" in text and "10 with a person" in text and "a chip" in text
    assert "2 seeds each" in text


def test_names_are_escaped(write):
    text = render(collect([write([record(), record(method="<b>x</b>", sparsity=0.5)])]))
    assert "<b>x</b>" not in text and "&lt;b&gt;x&lt;/b&gt;" in text


def test_plot_is_a_picture_with_every_series(write):
    data = collect([write(dense_and_sparse())])
    raw = data.png()
    assert raw == data.png()
    image = Image.open(io.BytesIO(raw))
    assert image.format == "PNG" and image.size == (1755, 1547)  # 22 points apart: the best are shown again
    assert len(set(np.asarray(image.convert("RGB")).reshape(-1, 3)[:, 0])) > 30
    from gossamer.report._pareto_plot import svg

    text = svg(data.points, "test")
    for word in ("dense v1-*", "gradual 1x4", "75% zeros asked for", "v1-0.25", "microseconds", "kB"):
        assert word in text


def test_command(cli, write, tmp_path):
    folder = write(dense_and_sparse())
    page, png = tmp_path / "p.html", tmp_path / "p.png"
    ran = cli("report", "pareto", folder, "-o", page, "--png", png, "--json")
    assert ran.code == 0, ran.err
    value = ran.json
    assert value["photos"] == 30 and value["machine"]["cpu"] == "a chip"
    assert value["points"][0]["label"] == "v1-0.25 dense"
    assert value["points"][2]["accuracy"]["mean"] == pytest.approx(0.825)
    assert value["front"]["bytes"][-1] == "v1-0.5 gradual 1x4 75%"
    assert page.read_text().startswith("<!doctype html>") and png.read_bytes()[:4] == b"\x89PNG"
    ran = cli("report", "pareto", folder, "-o", page, "--split", "val")
    assert ran.code == 0 and "v1-0.5 gradual 1x4 75%" in ran.out and f"wrote {page}" in ran.out


def test_command_errors(cli, write, tmp_path):
    folder = write([damaged(lambda v: v.pop("network"))])
    page = tmp_path / "p.html"
    ran = cli("report", "pareto", folder, "-o", page)
    assert ran.code == 10 and "'network'" in ran.err and "r00.json" in ran.err
    assert not page.exists()
    assert cli("report", "pareto", folder, "-o", tmp_path / "none" / "p.html").code == 11
    assert cli("report", "pareto", "-o", page).code == 2


def test_bundles_are_reported_without_naming_the_command(cli, work, tmp_path):
    page = tmp_path / "r.html"
    for arguments in ((work.bundle, "-o", page), ("-o", page, work.bundle), ("bundle", work.bundle, "-o", page)):
        ran = cli("report", *arguments, "--runs", "1")
        assert ran.code == 0, ran.err
        assert page.read_text().startswith("<!doctype html>")
        page.unlink()
