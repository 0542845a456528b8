"""One door for every model: a path, bytes, a torch module, an ONNX proto or an onnx_ir model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer._errors import ModelError, UnsupportedError

if TYPE_CHECKING:
    import onnx_ir

MAX_BYTES = 1 << 31
SUFFIXES = (".onnx", ".tflite", ".pt2")


def load_model(
    source: Any,
    *,
    example_inputs: Any = None,
    name: str | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> onnx_ir.Model:
    """Read a model from wherever it is into one ONNX graph with static shapes.

    The result uses opset 13 or later, is NCHW inside and keeps the user's inputs and outputs: names, shapes, types (a
    TFLite NHWC input stays NHWC, an int8 one stays int8). Quantised TFLite models become QDQ ONNX. Every node carries
    ``metadata_props["gossamer.source"]``: where the user wrote it. TFLite operators that ONNX lacks become nodes of
    domain ``gossamer.tflite`` whose attribute ``tflite`` is a .tflite file with that operator alone.

    Args:
        source: path of a .onnx, .tflite or .pt2 file; the bytes of one; a ``torch.nn.Module``; an
            ``onnx.ModelProto``; an ``onnx_ir.Model`` (left unchanged).
        example_inputs: for a torch module: a tensor, or a tuple of tensors; they fix every dimension.
        name: name of the graph; default: the file's stem or the module's class name.
        input_shapes: fixes dynamic input dimensions of an ONNX model: ``{input name: shape}``.

    Raises:
        ModelError: missing, empty, truncated, damaged or of another type; NaN in its weights; external data.
        UnsupportedError: well formed, but with an operator, type or dynamic shape that cannot be handled.
    """
    from gossamer.importers.finish import finish

    if isinstance(source, (str, Path)):
        path = Path(source)
        data = _read(path)
        kind = sniff(data, str(path))
        return finish(_from_bytes(data, kind, str(path), name or path.stem, input_shapes, path), str(path))
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        where = name or "model bytes"
        return finish(_from_bytes(data, sniff(data, where), where, name or "model", input_shapes, None), where)
    model, where = _from_object(source, example_inputs, name, input_shapes)
    return finish(model, where)


def _from_object(
    source: Any, example_inputs: Any, name: str | None, input_shapes: Mapping[str, Sequence[int]] | None
) -> tuple[onnx_ir.Model, str]:
    import onnx
    import onnx_ir

    if isinstance(source, onnx_ir.Model):
        from gossamer.importers.source import to_proto

        source = to_proto(source)
    if isinstance(source, onnx.ModelProto):
        from gossamer.importers.onnx_model import import_proto

        where = name or source.graph.name or "ONNX model"
        copy = onnx.ModelProto()
        copy.CopyFrom(source)
        if name:
            copy.graph.name = name
        return import_proto(copy, where, input_shapes), where
    if _is_torch_module(source):
        from gossamer.importers.torch_model import import_module

        where = name or type(source).__name__
        return _as_asked(import_module(source, example_inputs, where), where, input_shapes), where
    raise ModelError(
        f"cannot read a model from {type(source).__name__}",
        hint="give a path (.onnx, .tflite, .pt2), bytes, a torch.nn.Module, an onnx.ModelProto or an onnx_ir.Model",
    )


def _is_torch_module(source: Any) -> bool:
    return any(cls.__module__ == "torch.nn.modules.module" and cls.__name__ == "Module" for cls in type(source).__mro__)


def _read(path: Path) -> bytes:
    where = str(path)
    try:
        if path.is_dir():
            raise ModelError("this is a folder, not a model file", where=where)
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ModelError(f"{size} bytes: models above {MAX_BYTES} bytes are not read", where=where)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError("no such model file", where=where, hint="check the path") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"the model file cannot be read: {error}", where=where) from error


def sniff(data: bytes, where: str) -> str:
    """``onnx``, ``tflite`` or ``pt2`` by content, whatever the suffix; ``ModelError`` for anything else."""
    suffix = Path(where).suffix.lower()
    if not data:
        raise ModelError("the model file is empty", where=where, hint="export or copy it again")
    if data[4:8] == b"TFL3" or suffix == ".tflite":
        return "tflite"
    if data[:2] == b"PK":
        if suffix in (".pt", ".pth", ".ckpt", ".bin"):
            raise _pickled(where)
        return "pt2"
    if data[:1] == b"\x80" or suffix in (".pt", ".pth", ".ckpt", ".pkl"):
        raise _pickled(where)
    if data[:8] == b"GOSSAMER":
        raise ModelError(
            "this is a compiled bundle, not a model", where=where, hint="gossamer run or gossamer inspect read bundles"
        )
    if data[:8] == b"\x89HDF\r\n\x1a\n" or suffix in (".h5", ".keras"):
        raise UnsupportedError(
            "Keras files are not read", where=where, hint="convert the model to .tflite (tf.lite.TFLiteConverter) first"
        )
    if suffix == ".pt2":
        raise ModelError(
            "not a .pt2 archive: it does not start as a zip file", where=where, hint="save with torch.export.save"
        )
    if data[:1] != b"\x08" and suffix != ".onnx":
        raise ModelError(
            "not a model: neither ONNX, TFLite nor a torch.export archive",
            where=where,
            hint="give a .onnx, .tflite or .pt2 file",
        )
    return "onnx"


def _pickled(where: str) -> UnsupportedError:
    return UnsupportedError(
        "a pickled torch file can run any code when it is opened, so it is not read",
        where=where,
        hint="load it yourself and pass the module: load_model(module, example_inputs=x), "
        "or save it with torch.export.save(torch.export.export(module, (x,)), 'model.pt2')",
    )


def _as_asked(model: onnx_ir.Model, where: str, shapes: Mapping[str, Sequence[int]] | None) -> onnx_ir.Model:
    """``model``, of a format with fixed shapes, when ``shapes`` names its inputs and says what they are anyway."""
    inputs = {value.name: value for value in model.graph.inputs}
    for name, shape in (shapes or {}).items():
        if name not in inputs:
            known = ", ".join(str(n) for n in inputs)
            raise ModelError(
                f"input_shapes names '{name}', which is not an input", where=where, hint=f"inputs: {known}"
            )
        fixed = inputs[name].shape
        if fixed is not None and fixed.is_static() and tuple(fixed.numpy()) != tuple(shape):
            raise ModelError(
                f"input_shapes gives {list(shape)} for '{name}', which is fixed to {list(fixed.numpy())}",
                where=where,
                hint="only ONNX models have shapes to fix: export this one with the shape you want",
            )
    return model


def _from_bytes(
    data: bytes,
    kind: str,
    where: str,
    name: str,
    input_shapes: Mapping[str, Sequence[int]] | None,
    path: Path | None,
) -> onnx_ir.Model:
    if kind == "tflite":
        from gossamer.importers.tflite import import_tflite

        return _as_asked(import_tflite(data, where, name), where, input_shapes)
    if kind == "pt2":
        from gossamer.importers.torch_model import import_pt2

        return _as_asked(import_pt2(data, where, name), where, input_shapes)
    from gossamer.importers.onnx_model import import_proto, parse

    return import_proto(parse(data, where), where, input_shapes)
