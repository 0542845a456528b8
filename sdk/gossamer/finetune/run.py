"""``fine_tune``: a graph, a recipe and examples become the trained graph, sparse and, where asked for, int8."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gossamer._errors import CalibrationError, InputError
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.finetune.batches import Batches
from gossamer.finetune.checkpoint import Checkpoints
from gossamer.finetune.loop import Epoch, Phase, adamw
from gossamer.finetune.target import step_for_modules
from gossamer.quantize.prepare import is_quantised, name_nodes

if TYPE_CHECKING:
    import onnx_ir
    from torch import nn

    from gossamer.recipe import Recipe, SparsifyStep
    from gossamer.search.examples import Examples

Progress = Callable[[int, int], None]
INT8_RATE = 0.1
"""Learning rate of the int8 epochs, as a share of the recipe's: they only have to learn the rounding."""

IDENTIFYING = 16
"""Examples, evenly spread, whose inputs tell one set of training data from another of as many."""


@dataclass(frozen=True)
class Tuned:
    """A trained graph.

    Attributes:
        model: sparse weights are plain zeros; QDQ int8 where the int8 epochs ran, or where it came in so.
        patterns: pattern by node name, of the layers that were made sparse.
        sparsities: share of zeros by node name, of the same.
        epochs: what each came to.
        examples: what it was trained on, in words.
        resumed: epochs that a checkpoint had done already.
    """

    model: onnx_ir.Model
    patterns: dict[str, str]
    sparsities: dict[str, float]
    epochs: list[Epoch]
    examples: str
    resumed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values but for the model."""
        return {
            "examples": self.examples,
            "resumed_epochs": self.resumed,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "sparsities": self.sparsities,
        }


def fine_tune(
    model: onnx_ir.Model,
    recipe: Recipe,
    examples: Examples,
    ports: Sequence[pb.Port],
    output: pb.Port,
    *,
    calibration: Sequence[Mapping[str, Any]] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Train a classifier while it becomes sparse.

    First ``train.epochs`` with the recipe's method (a quantised model trains in int8 arithmetic all along), then, with
    ``train.quantization_aware``, that many epochs in int8 with the zeros held. The teacher of distillation is the model
    as it came.

    Args:
        model: float32 or QDQ int8, as ``gossamer.load`` gives it; not changed but for names of unnamed nodes.
        recipe: with a ``train`` step.
        examples: prepared; without labels the model as it came is the whole of the loss.
        ports: the inputs, with how pictures become them; ``output``: the first output.
        calibration: samples for int8 epochs of a float model.
        checkpoint: folder; a run that finds its own checkpoint there goes on from it.
        device: of torch; by default the GPU where there is one.
        progress: called with (step, steps).

    Raises:
        UnsupportedError: an operator that cannot be trained.
        ModelError: the loss or a weight became NaN or infinite.
        RecipeError: the recipe names layers that are not there, or leaves a layer empty.
        InputError: too few examples, or a checkpoint of another run.
        CalibrationError: int8 epochs without calibration samples.
    """
    run = _Run(model, recipe, examples, list(ports), output, calibration, device, progress)
    name_nodes(model)
    checkpoints = None if checkpoint is None else Checkpoints(checkpoint, run.identity())
    saved = checkpoints.load() if checkpoints is not None else None
    return run.tune(checkpoints, saved)


class _Run:
    """The phases of one run and what they share."""

    def __init__(
        self,
        model: onnx_ir.Model,
        recipe: Recipe,
        examples: Examples,
        ports: list[pb.Port],
        output: pb.Port,
        calibration: Sequence[Mapping[str, Any]] | None,
        device: str | None,
        progress: Progress | None,
    ) -> None:
        assert recipe.train is not None
        self.model, self.recipe, self.step, self.output = model, recipe, recipe.train, output
        self.calibration, self.progress, self.examples = calibration, progress, examples
        self.quantised = is_quantised(model)
        if self.int8_epochs and not self.calibration:
            raise CalibrationError(
                "int8 epochs start from calibration samples, and there are none",
                hint="give a folder of typical pictures or an .npy file (--calibration photos/)",
            )
        self.batches = Batches(examples, ports, self.step.batch, mirror=self.step.mirror, seed=self.step.seed)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.log: list[Epoch] = []

    @property
    def int8_epochs(self) -> int:
        """A quantised model trains in int8 from the start."""
        return 0 if self.quantised else self.step.quantization_aware

    def identity(self) -> dict[str, Any]:
        """What tells this run from others. The learning rate is left out: a run that diverged goes on with a lower
        one."""
        import onnx_ir as ir

        train = self.step.model_dump(mode="json", exclude={"learning_rate"})
        sparsify = None if self.recipe.sparsify is None else self.recipe.sparsify.model_dump(mode="json")
        labels = self.examples.labels
        model = ir.serde.serialize_model(self.model).SerializeToString(deterministic=True)
        spread = np.unique(np.linspace(0, len(self.examples) - 1, IDENTIFYING).round().astype(int))
        return {
            **{f"train.{key}": value for key, value in train.items()},
            "sparsify": sparsify,
            "model": hashlib.sha256(model).hexdigest()[:16],
            "examples": len(self.examples),
            "labels": None if labels is None else _digest([{"y": labels}]),
            "inputs": _digest(self.examples[i] for i in spread.tolist()),
            **self._int8_identity(),
        }

    def _int8_identity(self) -> dict[str, Any]:
        if not self.int8_epochs or self.recipe.quantize is None:
            return {}
        step = self.recipe.quantize.model_dump(mode="json", exclude={"samples", "preprocess"})
        return {"quantize": step, "calibration": _digest(self.calibration or ())}

    def tune(self, checkpoints: Checkpoints | None, saved: dict[str, Any] | None) -> Tuned:
        """All phases, or what a checkpoint has left of them."""
        resumed = 0
        if saved is not None:
            resumed = int(saved["done"]) + (self.step.epochs if saved["phase"] == "int8" else 0)
        if saved is None or saved["phase"] == "sparse":
            sparse, patterns, sparsities = self._sparse(checkpoints, saved)
            saved = None
        else:
            sparse, patterns, sparsities = _unpacked(saved["sparse"])
        model = self._int8(sparse, patterns, sparsities, checkpoints, saved) if self.int8_epochs else sparse
        return Tuned(model, patterns, sparsities, self.log, self.examples.told(), resumed)

    def _sparse(
        self, checkpoints: Checkpoints | None, saved: dict[str, Any] | None
    ) -> tuple[onnx_ir.Model, dict[str, str], dict[str, float]]:
        from gossamer.sparsify.training.sparsifier import Sparsifier

        network = self._network().to(self.device)
        teacher = self._teacher()
        optimizer = adamw(network, self.step.learning_rate, self.step.weight_decay)
        sparsifier = None
        if self.recipe.sparsify is not None:
            target = self._target(network)
            total = self.step.epochs * len(self.batches)
            sparsifier = Sparsifier(
                network, target, self.step.made(), total_steps=total, optimizer=optimizer, seed=self.step.seed
            )
        phase = Phase(
            "sparse", network, self.step, self.output, self.step.epochs, self.step.learning_rate, self.batches,
            self.device, optimizer, teacher, sparsifier, self._squarehead(network, teacher, sparsifier),
            progress=self._within(0),
        )  # fmt: skip
        if checkpoints is not None:
            phase.save = lambda state: checkpoints.save(state, phase.done)
        if saved is not None:
            phase.load(saved)
        phase.run()
        self.log += phase.log
        if phase.squarehead is not None:
            phase.squarehead.close()
        nodes = {module: node for node, module in network.names.items()}
        patterns: dict[str, str] = {}
        sparsities: dict[str, float] = {}
        if sparsifier is not None:
            patterns = {nodes[layer.name]: layer.pattern.name for layer in sparsifier.layers}
            sparsities = {nodes[name]: share for name, share in sparsifier.finish().items()}
        return network.to_onnx(), patterns, sparsities

    def _int8(
        self,
        sparse: onnx_ir.Model,
        patterns: dict[str, str],
        sparsities: dict[str, float],
        checkpoints: Checkpoints | None,
        saved: dict[str, Any] | None,
    ) -> onnx_ir.Model:
        from gossamer.quantize.qat import prepare_qat

        network = prepare_qat(sparse, self.calibration, self.recipe.quantize, keep_zeros=True).to(self.device)
        rate = self.step.learning_rate * INT8_RATE
        phase = Phase(
            "int8", network, self.step, self.output, self.int8_epochs, rate, self.batches, self.device,
            adamw(network, rate, self.step.weight_decay), self._teacher(), progress=self._within(self.step.epochs),
        )  # fmt: skip
        packed = _packed(sparse, patterns, sparsities)
        if checkpoints is not None:
            number = self.step.epochs
            phase.save = lambda state: checkpoints.save({**state, "sparse": packed}, number + phase.done)
        if saved is not None:
            phase.load(saved)
        else:
            phase.log = list(self.log)
        phase.held = phase.log[-1].sparsity
        phase.run()
        self.log = phase.log
        return network.to_onnx()

    def _network(self) -> Any:
        if self.quantised:
            from gossamer.quantize.qat import prepare_qat

            return prepare_qat(self.model)
        from gossamer.trainable import TrainableGraph

        return TrainableGraph(self.model)

    def _teacher(self) -> nn.Module | None:
        if self.step.distill is None and self.examples.labels is not None and not self.step.squarehead:
            return None
        teacher: nn.Module = self._network().to(self.device).eval()
        return teacher.requires_grad_(False)

    def _target(self, network: Any) -> SparsifyStep:
        assert self.recipe.sparsify is not None
        return step_for_modules(self.model, self.recipe.sparsify, network.names)

    def _squarehead(self, network: nn.Module, teacher: nn.Module | None, sparsifier: Any) -> Any:
        if not self.step.squarehead:
            return None
        from gossamer.sparsify.training.squarehead import SquareHead

        if sparsifier is None or teacher is None:
            raise InputError(
                "SquareHead compares the layers that are pruned, and there are none", where="train.squarehead"
            )
        return SquareHead(network, teacher, [layer.name for layer in sparsifier.layers], weight=self.step.squarehead)

    def _within(self, before: int) -> Progress | None:
        """Progress of a phase as that of the run; ``before``: epochs ahead of it."""
        progress, whole = self.progress, (self.step.epochs + self.int8_epochs) * len(self.batches)
        if progress is None:
            return None
        return lambda done, _total: progress(before * len(self.batches) + done, whole)


def _digest(samples: Iterable[Mapping[str, Any]]) -> str:
    """The beginning of the SHA-256 of samples: names, types, shapes and bytes."""
    found = hashlib.sha256()
    for sample in samples:
        for name, value in sorted(sample.items()):
            array = np.asarray(value)
            found.update(f"{name} {array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _packed(model: onnx_ir.Model, patterns: dict[str, str], sparsities: dict[str, float]) -> dict[str, Any]:
    """The outcome of the first phase as a checkpoint may hold it."""
    import onnx_ir as ir

    data = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    tensor = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
    return {"onnx": tensor, "patterns": patterns, "sparsities": sparsities}


def _unpacked(packed: Mapping[str, Any]) -> tuple[onnx_ir.Model, dict[str, str], dict[str, float]]:
    import onnx
    import onnx_ir as ir

    proto = onnx.ModelProto.FromString(packed["onnx"].numpy().tobytes())
    return ir.serde.deserialize_model(proto), dict(packed["patterns"]), dict(packed["sparsities"])
