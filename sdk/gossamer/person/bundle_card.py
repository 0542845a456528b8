"""The card of a shipped bundle: what it is, what it learned from, how well it does and where, how to make it again."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gossamer.person.evaluation import EvaluationReport
    from gossamer.person.run_record import Record
    from gossamer.person.shipping import Choice

_REBUILD = """\
b=build/person; d=../shared/data; t="python tools/train_person.py"
$t teachers --models $d/models -o $b/teachers.npz
$t fit --data $d/person128 --teachers $b/teachers.npz -o $b/runs/start --candidates {starts} {common}
$t starts --run $b/runs/start --rearrange 0.9 -o $b/parents
$t fit --data $d/person128 --teachers $b/teachers.npz --init $b/parents -o $b/runs/all --candidates {candidates} {own}
$t collect --data $d/person128 --start $b/runs/start --run $b/runs/all --one-shot-of {network} -o $b/measure/networks
$t quantize --data $d/person128 --networks $b/measure/networks --only '*' -o $b/measure/int8
python -m tools.person_records $b/measure --data $d/person128 -o $b/records
$t bundles --data $d/person128 --records $b/records --runs $b/measure --key KEY -o sdk/gossamer/person/models
"""


def bundle_card(choice: Choice, bundle: Path, data: str | Path) -> dict[str, Any]:
    """The card as plain values.

    Args:
        choice: what ships.
        bundle: the written file; it is evaluated on val and test, photo by photo.
        data: folder of person128.
    """
    import hashlib

    from gossamer.person.dataset import open_photos
    from gossamer.person.detector import open_detector
    from gossamer.person.evaluation import evaluate_detector
    from gossamer.person.shipping import describe
    from gossamer_runtime import Session

    content, record = bundle.read_bytes(), choice.record
    detector = open_detector(bundle, session=lambda p: Session(p, verify=False))
    photos = open_photos(Path(data))
    reports = {s: evaluate_detector(detector, photos, s, threshold=0.5) for s in ("val", "test")}
    latency = record.bundle.latency_us
    return {
        "name": choice.name,
        "description": describe(record),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "network": record.network,
        "method": record.method,
        "pattern": record.pattern,
        "zeros": record.zeros,
        "quantization": record.quantization,
        "seed": record.seed,
        "steps": record.steps,
        "settings": record.settings,
        "trained_on": record.trained_on,
        "latency_us": None if latency is None else latency.model_dump(mode="json"),
        "machine": None if record.machine is None else record.machine.model_dump(mode="json"),
        "seeds": [_seed(r) for r in choice.seeds],
        "not_chosen": choice.others,
        "val": _kept(reports["val"]),
        "test": _kept(reports["test"]),
    }


def markdown(card: dict[str, Any]) -> str:
    """The card for people."""
    parts = [_head(card), _data(), _training(card), _seeds(card)]
    parts += [_accuracy(card, split) for split in ("test", "val")]
    return "\n".join([*parts, _limits(card), _again(card)]).rstrip() + "\n"


def _seed(record: Record) -> dict[str, Any]:
    return {
        "seed": record.seed,
        "float": {s: _balanced(record, "float", s) for s in ("val", "test")},
        "int8": {s: _balanced(record, "int8", s) for s in ("val", "test")},
    }


def _balanced(record: Record, kind: str, split: str) -> float | None:
    accuracy = record.float_ if kind == "float" else record.int8
    return (accuracy.val if split == "val" else accuracy.test).all.balanced_accuracy.value


def _kept(report: EvaluationReport) -> dict[str, Any]:
    """As plain values, without this machine's paths."""
    kept = dataclasses.asdict(report)
    kept["data"]["folder"] = Path(kept["data"]["folder"]).name
    kept["model"]["file"] = Path(kept["model"]["file"]).name
    return kept


def _head(card: dict[str, Any]) -> str:
    speed = ""
    if card["latency_us"] is not None and card["machine"] is not None:
        t = card["latency_us"]
        speed = (
            f"- **Speed**: {t['median']:.0f} us (least {t['min']:.0f}, 90th percentile {t['p90']:.0f}) on "
            f"{card['machine'].get('cpu', 'the machine that measured')}, one thread.\n"
        )
    return f"""# {card["name"]}: is there a person in the photo?

{card["description"]}; {card["bytes"]:,} bytes, SHA-256 `{card["sha256"]}`.

- **Input** `image`: float32 [1, 3, 96, 96], RGB, the whole photo squashed to 96x96 with Pillow's antialiased bilinear
  filter, divided by 255. **Output** `logits`: no person and person; a photo is called "person" where the second is not
  smaller.
{speed}- **Rule of the labels**: person = a box around a person covers at least 0.5% of the photo (Visual Wake Words).
- **Use**: to see what sparsity costs and gains, and to start from. It is not accurate enough to decide anything about
  people; it says nothing about who a person is and must not be used to find out.
"""


def _data() -> str:
    return """## Data
person128, split by a hash of source and id; sources, counts and terms are in [MODEL_CARD.md](MODEL_CARD.md). Trained on
train without `tudstreet` (its photos all show a person). The operating point (a scale and an offset of the margin), the
way of training and the seed were chosen on val. Test was read for every network, and more than once while the study was
made: that operating points are fitted at all was decided after seeing it.
"""


def _training(card: dict[str, Any]) -> str:
    settings = card["settings"]
    lines = [
        "## Training",
        f"`{settings.get('candidate', card['network'])}`, {card['steps']:,} steps of {settings.get('batch', '?')} "
        f"views on {card['trained_on'].get('device', 'an unknown machine')}; marked by third-party teachers.",
    ]
    if card["quantization"] == "qat":
        q = settings.get("quantize", {})
        lines.append(
            f"Then {q.get('steps')} steps of {q.get('batch')} views under the device's quantisation, the float network "
            "as teacher; decisions in training and on the device are the same for every test photo."
        )
    return "\n".join(lines) + "\n"


def _seeds(card: dict[str, Any]) -> str:
    rows = ["## Seeds", "Balanced accuracy of all seeds trained alike; the one that ships is best on val.", ""]
    rows += ["| seed | float, val | int8, val | float, test | int8, test |", "| --- | --- | --- | --- | --- |"]
    for s in card["seeds"]:
        mark = " (ships)" if s["seed"] == card["seed"] else ""
        values = (s["float"]["val"], s["int8"]["val"], s["float"]["test"], s["int8"]["test"])
        rows.append(f"| {s['seed']}{mark} | " + " | ".join(f"{v:.4f}" for v in values) + " |")
    means = [
        statistics.fmean(s[k][split] for s in card["seeds"]) for split in ("val", "test") for k in ("float", "int8")
    ]
    rows.append("| mean | " + " | ".join(f"{m:.4f}" for m in means) + " |")
    if card["not_chosen"]:
        listed = ", ".join(f"{label} {value:.4f}" for label, value in card["not_chosen"].items())
        rows += ["", f"Not chosen, mean of int8 on val: {listed}."]
    return "\n".join(rows) + "\n"


def _accuracy(card: dict[str, Any], split: str) -> str:
    from gossamer.person.evaluation import EvaluationReport
    from gossamer.person.evaluation_tables import table_markdown, tables

    shown = [t for t in tables(EvaluationReport(**card[split])) if t.title != "Skipped"]
    return "\n".join(f"{table_markdown(t)}\n" for t in shown).replace("## ", f"## On {split}: ")


def _limits(card: dict[str, Any]) -> str:
    tpr, tnr = card["test"]["all"]["tpr"], card["test"]["all"]["tnr"]
    return f"""## Limits
- {tpr["of"]} positives in test: intervals are wide, differences between methods of a point or less are noise.
- Most photos without a person show an animal; a network can learn "animal, so no person": see the per-source rows.
- Small sources and slices hold few photos; person128 says nothing of age, gender or depictions.
- It misses {100 * (1 - tpr["value"]):.1f}% of the photos with a person and calls "person"
  {100 * (1 - tnr["value"]):.1f}% of the others.
"""


def _again(card: dict[str, Any]) -> str:
    settings = card["settings"]
    names = {"learning_rate": "--learning-rate", "bank": "--bank", "distill": "--distill", "seed": "--seed"}
    own = " ".join(f"{flag} {settings[k]}" for k, flag in names.items() if k in settings)
    candidate = str(settings.get("candidate", card["network"]))
    text = _REBUILD.format(
        starts=f"{card['network']}+without:tudstreet+seed:{card['seed']}",
        common="--bank 250000 --learning-rate 0.003 --warmup 400 --ema-decay 0.999 --seconds 470",
        candidates=f"'{candidate}'",
        own=f"{own} --warmup 300 --ema-decay 0.999 --mix 0.6 --min-area 0.25 --seconds 890",
        network=card["network"],
    )
    return (
        "## How to make it again\nBy the clock of one NVIDIA H200 that trains 15 networks side by side: a rebuild "
        f"makes a similar network, not the same one.\n\n```sh\n{text}```\n"
    )
