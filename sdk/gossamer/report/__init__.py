"""One self-contained HTML page about a bundle: pictures with decisions, layers, sizes, accuracy, latency.

::

    from gossamer.report import bundle_report
    Path("report.html").write_text(bundle_report(Path("model.goss").read_bytes(), against="model.onnx"))
"""

from __future__ import annotations

from gossamer.report._collect import AccuracyRow, Photo, ReportData, bundle_report, collect, decide
from gossamer.report._render import render

__all__ = ["AccuracyRow", "Photo", "ReportData", "bundle_report", "collect", "decide", "render"]
