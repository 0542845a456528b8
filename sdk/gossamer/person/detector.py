"""Person detectors of any kind behind one call: bundles, ONNX and TFLite files, and weights of our own networks.

What a photo becomes and which output means "person" is taken from the model: a bundle's manifest, or the metadata of an
ONNX file. Where a model does not say, the customary answer is taken and noted (``assumed``), or the caller's.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gossamer import _images, _manifest
from gossamer._errors import InputError, ModelError, UnsupportedError
from gossamer._proto.v1 import manifest_pb2 as pb

if TYPE_CHECKING:
    import onnx_ir
    from PIL.Image import Image

SUFFIXES = (".goss", ".onnx", ".tflite", ".pt")
PERSON = "person"


@dataclass(frozen=True)
class Score:
    """What a detector says about one photo.

    Attributes:
        probability: of a person, 0..1.
        margin: of the output that means "person" over the others (over a half for a lone output); orders photos where
            the probability saturates.
        called: whether the model itself says "person": its output is the largest. Equal outputs, which int8 models
            have, go to the first one, as argmax does.
    """

    probability: float
    margin: float
    called: bool


@dataclass(frozen=True)
class Detector:
    """An opened model: :meth:`score` takes a photo of any size.

    Attributes:
        path: the file.
        engine: what runs it.
        input: the port that takes the photo, with its preprocessing.
        output: the port that answers, with labels and whether they are logits.
        person: number of the output that means "person".
        assumed: what the model does not say and was taken for granted, in words.
        sha256, bytes: of the file.
    """

    path: Path
    engine: str
    input: pb.Port
    output: pb.Port
    person: int
    inverted: bool
    assumed: tuple[str, ...]
    sha256: str
    bytes: int
    run: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = field(repr=False)

    def score(self, image: Image, name: str = "") -> Score:
        """Prepare a photo as the model wants it, run the model, read its answer.

        Args:
            image: any size and mode.
            name: of the photo, for errors.

        Raises:
            ModelError: an output is not a number.
        """
        values = self.run(_images.to_input(image, self.input))
        real = _images.dequantised(values, self.output.scale, self.output.zero_point).reshape(-1)
        if real.size != int(np.prod(self.output.shape)):
            raise ModelError(f"{real.size} outputs instead of {list(self.output.shape)}", where=str(self.path))
        if not np.isfinite(real).all():
            raise ModelError(
                "the model's output is not a number", where=f"{self.path}, photo {name}", hint="its training diverged"
            )
        return self._read(real)

    def describe(self) -> dict[str, Any]:
        """For reports: file, digest, engine, input, and what was assumed."""
        image = self.input.image
        return {
            "file": self.path.name,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "engine": self.engine,
            "input": {"shape": list(self.input.shape), "dtype": self.input.dtype, "preprocessing": _in_words(image)},
            "labels": list(self.output.postprocessing.labels),
            "person_output": self.person,
            "assumed": list(self.assumed),
        }

    def _read(self, real: npt.NDArray[np.float64]) -> Score:
        logits = self.output.postprocessing.logits
        if real.size == 1:
            value = float(real[0])
            probability, margin = (_sigmoid(value), value) if logits else (min(max(value, 0.0), 1.0), value - 0.5)
            if self.inverted:
                probability, margin = 1.0 - probability, -margin
            return Score(probability, margin, margin > 0)
        called = int(real.argmax()) == self.person
        own, others = float(real[self.person]), np.delete(real, self.person)
        if logits:
            top = float(others.max())
            margin = own - (top + math.log(float(np.exp(others - top).sum())))
            return Score(_sigmoid(margin), margin, called)
        rest = float(others.sum())
        return Score(own / (own + rest) if own + rest > 0 else 0.5, own - rest, called)


def open_detector(
    path: str | Path,
    *,
    labels: Sequence[str] | None = None,
    preprocess: str | None = None,
    network: str | None = None,
    session: Callable[[Path], Any] | None = None,
) -> Detector:
    """Open a person detector.

    Args:
        path: ``.goss`` (native core), ``.onnx`` (ONNX Runtime), ``.tflite`` (LiteRT, else ONNX Runtime) or ``.pt``
            (weights of a :class:`gossamer.person.models.PersonNet`, exported and run by ONNX Runtime).
        labels: names of the outputs in their order, one of them ``person``; by default the model's own. For a model
            that orders them otherwise than it says, or says nothing.
        preprocess: preset of :func:`gossamer._images.preprocessing`, squashed to the input's size; by default what the
            model says, else its bytes for 8-bit inputs and 0..1 for floats.
        network: name of the network that ``.pt`` weights belong to; by default the start of the file's name.
        session: opens a bundle; by default with one thread, its signature checked.

    Raises:
        ModelError: the file is missing or broken, has several inputs, takes no photo, or its labels name no person.
        UnsupportedError: height or width of the input are open, or the file holds what cannot be handled.
        InputError: ``labels`` or ``preprocess`` do not fit the model.
        BundleError, SignatureError: as :class:`gossamer_runtime.Session`.
    """
    place = Path(path)
    if place.suffix not in SUFFIXES:
        raise ModelError("not a model file", where=str(place), hint=f"give one of {', '.join(SUFFIXES)}")
    try:
        content = place.read_bytes()
    except OSError as e:
        raise ModelError(f"cannot read the model: {e.strerror}", where=str(place), hint="check the path") from e
    assumed: list[str] = []
    if place.suffix == ".goss":
        engine, source, target, run = _bundle(place, session)
        if preprocess is not None:
            source.image.CopyFrom(_preset(source, preprocess, place))
    else:
        model: Any = _exported(place, network) if place.suffix == ".pt" else place
        engine, source, target, run = _graph(model, place, labels, preprocess, assumed)
    if not source.HasField("image"):
        raise ModelError(
            f"input {source.name!r} of shape {list(source.shape)} takes no photo",
            where=str(place),
            hint="a person detector has one input [1, 3, H, W], [1, H, W, 3], or with 1 channel",
        )
    person, inverted = _person(target, labels, place, assumed)
    digest = hashlib.sha256(content).hexdigest()
    return Detector(place, engine, source, target, person, inverted, tuple(assumed), digest, len(content), run)


Opened = tuple[str, pb.Port, pb.Port, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]]


def _bundle(path: Path, session: Callable[[Path], Any] | None) -> Opened:
    from gossamer.bundle.manifest import from_dict
    from gossamer_runtime import Session

    opened = session(path) if session is not None else Session(path)
    manifest = from_dict(opened.manifest)
    if len(manifest.inputs) != 1 or len(manifest.outputs) != 1:
        raise ModelError(
            f"{len(manifest.inputs)} inputs and {len(manifest.outputs)} outputs",
            where=str(path),
            hint="a person detector has one of each",
        )
    source, target = pb.Port(), pb.Port()
    source.CopyFrom(manifest.inputs[0])
    target.CopyFrom(manifest.outputs[0])

    def run(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(opened.run({source.name: x})[target.name])

    return "gossamer", source, target, run


def _exported(path: Path, network: str | None) -> onnx_ir.Model:
    import onnx_ir as ir

    from gossamer._load import load
    from gossamer.person.onnx_export import to_onnx
    from gossamer.person.preprocess import model_metadata
    from gossamer.person.weights import load_network

    known = re.match(r"(v1|v2|mcunet)-\d+(\.\d+)?(-grey)?", path.name)
    if network is None and known is None:
        raise ModelError(
            "the file's name does not start with its network's",
            where=str(path),
            hint="name the network: --network v1-0.25",
        )
    net = load_network(path, network or str(known and known[0].rstrip(".")))
    content = to_onnx(net, {_manifest.METADATA_KEY: json.dumps(model_metadata(net.name, net.channels))})
    model: ir.Model = load(content, name=net.name)
    return model


def _graph(source: Any, path: Path, labels: Sequence[str] | None, preprocess: str | None, assumed: list[str]) -> Opened:
    from gossamer._reference import open_reference

    graph = source if path.suffix == ".pt" else _loaded(path)
    if len(graph.graph.inputs) != 1 or len(graph.graph.outputs) != 1:
        raise ModelError(
            f"{len(graph.graph.inputs)} inputs and {len(graph.graph.outputs)} outputs",
            where=str(path),
            hint="a person detector has one of each",
        )
    (port,), outputs = _manifest.model_ports(graph.graph.inputs, "input"), graph.graph.outputs
    meta = _manifest.model_metadata(graph)
    port.scale, port.zero_point = _quantisation(graph.graph.inputs[0], "DequantizeLinear")
    if preprocess is not None:
        port.image.CopyFrom(_preset(port, preprocess, path))
    elif "preprocess" in meta:
        _manifest.choose_image(None, None, meta, port)
    else:
        preset = "raw" if np.dtype(port.dtype).itemsize == 1 else "unit"
        image = _images.preprocessing(list(port.shape), np.dtype(port.dtype), preset)
        if image is not None:
            port.image.CopyFrom(image)
            assumed.append(f"preprocessing: {preset}, squashed (--preprocess gives another)")
    (target,) = _manifest.model_ports(outputs, "output")
    if not target.shape:
        target.shape[:] = [1, 2]  # left open by the graph; what comes is checked by what it holds
    target.scale, target.zero_point = _quantisation(outputs[0], "QuantizeLinear")
    size = int(np.prod(target.shape))
    if labels is not None and size > 1 and len(labels) != size:
        raise InputError(f"{len(labels)} labels for {size} outputs", where=str(path))
    last = _manifest.last_op(graph)
    _manifest.postprocessing(labels, meta, target, last)
    if size == 1:
        target.postprocessing.kind = target.postprocessing.KIND_BINARY
        target.postprocessing.logits = bool(meta.get("logits", last not in ("Softmax", "Sigmoid")))
    reference = open_reference(source if path.suffix == ".tflite" else graph)
    (name,) = reference.inputs

    def run(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return reference.run({name: x})[0]

    return reference.engine, port, target, run


def _loaded(path: Path) -> onnx_ir.Model:
    """The graph; where it takes any number of photos, with one.

    Raises:
        ModelError, UnsupportedError: as :func:`gossamer.load`.
    """
    from gossamer._load import load

    try:
        return load(path)
    except UnsupportedError:
        if path.suffix != ".onnx":
            raise
        import onnx

        inputs = onnx.load(str(path), load_external_data=False).graph.input
        if len(inputs) != 1:
            raise
        _, *rest = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim] or [0]
        if not rest or not all(rest):
            raise
        return load(path, input_shapes={inputs[0].name: [1, *rest]})


def _preset(port: pb.Port, preset: str, path: Path) -> pb.ImagePreprocessing:
    image = _images.preprocessing(list(port.shape), np.dtype(port.dtype), preset)
    if image is None:
        raise ModelError(f"an input of shape {list(port.shape)} takes no photo", where=str(path))
    return image


def _quantisation(value: Any, kind: str) -> tuple[float, int]:
    """Scale and zero point of an integer input or output; (0, 0) where it has none."""
    if kind == "QuantizeLinear":
        nodes = [value.producer()] if value.producer() is not None else []
    else:
        nodes = [use.node for use in value.uses()]
    for node in nodes:
        constants = [v.const_value for v in node.inputs[1:3] if v is not None]
        if node.op_type == kind and constants and all(c is not None and c.size == 1 for c in constants):
            scale = float(np.asarray(constants[0].numpy()).reshape(()))
            return scale, int(np.asarray(constants[1].numpy()).reshape(())) if len(constants) > 1 else 0
    return 0.0, 0


def _person(target: pb.Port, labels: Sequence[str] | None, path: Path, assumed: list[str]) -> tuple[int, bool]:
    """Number of the output that means "person", and whether a lone output means the contrary.

    Raises:
        InputError: ``labels`` name no person, or as many outputs as there are not.
        ModelError: the model's labels name no person, or it has none and more than two outputs.
    """
    size = int(np.prod(target.shape)) if target.shape else 0
    names = list(labels) if labels is not None else list(target.postprocessing.labels)
    kind, hint = (InputError if labels is not None else ModelError), "say --label-order 'no person,person'"
    if names and size > 1 and len(names) != size:
        raise kind(f"{len(names)} labels for {size} outputs", where=str(path), hint=hint)
    found = [i for i, name in enumerate(names) if name.strip().lower() == PERSON]
    if size == 1 and (not names or len(found) == 1):
        return 0, bool(names) and found[0] != len(names) - 1
    if not names and size == 2:
        assumed.append("outputs: no person, person (--label-order gives another order)")
        return 1, False
    if len(found) != 1:
        have = ", ".join(repr(n) for n in names[:8]) or f"none, for {size} outputs"
        raise kind(f"the labels name no person: {have}", where=str(path), hint=hint)
    return found[0], False


def _sigmoid(x: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * x))


def _in_words(image: pb.ImagePreprocessing) -> str:
    layout = pb.ImagePreprocessing.Layout.Name(image.layout).removeprefix("LAYOUT_")
    channels = pb.ImagePreprocessing.Channels.Name(image.channels).removeprefix("CHANNELS_").lower()
    resize = "squash" if image.resize == image.RESIZE_STRETCH else "crop"
    steps = ["bytes"] if image.raw_bytes else [f"/ {image.divisor:g}"] if image.divisor else []
    for sign, values in (("-", image.mean), ("/", image.std)):
        if values:
            steps.append(f"{sign} {', '.join(f'{v:g}' for v in values)}")
    return f"{layout} {channels}, {resize}, {' '.join(steps) or 'pixels 0..255'}"
