"""What every operator's builder works with: the graph, its constants and layers, and the steps made so far.

Values carry one axis more than in ONNX, in front: ``[groups, *shape of the ONNX value]``. A model exported for a batch
of 1 so runs at any batch (each sample is a group), with its reshapes as they stand. Functions that steps call are
module-level functions or ``functools.partial`` of them, and a layer is handed to them as an argument, so that a copied
or pickled module keeps its own layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gossamer.compile.graph import Array, Graph, Node
from gossamer.compile.unary import real
from gossamer.trainable.names import Names

Run = Callable[..., Any]
Turn = Callable[[Array], Array]


class CannotTrainError(Exception):
    """Raised by a builder: this node cannot be a step; the message is the reason."""


@dataclass(eq=False)
class Step:
    """One node: ``run([layer,] *inputs)`` gives its output, or a tuple of them. ``inputs`` are value names, "" for an
    absent one; ``done`` are the values that nothing reads afterwards."""

    run: Run
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layer: nn.Module | None = None
    node: str = ""
    done: tuple[str, ...] = ()


@dataclass(eq=False)
class Tie:
    """A parameter or buffer of a layer and the constant of the ONNX graph that it came from.

    Attributes:
        owner, attribute: where the tensor lives.
        node, index: the node that reads the constant, and as which input.
        value: the constant's name.
        turn: from the tensor's shape to the constant's.
        before: the constant.
    """

    owner: nn.Module
    attribute: str
    node: str
    index: int
    value: str
    turn: Turn
    before: Array


def same(array: Array) -> Array:
    """The tensor is stored as the constant is."""
    return array


def transposed(array: Array) -> Array:
    """The constant holds the matrix the other way round."""
    return np.ascontiguousarray(array.T)


@dataclass
class Builder:
    """State while a graph is turned into steps.

    Attributes:
        g: nodes, constants and static shapes.
        root: the module that layers are registered on.
    """

    g: Graph
    root: nn.Module
    names: Names
    steps: list[Step] = field(default_factory=list)
    ties: list[Tie] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    layers: dict[Any, nn.Module] = field(default_factory=dict)

    # --- steps

    def step(
        self, node: Node, run: Run, inputs: Sequence[str], *, layer: nn.Module | None = None, outputs: int = 1
    ) -> None:
        """Add the step of a node that reads these values and makes its first ``outputs`` outputs."""
        self.steps.append(Step(run, tuple(inputs), tuple(node.outputs[:outputs]), layer, node.name))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.g.shape(name)

    def rank(self, name: str) -> int:
        return len(self.g.shape(name))

    # --- constants

    def array(self, name: str) -> Array | None:
        """A float or integer constant, dequantised where it is stored quantised; None: it is computed."""
        value = self.g.const(name)
        return value if value is not None else real(self.g, name)

    def numbers(self, node: Node, index: int, attribute: str = "") -> list[Any] | None:
        """Numbers given as an input (newer opsets) or an attribute; None: absent.

        Raises:
            CannotTrainError: the input is computed.
        """
        name = node.input(index)
        if name:
            value = self.array(name)
            if value is None:
                raise CannotTrainError(f"its input {index} is computed")
            return list(value.reshape(-1).tolist())
        value = node.attrs.get(attribute) if attribute else None
        return None if value is None else list(value)

    def constant(self, name: str) -> None:
        """Make a constant readable by steps: ``[1, *shape]``."""
        if name in self.constants:
            return
        value = self.array(name)
        if value is None:
            raise CannotTrainError(f"value '{name}' is not available")
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        self.constants[name] = torch.from_numpy(np.array(value))[None]

    # --- layers

    def weight(self, node: Node, index: int, what: str) -> Array:
        """A trainable constant of a node, float32.

        Raises:
            CannotTrainError: it is computed, or no float32.
        """
        value = self.array(node.input(index))
        if value is None:
            raise CannotTrainError(f"its {what} is not constant")
        if value.dtype == np.float64 and self.g.const(node.input(index)) is None:
            value = value.astype(np.float32)
        if value.dtype != np.float32:
            raise CannotTrainError(f"its {what} is {value.dtype}, not float32")
        return value

    def layer_class(self, plain: type[nn.Module], node: Node) -> type[nn.Module]:
        """The class that a layer of this kind gets."""
        return plain

    def ready(self, layer: nn.Module, node: Node) -> None:
        """Called once for every new layer with weights, its tensors filled."""

    def register(self, node: Node, layer: nn.Module) -> nn.Module:
        """Put a layer into the module tree under the node's name."""
        self.names.place(self.root, node.name, layer)
        return layer

    def tie(self, layer: nn.Module, attribute: str, node: Node, index: int, array: Array, turn: Turn = same) -> None:
        """Fill a parameter or buffer of a layer from a constant and remember where it came from."""
        target = getattr(layer, attribute)
        with torch.no_grad():
            target.copy_(torch.from_numpy(np.array(turn(array))).reshape(target.shape))
        self.ties.append(Tie(layer, attribute, node.name, index, node.inputs[index], turn, array))

    def tie_again(self, layer: nn.Module, node: Node) -> None:
        """Another node reads the same constants through the same layer."""
        first = next(tie.node for tie in self.ties if tie.owner is layer)
        self.ties += [replace(t, node=node.name) for t in self.ties if t.owner is layer and t.node == first]


def require(condition: bool, reason: str) -> None:
    """Refuse a node with a reason unless the condition holds."""
    if not condition:
        raise CannotTrainError(reason)


def text(value: object) -> str:
    """A string attribute, whether bytes or str."""
    return value.decode() if isinstance(value, bytes) else str(value)


def align(*tensors: Tensor) -> list[Tensor]:
    """Operands of an elementwise operator: ONNX aligns shapes on the right, so 1s go in behind the group axis."""
    rank = max(t.dim() for t in tensors)
    return [t if t.dim() == rank else t.reshape(t.shape[0], *[1] * (rank - t.dim()), *t.shape[1:]) for t in tensors]


def merged(x: Tensor) -> Tensor:
    """Groups and batch as one axis, for torch's own layers."""
    return x.flatten(0, 1)


def split(y: Tensor, like: Tensor) -> Tensor:
    """The opposite of :func:`merged`, by the value that went in."""
    return y.view(like.shape[0], like.shape[1], *y.shape[1:])
