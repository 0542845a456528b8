"""Which stored form every weighted operator gets: the fastest by measured time on this machine, with the reason.

Candidates are dense and the forms that the zeros fit. Times come from the cost table or are measured through the C core
and noted there; with ``measure: false``, or for another architecture than this one, a fixed model decides instead.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer._errors import CompileError, LibraryError
from gossamer.compile.cost_table import CostTable, machine_id
from gossamer.compile.encode import WEIGHTED
from gossamer.compile.measure import key_of, measure
from gossamer.compile.plan import Op, OpKind, P, Plan
from gossamer.sparsify.matrix import Columns, from_plan
from gossamer.sparsify.patterns import detect, get

if TYPE_CHECKING:
    from gossamer.recipe import Target

NOISE = 0.03
"""Times closer than this share are equal; then the smaller stored form is taken."""
_COMPATIBLE = {
    "4x4": ("4x4", "1x4", "4x1"),
    "4x1": ("4x1", "unstructured"),
    "1x4": ("1x4",),
    "unstructured": ("unstructured",),
}
_COARSER = ("4x4", "1x4", "4x1")
_FITTING_LIMIT = 0.98
"""A form that the zeros were made for is tried when it leaves out at least a fiftieth of the matrix."""
_COARSE_LIMIT = 0.5
"""A block form that the zeros were not made for is tried when it stores at most this share of the matrix."""
_MODEL_COST = {"int8": {"4x4": 1.4, "1x4": 1.9, "4x1": 2.6}, "float32": {"4x1": 1.1, "unstructured": 2.6}}
"""Cost of one executed weight over that of a dense one, by the form a kernel runs: what this module measured for 512 to
512 channels, 1x1, 14x14 pixels, at 75% zeros with the AVX-512 kernels."""
_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64", "armv7l": "armv7"}


@dataclass(frozen=True)
class LayerChoice:
    """The stored form of one operator, and why.

    Attributes:
        name: the operator's name in the plan.
        asked: the pattern that its zeros were made for, or ``dense``.
        pattern: the form it is stored and run in.
        dense_us: median microseconds dense; ``None`` where nothing was measured.
        sparse_us: of the fastest sparse form; ``None`` where nothing was measured or no sparse form fits.
        sparsity: share of zero weights.
        reason: one sentence for reports.
        measured: times decided, not the model.
        times_us: measured microseconds of every candidate.
    """

    name: str
    asked: str
    pattern: str
    dense_us: float | None
    sparse_us: float | None
    sparsity: float
    reason: str
    measured: bool
    times_us: dict[str, float] = field(default_factory=dict)


def choose(
    plan: Plan,
    target: Target | None = None,
    *,
    table: CostTable | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[LayerChoice]:
    """Sets ``Weights.pattern`` of every CONV and GEMM to its fastest form, in place, and ``Weights.storage`` to the
    smallest one where dense is fastest.

    The same plan, target and cost table give the same choices: a time that is measured is noted in the table as it is
    used.

    Args:
        plan: lowered, weights not yet encoded.
        target: machine, threads and whether to measure; by default this machine, one thread, ``cached``.
        table: where times are kept; by default the file in the user's cache folder.
        progress: called after every operator with (done, total).

    Returns:
        One record per CONV and GEMM with weights, in plan order.

    Raises:
        LibraryError: ``measure: true`` and the native core is missing.
        CompileError: ``measure: true`` for another architecture than this machine's, or an instruction set that this
            architecture does not have.
    """
    from gossamer.recipe import Target

    target = target or Target()
    ops = [op for op in plan.ops if op.weights is not None and op.kind in WEIGHTED]
    if target.kernels == "dense":
        return [_baseline(op) for op in ops]
    clock = _Clock.open(target, table)
    choices = []
    for i, op in enumerate(ops):
        choices.append(_choose_one(op, clock))
        if progress is not None:
            progress(i + 1, len(ops))
    if clock.table is not None:
        clock.table.save()
    return choices


@dataclass(frozen=True)
class _Form:
    """A way to store one matrix.

    ``runs`` is the form that its kernel walks: the core drops zeros from float blocks and gathers single int8 weights
    to groups of four, so several stored forms run alike. ``work`` is the share of the matrix that the kernel executes,
    and ``size`` counts stored weights with a byte of index per block.
    """

    pattern: str
    runs: str
    work: float
    size: float


@dataclass
class _Clock:
    """Where times come from; without a table the model decides, for the stated reason."""

    target: Target
    table: CostTable | None
    machine: str
    why_not: str
    fresh: set[str] = field(default_factory=set)
    """Keys measured in this call: ``measure: true`` measures each of them once."""

    @classmethod
    def open(cls, target: Target, table: CostTable | None) -> _Clock:
        from gossamer.recipe.schema import ISAS

        if target.measure is False:
            return cls(target, None, "", "the recipe turns measuring off")
        host = _ARCHITECTURES.get(platform.machine().lower(), platform.machine())
        if target.arch not in ("host", host):
            if target.measure is True:
                raise CompileError(
                    f"cannot measure for {target.arch} on {host}",
                    where="recipe field 'target.measure'",
                    hint="compile on the target, or write `measure: cached` to let a model decide",
                )
            return cls(target, None, "", f"this machine is no {target.arch}")
        ladder = ISAS.get(host, ("scalar",))
        if target.isa not in ("best", *ladder):
            raise CompileError(
                f"{host} has no {target.isa}",
                where="recipe field 'target.isa'",
                hint=f"use best or one of {', '.join(ladder)}, or name the target's `arch`",
            )
        try:
            from gossamer_runtime import _native

            version, isa = f"{_native.core_version()} {_native.core_fingerprint()}", _native.detect_isa()
            if target.isa != "best" and isa in ladder:
                isa = min(isa, target.isa, key=ladder.index)  # a cap above what the machine has changes nothing
        except LibraryError:
            if target.measure is True:
                raise
            return cls(target, None, "", "the native core is missing")
        chosen = table if table is not None else CostTable.default()
        return cls(target, chosen, machine_id(isa, target.threads, version), "")

    def times(self, op: Op, forms: list[_Form]) -> dict[str, float]:
        """Microseconds of every form, by pattern; forms that run alike are timed once."""
        assert self.table is not None
        keys = {form.pattern: key_of(op, form.runs, form.work) for form in forms}
        again = self.target.measure is True
        known: dict[str, float] = {}
        for key in keys.values():
            us = self.table.get(self.machine, key)
            if us is not None and (not again or key in self.fresh):
                known[key] = us
        missing: dict[str, str] = {}
        for pattern, key in keys.items():
            if key not in known:
                missing.setdefault(key, pattern)
        if missing:
            # Known times stay, so that choices made by them stay. New ones are timed beside dense, whose known time
            # brings them to the same footing: only times of one moment compare.
            isa = None if self.target.isa == "best" else self.target.isa
            patterns = list(dict.fromkeys(["dense", *missing.values()]))
            found = measure(op, patterns, threads=self.target.threads, isa=isa)
            footing = known[keys["dense"]] / found["dense"] if keys["dense"] in known else 1.0
            for key, pattern in missing.items():
                known[key] = self.table.put(self.machine, key, found[pattern] * footing)
                self.fresh.add(key)
        return {pattern: known[key] for pattern, key in keys.items()}


def _baseline(op: Op) -> LayerChoice:
    """Stored and run dense, whatever the zeros."""
    assert op.weights is not None
    asked, op.weights.pattern, op.weights.storage = op.weights.pattern, "dense", "dense"
    sparsity = 1.0 - np.count_nonzero(op.weights.dense) / op.weights.dense.size
    return LayerChoice(op.name, asked, "dense", None, None, sparsity, "dense: the recipe asks for it", False)


def _choose_one(op: Op, clock: _Clock) -> LayerChoice:
    weights = op.weights
    assert weights is not None
    matrix, columns = from_plan(weights.dense)
    sparsity = 1.0 - np.count_nonzero(weights.dense) / weights.dense.size
    asked = weights.pattern if weights.pattern != "dense" else detect(matrix, columns=columns)
    if asked == "dense":
        weights.pattern = "dense"
        reason = f"dense: {sparsity:.0%} zeros" if sparsity > 0 else "dense: no zeros"
        return LayerChoice(op.name, asked, "dense", None, None, sparsity, reason, False)
    if op.kind is OpKind.CONV and op.p.get(P.GROUPS, 1) > 1:
        weights.pattern = "dense"
        reason = "dense: a grouped convolution has no sparse form"
        return LayerChoice(op.name, asked, "dense", None, None, sparsity, reason, False)
    forms = _forms(matrix, columns, asked)
    if len(forms) == 1:
        weights.pattern = "dense"
        reason = f"dense: {sparsity:.0%} zeros leave hardly a block of {asked} empty"
        return LayerChoice(op.name, asked, "dense", None, None, sparsity, reason, False)
    if clock.table is None:
        return _by_model(op, asked, forms, sparsity, clock.why_not)
    times = clock.times(op, forms)
    size = {form.pattern: form.size for form in forms}
    sparse = min((p for p in times if p != "dense"), key=lambda p: (times[p], size[p], p))
    limit = min(times.values()) * (1 + NOISE)
    picked = min((p for p in times if times[p] <= limit), key=lambda p: (size[p], times[p], p))
    dense_us, sparse_us = times["dense"], times[picked if picked != "dense" else sparse]
    if picked == "dense":
        reason = f"dense kept: {sparsity:.0%} zeros in {sparse} cost {_us(sparse_us)}, dense {_us(dense_us)}"
    elif dense_us > sparse_us * (1 + NOISE):
        reason = f"sparse {picked} {_us(sparse_us)} beats dense {_us(dense_us)}"
    else:
        reason = f"sparse {picked} {_us(sparse_us)} is as fast as dense {_us(dense_us)} and smaller"
    _take(op, picked, forms)
    return LayerChoice(op.name, asked, picked, dense_us, sparse_us, sparsity, reason, True, times)


def _take(op: Op, picked: str, forms: list[_Form]) -> None:
    """Notes the form to run and, where that is dense, the smallest form to store."""
    assert op.weights is not None
    op.weights.pattern = picked
    op.weights.storage = (
        min(forms, key=lambda form: (form.size, form.pattern)).pattern if picked == "dense" else "dense"
    )


def _forms(matrix: npt.NDArray[Any], columns: Columns, asked: str) -> list[_Form]:
    """Dense, and every form that the zeros of the matrix make worth trying."""
    fitting = _COMPATIBLE.get(asked, (asked,))
    stored = {
        name: get(name).measure(matrix, columns=columns).stored / matrix.size
        for name in dict.fromkeys([*fitting, *_COARSER, "unstructured"])
    }
    forms = [_Form("dense", "dense", 1.0, float(matrix.size))]
    for name in dict.fromkeys([*fitting, *_COARSER]):
        if (name in fitting and stored[name] <= _FITTING_LIMIT) or stored[name] <= _COARSE_LIMIT:
            br, bc = get(name).block
            rows_alone, rows_of_four = ("unstructured", "4x1") if matrix.dtype == np.float32 else ("1x4", name)
            runs = rows_alone if br == 1 else rows_of_four
            size = matrix.size * stored[name] * (1 + 1 / (br * bc * matrix.dtype.itemsize))
            forms.append(_Form(name, runs, stored[runs], size))
    return forms


def _by_model(op: Op, asked: str, forms: list[_Form], sparsity: float, why_not: str) -> LayerChoice:
    assert op.weights is not None
    ratios = _MODEL_COST["float32" if op.weights.dense.dtype == np.float32 else "int8"]
    cost = {form.pattern: round(form.work * ratios.get(form.runs, 1.0), 4) for form in forms}
    size = {form.pattern: form.size for form in forms}
    picked = min(cost, key=lambda p: (cost[p], size[p], p))
    best = min((p for p in cost if p != "dense"), key=lambda p: (cost[p], size[p], p))
    note = f"by a model, not measured: {why_not}"
    if picked == "dense":
        reason = f"dense kept: {sparsity:.0%} zeros in {best} would cost {cost[best]:.2f} of dense ({note})"
    else:
        reason = f"sparse {picked} would cost {cost[picked]:.2f} of dense ({note})"
    _take(op, picked, forms)
    return LayerChoice(op.name, asked, picked, None, None, sparsity, reason, False)


def _us(value: float) -> str:
    return f"{value:.0f} us" if value >= 10 else f"{value:.1f} us"
