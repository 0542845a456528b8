"""Every training method by name; nothing here loads torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from gossamer._errors import RecipeError
from gossamer.sparsify.training.method import Method
from gossamer.sparsify.training.methods.bdwp import BidirectionalPruning
from gossamer.sparsify.training.methods.global_magnitude import GlobalMagnitude
from gossamer.sparsify.training.methods.gradual_magnitude import GradualMagnitude
from gossamer.sparsify.training.methods.granet import GraNet
from gossamer.sparsify.training.methods.group_envelope import GroupEnvelope
from gossamer.sparsify.training.methods.iss_p import IterativeSoftShrinkage
from gossamer.sparsify.training.methods.mask_sparsity import MaskSparsity
from gossamer.sparsify.training.methods.progressive_flow import ProgressiveFlow
from gossamer.sparsify.training.methods.random import Random
from gossamer.sparsify.training.methods.rigl import RigL
from gossamer.sparsify.training.methods.sap import SAP
from gossamer.sparsify.training.methods.set import SET
from gossamer.sparsify.training.methods.sr_ste import SparseRefinedSTE

METHODS: dict[str, type[Method]] = {
    m.name: m
    for m in (
        GradualMagnitude,
        GlobalMagnitude,
        GraNet,
        RigL,
        SET,
        Random,
        IterativeSoftShrinkage,
        SAP,
        SparseRefinedSTE,
        BidirectionalPruning,
        ProgressiveFlow,
        MaskSparsity,
        GroupEnvelope,
    )
}
"""Name to class, in the order in which they are listed."""


def get_method(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """The method called ``name`` with its options.

    Raises:
        RecipeError: no such method or option, or a value out of range; the message names it.
    """
    found = METHODS.get(name)
    if found is None:
        near = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise RecipeError(f"no training method '{name}'", hint=f"{hint}There are {', '.join(METHODS)}", field="method")
    try:
        return found(**dict(options or {}))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "options"
        raise RecipeError(
            f"method '{name}', option '{field}': {first['msg']}",
            hint=f"options: {', '.join(found.model_fields) or 'none'}",
            field=f"options.{field}",
        ) from error
