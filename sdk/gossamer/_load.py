"""``gossamer.load``: a model file or object becomes one ONNX graph."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer._errors import GossamerError, ModelError

if TYPE_CHECKING:
    import onnx_ir


def load(
    source: Any,
    *,
    example_inputs: Any = None,
    name: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> onnx_ir.Model:
    """Load a model from ONNX, TFLite or torch.

    Args:
        source: path of an ``.onnx``, ``.tflite`` or ``.pt2`` file, its bytes, a ``torch.nn.Module`` (with
            ``example_inputs``), an ``onnx.ModelProto`` or an ``onnx_ir.Model``.
        example_inputs: for a ``torch.nn.Module``: the tensors of one call.
        name: name of the model; by default the file's stem.
        input_shapes: fixes dynamic dimensions of an ONNX model, by input name.

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
    try:
        return load_model(source, example_inputs=example_inputs, name=name, input_shapes=input_shapes)
    except (GossamerError, MemoryError):
        raise
    except Exception as e:  # a damaged file can make the libraries that parse it raise anything
        reason = str(e).strip().split("\n")[0]
        raise ModelError(
            f"the model cannot be read: {type(e).__name__}: {reason}",
            where=str(source) if isinstance(source, (str, os.PathLike)) else None,
            hint="the file is probably damaged: export or copy it again",
        ) from e
