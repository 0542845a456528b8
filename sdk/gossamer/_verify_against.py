"""``gossamer.verify_against``: how far the outputs of a bundle are from those of the model it was made from."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer import _calibration
from gossamer._errors import GossamerError, InputError, MismatchError
from gossamer._images import dequantised
from gossamer._tables import columns

_PLAIN_SNR_DB = 60.0
_INT8_MODEL_SNR_DB = 25.0
_INT8_SNR_DB = 10.0


@dataclass(frozen=True)
class OutputAgreement:
    """One output over all samples, as real numbers (dequantised where it is quantised).

    ``snr_db``: signal to noise, 10 log10(sum ref^2 / sum (ref - y)^2); None when equal. ``top1_percent``: how often the
    largest value of the last axis is at the same place; None for outputs of one value. ``max_steps``: largest
    difference of the stored integers; None for floats.
    """

    name: str
    max_abs_error: float
    mean_abs_error: float
    max_abs_reference: float
    snr_db: float | None
    top1_percent: float | None
    max_steps: int | None


@dataclass(frozen=True)
class Agreement:
    """The comparison. ``samples``: inputs that both ran; ``source``: where those came from; ``engine``: what ran the
    original; ``limits``: those that were applied; ``failures``: what passed them, empty when all is well."""

    samples: int
    source: str
    engine: str
    outputs: list[OutputAgreement]
    limits: dict[str, float]
    failures: list[str]

    @property
    def ok(self) -> bool:
        """Whether no limit was passed."""
        return not self.failures

    def table(self) -> str:
        """One line per output as text."""
        head = ["output", "max abs error", "mean abs error", "max abs reference", "SNR dB", "top-1 %", "max steps"]
        rows = [
            [
                o.name,
                f"{o.max_abs_error:.4g}",
                f"{o.mean_abs_error:.4g}",
                f"{o.max_abs_reference:.4g}",
                "equal" if o.snr_db is None else f"{o.snr_db:.1f}",
                "-" if o.top1_percent is None else f"{o.top1_percent:.1f}",
                "-" if o.max_steps is None else str(o.max_steps),
            ]
            for o in self.outputs
        ]
        return columns(head, rows, left={0}, widest={0: 40})

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {**asdict(self), "ok": self.ok}

    def check(self) -> None:
        """Raise ``MismatchError`` when a limit was passed."""
        if self.failures:
            raise MismatchError(
                "the bundle's outputs are further from the original's than allowed",
                where="; ".join(self.failures),
                hint="prune less, calibrate with more typical samples, or state other limits",
            )


def verify_against(
    bundle: str | os.PathLike[str] | bytes,
    original: Any,
    inputs: Any = None,
    *,
    samples: int = 32,
    max_abs_error: float | None = None,
    min_snr_db: float | None = None,
    min_top1_percent: float | None = None,
    threads: int = 1,
    verify: bool = True,
    trusted_keys: Any = None,
    example_inputs: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Agreement:
    """Run a bundle and its original on the same inputs.

    Args:
        bundle: path or bytes of the bundle.
        original: the model it was made from; what ``gossamer.load`` takes.
        inputs: pictures, arrays or samples as for calibration; None: seeded random inputs, said so in ``source``.
        samples: at most this many.
        max_abs_error, min_snr_db, min_top1_percent: limits. Without any, the recipe in the manifest decides: nothing
            pruned and nothing quantised: 60 dB (25 dB when the original is an int8 model, for kernels of other engines
            round differently); quantised: 10 dB; pruned (without fine-tuning): no limit but that every value is finite.
        threads, verify, trusted_keys: as for ``gossamer_runtime.Session``.
        example_inputs: for a torch module.
        progress: called with (done, total).

    Returns:
        The comparison; ``.check()`` raises when a limit was passed.

    Raises:
        InputError: the two models have different numbers of inputs or outputs, or the samples do not fit.
        BundleError, SignatureError, ModelError, BackendError: one of the two cannot be opened.
    """
    from gossamer._reference import open_reference
    from gossamer.bundle.manifest import from_dict
    from gossamer_runtime import Session

    with Session(bundle, threads=threads, verify=verify, trusted_keys=trusted_keys) as session:
        manifest = from_dict(session.manifest)
        ports = list(manifest.inputs)
        reference = open_reference(
            original, example_inputs=example_inputs, shapes={p.name: tuple(p.shape) for p in session.inputs}
        )
        if len(reference.inputs) != len(session.inputs) or len(reference.outputs) != len(session.outputs):
            raise InputError(
                f"the bundle has {len(session.inputs)} inputs and {len(session.outputs)} outputs, the original "
                f"{len(reference.inputs)} and {len(reference.outputs)}",
                hint="compare with the model that the bundle was made from",
            )
        if inputs is None:
            found, source = _calibration.noise(ports, samples), "seeded random inputs"
        else:
            found = _calibration.samples(inputs, ports, samples)
            paths = inputs if isinstance(inputs, (list, tuple)) else [inputs]
            named = all(isinstance(p, (str, os.PathLike)) for p in paths)
            source = ", ".join(str(p) for p in paths) if named else "given samples"
        names = _match([p.name for p in session.inputs], reference.inputs)
        pairs: list[list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]] = [[] for _ in session.outputs]
        order = _match([p.name for p in session.outputs], reference.outputs)
        for i, sample in enumerate(found):
            got = session.run([sample[p.name] for p in session.inputs])
            got = got if isinstance(got, list) else [got]
            try:
                results = reference.run({names[k]: v for k, v in sample.items()})
            except Exception as e:  # the engines' exceptions share no base class
                raise InputError(
                    f"the original does not take the bundle's inputs: {str(e).strip().splitlines()[0]}",
                    hint="compare with the model that the bundle was made from",
                ) from e
            want = dict(zip(reference.outputs, results, strict=True))
            for pair, port, y in zip(pairs, session.outputs, got, strict=True):
                w = np.asarray(want[order[port.name]])
                if w.shape != y.shape:
                    raise InputError(f"output {port.name!r} is shaped {y.shape}, the original's {w.shape}")
                pair.append((w, y))
            if progress:
                progress(i + 1, len(found))
        outputs = [_compare(port, pair) for port, pair in zip(session.outputs, pairs, strict=True)]
        limits = _limits(session.manifest, max_abs_error, min_snr_db, min_top1_percent)
    return Agreement(len(found), source, reference.engine, outputs, limits, _failures(outputs, limits))


def _match(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """By name where the names agree, else by position."""
    return dict(zip(ours, ours if set(ours) == set(theirs) else theirs, strict=True))


def _compare(port: Any, pairs: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> OutputAgreement:
    want, got = np.stack([w for w, _ in pairs]), np.stack([y for _, y in pairs])
    integer = want.dtype.kind in "iu" and got.dtype.kind in "iu"
    steps = int(np.abs(want.astype(np.int64) - got.astype(np.int64)).max(initial=0)) if integer else None
    w = dequantised(want, port.scale, port.zero_point) if integer else want.astype(np.float64)
    y = dequantised(got, port.scale, port.zero_point) if integer else got.astype(np.float64)
    error = np.abs(w - y)
    if not np.isfinite(y).all() and np.isfinite(w).all():
        error = np.full_like(w, np.inf)
    noise, signal = float((error**2).sum()), float((w**2).sum())
    top1 = None
    if w.ndim >= 2 and w.shape[-1] > 1:
        # The original's best class counts as found when ours is one of its ties.
        best = np.take_along_axis(w, y.argmax(-1)[..., None], -1)[..., 0]
        top1 = 100.0 * float((best >= w.max(-1)).mean())
    return OutputAgreement(
        name=port.name,
        max_abs_error=float(error.max(initial=0.0)),
        mean_abs_error=float(error.mean()) if error.size else 0.0,
        max_abs_reference=float(np.abs(w).max(initial=0.0)),
        snr_db=_snr_db(signal, noise),
        top1_percent=top1,
        max_steps=steps,
    )


def _snr_db(signal: float, noise: float) -> float | None:
    if noise == 0:
        return None
    return 10 * math.log10(signal / noise) if signal and math.isfinite(noise) else -math.inf


def _limits(
    manifest: Mapping[str, Any], max_abs: float | None, min_snr: float | None, min_top1: float | None
) -> dict[str, float]:
    stated = {"max_abs_error": max_abs, "min_snr_db": min_snr, "min_top1_percent": min_top1}
    limits = {name: float(value) for name, value in stated.items() if value is not None}
    if limits:
        return limits
    try:
        recipe = json.loads(manifest.get("recipe_json", "{}"))
    except ValueError as e:
        raise GossamerError(f"the recipe in the manifest is not JSON: {e}") from e
    if recipe.get("sparsify"):
        return {}
    int8 = any(layer.get("dtype") == "int8" for layer in manifest.get("layers", []))
    if recipe.get("quantize"):
        return {"min_snr_db": _INT8_SNR_DB}
    return {"min_snr_db": _INT8_MODEL_SNR_DB if int8 else _PLAIN_SNR_DB}


def _failures(outputs: Sequence[OutputAgreement], limits: Mapping[str, float]) -> list[str]:
    found = []
    for o in outputs:
        if not math.isfinite(o.max_abs_error):
            found.append(f"{o.name}: values that are not finite where the original's are")
        if o.max_abs_error > limits.get("max_abs_error", math.inf):
            found.append(f"{o.name}: max abs error {o.max_abs_error:.4g} > {limits['max_abs_error']:.4g}")
        if o.snr_db is not None and o.snr_db < limits.get("min_snr_db", -math.inf):
            found.append(f"{o.name}: SNR {o.snr_db:.1f} dB < {limits['min_snr_db']:.1f} dB")
        if o.top1_percent is not None and o.top1_percent < limits.get("min_top1_percent", 0.0):
            found.append(f"{o.name}: top-1 agreement {o.top1_percent:.1f}% < {limits['min_top1_percent']:.1f}%")
    return found
