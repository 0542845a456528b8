"""Gossamer: make neural networks sparse, pack them into one signed bundle, and run them everywhere.

::

    import gossamer

    result = gossamer.optimize("model.onnx", recipe="1x4-75-int8", calibration="photos/", output="model.goss")
    print(result.table())

    from gossamer_runtime import Session
    y = Session("model.goss").run(x)

Every name below is loaded when it is first used, so that ``import gossamer`` stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gossamer._errors import (
    BackendError,
    BundleError,
    CalibrationError,
    CompileError,
    GossamerError,
    InputError,
    KeyFileError,
    LibraryError,
    MismatchError,
    ModelError,
    OutOfMemoryError,
    OutputError,
    RecipeError,
    SignatureError,
    UnsupportedError,
)
from gossamer._version import __version__

if TYPE_CHECKING:
    from gossamer._load import load as load
    from gossamer._optimize import LayerRow as LayerRow
    from gossamer._optimize import OptimizeResult as OptimizeResult
    from gossamer._optimize import optimize as optimize
    from gossamer._verify_against import Agreement as Agreement
    from gossamer._verify_against import verify_against as verify_against
    from gossamer.recipe import Recipe as Recipe
    from gossamer.recipe import load_recipe as load_recipe
    from gossamer.search.auto import optimize_auto as optimize_auto
    from gossamer.search.result import SearchResult as SearchResult

_LAZY = {
    "Agreement": "gossamer._verify_against",
    "LayerRow": "gossamer._optimize",
    "OptimizeResult": "gossamer._optimize",
    "Recipe": "gossamer.recipe",
    "SearchResult": "gossamer.search.result",
    "load": "gossamer._load",
    "load_recipe": "gossamer.recipe",
    "optimize": "gossamer._optimize",
    "optimize_auto": "gossamer.search.auto",
    "verify_against": "gossamer._verify_against",
}

__all__ = [
    "Agreement",
    "BackendError",
    "BundleError",
    "CalibrationError",
    "CompileError",
    "GossamerError",
    "InputError",
    "KeyFileError",
    "LayerRow",
    "LibraryError",
    "MismatchError",
    "ModelError",
    "OptimizeResult",
    "OutOfMemoryError",
    "OutputError",
    "Recipe",
    "RecipeError",
    "SearchResult",
    "SignatureError",
    "UnsupportedError",
    "__version__",
    "load",
    "load_recipe",
    "optimize",
    "optimize_auto",
    "verify_against",
]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'gossamer' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
