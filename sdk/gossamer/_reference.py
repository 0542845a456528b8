"""Running the original model for comparison: ONNX Runtime, or LiteRT for a TFLite file where it is installed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gossamer._errors import BackendError, ModelError, UnsupportedError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Reference:
    """A runnable original. ``run`` takes arrays by input name and returns arrays in the order of ``outputs``."""

    engine: str
    inputs: list[str]
    outputs: list[str]
    run: Callable[[Mapping[str, Array]], list[Array]]


def open_reference(
    source: Any, *, example_inputs: Any = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> Reference:
    """Open the original model: whatever ``gossamer.load`` takes.

    Raises:
        ModelError: the model cannot be loaded.
        BackendError: the engine refuses it.
    """
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() == ".tflite":
        try:
            found = _litert(Path(source))
        except ImportError:
            found = None
        if found is not None:
            return found
        # Without LiteRT, or with a file that it refuses, the imported graph on ONNX Runtime is the next best.
    import onnx_ir as ir

    if isinstance(source, ir.Model):
        model = source
    else:
        from gossamer._load import load

        try:
            model = load(source, example_inputs=example_inputs)
        except UnsupportedError:  # perhaps a dynamic shape: the bundle's fix it
            if not shapes:
                raise
            model = load(source, example_inputs=example_inputs, input_shapes=shapes)
    return _onnxruntime(ir.to_proto(model).SerializeToString())


def _onnxruntime(model: bytes) -> Reference:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime's exceptions share no base class
        raise BackendError(f"ONNX Runtime refuses the original model: {e}", hint="compare with another file") from e

    def run(inputs: Mapping[str, Array]) -> list[Array]:
        return [np.asarray(y) for y in session.run(None, dict(inputs))]

    names = ([i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()])
    return Reference(f"onnxruntime {ort.__version__}", *names, run)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keeps what a C++ library logs off stderr, where ``--json`` promises JSON alone."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _litert(path: Path) -> Reference | None:
    """LiteRT's interpreter, or None when it refuses the file."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        content = path.read_bytes()
    except OSError as e:
        raise ModelError(f"cannot read the model: {e.strerror}", where=str(path), hint="check the path") from e
    try:
        with _silent():
            interpreter = Interpreter(model_content=content, num_threads=1)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError):
        return None
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(values: Mapping[str, Array]) -> list[Array]:
        interpreter.reset_all_variables()  # every sample starts anew, as in a session
        for detail in inputs:
            interpreter.set_tensor(detail["index"], values[detail["name"]])
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]).copy() for detail in outputs]

    return Reference("LiteRT", [d["name"] for d in inputs], [d["name"] for d in outputs], run)
