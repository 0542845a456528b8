"""QuantizedGraph: a QDQ graph that trains with fake quantisation and is judged by the device's own arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from gossamer.compile.graph import Graph
from gossamer.quantize._graph import drop_unused
from gossamer.quantize.qat.activation import ActivationQuantizer
from gossamer.quantize.qat.build import Floats, Options, QuantizedBuilder, dequantize, guarded, quantize
from gossamer.quantize.qat.exact import PlanModule
from gossamer.quantize.qat.weight import QuantizedWeight
from gossamer.quantize.qat.write import LayerWriter, write_activations
from gossamer.trainable.graph import OPERATORS, Operator, TrainableGraph
from gossamer.trainable.names import Names
from gossamer.trainable.step import Builder, Tie

_OPERATORS: dict[str, Operator] = {
    op: guarded(run) for op, run in {**OPERATORS, "QuantizeLinear": quantize, "DequantizeLinear": dequantize}.items()
}


class QuantizedGraph(TrainableGraph):
    """A QDQ model whose float weights train while every place of the graph that quantises does so in the forward pass.

    Made by :func:`gossamer.quantize.qat.prepare_qat`. Layers with quantised weights are ``nn.Conv2d``, ``nn.Conv1d``
    and ``nn.Linear`` called like their nodes, so a ``Sparsifier`` attaches; layers that the model leaves in float stay
    float. ``forward`` is float arithmetic with fake quantisation (for training, and near the device's result);
    :meth:`exact` is the device's result. Train in float32 (TF32 will do): bfloat16 has fewer digits than the scales of
    int8 need.

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
        self._quantizer_of = dict(builder.quantizers)
        self._borders = builder.borders()
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

    def _open(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        values = super()._open(inputs)
        for name, quantizer in self._borders.items():
            x = values.get(name)
            if x is not None and not x.is_floating_point():
                values[name] = (x.to(torch.int32) - quantizer.zero_point) * quantizer.scale
        return values

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
        borders = {name: quantizer.parameters_now() for name, quantizer in self._borders.items()}
        return PlanModule(lower(self.to_onnx(), shapes=dict(self._inputs)), borders).to(device)

    # --- writing back

    def to_onnx(self) -> ir.Model:
        """The QDQ model with the trained integers: int8 weights, int32 biases, scales and zero points. The compiler
        takes it as it is; a recipe's quantize step does nothing to it.

        Raises:
            ModelError: a weight is NaN or infinite; the message names its layer.
        """
        model = super().to_onnx()
        nodes = {node.name: node for node in model.graph}
        writer = LayerWriter(model)
        for name, layer in self._layer_of.items():
            tie = next(t for t in self._ties if t.owner is layer and t.attribute == "weight")
            writer.write(nodes[name], layer, tie)
        write_activations(model, self._quantizer_of)
        drop_unused(model)
        return model

    def _tied(self) -> list[Tie]:
        return [tie for tie in self._ties if not isinstance(tie.owner, QuantizedWeight)]
