"""Modules by the names that a user gives: a wrong one is answered with the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gossamer._errors import InputError

if TYPE_CHECKING:
    from torch import nn


def modules_named(model: nn.Module, names: Iterable[str], who: str) -> dict[str, nn.Module]:
    """The modules of ``model`` called ``names`` in ``named_modules``, in that order.

    Args:
        who: what the error calls the model.

    Raises:
        InputError: there is none of a name; the hint lists the nearest.
    """
    known = dict(model.named_modules())
    found = {}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or [n for n in known if n][:8]
            raise InputError(f"the {who} has no layer '{name}'", where=name, hint=f"nearest layers: {', '.join(near)}")
        found[name] = known[name]
    return found
