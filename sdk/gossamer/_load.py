"""``gossamer.load``: a model file or object becomes one ONNX graph."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer._errors import ModelError

if TYPE_CHECKING:
    import onnx_ir


def load(source: Any, *, example_inputs: Any = None, name: str | None = None) -> onnx_ir.Model:
    """Load a model from ONNX, TFLite or torch.

    Args:
        source: path of an ``.onnx``, ``.tflite`` or ``.pt2`` file, its bytes, a ``torch.nn.Module`` (with
            ``example_inputs``), an ``onnx.ModelProto`` or an ``onnx_ir.Model``.
        example_inputs: for a ``torch.nn.Module``: the tensors of one call.
        name: name of the model; by default the file's stem.

    Returns:
        The graph as ``onnx_ir.Model``; every node carries ``metadata_props["gossamer.source"]``.

    Raises:
        ModelError: the file is missing, broken or of an unknown type.
        UnsupportedError: the model is well formed but cannot be handled.
    """
    from gossamer.importers import load_model

    if isinstance(source, (str, os.PathLike)) and Path(source).suffix == ".goss":
        raise ModelError(
            "a bundle is a finished model and cannot be loaded as a graph",
            where=str(source),
            hint="run it with gossamer_runtime.Session(path), or load the model it was made from",
        )
    return load_model(source, example_inputs=example_inputs, name=name)
