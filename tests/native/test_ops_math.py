"""The core's own elementary functions keep the error bounds that src/mathf.h states, over dense sweeps."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.compile.plan import Bin, OpKind, Un
from tests.native import reference as ref
from tests.native.oneop import OPEN, Case, In, Out

TINY = 1.2e-38  # below it f32 is subnormal and relative error means nothing
SWEEPS = {
    # kind: (stated relative error, lowest and highest argument)
    Un.EXP: (1e-7, -87.0, 88.7),
    Un.TANH: (2e-7, -12.0, 12.0),
    Un.SIGMOID: (2e-7, -80.0, 80.0),
    Un.ERF: (3e-7, -5.0, 5.0),
    Un.GELU: (4e-7, -11.0, 11.0),
    Un.SOFTPLUS: (2e-7, -80.0, 80.0),
    Un.LOG: (1e-7, 1e-30, 50.0),
    Un.SQRT: (1e-7, 1e-30, 1e30),
}


def arguments(lo: float, hi: float) -> np.ndarray:
    """Even steps, and both signs of small numbers in rising powers."""
    rng = np.random.default_rng(1)
    small = 10 ** rng.uniform(-30, np.log10(hi), 20000)
    parts = [np.linspace(lo, hi, 200_000), small, *([-small[small < -lo]] if lo < 0 else [])]
    return np.concatenate(parts).astype(np.float32)


def relative_error(y: np.ndarray, exact: np.ndarray) -> float:
    sized = np.abs(exact) > TINY
    assert np.isfinite(y).all()
    return float(np.max(np.abs(y[sized] - exact[sized]) / np.abs(exact[sized])))


@pytest.mark.parametrize("kind", SWEEPS)
def test_stated_error(kind: Un) -> None:
    bound, lo, hi = SWEEPS[kind]
    x = arguments(lo, hi)
    y = Case(OpKind.UNARY, [In(x)], Out(x.shape, np.float32), {0: kind}).run()
    assert relative_error(y, ref.unary(kind, x, 0, 0)) <= bound


def test_log_near_one_loses_nothing() -> None:
    x = (1 + np.linspace(-1e-3, 1e-3, 4001)).astype(np.float32)
    x = x[x != 1]
    y = Case(OpKind.UNARY, [In(x)], Out(x.shape, np.float32), {0: Un.LOG}).run()
    assert relative_error(y, np.log(x.astype(np.float64))) <= 1e-7


def test_pow() -> None:
    rng = np.random.default_rng(2)
    base = (10 ** rng.uniform(-8, 8, 100_000)).astype(np.float32)
    power = rng.uniform(-4.5, 4.5, 100_000).astype(np.float32)
    y = Case(OpKind.BINARY, [In(base), In(power)], Out(base.shape, np.float32), {0: Bin.POW}, OPEN).run()
    assert relative_error(y, base.astype(np.float64) ** power.astype(np.float64)) <= 2e-7
    signed = -base[:1000]
    whole = rng.integers(-4, 5, 1000).astype(np.float32)
    y = Case(OpKind.BINARY, [In(signed), In(whole)], Out(whole.shape, np.float32), {0: Bin.POW}, OPEN).run()
    assert relative_error(y, signed.astype(np.float64) ** whole.astype(np.float64)) <= 2e-7
