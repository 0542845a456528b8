"""Quantisation-aware training refuses what it cannot do, by name."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from gossamer import CalibrationError, ModelError, RecipeError, UnsupportedError
from gossamer.recipe import QuantizeStep
from tests.compile.support import model, node, normal
from tests.qat.support import small, small_samples

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gossamer[torch]'")


def test_calibration_is_missing_empty_or_of_another_shape() -> None:
    from gossamer.quantize.qat import prepare_qat

    made = ir.from_proto(small())
    with pytest.raises(CalibrationError, match="starts from calibration samples, and there are none"):
        prepare_qat(made)
    with pytest.raises(CalibrationError, match="there are no calibration samples"):
        prepare_qat(made, [])
    with pytest.raises(CalibrationError, match=r"the array has shape \[1, 3, 9, 9\], the input takes \[1, 3, 8, 8\]"):
        prepare_qat(made, normal(2, 3, 9, 9))


def test_moving_scales_of_seven_bit_activations() -> None:
    from gossamer.quantize.qat import prepare_qat

    with pytest.raises(RecipeError, match="learned activation scales need 8-bit activations"):
        prepare_qat(
            ir.from_proto(small()), small_samples(2), QuantizeStep(activation_bits=7), activation_scales="learned"
        )


def test_nan_weights_name_their_layer() -> None:
    from gossamer.quantize.qat import prepare_qat

    q = prepare_qat(ir.from_proto(small()), small_samples(2))
    with torch.no_grad():
        q.get_submodule("Conv_c2").weight[0] = float("nan")
    for use in (q.to_onnx, q.snapshot, q.check):
        with pytest.raises(ModelError, match="weight holds NaN or infinity") as error:
            use()
        assert "layer 'Conv_c2'" in str(error.value)


def test_a_nan_loss_names_a_layer() -> None:
    from gossamer.quantize.qat import prepare_qat

    q = prepare_qat(ir.from_proto(small()), small_samples(2))
    loss = (q(torch.from_numpy(small_samples(2))) * float("inf")).sum()
    loss.backward()
    with pytest.raises(ModelError, match="the loss is") as error:
        q.check(loss)
    assert "whose gradient is not finite" in str(error.value)


def test_activations_quantised_otherwise_are_named() -> None:
    from gossamer.quantize.qat import prepare_qat

    consts = {"s": np.full(3, 0.1, np.float32), "z": np.zeros(3, np.int8)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1),
        node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1),
    ]
    with pytest.raises(UnsupportedError, match=r"QuantizeLinear_q.*quantised other than per tensor to 8 bits"):
        prepare_qat(ir.from_proto(model(nodes, {"x": (1, 3, 4, 4)}, ["y"], consts)))


def test_operators_that_cannot_train_are_named() -> None:
    from gossamer.quantize.qat import prepare_qat

    nodes = [node("CumSum", ["x", "a"], ["c"]), node("MatMul", ["c", "w"], ["y"])]
    proto = model(nodes, {"x": (1, 4, 4)}, ["y"], {"a": np.array(1, np.int64), "w": normal(4, 2)})
    with pytest.raises(UnsupportedError, match=r"CumSum 'CumSum_c'.*there is no trainable form"):
        prepare_qat(ir.from_proto(proto), normal(2, 4, 4))
