"""The rules of fake quantisation by hand: values, scales, gradients."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gossamer[torch]'")

from gossamer.quantize.qat.activation import ActivationQuantizer  # noqa: E402
from gossamer.quantize.qat.straight_through import learned_round, round_to  # noqa: E402
from gossamer.quantize.qat.weight import QuantizedConv2d, QuantizedLinear  # noqa: E402


def test_activations_round_half_to_even_and_saturate() -> None:
    quantizer = ActivationQuantizer(0.5, -126, -128, 127)
    x = torch.tensor([-9.0, -1.0, -0.25, 0.25, 0.26, 0.75, 200.0], requires_grad=True)
    y = quantizer(x)
    assert y.tolist() == [-1.0, -1.0, 0.0, 0.0, 0.5, 1.0, 126.5]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]


def test_weights_take_their_largest_magnitude_and_keep_zeros() -> None:
    layer = QuantizedLinear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 12.7, -3.14], [0.0, 0.0, 0.0]]))
    layer.start(None, per_channel=True, integer_bias=False)
    fake, bias = layer.fake()
    made = layer.integers()
    assert bias is None and made.bias is None
    assert made.weight.tolist() == [[0, 127, -31], [0, 0, 0]]
    np.testing.assert_allclose(made.scale, [0.1, 2.0**-60], rtol=1e-6)
    np.testing.assert_allclose(fake.detach().numpy(), [[0.0, 12.7, -3.1], [0.0, 0.0, 0.0]], rtol=1e-6)
    fake.sum().backward()
    assert layer.weight.grad is not None and bool((layer.weight.grad == 1).all())


def test_one_scale_for_a_whole_layer() -> None:
    layer = QuantizedConv2d(1, 2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.27, 0.5]).reshape(2, 1, 1, 1))
    layer.start(None, per_channel=False, integer_bias=False)
    made = layer.integers()
    assert made.scale.shape == (1,) and made.weight.reshape(-1).tolist() == [127, 50]


def test_biases_are_steps_of_input_scale_times_weight_scale() -> None:
    source = ActivationQuantizer(0.5, 0, -128, 127)
    layer = QuantizedLinear(1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[127.0], [-31.75]]))
        layer.bias.copy_(torch.tensor([1.25, 1.25]))
    layer.start(source, per_channel=True, integer_bias=True)
    _, bias = layer.fake()
    made = layer.integers()
    assert made.bias is not None and made.bias_scale is not None and bias is not None
    assert made.bias_scale.tolist() == [0.5, 0.125]
    assert made.bias.dtype == np.int32 and made.bias.tolist() == [2, 10]  # 2.5 steps round to even
    assert bias.tolist() == [1.0, 1.25]
    bias.sum().backward()
    assert layer.bias.grad is not None and layer.bias.grad.tolist() == [1.0, 1.0]


def test_a_dead_channel_gets_a_scale_that_leaves_room_for_its_bias() -> None:
    source = ActivationQuantizer(0.5, 0, -128, 127)
    layer = QuantizedLinear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1e-9, 0.0], [0.0, 0.0]]))
        layer.bias.copy_(torch.tensor([8.0, -8.0]))
    layer.start(source, per_channel=True, integer_bias=True)
    made = layer.integers()
    assert made.bias is not None
    np.testing.assert_allclose(made.scale, [16 / 2**29] * 2, rtol=1e-6)
    assert made.bias.tolist() == [2**29, -(2**29)] and not made.weight.any()


def test_kept_zeros_stay_zero_whatever_the_gradient() -> None:
    layer = QuantizedLinear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 1.0, 0.0, -2.0]]))
    layer.start(None, per_channel=True, integer_bias=False, keep_zeros=True)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        layer(torch.ones(2, 4)).sum().backward()
        optimiser.step()
    assert layer.weight[0, 0] == 0 and layer.weight[0, 2] == 0
    assert layer.weight[0, 1] != 1.0
    assert layer.integers().weight[0, [0, 2]].tolist() == [0, 0]


def test_rounding_passes_gradients_through() -> None:
    x = torch.tensor([0.6, 5.0], requires_grad=True)
    y = round_to(x, torch.tensor(0.5), 3.0)
    assert y.tolist() == [0.5, 1.5]
    (y * torch.tensor([2.0, 3.0])).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 3.0]


def test_learned_scales_have_the_gradient_of_lsq() -> None:
    """Equation 3: ``round(v/s) - v/s`` inside, the bound outside; times the given share."""
    x = torch.tensor([0.6, 5.0, -5.0, 0.1], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    y = learned_round(x, scale, torch.tensor(0, dtype=torch.int32), -4, 3, 0.1)
    assert y.tolist() == [0.5, 1.5, -2.0, 0.0]
    y.sum().backward()
    assert x.grad is not None and scale.grad is not None
    assert x.grad.tolist() == [1.0, 0.0, 0.0, 1.0]
    assert float(scale.grad) == pytest.approx(0.1 * ((1 - 1.2) + 3 - 4 + (0 - 0.2)))


def test_learned_scales_per_row_shift_by_the_zero_point() -> None:
    x = torch.tensor([[1.0, -9.0], [1.0, 9.0]], requires_grad=True)
    scale = torch.tensor([[0.5], [2.0]], requires_grad=True)
    y = learned_round(x, scale, torch.tensor(-1, dtype=torch.int32), -3, 2, 1.0)
    assert y.tolist() == [[1.0, -1.0], [0.0, 6.0]]
    y.sum().backward()
    assert scale.grad is not None and scale.grad.reshape(-1).tolist() == [-2.0, -0.5 + 3.0]


def test_observed_ranges_follow_the_batches_and_always_hold_zero() -> None:
    quantizer = ActivationQuantizer(1.0, 0, -128, 127, scales="observed", momentum=0.5)
    x = torch.tensor([3.0, 127.0])
    quantizer.eval()(x)
    assert quantizer.parameters_now() == (1.0, 0)
    quantizer.train()(x)  # -128..127 moves half way towards 3..127: -62.5..127
    scale, zero = quantizer.parameters_now()
    assert scale == pytest.approx(189.5 / 255) and zero == round(-128 + 62.5 / scale)
    for _ in range(60):
        quantizer(x)
    scale, zero = quantizer.parameters_now()
    assert scale == pytest.approx(127 / 255) and zero == -128


def test_a_range_that_stands_for_a_relu6_stays_within_it() -> None:
    quantizer = ActivationQuantizer(6 / 255, -128, -128, 127, scales="observed", momentum=0.0, limits=(0.0, 6.0))
    quantizer(torch.tensor([-40.0, 40.0]))
    scale, zero = quantizer.parameters_now()
    assert scale == pytest.approx(6 / 255) and zero == -128
