"""The main job on real input, as ``make demo``: what ships, and a float model's way to a signed sparse int8 bundle.

Runs the best of the shipped bundles beside the dense one on photographs that come with scikit-image. Then takes the
float detector that ships: prunes, quantises, packs, signs, verifies, runs the bundle, prints the decision per photo,
sizes, accuracy change, the per-layer table and dense against sparse latency. Writes an HTML report.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gossamer._errors import GossamerError, ModelError
from gossamer._tables import bytes_text, columns

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = {
    "astronaut.png": "a portrait of Eileen Collins",
    "coffee.png": "a cup of coffee",
    "chelsea.png": "a cat",
    "rocket.jpg": "a rocket launch",
    "camera.png": "a cameraman in the field",
    "motorcycle_left.png": "a motorcycle in a garage",
    "horse.png": "the silhouette of a horse",
    "hubble_deep_field.jpg": "galaxies",
}
"""Photographs inside the scikit-image package, none downloaded, and what they show."""
CALIBRATION = [*PHOTOS, "brick.png", "coins.png", "grass.png", "gravel.png", "motorcycle_right.png", "ihc.png"]
CROPS = 8
"""Seeded crops per calibration photo, besides the whole of it."""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 0 on success, the error's own exit code otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build" / "demo", help="folder for the results")
    parser.add_argument("--model", type=Path, help="another person detector [default: the shipped one]")
    parser.add_argument("--recipe", default="person-demo", help="recipe [default: person-demo]")
    parser.add_argument("--runs", type=int, default=200, help="timed inferences [default: 200]")
    options = parser.parse_args(arguments)
    try:
        run(options.output, options.model, options.recipe, options.runs)
    except GossamerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


def run(folder: Path, model: Path | None, recipe: str, runs: int) -> None:
    """All steps in order; writes ``person.goss``, ``person-dense.goss`` and ``report.html`` into ``folder``."""
    from gossamer import _atomic, person
    from gossamer._verify_against import verify_against
    from gossamer.bundle.verify import verify
    from gossamer.cli._progress import Bar
    from gossamer.report import collect, render
    from gossamer_runtime import Session

    started = time.perf_counter()
    source = model or person.model_path()
    if not source.is_file():
        raise ModelError("no such model file", where=str(source), hint="check the path")
    folder.mkdir(parents=True, exist_ok=True)
    photos = open_photos(list(PHOTOS))

    if model is None:
        from tools import demo_shipped

        title("1. What ships: person detectors of one network, dense and sparse")
        demo_shipped.show(photos, PHOTOS, runs)

    title(f"2. Optimise {source.name} ({bytes_text(source.stat().st_size)}) with recipe {recipe}")
    bundle, dense = folder / "person.goss", folder / "person-dense.goss"
    crops = list(calibration_pictures())
    result = build(source, recipe, crops, bundle)
    dense_result = build(source, dense_recipe(recipe), crops, dense)
    print(result.table())
    print()
    print(result.summary())

    title("3. Verify: signature, structure, outputs against the original")
    with Bar(["compare"]) as bar:
        agreement = verify_against(
            bundle,
            source,
            as_inputs(result.manifest, crops),
            samples=len(crops),
            progress=lambda done, total: bar("compare", done, total),
        )
    print(f"{verify(bundle.read_bytes(), where=str(bundle))}; structure accepted by the core")
    print(f"compared with {agreement.engine} on {agreement.samples} photographs and crops of them")
    print(agreement.table())

    title("4. Decide")
    accuracy, note = measure_accuracy(bundle, source)
    data = collect(
        bundle.read_bytes(),
        photos=photos,
        against=source,
        runs=runs,
        where=str(bundle),
        dense=dense.read_bytes(),
        agreement=agreement,
        accuracy=accuracy,
        notes=[note],
    )
    rows = [
        [
            photo.name,
            PHOTOS[photo.name],
            *verdict(photo.scores),
            f"{photo.reference[0].label} {100 * photo.reference[0].value:.0f}%",
            f"{photo.latency_us:.0f}",
        ]
        for photo in data.photos
    ]
    print(columns(["photo", "shows", "bundle says", "sure %", "original says", "us"], rows, left={0, 1, 2, 4}))
    same = sum(p.scores[0].label == p.reference[0].label for p in data.photos)
    print(f"same decision as the original on {same} of {len(data.photos)} photos")

    title("5. What it cost and what it gained")
    if accuracy:
        table = [
            [r.what, str(r.samples), f"{r.original:.1f}", f"{r.bundle:.1f}", f"{r.bundle - r.original:+.1f}"]
            for r in accuracy
        ]
        print(columns(["accuracy on", "photos", "original %", "bundle %", "change, points"], table, left={0}))
    print(note)
    sizes = [
        ["original, float32 ONNX", bytes_text(source.stat().st_size), ""],
        ["dense int8 bundle", bytes_text(dense_result.bundle_bytes), f"{data.dense_profile.latency.median_us:.1f}"],
        ["sparse int8 bundle", bytes_text(result.bundle_bytes), f"{data.profile.latency.median_us:.1f}"],
    ]
    with Session(bundle) as session:
        print(columns(["", "size", f"median us, {session.isa}, 1 thread"], sizes, left={0}))
    page = _atomic.write_text(folder / "report.html", render(data))
    print()
    print(f"bundle: {bundle}")
    print(f"report: {page}")
    print(f"done in {time.perf_counter() - started:.0f} s")


def build(source: Path, recipe: Any, crops: list[Any], output: Path) -> Any:
    """One bundle with a progress bar."""
    from gossamer import optimize, person
    from gossamer._optimize import STAGES
    from gossamer.cli._progress import Bar

    def calibration() -> Iterator[dict[str, Any]]:
        for crop in crops:
            yield {person.INPUT_NAME: person.preprocess(crop)}

    with Bar(STAGES) as bar:
        return optimize(
            source,
            recipe,
            calibration(),
            output,
            name=output.stem,
            labels=person.LABELS,
            preprocess="unit",
            progress=bar,
        )


def dense_recipe(recipe: str) -> dict[str, Any]:
    """The same recipe with nothing pruned, run by dense kernels: the detector has zeros of its own."""
    from gossamer.recipe import load_recipe

    value: dict[str, Any] = load_recipe(recipe).model_dump(mode="json", exclude_none=True, exclude_unset=True)
    value.pop("sparsify", None)
    value["target"] = {**value.get("target", {}), "kernels": "dense"}
    value["name"] = f"{recipe}, dense"
    return value


def open_photos(names: list[str]) -> list[tuple[str, Any]]:
    """Pictures from the installed scikit-image package."""
    import importlib.util

    from gossamer._errors import InputError
    from gossamer._images import open_image

    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise InputError("the demo's photographs come with scikit-image", hint="pip install 'gossamer[demo]'")
    folder = Path(spec.origin).parent / "data"
    return [(name, open_image(folder / name)) for name in names]


def calibration_pictures() -> Iterator[Any]:
    """The photographs whole and in seeded crops of 40 to 100% of their sides."""
    rng = np.random.default_rng(0)
    for _, image in open_photos(CALIBRATION):
        yield image
        for _ in range(CROPS):
            width, height = (max(8, int(side * rng.uniform(0.4, 1.0))) for side in image.size)
            left = int(rng.integers(0, image.width - width + 1))
            top = int(rng.integers(0, image.height - height + 1))
            yield image.crop((left, top, left + width, top + height))


def as_inputs(manifest: dict[str, Any], pictures: list[Any]) -> list[dict[str, Any]]:
    """Pictures as the bundle's manifest prepares them."""
    from gossamer._images import to_input
    from gossamer.bundle.manifest import from_dict

    port = from_dict(manifest).inputs[0]
    return [{port.name: to_input(picture, port)} for picture in pictures]


def verdict(scores: list[Any]) -> list[str]:
    """The first class and how sure the model is."""
    return [scores[0].label, f"{100 * scores[0].value:.0f}"]


def measure_accuracy(bundle: Path, source: Path) -> tuple[list[Any], str]:
    """Rows for the shared person128 test set where it is there; else a sentence that says what was measured instead."""
    from gossamer._reference import open_reference
    from gossamer.cli._progress import Bar
    from gossamer.person import dataset
    from gossamer.person.preprocess import as_inputs
    from gossamer.report import AccuracyRow
    from gossamer_runtime import Session

    folder = Path(os.environ.get("GOSSAMER_DATA", ROOT.parent / "shared" / "data")) / "person128"
    if not (folder / "images.zip").is_file():
        return [], (
            "Accuracy was not measured: there is no labelled test set here (GOSSAMER_DATA/person128). What stands "
            "above is agreement with the float model; the shipped model card has the float model's own numbers."
        )
    people = dataset.PersonDataset(folder)
    rows = people.select("test")
    truth = dataset.labels(rows)
    with Bar(["test photos"]) as bar:
        images = people.images(rows, size=96, progress=lambda done: bar("test photos", done, len(rows)))
    x = as_inputs(images)
    reference = open_reference(source)
    ours, theirs = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    with Session(bundle) as session, Bar(["test"]) as bar:
        for i in range(len(rows)):
            sample = np.ascontiguousarray(x[i : i + 1])
            ours[i] = int(np.asarray(session.run(sample)).reshape(-1).argmax())
            theirs[i] = int(reference.run({reference.inputs[0]: sample})[0].reshape(-1).argmax())
            bar("test", i + 1, len(rows))
    found = []
    for what, mask in (
        ("person128 test photos", truth >= 0),
        ("those with a person", truth == 1),
        ("those without", truth == 0),
    ):
        share = [100.0 * float((y[mask] == truth[mask]).mean()) for y in (theirs, ours)]
        found.append(AccuracyRow(what, share[0], share[1], int(mask.sum())))
    with_person, without = found[1:]
    found.append(
        AccuracyRow(
            "balanced: the mean of the last two",
            (with_person.original + without.original) / 2,
            (with_person.bundle + without.bundle) / 2,
            len(rows),
        )
    )
    always = 100.0 * float((truth == 0).mean())
    return found, f"Saying 'no person' to every test photo would be right for {always:.1f}% of them."


def title(text: str) -> None:
    """A heading between blank lines."""
    print(f"\n{text}\n{'-' * len(text)}")


if __name__ == "__main__":
    sys.exit(main())
