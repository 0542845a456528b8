"""What sparse training costs on a CPU: the time of a training step with each method attached against without.

MobileNetV1 0.25 at 96x96 (the person detector), batch 32, AdamW. Every contender trains a copy of its own; in each
round all of them make one step, in turn, so that a change of the machine meets them alike, and a method's overhead is
the median over rounds of its step against the plain step of the same round. The rounds are steps 300 and on of a run of
1,000, where schedules are under way. ``step`` is ``Sparsifier.step()`` alone, its mean over all rounds: most methods
choose masks every 32 steps or so. ``all`` adds both up.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from tools.bench.native import host, words

MODEL, BATCH, SIDE = "v1-0.25", 32, 96
BLOCKS = {"pattern": "1x4", "sparsity": 0.75}
NM = {"pattern": "2:4"}
TARGET = 0.10
"""Attaching costs less than this share of a step."""
MASKS = "masks alone"
"""A method that never changes a mask: what the parametrization costs."""
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""What others on the machine do costs wall time; the time of this process's threads is the same with one thread."""
WARM = 5
FIRST, STEPS = 300, 1000
"""The step that the rounds start at, and the length of the run that they are a part of."""


@dataclass
class Contender:
    """A network that trains, with a method's masks or (``name`` plain) without.

    Attributes:
        train: seconds of forward, loss, backward and optimiser, one per round.
        step: seconds of ``Sparsifier.step``, one per round.
    """

    name: str
    pattern: str
    model: Any
    optimizer: Any
    run: Any
    train: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)

    def turn(self, x: Any, labels: Any, clock: Callable[[], float]) -> None:
        """One training step, timed."""
        from torch.nn import functional

        began = clock()
        loss = functional.cross_entropy(self.model(x), labels)
        if self.run is not None:
            loss = loss + self.run.penalty()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        trained = clock()
        if self.run is not None:
            self.run.step()
        self.train.append(trained - began)
        self.step.append(clock() - trained)


def contenders(methods: Sequence[str]) -> list[Contender]:
    """Plain, masks alone, and the methods on a pattern that each takes; all from the same weights."""
    import torch

    from gossamer.person.models import build
    from gossamer.sparsify.training import METHODS, Sparsifier, get_method

    found = []
    for name in ("plain", MASKS, *methods):
        torch.manual_seed(0)
        model = build(MODEL).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.03)
        target = NM if name in METHODS and METHODS[name].patterns[0] == "n:m" else BLOCKS
        if name == "plain":
            found.append(Contender(name, "", model, optimizer, None))
            continue
        method = get_method("gradual-magnitude", {"begin": 0.999, "end": 1.0}) if name == MASKS else get_method(name)
        run = Sparsifier(model, target, method, total_steps=STEPS, optimizer=optimizer)
        run.step_number = FIRST
        found.append(Contender(name, str(target["pattern"]), model, optimizer, run))
    return found


def measure(methods: Sequence[str], rounds: int, clock: Callable[[], float]) -> list[Contender]:
    """Train all contenders side by side, after a few rounds that do not count."""
    import torch

    found = contenders(methods)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, 3, SIDE, SIDE, generator=generator)
    labels = torch.randint(0, 2, (BATCH,), generator=generator)
    gc.disable()  # a collection would meet one contender
    try:
        for turn in range(WARM + rounds):
            for contender in found if turn % 2 == 0 else reversed(found):
                contender.turn(x, labels, clock)
            gc.collect()
    finally:
        gc.enable()
    for contender in found:
        del contender.train[:WARM], contender.step[:WARM]
    return found


def rows(found: Sequence[Contender], threads: int, clock: str) -> list[dict[str, Any]]:
    """Plain values for JSON; shares are of the plain step."""
    plain = found[0]
    base = statistics.median(plain.train)
    machine = host()
    out = []
    for c in found:
        ratios = sorted(a / b - 1.0 for a, b in zip(c.train, plain.train, strict=True))
        quarter = statistics.quantiles(ratios, n=4)
        step = statistics.fmean(c.step)
        out.append(
            {
                "method": c.name,
                "pattern": c.pattern,
                "train_ms": 1e3 * statistics.median(c.train),
                "attach_share": quarter[1],
                "attach_share_quartiles": [quarter[0], quarter[2]],
                "step_mean_ms": 1e3 * step,
                "step_worst_ms": 1e3 * max(c.step),
                "all_share": quarter[1] + step / base,
                "rounds": len(c.train),
                "threads": threads,
                "clock": clock,
                "host": machine,
            }
        )
    return out


def table(measured: Sequence[dict[str, Any]]) -> list[str]:
    """A line a contender, overheads in per cent of the plain step, with what is above the target."""
    head = f"{'method':20s} {'pattern':8s} {'train ms':>9s} {'attached':>9s} {'quartiles':>15s}"
    out = [f"{head} {'step ms':>8s} {'all':>7s}"]
    for r in measured:
        low, high = r["attach_share_quartiles"]
        mark = "" if r["method"] == "plain" or r["all_share"] < TARGET else "SHORT"
        out.append(
            f"{r['method']:20s} {r['pattern']:8s} {r['train_ms']:9.2f} {r['attach_share']:+9.1%} "
            f"{f'{low:+.1%}..{high:+.1%}':>15s} {r['step_mean_ms']:8.2f} {r['all_share']:+7.1%} {mark}".rstrip()
        )
    return out


@click.command(help=__doc__)
@click.option("--methods", default="", help="Some methods, comma-separated; all of them by default.")
@click.option("--rounds", default=64, show_default=True, type=click.IntRange(8), help="Steps of each contender.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Of torch.")
@click.option(
    "--clock", default="wall", show_default=True, type=click.Choice(tuple(CLOCKS)), help="cpu: busy machines."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the rows here.")
def main(methods: str, rounds: int, threads: int, clock: str, json_file: Path | None) -> None:
    import torch

    from gossamer.sparsify.training import METHODS

    torch.set_num_threads(threads)
    names = words(methods, tuple(METHODS)) if methods else list(METHODS)
    measured = rows(measure(names, rounds, CLOCKS[clock]), threads, clock)
    click.echo("\n".join(table(measured)))
    if json_file:
        json_file.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
