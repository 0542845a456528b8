"""Gathering what a report shows: running the pictures, profiling, comparing with the original."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer import _images
from gossamer._result import LayerRow, layer_rows
from gossamer._verify_against import Agreement, verify_against
from gossamer.bundle.verify import signer

if TYPE_CHECKING:
    from PIL.Image import Image

    from gossamer.search.result import SearchResult
    from gossamer_runtime import Profile, Session

_THUMB = 280
_TIMED = 5
"""Runs per picture; the median is shown."""


@dataclass(frozen=True)
class Photo:
    """A picture and what the bundle says about it. ``reference``: the original's first class, empty when not run."""

    name: str
    scores: list[_images.Score]
    latency_us: float
    data_uri: str
    reference: list[_images.Score] = field(default_factory=list)


@dataclass(frozen=True)
class AccuracyRow:
    """One row of the accuracy table; values in percent, ``samples`` counted."""

    what: str
    original: float
    bundle: float
    samples: int


@dataclass(frozen=True)
class ReportData:
    """Everything on the page."""

    title: str
    manifest: dict[str, Any]
    signature: str
    bundle_bytes: int
    layers: list[LayerRow]
    profile: Profile
    photos: list[Photo] = field(default_factory=list)
    agreement: Agreement | None = None
    dense_profile: Profile | None = None
    dense_bytes: int = 0
    original_bytes: int = 0
    accuracy: list[AccuracyRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    search: SearchResult | None = None


def decide(session: Session, photos: Sequence[tuple[str, Image]], reference: Any = None) -> list[Photo]:
    """Run a one-input bundle on pictures.

    Args:
        session: an open session whose manifest says how pictures become inputs.
        photos: names and pictures.
        reference: a ``gossamer._reference.Reference`` to run beside it, or None.

    Raises:
        InputError: the manifest does not say how a picture becomes the input.
    """
    import time

    from gossamer.bundle.manifest import from_dict

    manifest = from_dict(session.manifest)
    port, out = manifest.inputs[0], manifest.outputs[0]
    found = []
    for name, image in photos:
        x = _images.to_input(image, port)
        times = []
        for _ in range(_TIMED):
            started = time.perf_counter()
            y = session.run({port.name: x})[out.name]
            times.append((time.perf_counter() - started) * 1e6)
        theirs = []
        if reference is not None:
            theirs = _images.scores(reference.run({reference.inputs[0]: x})[0], out)
        found.append(Photo(name, _images.scores(y, out), sorted(times)[_TIMED // 2], thumbnail(image), theirs))
    return found


def thumbnail(image: Image) -> str:
    """A picture as a small JPEG in a data URI."""
    small = image.convert("RGB")
    small.thumbnail((_THUMB, _THUMB))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def collect(
    data: bytes,
    *,
    photos: Sequence[tuple[str, Image]] = (),
    against: Any = None,
    runs: int = 50,
    verify: bool = True,
    where: str = "<bytes>",
    dense: bytes | None = None,
    agreement: Agreement | None = None,
    accuracy: Sequence[AccuracyRow] = (),
    notes: Sequence[str] = (),
    search: SearchResult | None = None,
) -> ReportData:
    """Run, profile and compare a bundle.

    Args:
        data: the bundle.
        photos: pictures to run.
        against: the original model, as for ``verify_against``.
        runs: timed inferences.
        verify: check the signature.
        where: the bundle's name for the page.
        dense: a bundle of the same model with all layers dense, timed beside it.
        agreement: a comparison to show; by default one on 8 random inputs when ``against`` is given.
        accuracy: measured rows to show.
        notes: sentences to show.
        search: the search that chose the bundle's sparsities: its trials as a table and a plot.

    Raises:
        BundleError, SignatureError, ModelError, InputError: as the parts do.
    """
    from gossamer._reference import open_reference
    from gossamer_runtime import Session

    reference = open_reference(against) if against is not None else None
    dense_profile = None
    with Session(data, verify=verify) as session:
        manifest = dict(session.manifest)
        shown = decide(session, photos, reference)
        profile = session.profile(runs=runs)
    if dense is not None:
        with Session(dense, verify=verify) as session:
            dense_profile = session.profile(runs=runs)
    if agreement is None and against is not None:
        agreement = verify_against(data, against, samples=8, verify=verify)
    sources = manifest.get("provenance", {}).get("sources", [])
    return ReportData(
        title=str(manifest.get("name") or Path(where).stem),
        manifest=manifest,
        signature=str(signer(data)),
        bundle_bytes=len(data),
        layers=layer_rows(manifest),
        profile=profile,
        photos=shown,
        agreement=agreement,
        dense_profile=dense_profile,
        dense_bytes=len(dense) if dense is not None else 0,
        original_bytes=next((int(s.get("bytes", 0)) for s in sources if s.get("role") == "model"), 0),
        accuracy=list(accuracy),
        notes=list(notes),
        search=search,
    )


def bundle_report(data: bytes, **options: Any) -> str:
    """``collect`` and render: the HTML text of the page. Options as for ``collect``."""
    from gossamer.report._render import render

    return render(collect(data, **options))
