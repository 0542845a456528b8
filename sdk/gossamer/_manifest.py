"""Filling the manifest: meaning of inputs and outputs, provenance, layer records."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer import _images
from gossamer._errors import ModelError, UnsupportedError
from gossamer._proto.v1 import manifest_pb2 as pb

if TYPE_CHECKING:
    import onnx_ir

    from gossamer.recipe import Recipe

METADATA_KEY = "gossamer.manifest"
"""Key of an ONNX model's metadata_props: JSON with ``name``, ``version``, ``description``, ``license``, ``labels``,
``logits``, ``threshold`` and ``preprocess`` (``resize``, ``colour``, ``mean``, ``std`` as in a recipe)."""


def model_metadata(model: onnx_ir.Model) -> dict[str, Any]:
    """What the model file itself says about its meaning; empty where it says nothing."""
    text = model.metadata_props.get(METADATA_KEY)
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError as e:
        raise ModelError(f"the model's metadata {METADATA_KEY!r} is not JSON: {e}") from e
    return value if isinstance(value, dict) else {}


def model_ports(values: Iterable[Any], side: str) -> list[pb.Port]:
    """Ports of an onnx_ir graph's inputs or outputs.

    Raises:
        UnsupportedError: a shape is dynamic, or a type has no numpy name.
    """
    ports = []
    for value in values:
        name = value.name or ""
        if value.shape is None or not all(isinstance(d, int) for d in value.shape.dims):
            if side == "output":
                ports.append(pb.Port(name=name))
                continue
            raise UnsupportedError(
                f"input {name!r} has no fixed shape: {value.shape}",
                hint=f"export it with fixed shapes, or give one: input_shapes={{{name!r}: (1, 3, 224, 224)}} "
                f"(--shape {name}=1,3,224,224)",
            )
        dtype = value.dtype.numpy().name if value.dtype is not None else ""
        ports.append(pb.Port(name=name, dtype=dtype, shape=[int(d) for d in value.shape.dims]))
    return ports


def image_from(spec: Any, port: pb.Port) -> pb.ImagePreprocessing | None:
    """Preprocessing of ``port`` from a preset's name, a mapping or a recipe's ``Preprocess``; None: not a picture."""
    dtype, shape = np.dtype(port.dtype), list(port.shape)
    if isinstance(spec, pb.ImagePreprocessing):
        return spec
    if isinstance(spec, str):
        return _images.preprocessing(shape, dtype, spec)
    if not isinstance(spec, Mapping):
        spec = {k: getattr(spec, k) for k in ("resize", "colour", "mean", "std")}
    colour = spec.get("colour", "rgb")
    image = _images.preprocessing(
        shape,
        dtype,
        "raw",
        channels="bgr" if colour == "bgr" else "rgb",
        resize="crop" if spec.get("resize") == "crop" else "stretch",
    )
    if image is not None:
        image.raw_bytes = False
        image.mean[:], image.std[:] = _floats(spec.get("mean", 0.0)), _floats(spec.get("std", 1.0))
    return image


def choose_image(explicit: Any, recipe: Recipe | None, metadata: Mapping[str, Any], port: pb.Port) -> None:
    """Set ``port.image``: the caller's word, else the recipe's own, else the model's, else the customary default.

    8-bit inputs take the picture's bytes by default; floats what a recipe's ``preprocess`` has as default.
    """
    step = recipe.quantize if recipe is not None else None
    spec: Any = None
    if explicit is not None:
        spec = explicit
    elif step is not None and "preprocess" in step.model_fields_set:
        spec = step.preprocess
    elif "preprocess" in metadata:
        spec = metadata["preprocess"]
    elif np.dtype(port.dtype).itemsize == 1:
        spec = "raw"
    else:
        from gossamer.recipe import Preprocess

        spec = Preprocess()
    image = image_from(spec, port)
    if image is not None:
        port.image.CopyFrom(image)


def postprocessing(labels: Sequence[str] | None, metadata: Mapping[str, Any], port: pb.Port, last_op: str) -> None:
    """Set ``port.postprocessing`` of an output that scores classes.

    ``logits`` is the model's word, else true unless the output comes from a Softmax or Sigmoid.
    """
    names = list(labels) if labels is not None else list(metadata.get("labels", []))
    size = int(np.prod(port.shape)) if port.shape else 0
    if not names and not (len(port.shape) == 2 and port.shape[0] == 1 and size > 1):
        return
    post = port.postprocessing
    post.kind = post.KIND_BINARY if size == 1 else post.KIND_CLASSES
    if names and size > 1 and len(names) != size:
        raise ModelError(f"{len(names)} labels for output {port.name!r} of {size} classes", hint="give one a class")
    post.labels[:] = names
    post.logits = bool(metadata.get("logits", last_op not in ("Softmax", "Sigmoid")))
    post.threshold = float(metadata.get("threshold", 0.0))


def last_op(graph: onnx_ir.Model) -> str:
    """Type of the node that makes the first output, looking through Q/DQ and reshapes."""
    value = graph.graph.outputs[0]
    node = value.producer()
    while node is not None and node.op_type in (
        "QuantizeLinear",
        "DequantizeLinear",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Identity",
        "Transpose",
        "Cast",
    ):
        node = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    return node.op_type if node is not None else ""


def file_digest(source: Any, raw: bytes | None, role: str) -> pb.Digest:
    """SHA-256 of what the bundle was made from: the file's bytes where there is a file."""
    name = ""
    if isinstance(source, (str, os.PathLike)):
        name, raw = Path(source).name, Path(source).read_bytes()
    raw = raw or b""
    return pb.Digest(role=role, name=name, sha256=hashlib.sha256(raw).hexdigest(), bytes=len(raw))


def tools() -> dict[str, str]:
    """Versions of what takes part in building."""
    from gossamer._version import __version__

    found = {"gossamer": __version__}
    for package in ("numpy", "onnx", "onnx-ir", "onnxruntime"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _floats(value: Any) -> list[float]:
    values = [float(v) for v in value] if isinstance(value, (list, tuple)) else [float(value)]
    return [] if not any(values) else values


def kernels(data: bytes) -> dict[str, Any]:
    """Operator records of the core by name: kernel, type, MACs on this machine."""
    from gossamer_runtime import BackendError, Session
    from gossamer_runtime._session import op_infos

    try:
        with Session(data, verify=False, allow_unverified_code=True) as session:  # our own bytes, made just now
            return {info.name: info for info in op_infos(session)}
    except BackendError:
        return {}  # the bundle is for a device that has the backend


def layer(record: Any, choice: Any, pruned: Any, infos: Mapping[str, Any], sources: Mapping[str, str]) -> pb.Layer:
    """The record of one weighted operator: as encoded, as chosen, as pruned, and as it runs on this machine."""
    info = infos.get(record.name)
    reasons = [choice.reason if choice is not None else "", record.reason, pruned.reason if pruned is not None else ""]
    return pb.Layer(
        name=record.name,
        source=sources.get(record.name, ""),
        kind=info.kind if info is not None else "",
        dtype=info.dtype if info is not None else "",
        pruned_pattern=choice.asked if choice is not None else record.asked,
        pattern=record.pattern,
        sparsity_percent=round(100.0 * record.sparsity, 4),
        weights=record.weights,
        macs=info.macs if info is not None else 0,
        stored_bytes=record.stored_bytes,
        dense_bytes=record.dense_bytes,
        kernel=info.kernel if info is not None else "",
        dense_us=round(choice.dense_us or 0.0, 3) if choice is not None else 0.0,
        sparse_us=round(choice.sparse_us or 0.0, 3) if choice is not None else 0.0,
        reason="; ".join(dict.fromkeys(r for r in reasons if r)),
    )
