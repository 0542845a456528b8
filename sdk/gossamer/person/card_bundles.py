"""Accuracy of the shipped detector after pruning and quantising, measured in the native core."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gossamer.person.calibration_inputs import calibration_samples
from gossamer.person.dataset import PersonDataset
from gossamer.person.evaluate import bundle_predictor, evaluate


def measured(data: str | Path, model: str | Path, recipes: Sequence[str]) -> list[dict[str, Any]]:
    """Pack ``model`` with each recipe and evaluate the bundle on val and test.

    Args:
        data: folder of person128; its train photos calibrate, see :func:`calibration_samples`.
        model: the float32 ONNX file.
        recipes: names or paths of recipes.

    Returns:
        One entry per recipe: ``title``, ``sparsity`` (share of zero weights in pruned and dense layers together),
        ``bytes``, ``calibration`` (photos), ``val`` and ``test`` reports.
    """
    from gossamer import optimize

    people = PersonDataset(data)
    samples = calibration_samples(people)
    out = []
    for recipe in recipes:
        result = optimize(model, recipe=recipe, calibration=samples, key=False)
        predict = bundle_predictor(result.data, verify=False)
        out.append(
            {
                "title": recipe,
                "sparsity": _zeros(result.data),
                "bytes": len(result.data),
                "calibration": len(samples),
                "val": evaluate(predict, people, "val"),
                "test": evaluate(predict, people, "test"),
            }
        )
    return out


def _zeros(bundle: bytes) -> float:
    from gossamer_runtime import Session
    from gossamer_runtime._session import op_infos

    weights = [(op.weight_count, op.weight_nonzero) for op in op_infos(Session(bundle, verify=False))]
    return 1.0 - sum(n for _, n in weights) / max(1, sum(c for c, _ in weights))
