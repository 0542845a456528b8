"""Judging a detector on a data set: every metric with its count and interval, whole, by source and by slice."""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer._errors import InputError
from gossamer.person.calibration import BINS, RESAMPLES, calibration
from gossamer.person.dataset.photo import FINE_GRAINED, Photo
from gossamer.person.dataset.photo_set import PhotoSet, Skipped, require_both_labels
from gossamer.person.detector import Detector
from gossamer.person.fine_grained import fine_grained
from gossamer.person.metrics import sliced_report

METHODS = {
    "rates": "accuracy, TPR, TNR: Wilson's score interval, 95%",
    "balanced accuracy": "mean of TPR and TNR; MOVER from their Wilson intervals",
    "ROC AUC": "ties count half; score interval of Newcombe (2006), method 5",
    "ECE": f"expected calibration error, {BINS} bins of equal width over the probability of a person; percentile "
    f"bootstrap, {RESAMPLES} resamples",
    "F1": "Wake Vision's, from rates: 2a / (1 + a + b), a right in the slice, b wrong on the other class; MOVER",
}
"""How every number and interval comes about."""


@dataclass(frozen=True)
class EvaluationReport:
    """The result of :func:`evaluate_detector`.

    Attributes:
        model: what was judged, see :meth:`Detector.describe`.
        data: folder, layout, split, notes and counts of the photos.
        decision: when a photo is called "person", in words.
        all, sources, area_slices: see :func:`gossamer.person.metrics.sliced_report`.
        fine_grained: see :func:`gossamer.person.fine_grained.fine_grained`.
        calibration: see :func:`gossamer.person.calibration.calibration`.
        ties: photos whose outputs are equal.
        skipped: photos that could not be read, see :meth:`Skipped.to_json`.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    decision: str
    all: dict[str, Any]
    sources: dict[str, Any]
    area_slices: list[dict[str, Any]]
    fine_grained: dict[str, Any]
    calibration: dict[str, Any]
    ties: int
    skipped: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values, with ``methods``."""
        return {**dataclasses.asdict(self), "methods": METHODS}

    def text(self) -> str:
        """Tables for a terminal."""
        from gossamer.person.evaluation_tables import to_text

        return to_text(self)

    def markdown(self) -> str:
        """Tables as Markdown."""
        from gossamer.person.evaluation_tables import to_markdown

        return to_markdown(self)

    def html(self) -> str:
        """A self-contained page."""
        from gossamer.person.evaluation_tables import to_html

        return to_html(self)


def evaluate_detector(
    detector: Detector,
    photos: PhotoSet,
    split: str | None = None,
    *,
    threshold: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """Run a detector over a split, one photo at a time as a device would, and judge it.

    Memory grows by some 30 bytes a photo.

    Args:
        detector: from :func:`gossamer.person.detector.open_detector`.
        photos: from :func:`gossamer.person.dataset.open_photos`.
        split: by default the one to judge by, see :meth:`PhotoSet.default_split`.
        threshold: probability from which a photo is called "person"; None leaves it to the model: the largest output.
        progress: called with (photos done, photos).

    Raises:
        InputError: an unknown split, a malformed row, no readable photo, or one of the classes is empty.
        ModelError: an output is not a number.
    """
    name = photos.default_split() if split is None else photos.split_named(split)
    where = f"{photos.folder}, split {name}"
    _both_labels(photos, name, where)
    total, skipped, columns = photos.count(name), Skipped(), _Columns()
    for photo, image in photos.read(name, skipped):
        score = detector.score(image, photo.file)
        call = score.called if threshold is None else score.probability >= threshold
        columns.add(photo, score.probability, score.margin, call)
        if progress is not None:
            progress(len(columns.label) + skipped.count, total)
    if not columns.label and skipped.named:
        file, reason = skipped.named[0]
        raise InputError(f"none of {skipped.count} photos could be read", where=where, hint=f"{file}: {reason}")
    require_both_labels(columns.label, where)
    label, probability, margin, called = (
        np.array(c) for c in (columns.label, columns.probability, columns.margin, columns.called)
    )
    source = np.array(columns.sources)[np.array(columns.source)]
    sliced = sliced_report(
        label,
        probability,
        source,
        np.array(columns.area),
        0.5 if threshold is None else threshold,
        ranking=margin,
        called=called,
    )
    return EvaluationReport(
        model=detector.describe(),
        data={
            "folder": str(photos.folder),
            "layout": photos.layout,
            "split": name,
            "photos": int(label.size),
            "notes": list(photos.notes),
        },
        decision="its output is the largest" if threshold is None else f"its probability is at least {threshold:g}",
        **sliced,
        fine_grained=fine_grained(label, called, columns.membership()),
        calibration=calibration(label, probability),
        ties=int((margin == 0).sum()),
        skipped=skipped.to_json(),
    )


def _both_labels(photos: PhotoSet, split: str, where: str) -> None:
    """Fail before the long work: reads on until both labels were seen."""
    seen: set[int] = set()
    for photo in photos.records(split):
        seen.add(photo.label)
        if len(seen) == 2:
            return
    require_both_labels(seen, where)


class _Columns:
    """What is kept of every photo, in arrays of machine numbers."""

    def __init__(self) -> None:
        self.label = array.array("b")
        self.called = array.array("b")
        self.probability = array.array("d")
        self.margin = array.array("d")
        self.area = array.array("d")
        self.source = array.array("h")
        self.sources: list[str] = []
        self._slices = {name: array.array("b") for name in FINE_GRAINED}

    def add(self, photo: Photo, probability: float, margin: float, called: bool) -> None:
        if photo.source not in self.sources:
            self.sources.append(photo.source)
        self.label.append(photo.label)
        self.called.append(called)
        self.probability.append(probability)
        self.margin.append(margin)
        self.area.append(photo.largest_person_area)
        self.source.append(self.sources.index(photo.source))
        for name, codes in self._slices.items():
            value = getattr(photo, name)
            codes.append(FINE_GRAINED[name].index(value) + 1 if value else 0)

    def membership(self) -> dict[str, Any]:
        return {name: np.array(["", *FINE_GRAINED[name]])[np.array(codes)] for name, codes in self._slices.items()}
