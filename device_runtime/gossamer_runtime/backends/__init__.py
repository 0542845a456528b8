"""External backends: what runs the partitions that the core lacks operators for.

A bundle's EXTERN section holds one backend's own model (ONNX, TFLite, or a compiled TVM library). ``open_backend``
makes it runnable; the backend's package is imported only then, so a model without partitions needs numpy alone.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy.typing as npt

from gossamer_runtime._errors import BackendError

__all__ = ["NAMES", "Array", "Backend", "open_backend"]

Array = npt.NDArray[Any]

NAMES = {1: "onnxruntime", 2: "litert", 3: "tvm"}
"""Module of this package by the ``GS_BACKEND_*`` number in the bundle."""


class Backend(Protocol):
    """One partition, ready to run."""

    def run(self, inputs: list[Array]) -> list[Array]:
        """Runs once.

        ``inputs`` are C-contiguous arrays in the partition's order, with the dtypes and shapes of the plan; the result
        holds the outputs in the partition's order, C-contiguous, likewise. Inputs are only read, and only until this
        returns.
        """
        ...


def open_backend(backend: int | str, payload: bytes, *, threads: int = 1, where: str = "") -> Backend:
    """Opens partition ``payload`` with a backend (name or ``GS_BACKEND_*`` number).

    ``where`` names the bundle and partition for messages. Raises ``BackendError`` when the backend is unknown, its
    package is not installed (the message names the extra), or it refuses the payload.
    """
    name = NAMES.get(backend, str(backend)) if isinstance(backend, int) else backend
    if name not in NAMES.values():
        raise BackendError(
            f"the bundle asks for backend {name!r}, which this runtime does not have",
            where=where or None,
            hint=f"it has {', '.join(NAMES.values())}; build the bundle with one of these in policy.fallback",
        )
    module = importlib.import_module(f"{__name__}.{name}")
    try:
        made: Backend = module.open(payload, threads=threads)
    except BackendError:
        raise
    except ImportError as error:
        raise BackendError(
            f"a part of this model runs on {name}, whose Python package is not installed ({error})",
            where=where or None,
            hint=f"pip install 'gossamer-runtime[{name}]'",
        ) from error
    except Exception as error:  # whatever the backend raises on a payload it cannot read
        raise BackendError(
            f"{name} cannot open its part of the model: {error}",
            where=where or None,
            hint="the bundle may be damaged or built for another machine; build it again for this target",
        ) from error
    return made
