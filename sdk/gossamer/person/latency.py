"""Latency of many bundles on this machine, measured in turns so that what slows the machine slows all of them."""

from __future__ import annotations

import gc
import math
import platform
import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer.person.run_record import LatencyUs, Machine

if TYPE_CHECKING:
    from gossamer_runtime import Session

WARM_US = 3_000.0
"""Runs before those that count, in every turn: caches and branch predictors belong to the bundle whose turn it is."""
LEAST_WARM = 5


def time_in_turns(
    bundles: Mapping[str, bytes],
    *,
    runs: int = 360,
    rounds: int = 12,
    sample: npt.NDArray[Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, LatencyUs]:
    """Time whole inferences (``Session.run`` from Python, one thread) of every bundle.

    In every round each bundle has a turn: runs that do not count for ``WARM_US`` microseconds, then ``runs / rounds``
    that do. Every other round goes backwards. All sessions are open at once: about three times the bundles' size.

    Args:
        bundles: unsigned or signed bundles of one input and one output, by name.
        runs: that count, per bundle, at least; rounded up to whole rounds.
        rounds: turns per bundle.
        sample: the input of every run; by default seeded random values (the kernels' time does not depend on them).
        progress: called with (rounds done, rounds).

    Raises:
        ValueError: ``runs`` or ``rounds`` below 1.
        GossamerError: as ``gossamer_runtime.Session``.
    """
    from gossamer_runtime import Session

    if runs < 1 or rounds < 1:
        raise ValueError(f"runs and rounds must be at least 1, got {runs} and {rounds}")
    sessions: dict[str, Session] = {}
    try:
        for name, data in bundles.items():
            sessions[name] = Session(data, verify=False)
        inputs = {name: _input(session, sample) for name, session in sessions.items()}
        warm = {name: _warm(session, inputs[name]) for name, session in sessions.items()}
        count = math.ceil(runs / rounds)
        times: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in bundles}
        for turn in range(rounds):
            for name in list(bundles) if turn % 2 == 0 else reversed(list(bundles)):
                _burst(sessions[name], inputs[name], warm[name])
                times[name].append(_burst(sessions[name], inputs[name], count))
            if progress is not None:
                progress(turn + 1, rounds)
    finally:
        for session in sessions.values():
            session.close()
    return {name: _summary(np.concatenate(parts), rounds) for name, parts in times.items()}


def this_machine() -> Machine:
    """The machine that :func:`time_in_turns` measures, and a new name for a measurement on it."""
    from gossamer.compile.cost_table import cpu_model
    from gossamer_runtime._native import core_version, detect_isa

    session = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}-{secrets.token_hex(4)}"
    cpu = f"{cpu_model()} ({platform.system()} {platform.machine()})"
    return Machine(cpu=cpu, isa=detect_isa(), threads=1, core=core_version(), session=session)


def _input(session: Session, sample: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    port = session.inputs[0]
    if sample is not None:
        return np.ascontiguousarray(sample)
    values = np.random.default_rng(0).random(port.shape, dtype=np.float32)
    return values if port.dtype == np.float32 else (values * 100).astype(port.dtype)


def _warm(session: Session, x: npt.NDArray[Any]) -> int:
    """Runs that fill ``WARM_US``, from a first try."""
    return max(LEAST_WARM, math.ceil(WARM_US / float(np.median(_burst(session, x, 5)))))


def _burst(session: Session, x: npt.NDArray[Any], count: int) -> npt.NDArray[np.float64]:
    """Microseconds of ``count`` runs, one after another, undisturbed by the collector."""
    run, clock = session.run, time.perf_counter_ns
    taken = np.empty(count, np.float64)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for i in range(count):
            started = clock()
            run(x)
            taken[i] = clock() - started
    finally:
        if collecting:
            gc.enable()
    return taken / 1e3


def _summary(taken: npt.NDArray[np.float64], rounds: int) -> LatencyUs:
    return LatencyUs(
        median=round(float(np.median(taken)), 3),
        min=round(float(taken.min()), 3),
        p90=round(float(np.percentile(taken, 90)), 3),
        runs=int(taken.size),
        rounds=rounds,
    )
