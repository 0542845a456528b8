"""``gossamer.optimize``: a model file goes in, a signed bundle comes out."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gossamer import _atomic, _calibration, _manifest
from gossamer._errors import CalibrationError, GossamerError, InputError, ModelError, OutputError
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer._result import LayerRow, OptimizeResult

if TYPE_CHECKING:
    import onnx_ir

    from gossamer.compile.plan import Plan
    from gossamer.recipe import Recipe

__all__ = ["STAGES", "LayerRow", "OptimizeResult", "Progress", "optimize"]

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total): ``done`` 0 when a stage starts, ``total`` when it ends; total is at least 1."""

STAGES = ("load", "prune", "calibrate", "train", "quantize", "lower", "choose", "encode", "emit", "sign")
"""Stages in their order; ``prune``, ``calibrate``, ``train`` and ``quantize`` are left out when the recipe has no such
step, and ``prune`` when it trains: training prunes."""


@dataclass
class _Job:
    """What the stages hand on to each other."""

    recipe: Recipe
    manifest: pb.Manifest
    progress: Progress | None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if self.progress:
            self.progress(name, 0, 1)
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started
        if self.progress:
            self.progress(name, 1, 1)

    def within(self, name: str) -> Callable[[int, int], None] | None:
        progress = self.progress
        return None if progress is None else lambda done, total: progress(name, done, total or done + 1)


def optimize(
    model: Any,
    recipe: Any = "1x4-75-int8",
    calibration: Any = None,
    output: str | os.PathLike[str] | None = None,
    *,
    key: str | os.PathLike[str] | bool | None = None,
    name: str | None = None,
    version: str = "",
    license: str = "",
    rollback_counter: int = 0,
    labels: Sequence[str] | None = None,
    preprocess: Any = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    example_inputs: Any = None,
    metrics: Sequence[pb.Metric] = (),
    train_data: Any = None,
    train_split: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> OptimizeResult:
    """Prune (or train sparse), quantise, compile and pack a model.

    Args:
        model: what ``gossamer.load`` takes: a path (.onnx, .tflite, .pt2), bytes, a torch module, or an ONNX object.
        recipe: name of a ready-made recipe (``gossamer recipes list``), path of a YAML file, dict, or ``Recipe``.
        calibration: samples for the quantize step: a folder of pictures, ``.npy``/``.npz`` files, or arrays; see
            ``gossamer._calibration.samples``. Needed when the recipe quantises and the model is not quantised yet.
        output: where to write the bundle; None keeps it in ``result.data`` alone. Written whole or not at all.
        key: private key by name or path. None: the key called ``default``, made at its first use. False: unsigned.
        name, version, license: for the manifest; the name is the file's stem by default.
        rollback_counter: 0 to 2^32 - 1. A device that has committed a bundle with a higher one refuses this bundle.
        labels: names of the classes of the first output.
        preprocess: how a picture becomes the input: a preset (``unit``, ``signed``, ``imagenet``, ``raw``) or a mapping
            as in a recipe. Default: the recipe's, else the model's own metadata, else centre crop to 0..1 (bytes for
            8-bit inputs).
        input_shapes: fixes inputs whose shape the model leaves open.
        example_inputs: for a torch module.
        metrics: measured numbers to put into the manifest.
        train_data: examples for the recipe's ``train`` step: a folder with one subfolder a class, an ``.npz`` with x
            and y, a ``.csv`` of file,label; see :func:`gossamer.search.read.read_examples`. Without labels the model
            as given is the teacher. ``train_split``: of a CSV with a column ``split``.
        checkpoint: folder for the training's checkpoints; the run that left one there goes on from it.
        progress: called as stages start, advance and end.

    Returns:
        The bundle's bytes, sizes, a record per layer, and how long the stages took.

    Raises:
        ModelError: the model is missing, broken, of an unknown type, or holds NaN.
        UnsupportedError: it has a dynamic shape, or an operator of another domain.
        RecipeError: the recipe is wrong in itself, or names layers that the model lacks.
        CalibrationError: samples are missing, unreadable or of the wrong shape.
        InputError: training data or rollback_counter are wrong, or the checkpoint belongs to another run.
        CompileError: operators that neither the core nor the policy's backends run, each named with its source.
        KeyFileError: the private key is missing, malformed or readable by others.
        OutputError: the bundle cannot be written; nothing half-written is left.
        LibraryError: the recipe asks to measure (``measure: true``), and the native core is missing.
    """
    from gossamer.recipe import load_recipe, placed

    loaded_recipe = load_recipe(recipe)
    _check_output(model, output)
    private = _private(key)
    if not 0 <= rollback_counter < 1 << 32:
        raise InputError(f"rollback_counter must be from 0 to {(1 << 32) - 1}, not {rollback_counter}")
    job = _Job(loaded_recipe, pb.Manifest(rollback_counter=rollback_counter), progress)
    if loaded_recipe.train is not None or train_data is not None or checkpoint is not None:
        from gossamer.finetune.stage import check

        check(loaded_recipe, train_data, checkpoint)

    with job.stage("load"):
        graph = _load(model, example_inputs, name, input_shapes)
        ports, original = _describe(job, graph, model, name, version, license, preprocess)
    with placed(recipe):
        if loaded_recipe.train is not None:
            samples = _calibrate(job, graph, ports, calibration)
            with job.stage("train"):
                graph, pruned = _train(job, graph, ports, train_data, train_split, labels, samples, checkpoint)
        else:
            with _maybe(job, "prune", loaded_recipe.sparsify):
                pruned = _prune(job, graph)
            samples = _calibrate(job, graph, ports, calibration)
        graph = _quantize(job, graph, samples)
    with job.stage("lower"):
        from gossamer.compile.lower import LowerReport, lower

        report = LowerReport()
        plan = lower(graph, loaded_recipe.policy, target=loaded_recipe.target.arch, report=report)
        job.notes += [f"runs in f32 between int8 layers: {note}" for note in report.fallbacks]
        job.notes += [f"runs outside the core on {note}" for note in report.partitions]
        _outputs(job, plan, graph, labels)
    with job.stage("choose"):
        choices = _choose(job, plan)
    with job.stage("encode"):
        from gossamer.compile.encode import encode_weights

        encoded = encode_weights(plan)
    with job.stage("emit"):
        data = _emit(job, plan, encoded, choices, pruned, metrics)
    with job.stage("sign"):
        if private is not None:
            from gossamer.bundle.sign import sign

            data = sign(data, private)
        path = _atomic.write(output, data) if output is not None else None

    from gossamer.bundle.manifest import to_dict

    return OptimizeResult(
        path=path,
        data=data,
        manifest=to_dict(job.manifest),
        original_bytes=original,
        calibration_samples=len(samples or ()),
        seconds=job.seconds,
        notes=job.notes,
        lowering=report.as_dict(),
        training=job.training,
    )


def _check_output(model: Any, output: str | os.PathLike[str] | None) -> None:
    """Refuses a place that cannot be written, or that is the model's own, before any work."""
    if output is None:
        return
    _atomic.check_target(output)
    paths = isinstance(model, (str, os.PathLike)) and Path(model).exists() and Path(output).exists()
    if paths and Path(output).samefile(model):
        raise OutputError("the bundle would replace its model", where=str(output), hint="give another -o")


def _private(key: Any) -> Any:
    from gossamer.bundle import keys

    if key is False:
        return None
    if key is None or key is True:
        return keys.load_private(keys.default_key().private or keys.DEFAULT_NAME)
    return keys.load_private(key)


@contextlib.contextmanager
def _maybe(job: _Job, name: str, step: object) -> Iterator[None]:
    if step is None:
        yield
        return
    with job.stage(name):
        yield


def _load(
    model: Any, example_inputs: Any, name: str | None, shapes: Mapping[str, Sequence[int]] | None
) -> onnx_ir.Model:
    from gossamer._load import load

    graph = load(model, example_inputs=example_inputs, name=name, input_shapes=shapes or None)
    for value_name, value in graph.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or not tensor.dtype.is_floating_point():
            continue
        if np.isnan(np.asarray(tensor.numpy(), np.float32)).any():
            users = ", ".join(str(u.node.name) for u in list(value.uses())[:3])
            raise ModelError(
                f"constant {value_name!r} holds NaN",
                where=f"node {users}" if users else None,
                hint="the training diverged or the file is damaged; export the model again",
            )
    return graph


def _describe(
    job: _Job, graph: onnx_ir.Model, source: Any, name: str | None, version: str, license: str, preprocess: Any
) -> tuple[list[pb.Port], int]:
    """Fill the manifest's head; returns the input ports and the original's bytes (0 where it has none)."""
    from gossamer.recipe import canonical

    m, meta = job.manifest, _manifest.model_metadata(graph)
    stem = Path(source).stem if isinstance(source, (str, os.PathLike)) else ""
    m.name = name or str(meta.get("name") or stem or graph.graph.name or "model")
    m.version = version or str(meta.get("version", ""))
    m.license = license or str(meta.get("license", ""))
    m.description = str(meta.get("description", ""))
    m.recipe_json = canonical(job.recipe)
    m.provenance.producer = " ".join(filter(None, [graph.producer_name, graph.producer_version]))
    m.provenance.tools.update(_manifest.tools())
    raw = source if isinstance(source, bytes) else None
    if raw is None and not isinstance(source, (str, os.PathLike)):
        import onnx_ir as ir

        raw = ir.to_proto(graph).SerializeToString(deterministic=True)
    m.provenance.sources.append(_manifest.file_digest(source, raw, "model"))
    ports = _manifest.model_ports(graph.graph.inputs, "input")
    if len(ports) == 1:
        _manifest.choose_image(preprocess, job.recipe, meta, ports[0])
    m.inputs.extend(ports)
    return ports, m.provenance.sources[0].bytes


def _prune(job: _Job, graph: onnx_ir.Model) -> dict[str, Any]:
    if job.recipe.sparsify is None:
        return {}
    from gossamer.sparsify import prune

    report = prune(graph, job.recipe.sparsify)
    if report.rearranged is not None:
        job.notes.append(f"channels rearranged: {report.rearranged.lines()[0]}")
    return {layer.name: layer for layer in report.layers}


def _train(
    job: _Job,
    graph: onnx_ir.Model,
    ports: list[pb.Port],
    data: Any,
    split: str | None,
    labels: Sequence[str] | None,
    samples: list[_calibration.Sample] | None,
    checkpoint: Any,
) -> tuple[onnx_ir.Model, dict[str, Any]]:
    """The trained graph, and pruning's records of its layers by name."""
    from gossamer.finetune.stage import train

    tuned, records = train(
        graph,
        job.recipe,
        ports,
        data,
        split=split,
        labels=labels,
        calibration=samples,
        checkpoint=checkpoint,
        progress=job.within("train"),
    )
    job.training = tuned.to_json()
    return tuned.model, records


def _calibrate(
    job: _Job, graph: onnx_ir.Model, ports: list[pb.Port], calibration: Any
) -> list[_calibration.Sample] | None:
    """The calibration samples; None where the recipe does not quantise, or the model is quantised already."""
    step = job.recipe.quantize
    if step is None:
        return None
    if any(node.op_type == "DequantizeLinear" for node in graph.graph):
        job.notes.append("the model is quantised already: the quantize step did nothing")
        return None
    if calibration is None:
        raise CalibrationError(
            "the recipe quantises, which needs calibration samples",
            hint="give a folder of typical pictures or an .npy file (--calibration photos/)",
        )
    with job.stage("calibrate"):
        found = _calibration.samples(calibration, ports, step.samples, job.within("calibrate"))
        job.manifest.provenance.sources.append(pb.Digest(role="calibration", sha256=_calibration.digest(found)))
    return found


def _quantize(job: _Job, graph: onnx_ir.Model, samples: list[_calibration.Sample] | None) -> onnx_ir.Model:
    """The quantised graph; the graph itself where there are no samples, or training quantised it."""
    step = job.recipe.quantize
    if step is None or samples is None or any(node.op_type == "DequantizeLinear" for node in graph.graph):
        return graph
    from gossamer.quantize import quantize

    with job.stage("quantize"):
        return quantize(graph, step, samples, progress=job.within("quantize"))


def _choose(job: _Job, plan: Plan) -> dict[str, Any]:
    from gossamer.compile.cost import choose

    return {choice.name: choice for choice in choose(plan, job.recipe.target, progress=job.within("choose"))}


def _outputs(job: _Job, plan: Plan, graph: onnx_ir.Model, labels: Sequence[str] | None) -> None:
    """Describe inputs and outputs as the plan has them; checks that lowering kept names, types and shapes."""
    meta = _manifest.model_metadata(graph)
    for port, tensor in zip(job.manifest.inputs, plan.inputs, strict=True):
        if tensor.dtype.numpy != np.dtype(port.dtype) or tuple(port.shape) != tensor.shape:
            raise GossamerError(f"lowering changed input {port.name!r}: {tensor.dtype.name}{list(tensor.shape)}")
        port.scale, port.zero_point = tensor.scale, tensor.zero_point
    for i, tensor in enumerate(plan.outputs):
        port = pb.Port(name=tensor.name, dtype=tensor.dtype.numpy.name, shape=list(tensor.shape))
        port.scale, port.zero_point = tensor.scale, tensor.zero_point
        if i == 0:
            _manifest.postprocessing(labels, meta, port, _manifest.last_op(graph))
        job.manifest.outputs.append(port)


def _emit(
    job: _Job,
    plan: Plan,
    encoded: Sequence[Any],
    choices: Mapping[str, Any],
    pruned: Mapping[str, Any],
    metrics: Sequence[pb.Metric],
) -> bytes:
    """Plan to unsigned bundle, the manifest completed on the way."""
    from gossamer.bundle import container, manifest
    from gossamer.bundle.verify import check_structure
    from gossamer.compile.emit import emit

    m = job.manifest
    emitted = emit(plan)
    m.arena_bytes = emitted.memory.arena_bytes
    m.metrics.extend(metrics)
    for extern in plan.externs:
        m.partitions.append(
            pb.Partition(
                backend=extern.backend.name.lower(),
                nodes=extern.nodes,
                reason=extern.reason,
                bytes=len(extern.payload),
            )
        )
    externs = [(extern.backend, extern.payload) for extern in plan.externs]
    bare = container.build(emitted.plan, emitted.weights, manifest.dumps(m), externs)
    check_structure(bare, m.name)
    infos = _manifest.kernels(bare)
    sources = {op.name: op.source for op in plan.ops}
    for record in encoded:
        m.layers.append(_manifest.layer(record, choices.get(record.name), pruned.get(record.name), infos, sources))
    return container.build(emitted.plan, emitted.weights, manifest.dumps(m), externs)
