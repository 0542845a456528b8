"""How much a weight matters: the scores that pruning ranks by."""

from __future__ import annotations

from typing import Any

import numpy as np

from gossamer.sparsify import arrays
from gossamer.sparsify.arrays import Array


def magnitude(weight: Array, *, scale: Any = 1.0, zero_point: Any = 0) -> Array:
    """``|w|`` as float32; of a quantised weight ``|q - zero_point| * scale`` with both broadcast against it.

    Args:
        weight: any shape, float or integer; a float tensor of torch, too.
        scale: step of a quantised weight, in units of the real weight.
        zero_point: the integer that stands for zero.

    Returns:
        float32 of the same shape, at least 0.
    """
    if arrays.is_tensor(weight) or np.issubdtype(weight.dtype, np.floating):
        return arrays.as_float32(arrays.absolute(weight))
    steps = np.abs(weight.astype(np.int32) - np.asarray(zero_point, dtype=np.int32))
    return np.asarray(steps * np.asarray(scale, dtype=np.float32), dtype=np.float32)
