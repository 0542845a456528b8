"""Torch modules and .pt2 programs to ONNX through torch.export; sources are module path and line."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer._errors import ModelError, UnsupportedError
from gossamer.importers.source import SOURCE

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

OPSET = 20
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators named after their module, so that recipes can address them by its path."""
_FRAME = re.compile(r'File "(?P<path>[^"]+)", line (?P<line>\d+), in ')


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise UnsupportedError("reading torch models needs torch", hint="pip install 'gossamer[torch]'") from error
    return torch


def import_module(module: torch.nn.Module, example_inputs: Any, where: str) -> ir.Model:
    """The ONNX model of a module, traced in eval mode at the shapes of ``example_inputs``.

    The module is left as it was, its training flags included.

    Raises:
        ModelError: no example inputs, or the module does not run on them.
        UnsupportedError: torch.export cannot trace it, or an operator has no ONNX form.
    """
    torch = _torch()
    if example_inputs is None:
        raise ModelError(
            "a torch module needs example inputs: they fix the shapes",
            where=where,
            hint="load_model(module, example_inputs=torch.zeros(1, 3, 224, 224))",
        )
    arguments = example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    tensors = tuple(torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments)
    if not all(isinstance(t, torch.Tensor) for t in tensors):
        raise ModelError("example inputs must be tensors or numpy arrays", where=where)
    flags = [(part, part.training) for part in module.modules()]
    try:
        module.eval()
        with torch.no_grad(), _quiet():
            try:
                module(*tensors)
            except Exception as error:  # whatever the user's forward raises
                raise ModelError(
                    f"the module does not run on the example inputs: {_first_line(error)}",
                    where=where,
                    hint="check the example inputs' number, shapes and types against the module's forward()",
                ) from error
            try:
                program = torch.export.export(module, tensors)
            except Exception as error:  # torch.export has no common base for its refusals
                raise UnsupportedError(
                    f"torch.export cannot trace the module: {_first_line(error)}",
                    where=where,
                    hint="make forward() free of data-dependent Python, or export the model to ONNX yourself",
                ) from error
    finally:
        for part, training in flags:
            part.training = training
    return _to_onnx(program, where)


def import_pt2(data: bytes, where: str, name: str) -> ir.Model:
    """The ONNX model of a .pt2 archive; nothing in the archive is unpickled (see :mod:`.pt2`).

    Raises:
        ModelError: not a .pt2 archive, or a damaged one.
        UnsupportedError: pickled objects, dynamic shapes, foreign operators.
    """
    from gossamer.importers.pt2 import clean

    torch = _torch()
    cleaned = clean(data, where)
    with _quiet():
        try:
            program = torch.export.load(io.BytesIO(cleaned))
        except Exception as error:  # torch's deserialiser raises whatever its asserts and lookups raise
            raise ModelError(
                f"torch cannot read this .pt2 archive: {_first_line(error)}",
                where=where,
                hint=f"it is damaged, or from another torch version than {torch.__version__}: export it again",
            ) from error
    model = _to_onnx(program, where)
    model.graph.name = name
    return model


def _to_onnx(program: Any, where: str) -> ir.Model:
    torch = _torch()
    with _quiet():
        try:
            exported = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
        except Exception as error:  # OnnxExporterError wraps most failures, but not all
            raise UnsupportedError(
                f"torch.onnx cannot express the module: {_cause(error)}",
                where=where,
                hint="replace the operator, or export the model to ONNX yourself",
            ) from error
    model: ir.Model = exported.model
    for node in model.graph:
        path, line = _source(node)
        node.metadata_props.clear()
        node.doc_string = None
        node.metadata_props[SOURCE] = (f"{path} ({line})" if path and line else path or line) or str(node.name)
        if path and node.op_type in WEIGHTED and any(v is not None and v.is_initializer() for v in node.inputs):
            node.name = path
    for value in [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]:
        value.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
        value.doc_string = None
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    model.graph.name = where
    return model


def _source(node: ir.Node) -> tuple[str, str]:
    """Module path and ``file.py:line`` of a node, from the exporter's name scopes, stack trace and weight names."""
    metadata = node.metadata_props
    path = ""
    with contextlib.suppress(ValueError, SyntaxError):
        scopes = [str(s) for s in ast.literal_eval(metadata.get("pkg.torch.onnx.name_scopes", "[]"))]
        path = next((s for s in reversed(scopes[:-1]) if s), scopes[-1] if scopes else "")
    weight = node.inputs[1].name if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if node.op_type in WEIGHTED and weight and weight.endswith(".weight"):
        path = weight.removesuffix(".weight")  # a fused batch norm leaves its own path on the convolution
    frames = [(m["path"], m["line"]) for m in _FRAME.finditer(metadata.get("pkg.torch.onnx.stack_trace", ""))]
    user = [f for f in frames if "/torch/" not in f[0].replace("\\", "/")]
    return path, f"{Path(user[-1][0]).name}:{user[-1][1]}" if user else ""


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _cause(error: BaseException) -> str:
    """The innermost reason: exporters wrap it several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _first_line(error)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporter's progress prints, its log of optional packages, and its own deprecation warnings."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch._export", "torch.fx", "onnxscript")
    ]
    levels = [logger.level for logger in loggers]
    sink = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
