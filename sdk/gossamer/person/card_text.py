"""Renders the JSON card of the person detector as Markdown."""

from __future__ import annotations

import re
from typing import Any

from gossamer.person.evaluation_tables import percent

_SOURCES = {
    "voc2012animal": "PASCAL VOC 2012 photos with a cat, dog, horse, cow or sheep (Animal-Pose selection). Flickr "
    "photos: use must respect Flickr's terms; the repository they come from states no licence; research use.",
    "voc2012map": "PASCAL VOC 2012 photos taken indoors. As above.",
    "coco2017": "COCO 2017 photos from four small public extracts. Annotations CC BY 4.0; each photo has its own "
    "Creative Commons licence, several of them non-commercial.",
    "tudstreet": "Street photos that look like the TUD-Brussels and TUD multiview pedestrian sets, every one with a "
    "person. No licence stated; the TUD sets are for research use.",
}


_OLD = re.compile(r"\+1x4:")
"""Cards of models that were trained when options named a pattern and not yet a method."""
_OLD_OPTIONS = (
    "A candidate `+1x4:F` gives up its weakest 1x4 blocks little by little in the first half of the run, up to the",
    "fraction F of each layer (gradual magnitude pruning, arXiv 1710.01878); pruning it one-shot to F or less then",
    "changes nothing. It was written so when this model was trained; `fit` takes the like today as",
    "`+gradual-magnitude:1x4:F,begin=0.05,end=0.5`, and no `--prune-every`. `+without:SOURCE` never sees that source.",
    "TEACHERS comes from",
)
_OPTIONS = (
    "A candidate `+METHOD:PATTERN:F` gets sparse while it trains, up to the fraction F (`gossamer recipes show METHOD`",
    "says how); pruning it one-shot to F or less then changes nothing. `+without:SOURCE` never sees that source,",
    "`+from:NAME` starts from the weights NAME.pt in the folder that `--init` names, here WEIGHTS. TEACHERS comes from",
)
_FILES = (
    "`python tools/train_person.py teachers --models MODELS -o TEACHERS`. The files beside this card come from",
    "`python tools/train_person.py ship --data PERSON128 --run RUN... -o sdk/gossamer/person/models`, which",
    "chooses by balanced accuracy on val and reads test once.",
    "",
)


def render(card: dict[str, Any]) -> str:
    """Markdown of a card made by :func:`gossamer.person.card.ship_run`."""
    parts = [
        _head(card),
        _data(card),
        _training(card),
        _accuracy(card),
        _int8(card),
        _others(card),
        _limits(card),
    ]
    return "\n".join(p for p in parts if p).rstrip() + "\n"


def _auc(report: dict[str, Any]) -> str:
    return "none" if report["roc_auc"] is None else f"{report['roc_auc']:.3f}"


def _head(card: dict[str, Any]) -> str:
    return f"""# person_96: is there a person in the photo?

The model that ships with Gossamer to start from: a MobileNet (`{card["candidate"].split("+")[0]}`,
{card["parameters"]:,} parameters, float32 ONNX of {card["bytes"]:,} bytes, SHA-256 `{card["sha256"]}`).

- **Input** `image`: float32 [1, 3, 96, 96], RGB, the whole photo squashed to 96x96 (aspect ratio not kept) with
  Pillow's antialiased bilinear filter, divided by 255. `gossamer.person.preprocess` does exactly this, and the ONNX
  metadata say it, so that `gossamer optimize` puts it into the manifest.
- **Output** `logits`: float32 [1, 2], no person and person; `gossamer.person.person_probability` is their softmax.
  A photo is called "person" from a probability of {card["threshold"]:g}.
- **Rule of the labels**: person = a box around a person covers at least 0.5% of the photo (Visual Wake Words).
- **Use**: a starting point for pruning, quantising and measuring. It is not accurate enough to decide anything about
  people. It says nothing about who a person is and must not be used to find out.
"""


def _data(card: dict[str, Any]) -> str:
    rows = ["| source | train person / none | val | test | what, and terms |", "| --- | --- | --- | --- | --- |"]
    for source, splits in sorted(card["counts"].items()):
        cells = []
        for split in ("train", "val", "test"):
            cell = splits.get(split, {"person": 0, "no person": 0})
            cells.append(f"{cell['person']} / {cell['no person']}")
        rows.append(f"| {source} | {' | '.join(cells)} | {_SOURCES.get(source, '')} |")
    return "\n".join(
        [
            "## Data",
            "person128: 128x128 squashes of photos that others took and boxed; splits by a hash of source and id.",
            "",
            *rows,
            "",
            "The weights are published under Apache-2.0; no photo is. Whoever needs weights without any trace of",
            "non-commercial photos has to train again on other data.",
            "",
        ]
    )


_SHOWN = ("bank", "batch", "learning_rate", "warmup", "ema_decay", "prune_every", "seed")


def _plain(value: float | int) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _command(settings: dict[str, Any], by_clock: Any, initial: bool) -> str:
    flags = ["--candidates " + " ".join(settings["candidates"])]
    flags += [f"--{key.replace('_', '-')} {_plain(settings[key])}" for key in _SHOWN if key in settings]
    flags.append(f"--seconds {by_clock:g}" if by_clock else f"--epochs {settings['epochs']}")
    if initial:
        flags.append("--init WEIGHTS")
    return "python tools/train_person.py fit --data PERSON128 --teachers TEACHERS -o RUN \\\n    " + " ".join(flags)


def _stage(stage: dict[str, Any]) -> list[str]:
    machine = stage["machine"]
    return [
        "```",
        _command(stage["settings"], stage.get("by_clock"), bool(stage["settings"].get("initial"))),
        "```",
        f"{stage['steps']:,} steps of {stage['settings']['batch']} views in {stage['seconds']:.0f} s on "
        f"{machine['device']} (torch {machine['torch']}, Python {machine['python']}); teachers: "
        f"{', '.join(stage['teachers']) or 'none'}."
        + (
            " The learning rate followed the clock, so a rebuild makes a similar network, not the same one."
            if stage.get("by_clock")
            else ""
        ),
        "",
    ]


def _training(card: dict[str, Any]) -> str:
    training = card["training"]
    lines = [
        "## Training",
        "From random weights on the train split of person128 alone, with random crops, flips, colour, blur, noise,",
        "erasing, mixup and cutmix; averaged weights. The target is mostly the teachers' probability, the rest the",
        f"label ({100 * training['settings']['distill']:g}% teachers), and the last feature map also learns to predict",
        "the teachers' (arXiv 1412.6550, 2106.05237). The teachers are third-party detectors (Apache-2.0), trained by",
        "others on Visual Wake Words (MLPerf Tiny) and Wake Vision; here they only mark views of training photos. Some",
        "person128 photos, test included, may have been among *their* training photos (COCO), so a little of test may",
        "have reached this model through them.",
        "",
        "Sampling: both labels equally often; inside a label each source by the square root of its photos, and a",
        "source that has one label only (tudstreet) at a quarter of that.",
        "",
    ]
    origin = training.get("started_from")
    if origin is not None and "settings" in origin:
        lines += [f"First stage (its `{origin['weights']}` is what the second starts from):", *_stage(origin)]
        lines += ["Second stage:", *_stage(training)]
    else:
        lines += _stage(training)
    lines += [*(_OLD_OPTIONS if _OLD.search(" ".join(training["settings"]["candidates"])) else _OPTIONS), *_FILES]
    return "\n".join(lines)


def _table(report: dict[str, Any]) -> list[str]:
    rows = [
        "| photos | person / none | accuracy | TPR | TNR | balanced accuracy | ROC AUC |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, r in [("**all**", report["all"]), *sorted(report["sources"].items())]:
        rows.append(
            f"| {name} | {r['positives']} / {r['negatives']} | {percent(r['accuracy'])} | {percent(r['tpr'])} | "
            f"{percent(r['tnr'])} | {percent(r['balanced_accuracy'])} | {_auc(r)} |"
        )
    return rows


def _accuracy(card: dict[str, Any]) -> str:
    test = card["test"]
    always = test["all"]["negatives"] / test["all"]["n"]
    slices = ["| largest person covers | TPR |", "| --- | --- |"]
    slices += [f"| {100 * s['from']:g}% to {100 * s['to']:g}% | {percent(s['tpr'])} |" for s in test["area_slices"]]
    return "\n".join(
        [
            "## Accuracy, float32",
            "Measured with ONNX Runtime; in brackets counts and 95% intervals (Wilson). Always saying 'no person'",
            f"would be right for {100 * always:.1f}% of test, so read TPR and TNR.",
            "",
            "Test:",
            "",
            *_table(test),
            "",
            *slices,
            "",
            "Val (used to choose among candidates):",
            "",
            *_table(card["val"]),
            "",
        ]
    )


def _int8(card: dict[str, Any]) -> str:
    measured = card.get("bundles")
    if not measured:
        return ""
    rows = ["| recipe | zeros | bundle bytes | test balanced accuracy | TPR | TNR | ROC AUC |"]
    rows.append("| --- | --- | --- | --- | --- | --- | --- |")
    for m in measured:
        r = m["test"]["all"]
        rows.append(
            f"| {m['title']} | {100 * m['sparsity']:.1f}% | {m['bytes']:,} | {percent(r['balanced_accuracy'])} | "
            f"{percent(r['tpr'])} | {percent(r['tnr'])} | {_auc(r)} |"
        )
    return "\n".join(
        [
            "## Accuracy of bundles",
            "Packed by `gossamer.optimize`, run in the native core; calibration:",
            f"{measured[0]['calibration']} train photos. Zeros: share of all weights. No fine-tuning after pruning or",
            "quantising.",
            "",
            *rows,
            "",
        ]
    )


def _others(card: dict[str, Any]) -> str:
    rows = ["| candidate | parameters | steps | val balanced / AUC | test balanced / AUC | test TPR | test TNR |"]
    rows.append("| --- | --- | --- | --- | --- | --- | --- |")
    for o in card["others"]:
        v, t = o["val"]["all"], o["test"]["all"]
        rows.append(
            f"| {o['candidate']} | {o['parameters']:,} | {o['steps']:,} | "
            f"{100 * v['balanced_accuracy']['value']:.1f}% / {_auc(v)} | "
            f"{100 * t['balanced_accuracy']['value']:.1f}% / {_auc(t)} | {percent(t['tpr'])} | {percent(t['tnr'])} |"
        )
    return "\n".join(
        [
            "## What else was trained",
            "In the same run, on the same bank of views. Not chosen by their test numbers.",
            "",
            *rows,
            "",
        ]
    )


def _limits(card: dict[str, Any]) -> str:
    test = card["test"]["all"]
    missed, false = (100 * (1 - test[rate]["value"]) for rate in ("tpr", "tnr"))
    return f"""## Limits

- {test["positives"]} positives in test: the intervals above are wide. Val is smaller still, so the choice among
  candidates is partly luck.
- Test was read for every candidate above, and more than once while this model was made; the choice was made on val.
- Most photos without a person show an animal, and the street photos with persons come from a source without
  negatives. A network can learn "animal, so no person"; the per-source rows above are there to show it.
- The slices by size and the small sources hold few photos each; do not rank them.
- Labels: VOC boxes marked `difficult` are left out of the boxes, so a few "no person" photos show part of a person.
- Nothing was measured about skin tone, age, gender, clothing, lighting or camera; expect differences.
- At the threshold {card["threshold"]:g} it misses {missed:.1f}% of the photos with a person and calls
  {false:.1f}% of the others "person".
"""
