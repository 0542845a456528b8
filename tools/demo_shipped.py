"""The first part of the demo: the bundles that ship, verified, side by side, and the best of them on photographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gossamer._tables import bytes_text, columns


def show(photos: Sequence[tuple[str, Any]], shown: Mapping[str, str], runs: int) -> int:
    """Print what ships and what the best says of each photograph.

    Args:
        photos: name and Pillow image.
        shown: what each is a picture of, by name.
        runs: timed inferences of each bundle.

    Returns:
        Photos on which the best sparse bundle decides as the dense one does.

    Raises:
        SignatureError: a bundle is not signed by a key that comes with the runtime.
    """
    from gossamer.bundle.verify import verify
    from gossamer.person._shipped import shipped_models
    from gossamer.person.detector import open_detector
    from gossamer.person.latency import time_in_turns
    from gossamer_runtime import Session

    entries = [e for e in shipped_models() if e["path"].endswith(".goss")]
    bundles = {e["name"]: Path(e["path"]).read_bytes() for e in entries}
    for name, content in bundles.items():
        print(f"{name}: {verify(content, where=name)}")
    times = time_in_turns(bundles, runs=runs)
    dense = min(entries, key=lambda e: e["sparsity"])
    rows = [
        [
            e["name"],
            bytes_text(e["bytes"]),
            f"{100 * e['sparsity']:.0f}",
            f"{times[e['name']].median:.1f}",
            f"{times[dense['name']].median / times[e['name']].median:.2f}",
            f"{100 * e['balanced_accuracy']['value']:.1f} "
            f"({100 * e['balanced_accuracy']['low']:.1f} to {100 * e['balanced_accuracy']['high']:.1f})",
        ]
        for e in entries
    ]
    print()
    with Session(bundles[entries[0]["name"]], verify=False) as session:
        head = [
            "bundle",
            "size",
            "zeros %",
            f"median us, {session.isa}, 1 thread",
            "times",
            "card: balanced accuracy %",
        ]
    print(columns(head, rows, left={0}))
    detectors = [open_detector(Path(e["path"])) for e in (entries[0], dense)]
    table, same = [], 0
    for name, image in photos:
        best, other = (d.score(image, name) for d in detectors)
        same += best.called == other.called
        table.append(
            [
                name,
                shown[name],
                _verdict(best.called),
                f"{100 * max(best.probability, 1 - best.probability):.0f}",
                _verdict(other.called),
            ]
        )
    print()
    print(columns(["photo", "shows", f"{entries[0]['name']} says", "sure %", "dense says"], table, left={0, 1, 2, 4}))
    print(f"same decision as the dense bundle on {same} of {len(photos)} photos")
    return same


def _verdict(called: bool) -> str:
    return "person" if called else "no person"
