"""QuantizedGraph: a QDQ graph that trains with fake quantisation and is judged by the device's own arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from gossamer._errors import InputError
from gossamer.compile.graph import Graph, Node
from gossamer.quantize.qat.activation import ActivationQuantizer
from gossamer.quantize.qat.build import Floats, Options, QuantizedBuilder, dequantize, guarded, quantize
from gossamer.quantize.qat.exact import PlanModule
from gossamer.quantize.qat.weight import QuantizedWeight
from gossamer.trainable.graph import OPERATORS, Operator, TrainableGraph
from gossamer.trainable.names import Names
from gossamer.trainable.step import Builder
from gossamer.trainable.write import set_constant

_OPERATORS: dict[str, Operator] = {
    op: guarded(run) for op, run in {**OPERATORS, "QuantizeLinear": quantize, "DequantizeLinear": dequantize}.items()
}


class QuantizedGraph(TrainableGraph):
    """A QDQ model whose float weights train while every place of the graph that quantises does so in the forward pass.

    Made by :func:`gossamer.quantize.qat.prepare_qat`. Layers with quantised weights are ``nn.Conv2d``, ``nn.Conv1d``
    and ``nn.Linear`` called like their nodes, so a ``Sparsifier`` attaches; layers that the model leaves in float stay
    float. ``forward`` is float arithmetic with fake quantisation (for training, and near the device's result);
    :meth:`exact` is the device's result.

    Args:
        model: QDQ ONNX, per-tensor 8-bit activations.
        floats: float32 weights and biases by (node, input) to start from, where the model's own are rounded already.
        options: how scales and zeros are treated.
        limits: bounds of the Relu and Clip that quantisation took over, by the value that is quantised.

    Attributes:
        quantizers: module with one :class:`~gossamer.quantize.qat.activation.ActivationQuantizer` per set of
            parameters of the graph.
    """

    quantizers: nn.Module

    def __init__(
        self,
        model: ir.Model,
        floats: Floats | None = None,
        options: Options | None = None,
        limits: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        self._given = (dict(floats or {}), options or Options(), dict(limits or {}))
        super().__init__(model, freeze_batch_norm=True)  # ranges were calibrated by the statistics as they are
        del self._given

    def _builder(self, g: Graph, names: Names) -> Builder:
        self.quantizers = nn.Module()
        floats, options, limits = self._given
        return QuantizedBuilder(g, self, names, floats=floats, limits=limits, options=options, home=self.quantizers)

    def _operators(self) -> Mapping[str, Operator]:
        return _OPERATORS

    def _build(self, builder: Builder) -> None:
        super()._build(builder)
        assert isinstance(builder, QuantizedBuilder)
        self._restores = _restores(builder.g.nodes)
        self._quantizer_of = dict(builder.quantizers)
        self._layer_of = {s.node: s.layer for s in builder.steps if isinstance(s.layer, QuantizedWeight)}

    # --- training

    def parameter_groups(
        self, lr: float | None = None, *, weight_decay: float = 0.0, scale_lr: float | None = None
    ) -> list[dict[str, Any]]:
        """Parameters in groups for an optimiser: weights (which decay), biases and norms, scales (neither decays).

        Args:
            lr: learning rate of weights and biases; None: the optimiser's own.
            weight_decay: of the weights.
            scale_lr: learning rate of learned scales; None: as ``lr``.

        Returns:
            Dicts with ``params`` and ``name`` (``weights``, ``others``, ``scales``); empty groups are left out.
        """
        scales = [m.scale for m in self.modules() if isinstance(m, ActivationQuantizer) and m.scale.requires_grad]
        scales += [
            m.weight_scale for m in self.modules() if isinstance(m, QuantizedWeight) and m.weight_scale is not None
        ]
        ids = {id(p) for p in scales}
        rest = [p for p in self.parameters() if id(p) not in ids]
        found = [
            ("weights", [p for p in rest if p.dim() > 1], lr, weight_decay),
            ("others", [p for p in rest if p.dim() <= 1], lr, 0.0),
            ("scales", scales, lr if scale_lr is None else scale_lr, 0.0),
        ]
        return [
            {"name": name, "params": params, "weight_decay": decay, **({} if rate is None else {"lr": rate})}
            for name, params, rate, decay in found
            if params
        ]

    def forward(self, *inputs: Tensor, exact: bool = False) -> Any:
        """Outputs as float32: a tensor, or a tuple where there are several.

        Args:
            inputs: float32 ``[B, ...]`` in the model's own input scale (also where the model takes 8-bit integers;
                those may be given as they are).
            exact: see :meth:`exact`.
        """
        if exact:
            return self.exact(*inputs)
        return super().forward(*inputs)

    # --- the device's arithmetic

    def exact(self, *inputs: Tensor, batch: int = 64) -> Any:
        """What the compiled bundle computes on the device, bit for bit wherever it computes in int8.

        The graph is compiled as it is now, so for many calls between two training steps take :meth:`snapshot` once.

        Args:
            inputs: as for :meth:`forward`.
            batch: samples that are computed at a time.

        Returns:
            float32 outputs; 8-bit ones dequantised.
        """
        return self.snapshot()(*inputs, batch=batch)

    def snapshot(self) -> PlanModule:
        """The compiled network as it is now, as a torch module on the same device."""
        from gossamer.compile.lower import lower

        device = next((p.device for p in [*self.parameters(), *self.buffers()]), torch.device("cpu"))
        return PlanModule(lower(self.to_onnx(), shapes=dict(self._inputs))).to(device)

    # --- writing back

    def to_onnx(self) -> ir.Model:
        """The QDQ model with the trained integers: int8 weights, int32 biases, scales and zero points. The compiler
        takes it as it is; a recipe's quantize step does nothing to it.

        Raises:
            ModelError: a weight is NaN or infinite; the message names its layer.
        """
        model = super().to_onnx()
        nodes = {node.name: node for node in model.graph}
        for name, layer in self._layer_of.items():
            self._write_layer(model, nodes, nodes[name], layer)
        for (scale_name, zero_name), quantizer in self._quantizer_of.items():
            scale, zero = quantizer.parameters_now()
            for node, index in self._readers(nodes, scale_name, zero_name):
                set_constant(model, node, 1, np.array(scale, np.float32).reshape(_shape(node, 1)), alone=False)
                if index == 2:
                    kind = np.uint8 if quantizer.low == 0 else np.int8
                    set_constant(model, node, 2, np.array(zero, kind).reshape(_shape(node, 2)), alone=False)
        return model

    def _tied(self) -> list[Any]:
        return [tie for tie in self._ties if not isinstance(tie.owner, QuantizedWeight)]

    def _write_layer(
        self, model: ir.Model, nodes: Mapping[str | None, ir.Node], node: ir.Node, layer: QuantizedWeight
    ) -> None:
        made = layer.integers()
        turned = next(t.turn for t in self._ties if t.owner is layer and t.attribute == "weight")
        weight = nodes[self._restores[(node.name or "", 1)]]
        axis = 0 if turned(np.zeros((1, 2), np.int8)).shape == (1, 2) or made.weight.ndim > 2 else 1
        _restore(model, weight, turned(made.weight), made.scale, axis)
        if layer.bias is None:
            return
        if made.bias is None or made.bias_scale is None:
            set_constant(model, node, 2, layer.bias.detach().cpu().numpy())
        else:
            _restore(model, nodes[self._restores[(node.name or "", 2)]], made.bias, made.bias_scale, 0)

    @staticmethod
    def _readers(nodes: Mapping[str | None, ir.Node], scale: str, zero: str) -> list[tuple[ir.Node, int]]:
        """The first Q or DQ node that reads these parameters (they share the constant)."""
        for node in nodes.values():
            if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
                continue
            names = [i.name if i is not None else "" for i in node.inputs]
            if names[1] == scale and (names[2] if len(names) > 2 else "") == zero:
                return [(node, 2 if zero else 1)]
        return []


def _restores(nodes: list[Node]) -> dict[tuple[str, int], str]:
    """Name of the DequantizeLinear node before weight and bias, by node and input."""
    makers = {o: n for n in nodes for o in n.outputs}
    return {
        (node.name, i): makers[name].name
        for node in nodes
        for i, name in enumerate(node.inputs)
        if i in (1, 2) and name in makers and makers[name].op_type == "DequantizeLinear"
    }


def _restore(model: ir.Model, node: ir.Node, numbers: Any, scale: Any, axis: int) -> None:
    """Give a DequantizeLinear of constants other numbers and scales, symmetric."""
    single = scale.size == 1
    shape = _shape(node, 1)
    view = shape if single and int(np.prod(shape)) == 1 else (() if single else scale.shape)
    set_constant(model, node, 0, np.ascontiguousarray(numbers).reshape(numbers.shape))
    set_constant(model, node, 1, np.asarray(scale, np.float32).reshape(view))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        set_constant(model, node, 2, np.zeros(view, numbers.dtype))
    if not single:
        node.attributes["axis"] = ir.AttrInt64("axis", axis)


def _shape(node: ir.Node, index: int) -> tuple[int, ...]:
    value = node.inputs[index]
    if value is None or value.const_value is None:
        raise InputError(f"node '{node.name}' has computed quantisation parameters")
    return tuple(np.asarray(value.const_value.numpy()).shape)
