"""An evaluation as tables: for a terminal, as Markdown, as one HTML page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gossamer._tables import bytes_text, columns

if TYPE_CHECKING:
    from gossamer.person.evaluation import EvaluationReport

SHOWN = 20
"""Skipped files that the tables name; JSON names up to 1000."""


@dataclass(frozen=True)
class Table:
    """A titled table with a line of explanation."""

    title: str
    note: str
    head: Sequence[str]
    rows: list[list[str]]


def tables(report: EvaluationReport) -> list[Table]:
    """The report's tables, empty ones left out."""
    found = [_overall(report), _fine_grained(report), _areas(report), _calibration(report), _skipped(report)]
    return [t for t in found if t.rows]


def lines(report: EvaluationReport) -> list[str]:
    """What was judged on what, in lines."""
    m, d = report.model, report.data
    out = [
        f"model: {m['file']} ({bytes_text(m['bytes'])}, SHA-256 {m['sha256'][:12]}), on {m['engine']}",
        f"input: {m['input']['dtype']}{m['input']['shape']}, {m['input']['preprocessing']}",
        *(f"assumed: {text}" for text in m["assumed"]),
        f"data: {d['folder']} ({d['layout']}), split {d['split']}, {d['photos']} photos",
        *(f"note: {text}" for text in d["notes"]),
        f'a photo is called "person" when {report.decision}',
    ]
    if report.ties:
        out.append(f"{report.ties} photos have equal outputs")
    if report.skipped["count"]:
        out.append(f"{report.skipped['count']} photos skipped: they could not be read")
    return out


def to_text(report: EvaluationReport) -> str:
    """For a terminal."""
    parts = ["\n".join(lines(report))]
    parts += ["\n".join(filter(None, [t.title, t.note, columns(t.head, t.rows, left={0, 1})])) for t in tables(report)]
    return "\n\n".join(parts)


def to_markdown(report: EvaluationReport) -> str:
    """As Markdown, with the methods."""
    from gossamer.person.evaluation import METHODS

    parts = [f"# Person detection: {_cell(report.model['file'])}", "\n".join(f"- {_cell(x)}" for x in lines(report))]
    parts += [table_markdown(t) for t in tables(report)]
    parts.append("## Methods\n\n" + "\n".join(f"- {name}: {text}" for name, text in METHODS.items()))
    return "\n\n".join(parts) + "\n"


def table_markdown(table: Table) -> str:
    """One table as Markdown under a heading of the second level."""
    rows = [f"| {' | '.join(map(_cell, r))} |" for r in table.rows]
    head = [f"| {' | '.join(table.head)} |", f"|{' --- |' * len(table.head)}"]
    return "\n".join([f"## {table.title}", "", *([table.note, ""] if table.note else []), *head, *rows])


def to_html(report: EvaluationReport) -> str:
    """One page: styles inside, no script, nothing fetched."""
    from gossamer.person.evaluation import METHODS

    e = html.escape
    parts = [f"<h1>Person detection: {e(report.model['file'])}</h1>"]
    parts.append("<ul>" + "".join(f"<li>{e(x)}</li>" for x in lines(report)) + "</ul>")
    for t in tables(report):
        head = "".join(f"<th>{e(h)}</th>" for h in t.head)
        body = "".join("<tr>" + "".join(f"<td>{e(c)}</td>" for c in r) + "</tr>" for r in t.rows)
        parts.append(f"<h2>{e(t.title)}</h2><p>{e(t.note)}</p><table><tr>{head}</tr>{body}</table>")
    parts.append("<h2>Methods</h2><ul>" + "".join(f"<li>{e(n)}: {e(x)}</li>" for n, x in METHODS.items()) + "</ul>")
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{padding:.25rem .7rem;border-bottom:1px solid #ccc;text-align:left}"
    )
    title = e(f"Person detection: {report.model['file']}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{style}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _overall(report: EvaluationReport) -> Table:
    rows = []
    for name, r in [("all", report.all), *report.sources.items()]:
        if name != "all" and len(report.sources) == 1:
            continue
        rows.append(
            [
                name,
                f"{r['positives']} / {r['negatives']}",
                percent(r["accuracy"]),
                percent(r["tpr"]),
                percent(r["tnr"]),
                percent(r["balanced_accuracy"]),
                _number(r["roc_auc"], r["roc_auc_interval"]),
            ]
        )
    note = "In brackets counts and 95% intervals. TPR: photos with a person that are found; TNR: without, left alone."
    head = ["photos", "person / none", "accuracy", "TPR", "TNR", "balanced accuracy", "ROC AUC"]
    return Table("Accuracy", note, head, rows)


def _fine_grained(report: EvaluationReport) -> Table:
    rows = []
    for name, found in report.fine_grained.items():
        for slice_name, r in found["slices"].items():
            rows.append(
                [
                    f"{name}: {slice_name}",
                    f"{r['positives']} / {r['negatives']}",
                    percent(r["tpr"]) if r["tpr"] else "",
                    percent(r["tnr"]) if r["tnr"] else "",
                    percent(r["f1"]),
                ]
            )
        if found["of"] > found["n"]:
            rows.append([f"{name}: not stated", str(found["of"] - found["n"]), "", "", ""])
    note = "Wake Vision's five benchmark sets, as far as the data carry the fields."
    return Table("Fine-grained sets", note, ["slice", "person / none", "TPR", "TNR", "F1"], rows)


def _areas(report: EvaluationReport) -> Table:
    rows = [
        [f"{100 * s['from']:g}% to {100 * s['to']:g}%", percent(s["tpr"])] for s in report.area_slices if s["tpr"]["of"]
    ]
    return Table("By size of the largest person", "", ["covers of the photo", "TPR"], rows)


def _calibration(report: EvaluationReport) -> Table:
    c = report.calibration
    rows = [
        [
            f"{b['from']:.3f} to {b['to']:.3f}",
            str(b["n"]),
            f"{b['mean_probability']:.3f}",
            f"{b['positives'] / b['n']:.3f}",
        ]
        for b in c["bins"]
    ]
    note = f"Expected calibration error {_number(c['ece'], c)}."
    return Table("Calibration", note, ["probability", "photos", "mean probability", "share with a person"], rows)


def _skipped(report: EvaluationReport) -> Table:
    files = report.skipped["files"]
    note = "; ".join(f"{n} {reason}" for reason, n in report.skipped["reasons"].items())
    more = report.skipped["count"] - min(len(files), SHOWN)
    rows = [[f["file"], f["reason"]] for f in files[:SHOWN]] + ([[f"and {more} more", ""]] if more else [])
    return Table("Skipped", note, ["file", "reason"], rows)


def percent(p: dict[str, Any]) -> str:
    """``71.3% (119/167; 64.0 to 77.6)``; "none" without photos."""
    if p["value"] is None:
        return "none"
    counts = f"{p['count']}/{p['of']}; " if "count" in p else ""
    return f"{100 * p['value']:.1f}% ({counts}{100 * p['low']:.1f} to {100 * p['high']:.1f})"


def _number(value: float | None, interval: dict[str, Any]) -> str:
    return "none" if value is None else f"{value:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
