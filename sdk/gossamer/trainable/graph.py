"""TrainableGraph: runs an ONNX graph in torch with real layers for its weights, and writes them back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from gossamer._errors import InputError, ModelError, UnsupportedError
from gossamer.compile.graph import Graph, Node, from_model
from gossamer.compile.infer import infer
from gossamer.quantize._graph import drop_unused
from gossamer.quantize.prepare import name_nodes, vector_biases
from gossamer.trainable import elementwise, layers, movement, pooling
from gossamer.trainable.names import Names
from gossamer.trainable.step import Builder, CannotTrainError, Step, Tie
from gossamer.trainable.write import set_constant

if TYPE_CHECKING:
    from gossamer.compile.graph import Array

Operator = Callable[[Builder, Node], None]

OPERATORS: dict[str, Operator] = {
    **elementwise.OPERATORS,
    **movement.OPERATORS,
    **pooling.OPERATORS,
    **layers.OPERATORS,
}
"""How each ONNX operator becomes a step."""

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class TrainableGraph(nn.Module):
    """An ONNX model as a torch module whose weights train.

    Weights of Conv, Gemm and MatMul live in ``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Linear`` modules called like their
    nodes, so that :class:`gossamer.sparsify.training.Sparsifier` attaches as to any module. BatchNormalization becomes
    ``nn.BatchNorm2d``: in ``train()`` it normalises by the batch and updates its statistics. Biases that the graph adds
    in a node of their own, the scales of layer norm and the slopes of PRelu train too; every other constant stays as it
    is. Nodes that share their weights and settings share a layer.

    Inputs and outputs are those of the model, batch first; whatever batch the model was exported for, any multiple of
    it runs (a model exported for 1 takes any batch).

    Args:
        model: float32 ONNX (opset 13 or later) as ``onnx_ir.Model``, or anything else that ``gossamer.load`` takes:
            a path of an .onnx, .pt2 or .tflite file, bytes. Not changed.
        freeze_batch_norm: keep the statistics (and normalise by them) in training, too.
        input_shapes: fixes dimensions that the model leaves open, by input name. An open first one is the batch.

    Attributes:
        names: module name by node name, for the nodes that have layers.

    Raises:
        UnsupportedError: nodes that cannot be trained, each named with its source.
        CompileError: an open dimension that is not the batch.
        ModelError: a constant holds NaN.
    """

    def __init__(
        self,
        model: Any,
        *,
        freeze_batch_norm: bool = False,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.freeze_batch_norm = freeze_batch_norm
        if not isinstance(model, ir.Model):
            from gossamer._load import load

            model = load(model)
        self._model = ir.serde.deserialize_model(ir.serde.serialize_model(model))
        name_nodes(self._model)
        vector_biases(self._model)
        g = from_model(self._model, _shapes(self._model, input_shapes or {}))
        infer(g)
        builder = self._builder(g, Names([n.name for n in g.nodes if n.op_type in _WEIGHTED]))
        self._build(builder)
        self.names: dict[str, str] = dict(builder.names.modules)
        self._ties = builder.ties
        self._inputs = [(name, g.shape(name)) for name in g.inputs]
        self._outputs = list(g.outputs)
        self._steps = _with_ends(builder.steps, self._outputs)
        self._constants = nn.Module()
        self._constant_names: dict[str, str] = {}
        read = {i for step in self._steps for i in step.inputs} | set(self._outputs)
        for name, tensor in builder.constants.items():
            if name in read:
                key = f"c{len(self._constant_names)}"
                self._constants.register_buffer(key, tensor, persistent=False)
                self._constant_names[name] = key

    # --- making

    def _builder(self, g: Graph, names: Names) -> Builder:
        return Builder(g, self, names)

    def _operators(self) -> Mapping[str, Operator]:
        return OPERATORS

    def _build(self, builder: Builder) -> None:
        operators = self._operators()
        failed: list[str] = []
        made = set(builder.g.inputs)
        for node in builder.g.nodes:
            operator = operators.get(node.op_type) if not node.domain else None
            before = len(builder.steps)
            try:
                if operator is None:
                    raise CannotTrainError("there is no trainable form of this operator")
                operator(builder, node)
                for name in [i for step in builder.steps[before:] for i in step.inputs if i]:
                    if name not in made and name not in builder.constants:
                        builder.constant(name)
            except CannotTrainError as reason:
                failed.append(f"  {node}: {reason}")
                made.update(node.outputs)
            made.update(o for step in builder.steps[before:] for o in step.outputs)
        for name in builder.g.outputs:
            if name not in made and not failed:
                builder.constant(name)
        if failed:
            raise UnsupportedError(
                "the model has operators that cannot be trained:\n" + "\n".join(failed),
                hint="train that part in torch, or export the model without it",
            )

    # --- running

    def train(self, mode: bool = True) -> TrainableGraph:
        """As ``nn.Module.train``; batch norms stay in evaluation mode where they are frozen."""
        super().train(mode)
        if self.freeze_batch_norm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, *inputs: Tensor) -> Any:
        """The model's outputs: a tensor, or a tuple where there are several.

        Args:
            inputs: in the order of the model's inputs, ``[B, ...]``.

        Raises:
            InputError: a wrong number of inputs, or a shape that does not fit.
        """
        values = self._open(inputs)
        constants = self._constants._buffers
        for name, key in self._constant_names.items():
            found = constants[key]
            assert found is not None
            values[name] = found
        for step in self._steps:
            given = [values[i] if i else None for i in step.inputs]
            made = step.run(*given) if step.layer is None else step.run(step.layer, *given)
            if len(step.outputs) == 1:
                values[step.outputs[0]] = made
            else:
                values.update(zip(step.outputs, made, strict=True))
            for name in step.done:
                del values[name]
        outputs = tuple(self._close(values[name]) for name in self._outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _open(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Inputs as ``[groups, *shape]``."""
        if len(inputs) != len(self._inputs):
            raise InputError(
                f"{len(inputs)} inputs given, the model has {len(self._inputs)}",
                hint=", ".join(name for name, _ in self._inputs),
            )
        values: dict[str, Tensor] = {}
        for x, (name, shape) in zip(inputs, self._inputs, strict=True):
            fits = (
                x.dim() == len(shape) and tuple(x.shape[1:]) == shape[1:] and (not shape or x.shape[0] % shape[0] == 0)
            )
            if not fits:
                wanted = [f"batch (a multiple of {shape[0]})", *map(str, shape[1:])] if shape else []
                raise InputError(
                    f"input '{name}' has shape {list(x.shape)}, the model takes [{', '.join(wanted)}]",
                    hint="batch first, then the model's own shape",
                )
            values[name] = x.reshape(-1, *shape) if shape else x[None]
        return values

    @staticmethod
    def _close(value: Tensor) -> Tensor:
        return value.flatten(0, 1) if value.dim() > 1 else value

    # --- writing back

    def to_onnx(self) -> ir.Model:
        """The model with the weights as they are now: the same graph, names and metadata, other numbers.

        Untrained, the weights are bit for bit those that came in (a scalar bias of Gemm as a vector). Masks of sparse
        training are applied; finish the ``Sparsifier`` first all the same, so that its last masks count.

        Raises:
            ModelError: a weight is NaN or infinite; the message names its layer.
        """
        self.check()
        model = ir.serde.deserialize_model(ir.serde.serialize_model(self._model))
        nodes = {node.name: node for node in model.graph}
        ties = self._tied()
        owners: dict[str, set[tuple[int, str]]] = {}
        for tie in ties:
            owners.setdefault(tie.value, set()).add((id(tie.owner), tie.attribute))
        written: dict[tuple[int, str, str], ir.Value] = {}
        for tie in ties:
            key = (id(tie.owner), tie.attribute, tie.value)
            if key in written:
                nodes[tie.node].replace_input_with(tie.index, written[key])
                continue
            array = _array(tie)
            if not np.array_equal(array, tie.before):
                alone = len(owners[tie.value]) > 1
                written[key] = set_constant(model, nodes[tie.node], tie.index, array, alone=alone)
        drop_unused(model)
        return model

    def _tied(self) -> list[Tie]:
        """What :meth:`to_onnx` writes back by itself."""
        return self._ties

    def check(self, loss: Tensor | float | None = None) -> None:
        """Look for NaN and infinity; waits for the GPU, so call it once in a while.

        Args:
            loss: checked too, where given.

        Raises:
            ModelError: naming the first layer whose weights or gradients are not finite.
        """
        for name, parameter in [*self.named_parameters(), *self.named_buffers()]:
            if parameter.is_floating_point() and not bool(torch.isfinite(parameter).all()):
                raise ModelError(
                    f"{_tensor(name)} holds NaN or infinity",
                    where=f"layer '{self._node(name)}'",
                    hint="training diverged: go back to a checkpoint and lower the learning rate",
                )
        value = 0.0 if loss is None else float(loss.detach() if isinstance(loss, Tensor) else loss)
        if np.isfinite(value):
            return
        bad = next(
            (n for n, p in self.named_parameters() if p.grad is not None and not bool(torch.isfinite(p.grad).all())),
            None,
        )
        raise ModelError(
            f"the loss is {value}",
            where=None if bad is None else f"layer '{self._node(bad)}', whose gradient is not finite",
            hint="lower the learning rate, or look for NaN in the inputs and labels",
        )

    def _node(self, tensor: str) -> str:
        """The node of a parameter's name; the module's own name where it has none."""
        module = tensor.split(".parametrizations.")[0].rpartition(".")[0] if "." in tensor else tensor
        if ".parametrizations." in tensor:
            module = tensor.split(".parametrizations.")[0]
        found = next((n for n, m in self.names.items() if module == m), None)
        return found if found is not None else module


def _tensor(name: str) -> str:
    if ".parametrizations." in name:
        return name.split(".parametrizations.")[1].split(".")[0]
    return name.rpartition(".")[2]


def _array(tie: Tie) -> Array:
    tensor = getattr(tie.owner, tie.attribute)
    array: Array = tie.turn(tensor.detach().cpu().numpy())
    return array


def _shapes(model: ir.Model, given: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Shapes for inputs that the model leaves open: as given, an open batch is 1."""
    shapes = {name: tuple(int(d) for d in shape) for name, shape in given.items()}
    for value in model.graph.inputs:
        if value.name in shapes or value.shape is None or value.name in model.graph.initializers:
            continue
        dims = list(value.shape)
        if dims and not isinstance(dims[0], int) and all(isinstance(d, int) for d in dims[1:]):
            shapes[value.name or ""] = (1, *(d for d in dims[1:] if isinstance(d, int)))
    return shapes


def _with_ends(steps: list[Step], outputs: list[str]) -> list[Step]:
    """Notes in each step which values nothing reads after it."""
    seen = set(outputs)
    for step in reversed(steps):
        read = {i for i in step.inputs if i}
        step.done = tuple(sorted((read | set(step.outputs)) - seen))
        seen |= read
    return steps
