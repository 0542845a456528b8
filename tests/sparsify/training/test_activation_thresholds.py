"""Activation thresholds while training: quantile, gradients, top-k, measured zeros, and the same rule as on ONNX."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer._errors import CalibrationError, InputError

torch = pytest.importorskip("torch", reason="training needs the [torch] extra")

from torch import nn  # noqa: E402 - after the skip

from gossamer.sparsify.training.activation import ActivationThresholds  # noqa: E402


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 4))


def batch(seed: int = 1, rows: int = 50) -> torch.Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))


def test_the_threshold_is_the_quantile_over_all_batches():
    model = net()
    thresholds = ActivationThresholds(model, ["2"], 0.7)
    found = thresholds.calibrate([batch(1), (batch(2), "label")])["2"]
    with torch.no_grad():
        sizes = torch.cat([model[:2](batch(i)) for i in (1, 2)]).abs().reshape(-1).sort().values
    assert found == float(sizes[int(np.ceil(0.7 * sizes.numel())) - 1])


def test_small_inputs_become_zero_and_pass_no_gradient():
    model = net()
    plain = net()
    thresholds = ActivationThresholds(model, ["2"], 0.6)
    cutoff = thresholds.calibrate([batch()])["2"]
    hidden = plain[:2](batch()).detach().requires_grad_()
    kept = hidden.detach().abs() >= cutoff
    out = model(batch())
    torch.testing.assert_close(out, plain[2](hidden * kept))
    assert thresholds.measured()["2"] == pytest.approx(float((~kept).float().mean()), abs=1e-6)
    seen = []
    model[1].register_forward_hook(lambda m, i, o: (o.retain_grad(), seen.append(o))[0])
    model(batch()).sum().backward()
    grad = seen[0].grad
    assert bool((grad[~kept] == 0).all()) and bool((grad[kept] != 0).all())


def test_measured_counts_since_the_last_call():
    model = net()
    thresholds = ActivationThresholds(model, ["2"], 0.5)
    assert thresholds.measured() == {"2": 0.0}
    thresholds.calibrate([batch()])
    assert thresholds.measured() == {"2": 0.0}  # calibration is not counted
    model(batch())
    assert thresholds.measured()["2"] == pytest.approx(0.5, abs=0.001)
    assert thresholds.measured() == {"2": 0.0}


def test_top_k_keeps_the_largest_of_every_sample():
    model = net()
    thresholds = ActivationThresholds(model, ["2"], 0.75, per_sample=True)
    seen = []
    model[2].register_forward_hook(lambda m, i, o: seen.append(i[0]))
    model(batch())
    assert bool(((seen[0] != 0).sum(1) == 8).all())
    sizes = net()[:2](batch()).abs()
    for row, kept in zip(sizes, seen[0] != 0, strict=True):
        assert set(row.topk(8).indices.tolist()) == set(kept.nonzero().flatten().tolist())
    assert thresholds.measured()["2"] == 0.75


def test_top_k_keeps_ties_instead_of_losing_all_of_a_saturated_sample():
    model = nn.Sequential(nn.Identity())
    ActivationThresholds(model, ["0"], 0.5, per_sample=True)
    x = torch.tensor([[6.0, 6.0, 6.0, 6.0], [6.0, 6.0, 6.0, 1.0], [1.0, 2.0, -3.0, 4.0], [0.0, 0.0, 0.0, 5.0]])
    kept = [[6.0, 6.0, 6.0, 6.0], [6.0, 6.0, 6.0, 0.0], [0.0, 0.0, -3.0, 4.0], [0.0, 0.0, 0.0, 5.0]]
    assert model(x).tolist() == kept


def test_the_rule_is_that_of_the_onnx_pass():
    import onnx_ir as ir

    from gossamer.sparsify.activation import calibrate_thresholds

    model = net()
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    n (float[50,8] x) => (float[50,4] y) { a = MatMul (x, w) b = Sigmoid (a) h = Mul (a, b) y = MatMul (h, v) }
    """
    graph = ir.from_onnx_text(text)
    for node in graph.graph:
        node.name = node.outputs[0].name
        for i, value in enumerate(list(node.inputs)):
            if value.name in ("w", "v"):
                data = model[0 if value.name == "w" else 2].weight.detach().numpy().T.copy()
                tensor = ir.tensor(data, name=value.name)
                fresh = ir.Value(name=value.name, type=ir.TensorType(tensor.dtype), shape=tensor.shape,
                                 const_value=tensor)  # fmt: skip
                node.replace_input_with(i, fresh)
                graph.graph.register_initializer(fresh)
    with torch.no_grad():
        model[0].bias.zero_()
    (onnx,) = calibrate_thresholds(graph, [batch().numpy()], 0.6)
    found = ActivationThresholds(model, ["2"], 0.6).calibrate([batch()])
    assert onnx.layers == ("y",)
    assert found["2"] == pytest.approx(onnx.threshold, rel=1e-5)


def test_training_through_thresholds_recovers():
    model, teacher = net(0), net(0)
    thresholds = ActivationThresholds(model, ["2"], 0.8)
    thresholds.calibrate([batch(i) for i in range(4)])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for step in range(80):
        x = batch(step % 8)
        loss = (model(x) - teacher(x).detach()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-8:]) < 0.7 * np.mean(losses[:8])
    assert thresholds.measured()["2"] > 0.6


def test_state_and_close():
    model = net()
    thresholds = ActivationThresholds(model, ["2"], 0.6)
    thresholds.calibrate([batch()])
    sparse = model(batch()).detach()
    again = net()
    resumed = ActivationThresholds(again, ["2"], 0.6)
    with pytest.raises(CalibrationError, match="layer '2' has no threshold yet"):
        again(batch())
    resumed.load_state_dict(thresholds.state_dict())
    torch.testing.assert_close(again(batch()).detach(), sparse)
    with pytest.raises(InputError, match="other settings or layers"):
        ActivationThresholds(net(), ["2"], 0.5).load_state_dict(thresholds.state_dict())
    thresholds.close()
    torch.testing.assert_close(model(batch()), net()(batch()))


def test_bad_input():
    with pytest.raises(InputError, match="the model has no layer 'head'"):
        ActivationThresholds(net(), ["head"], 0.5)
    with pytest.raises(InputError, match="at least one layer"):
        ActivationThresholds(net(), [], 0.5)
    with pytest.raises(InputError, match="at least 0 and below 1, not 1"):
        ActivationThresholds(net(), ["2"], 1.0)
    with pytest.raises(CalibrationError, match="no calibration batches"):
        ActivationThresholds(net(), ["2"], 0.5).calibrate([])


def test_the_example_in_the_docstring():
    import doctest

    import gossamer.sparsify.training.activation as module

    torch.manual_seed(0)
    assert doctest.testmod(module).failed == 0 < doctest.testmod(module).attempted
