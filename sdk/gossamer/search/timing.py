"""Times of whole bundles against each other: sessions take turns, so that all see the same machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TypeVar

import numpy as np

from gossamer.recipe import Target

ROUNDS = 9
BUDGET_US = 30_000
"""A turn takes about this long: slow models get fewer runs, at least two."""
MOST_RUNS = 100
K = TypeVar("K")


def latencies(
    bundles: Mapping[K, bytes], target: Target, progress: Callable[[int, int], None] | None = None
) -> dict[K, float]:
    """Median microseconds of one inference of each bundle: the median over rounds of each round's median.

    Args:
        bundles: unsigned or not; signatures are not checked.
        target: threads and the highest instruction set.

    Raises:
        BundleError, BackendError, LibraryError: a bundle cannot be opened.
    """
    from gossamer_runtime import Session

    isa = None if target.isa == "best" else target.isa
    with ExitStack() as stack:
        sessions = {
            key: stack.enter_context(
                Session(data, verify=False, allow_unverified_code=True, threads=target.threads, isa=isa)
            )
            for key, data in bundles.items()
        }
        times: dict[K, list[float]] = {key: [] for key in sessions}
        first = {key: s.profile(runs=2, warmup=1).latency.min_us for key, s in sessions.items()}
        for i in range(ROUNDS):
            for key, session in sessions.items():
                runs = int(np.clip(BUDGET_US / first[key], 2, MOST_RUNS))
                times[key].append(session.profile(runs=runs, warmup=2).latency.median_us)
            if progress:
                progress(i + 1, ROUNDS)
    return {key: float(np.median(taken)) for key, taken in times.items()}


def machine(target: Target) -> str:
    """What the times belong to: processor, instruction set, threads."""
    from gossamer.compile.cost_table import cpu_model
    from gossamer_runtime import detect_isa

    isa = detect_isa() if target.isa == "best" else f"at most {target.isa}"
    return f"{cpu_model()}, {isa}, {target.threads} thread{'s' if target.threads > 1 else ''}"
