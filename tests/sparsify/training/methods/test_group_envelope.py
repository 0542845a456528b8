"""The group envelope: its value and gradient against brute force, and the rule that ends in k groups."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from gossamer import RecipeError
from gossamer.sparsify.training import Sparsifier, get_method
from gossamer.sparsify.training.envelope import force
from gossamer.sparsify.training.methods.group_envelope import GroupEnvelope
from tests.sparsify.training.nets import check_resume, linear

F64 = npt.NDArray[np.float64]


def _value(z: torch.Tensor, k: int) -> float:
    return float(0.5 * (z * force(z, k)).sum())


def _conjugate_value(z: F64, k: int) -> float:
    """The biconjugate by its definition: sup over y of <z, y> minus half the sum of the k largest y^2, by ascent on y.

    The conjugate of ``1/2 ||x||^2 + [at most k nonzero]`` is half the sum of the k largest squares; the supremum is
    attained where y shares the order of z: y_i = max(z_i, t) for the best t, found by trying all t on a fine grid.
    """
    y = np.maximum(z, np.linspace(0.0, z.sum(), 100_001)[:, None])
    return float((y @ z - 0.5 * np.sort(y**2, axis=1)[:, -k:].sum(axis=1)).max())


def _hull_value(z: F64, k: int) -> float:
    """Half the squared k-support norm by its definition (arXiv 1204.5043, section 2): the least sum of Euclidean norms
    of vectors, one for every set of k places and zero outside it, that add up to z. As a second-order cone programme
    in its smooth form: min over shares of 1/2 sum_i z_i^2 / theta_i, 0 < theta_i <= 1, sum theta = k (box norm)."""
    low, high = 1e-12, float(z.max()) * z.size + 1.0
    for _ in range(200):  # theta_i = min(1, z_i / t) where their sum is k
        mid = 0.5 * (low + high)
        low, high = (mid, high) if np.minimum(1.0, z / mid).sum() > k else (low, mid)
    theta = np.minimum(1.0, z / high)
    return float(0.5 * (z**2 / np.maximum(theta, 1e-300))[z > 0].sum())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_value_is_the_biconjugate(seed: int, k: int) -> None:
    z = np.abs(np.random.default_rng(seed).normal(size=5)) * (1.0 + 3.0 * (np.arange(5) == seed))
    found = _value(torch.from_numpy(z), k)
    assert found == pytest.approx(_conjugate_value(z, k), rel=1e-6)
    assert found == pytest.approx(_hull_value(z, k), rel=1e-9)


def test_values_by_hand() -> None:
    z = torch.tensor([3.0, 1.0, 1.0, 1.0])
    # k = 1: half the squared L1 norm. k = 2: 3 is above tau = (1 + 1 + 1) / 1 = 3? no: r = 1, tau = 6 / 2 = 3.
    assert _value(z, 1) == 0.5 * 6.0**2
    assert force(z, 2).tolist() == [3.0] * 4
    assert _value(z, 2) == 0.5 * 6.0**2 / 2
    assert force(z, 3).tolist() == [3.0, 1.5, 1.5, 1.5]  # 3 is above, the three others share two places
    assert _value(z, 3) == 0.5 * (9.0 + 9.0 / 2)
    assert _value(z, 4) == 0.5 * 12.0  # k = all: half the squared norm


def test_it_is_half_the_squared_norm_for_at_most_k_groups_and_more_for_others() -> None:
    z = torch.tensor([2.0, 0.0, 1.0, 0.0])
    assert _value(z, 2) == 2.5
    assert _value(z, 3) == 2.5
    assert _value(z, 1) == 4.5
    assert _value(torch.zeros(3), 2) == 0.0


def test_it_is_convex_and_below_the_function_that_it_envelopes() -> None:
    rng = np.random.default_rng(3)
    for k in (1, 2, 3):
        points = [torch.from_numpy(np.abs(rng.normal(size=4))) for _ in range(6)]
        for a, b in itertools.combinations(points, 2):
            middle = _value(0.5 * (a + b), k)
            assert middle <= 0.5 * (_value(a, k) + _value(b, k)) + 1e-12
        for places in itertools.combinations(range(4), k):
            x = torch.zeros(4, dtype=torch.float64)
            x[list(places)] = torch.from_numpy(np.abs(rng.normal(size=k)))
            assert _value(x, k) == pytest.approx(0.5 * float(x @ x))


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6])
def test_the_gradient_is_the_norm_or_tau_whichever_is_larger(k: int) -> None:
    z = torch.tensor([4.0, 0.5, 2.0, 0.25, 1.0, 0.0], dtype=torch.float64)
    found = force(z, k)
    tau = {1: 7.75, 2: 3.75, 3: 1.75, 5: 0.25, 6: 0.0}[k]  # (sum of those below) / (places left)
    torch.testing.assert_close(found, z.clamp(min=tau))
    for i in range(5):
        up, down = z.clone(), z.clone()
        up[i] += 1e-6
        down[i] -= 1e-6
        numeric = (_value(up, k) - _value(down, k)) / 2e-6
        assert float(found[i]) == pytest.approx(numeric, abs=1e-5)


def test_many_groups_keep_their_precision() -> None:
    z = torch.cat([torch.full((10,), 1000.0), torch.full((100_000,), 1e-4)])
    assert float(force(z, 20)[-1]) == pytest.approx(10.0 / 10, rel=1e-6)


@pytest.mark.parametrize("k", [0, 4])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=f"k is 1..3 .*not {k}"):
        force(torch.ones(3), k)


ROWS = ([3.0, 0.0, 0.0, 4.0, 1.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])


def test_the_penalty_takes_blocks_as_groups() -> None:
    run = Sparsifier(
        nn.Sequential(linear(*ROWS)),
        {"pattern": "1x4", "sparsity": 0.5, "keep_dense": []},
        GroupEnvelope(strength=2.0),
        total_steps=4,
    )
    assert run.memory["k.0"] == 2
    penalty = run.penalty()
    assert isinstance(penalty, torch.Tensor)
    # Norms 5, 1, 2, 0; k = 2: 5 is above tau = 3, which 1 and 2 share.
    assert float(penalty.detach()) == pytest.approx(2.0 * 0.5 * (25.0 + 9.0))
    penalty.backward()
    grad = run.layers[0].weight.grad
    assert grad is not None
    expected = [[6.0, 0.0, 0.0, 8.0, 6.0, 0.0, 0.0, 0.0], [0.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    torch.testing.assert_close(grad, torch.tensor(expected))  # 2 w for the first block, 2 tau w / ||w|| for the others


def test_the_penalty_takes_filters_as_groups() -> None:
    run = Sparsifier(
        nn.Sequential(linear(*ROWS)),
        {"pattern": "unstructured", "sparsity": 0.5, "keep_dense": []},
        GroupEnvelope(strength=1.0, groups="filters"),
        total_steps=4,
    )
    penalty = run.penalty()
    assert isinstance(penalty, torch.Tensor)
    # k = 1: half the squared sum of the norms sqrt(26) and 2.
    assert float(penalty.detach()) == pytest.approx(0.5 * (26.0**0.5 + 2.0) ** 2)
    run.finish()
    assert run.layers[0].module.weight[1].abs().sum() == 0  # type: ignore[index, operator, union-attr]


def test_one_k_over_all_layers_when_the_distribution_is_global() -> None:
    model = nn.Sequential(linear([4.0, 3.0]), linear([2.0], [1.0]))
    target = {"pattern": "unstructured", "sparsity": 0.5, "distribution": "global", "keep_dense": []}
    run = Sparsifier(model, target, GroupEnvelope(strength=1.0), total_steps=4)
    penalty = run.penalty()
    assert isinstance(penalty, torch.Tensor)
    padded = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0, 0.0, 0.0])
    assert float(penalty.detach()) == pytest.approx(_value(padded, 2))
    assert run.finish() == {"0": 0.5, "1": 0.5}  # every layer keeps a weight


def test_the_k_largest_groups_by_norm_are_kept_at_end() -> None:
    # By mean magnitude the second block (1, 1, 1, 1) is ahead of the first (2.5, 0, 0, 0); by norm it is behind.
    model = nn.Sequential(linear([2.5, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]))
    target = {"pattern": "1x4", "sparsity": 0.5, "keep_dense": []}
    run = Sparsifier(model, target, GroupEnvelope(end=0.5), total_steps=4)
    assert run.memory["k.0"] == 1
    run.penalty()
    run.step()
    assert bool(run.layers[0].mask.all())
    run.step()
    assert run.layers[0].kept_units().tolist() == [[True, False]]
    assert float(torch.as_tensor(run.penalty()).detach()) == 0.0
    assert run.finish() == {"0": 0.5}


def test_training_draws_small_groups_to_zero_and_leaves_k() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 4, bias=False))
    truth = torch.zeros(4, 16)
    truth[:, :4] = torch.randn(4, 4) + 2.0  # 4 of 16 blocks carry the answer
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    target = {"pattern": "1x4", "sparsity": 0.75, "keep_dense": []}
    run = Sparsifier(model, target, GroupEnvelope(strength=0.1, end=1.0), total_steps=401, optimizer=optimizer)
    for _ in range(400):
        x = torch.randn(32, 16)
        loss = (model(x) - x @ truth.T).square().mean() + run.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.step()
    norms = run.layers[0].weight.detach().reshape(4, 4, 4).norm(dim=2)
    assert float(norms[:, 1:].max()) < 0.05 < 1.0 < float(norms[:, 0].min())
    run.finish()
    assert torch.equal(model[0].weight != 0, truth != 0)


def test_filters_under_one_threshold_are_an_error() -> None:
    target = {"pattern": "1x4", "sparsity": 0.5, "distribution": "global", "keep_dense": []}
    with pytest.raises(RecipeError, match="filters of different layers differ in size and cannot share one k"):
        Sparsifier(nn.Sequential(nn.Linear(8, 8)), target, GroupEnvelope(groups="filters"), total_steps=2)


def test_n_of_m_has_no_groups() -> None:
    with pytest.raises(RecipeError, match="method 'group-envelope' cannot make pattern 2:4"):
        Sparsifier(nn.Linear(8, 8), {"pattern": "2:4", "keep_dense": []}, get_method("group-envelope"), total_steps=2)


@pytest.mark.parametrize("at", [2, 6])
def test_a_resumed_run_ends_like_an_uninterrupted_one(at: int) -> None:
    target = {"pattern": "4x1", "sparsity": 0.5, "keep_dense": []}
    check_resume(GroupEnvelope(strength=0.1, end=0.5), target, steps=8, at=at)
