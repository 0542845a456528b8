"""What cannot be trained is refused by name, and what diverged is named, too."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from gossamer import InputError, ModelError, UnsupportedError
from tests.compile.support import model, node, normal

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gossamer[torch]'")


def network() -> object:
    from gossamer.trainable import TrainableGraph

    nodes = [node("Gemm", ["x", "w", "b"], ["h"]), node("Relu", ["h"], ["y"])]
    return TrainableGraph(ir.from_proto(model(nodes, {"x": (1, 4)}, ["y"], {"w": normal(4, 3), "b": normal(3)})))


def test_every_operator_that_cannot_train_is_named_with_its_source_and_reason() -> None:
    from gossamer.trainable import TrainableGraph

    nodes = [
        node("CumSum", ["x", "axis"], ["a"]),
        node("Conv", ["a", "v"], ["b"]),
        node("QuantizeLinear", ["b", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    consts = {"axis": np.array(1, np.int64), "s": np.float32(0.1), "z": np.int8(0)}
    made = ir.from_proto(model(nodes, {"x": (1, 2, 4, 4), "v": (3, 2, 1, 1)}, ["y"], consts))
    made.graph.node("CumSum_a").metadata_props["gossamer.source"] = "net.py:12"
    with pytest.raises(UnsupportedError) as error:
        TrainableGraph(made)
    text = str(error.value)
    assert "CumSum 'CumSum_a' at net.py:12: there is no trainable form of this operator" in text
    assert "Conv 'Conv_b': its weight is not constant" in text
    assert "QuantizeLinear 'QuantizeLinear_q': there is no trainable form of this operator" in text


def test_inputs_that_do_not_fit() -> None:
    made = network()
    with pytest.raises(
        InputError, match=r"input 'x' has shape \[2, 5\], the model takes \[batch \(a multiple of 1\), 4"
    ):
        made(torch.zeros(2, 5))  # type: ignore[operator]
    with pytest.raises(InputError, match="2 inputs given, the model has 1"):
        made(torch.zeros(2, 4), torch.zeros(2, 4))  # type: ignore[operator]


def test_nan_weights_name_their_layer() -> None:
    made = network()
    with torch.no_grad():
        made.Gemm_h.weight[1, 2] = float("nan")  # type: ignore[attr-defined]
    with pytest.raises(ModelError) as error:
        made.to_onnx()  # type: ignore[attr-defined]
    assert "weight holds NaN or infinity" in str(error.value) and "layer 'Gemm_h'" in str(error.value)


def test_a_nan_loss_names_the_layer_whose_gradient_went_first() -> None:
    made = network()
    loss = made(torch.eye(4) * 1e30 - 5e29).square().sum() * 1e30  # type: ignore[operator]
    loss.backward()
    with pytest.raises(ModelError, match="the loss is inf") as error:
        made.check(loss)  # type: ignore[attr-defined]
    assert "layer 'Gemm_h', whose gradient is not finite" in str(error.value)
    made.check(torch.tensor(1.0))  # type: ignore[attr-defined]
