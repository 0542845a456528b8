"""The few array operations that patterns need, for numpy arrays and torch tensors alike.

Patterns are written once: the compiler calls them with numpy arrays, training with tensors on any device. torch is
imported only when a tensor is met.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = Any
"""A numpy array or a torch tensor."""


def is_tensor(x: Array) -> bool:
    """Whether ``x`` is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def absolute(x: Array) -> Array:
    """``|x|``."""
    return x.abs() if is_tensor(x) else np.abs(x)


def as_float32(x: Array) -> Array:
    """``x`` in float32."""
    return x.float() if is_tensor(x) else np.asarray(x, dtype=np.float32)


def pad_end(x: Array, amounts: Sequence[int]) -> Array:
    """Zeros behind each axis; ``amounts`` gives how many per axis."""
    if not any(amounts):
        return x
    if is_tensor(x):
        import torch.nn.functional as functional

        return functional.pad(x, [n for amount in reversed(amounts) for n in (0, amount)])
    return np.pad(x, [(0, n) for n in amounts])


def permute(x: Array, axes: Sequence[int]) -> Array:
    """Axes in another order."""
    return x.permute(*axes) if is_tensor(x) else x.transpose(axes)


def move_axis(x: Array, source: int, target: int) -> Array:
    """One axis moved to another place."""
    return x.movedim(source, target) if is_tensor(x) else np.moveaxis(x, source, target)


def contiguous(x: Array) -> Array:
    """In row-major order."""
    return x.contiguous() if is_tensor(x) else np.ascontiguousarray(x)


def sum_axes(x: Array, axes: tuple[int, ...]) -> Array:
    """Sum over axes, float32."""
    return x.float().sum(dim=axes) if is_tensor(x) else x.sum(axis=axes, dtype=np.float32)


def repeat(x: Array, times: int, axis: int) -> Array:
    """Each element ``times`` times along ``axis``."""
    return x.repeat_interleave(times, dim=axis) if is_tensor(x) else x.repeat(times, axis=axis)


def like(constant: np.ndarray[Any, Any], x: Array) -> Array:
    """A numpy constant where ``x`` lives."""
    if is_tensor(x):
        import torch

        return torch.from_numpy(np.ascontiguousarray(constant)).to(x.device)
    return constant


def ones_mask(x: Array) -> Array:
    """True everywhere, in the shape of ``x``."""
    if is_tensor(x):
        import torch

        return torch.ones(x.shape, dtype=torch.bool, device=x.device)
    return np.ones(x.shape, dtype=bool)


def concatenate(parts: Sequence[Array]) -> Array:
    """One-dimensional parts behind each other."""
    if is_tensor(parts[0]):
        import torch

        return torch.cat(list(parts))
    return np.concatenate(list(parts))


def kth_smallest(flat: Array, k: int) -> Array:
    """The k-th smallest value, ``k`` from 1."""
    if is_tensor(flat):
        import torch

        # kthvalue refuses to run on a GPU where the user asked for deterministic algorithms only.
        exact = flat.is_cuda and torch.are_deterministic_algorithms_enabled()
        return flat.sort().values[k - 1] if exact else flat.kthvalue(k).values
    return np.partition(flat, k - 1)[k - 1]


def true_places(flat: Array) -> Array:
    """Indices where a one-dimensional mask is True, ascending."""
    return flat.nonzero().flatten() if is_tensor(flat) else np.flatnonzero(flat)


def stable_order(x: Array, *, descending: bool = False) -> Array:
    """Indices that sort the last axis; equal values stay in their order."""
    if is_tensor(x):
        return x.sort(dim=-1, descending=descending, stable=True).indices
    return np.argsort(-x if descending else x, axis=-1, kind="stable")


def scatter_true(shape_of: Array, order: Array) -> Array:
    """A mask in the shape of ``shape_of``, True at ``order`` along the last axis."""
    if is_tensor(shape_of):
        import torch

        return torch.zeros(shape_of.shape, dtype=torch.bool, device=shape_of.device).scatter_(-1, order, True)
    mask = np.zeros(shape_of.shape, dtype=bool)
    np.put_along_axis(mask, order, True, axis=-1)
    return mask


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    """On the host as numpy."""
    return x.detach().cpu().numpy() if is_tensor(x) else np.asarray(x)


def largest(x: Array, n: int) -> Array:
    """A mask in the shape of ``x``, True at the ``n`` largest values of the last axis, the earlier of equal ones."""
    if is_tensor(x) and x.device.type == "cpu" and x.shape[-1] <= 16 and x.numel() >= 4096:
        return _largest_by_rank(x, n)
    return scatter_true(x, stable_order(x, descending=True)[..., :n])


def _largest_by_rank(x: Array, n: int) -> Array:
    """As :func:`largest`, for tensors: counts who is ahead of whom, several times as fast as sorting short axes."""
    import torch

    m = x.shape[-1]
    places = x.reshape(-1, m).t().contiguous()
    behind = torch.arange(m - 1, -1, -1, dtype=torch.int8, device=x.device)[:, None].repeat(1, places.shape[1])
    for apart in range(1, m):
        wins = (places[:-apart] >= places[apart:]).view(torch.int8)  # the earlier one over the one so far behind it
        behind[apart:] += wins
        behind[:-apart] -= wins
    return (behind < n).t().reshape(x.shape)
