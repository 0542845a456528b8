"""The HTML report: self-contained, escaped, complete, the numbers on it those of the bundle."""

from __future__ import annotations

import html.parser
import re

from gossamer import _images
from gossamer.report import AccuracyRow, bundle_report, collect, render
from tests.shellkit import LABELS


class Page(html.parser.HTMLParser):
    """Collects tags, links and the text of cells."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.links, self.tags, self.cells, self._open = [], [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._open = tag in ("td", "th")
        if self._open:
            self.cells.append("")
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        if self.cells and self.stack is not None:
            self.cells[-1] += data


def photos(work):
    return [(p.name, _images.open_image(p)) for p in _images.image_files([work.photos])]


def test_page_is_self_contained(work):
    text = bundle_report(work.bundle.read_bytes(), photos=photos(work), against=work.model, runs=3)
    page = Page(text)
    assert "script" not in page.tags and "link" not in page.tags
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert not re.search(r"url\((?!#)", text)
    assert page.tags.count("figure") == 6 and page.tags.count("svg") == 3
    for name in ("stem", "mid", "last", "classifier"):
        assert any(name in cell for cell in page.cells)
    assert "first convolution" in text and "onnxruntime" in text
    assert "sha256:" in text and "1x4" in text


def test_decisions_are_those_of_the_session(work):
    from gossamer.bundle.manifest import from_dict
    from gossamer_runtime import Session

    data = collect(work.bundle.read_bytes(), photos=photos(work), runs=2)
    with Session(work.bundle) as session:
        port = from_dict(session.manifest).inputs[0]
        for shown, (_, image) in zip(data.photos, photos(work), strict=True):
            y = session.run(_images.to_input(image, port))
            assert shown.scores[0].label == LABELS[int(y.argmax())]
            assert shown.reference == []


def test_dense_accuracy_and_notes(work):
    raw = work.bundle.read_bytes()
    data = collect(
        raw,
        runs=2,
        dense=raw,
        accuracy=[AccuracyRow("a set", 91.25, 90.0, 800)],
        notes=["<b>bold</b> & plain"],
    )
    text = render(data)
    assert "-1.2" in text or "-1.3" in text
    assert "91.2" in text and "800" in text
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; plain" in text
    assert "x as fast as dense" in text


def test_names_are_escaped(home):
    import gossamer
    from tests.shellkit import PLAIN, small_network

    result = gossamer.optimize(small_network(), PLAIN, name="<script>alert(1)</script>")
    text = bundle_report(result.data, runs=1)
    assert "<script" not in text and "&lt;script&gt;" in text
