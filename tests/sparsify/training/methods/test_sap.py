"""SAP: the PQ index, what follows from it, the bound of the target."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossamer._errors import RecipeError
from gossamer.sparsify.training import registry
from gossamer.sparsify.training.methods.sap import SAP
from tests.sparsify.training.nets import UNSTRUCTURED, attach, check_resume, linear, masks, net, step


def test_index_by_hand():
    method = SAP()
    assert method.index(torch.ones(7)) == pytest.approx(0.0, abs=1e-12)
    # sum of roots squared over d times the sum: 4 / (4 * 4), then 36 / (4 * 14).
    assert method.index(torch.tensor([4.0, 0.0, 0.0, 0.0])) == pytest.approx(0.75)
    assert method.index(torch.tensor([9.0, 0.0, 1.0, 4.0])) == pytest.approx(1 - 36 / 56)
    assert method.index(torch.tensor([9e20, 0.0, 1e20, 4e20])) == pytest.approx(1 - 36 / 56)
    assert method.index(torch.zeros(5)) == 0.0
    # p 1, q 2: 1 - d^(1/2 - 1) * l1 / l2
    assert SAP(p=1.0, q=2.0).index(torch.tensor([3.0, 4.0])) == pytest.approx(1 - 2**-0.5 * 7 / 5)


def test_number_to_prune_by_hand():
    method = SAP()
    assert method.to_prune(4, 1 - 36 / 56) == 1  # m = ceil(4 * 36/56) = ceil(2.57) = 3
    assert method.to_prune(4, 0.75) == 3  # m = 1
    assert method.to_prune(100, 0.0) == 0
    assert method.to_prune(100, method.index(torch.ones(100))) == 0
    assert method.to_prune(1000, 0.999) == 900  # beta
    assert SAP(gamma=0.5).to_prune(100, 0.6) == 30  # half of 60
    assert SAP(gamma=3.0).to_prune(100, 0.6) == 90  # beta again
    # eta 1: (1 + 1)^(1 / (0.5 - 1)) = 1/4 of the weights are enough where all are equal.
    assert SAP(eta=1.0).to_prune(100, 0.0) == 75
    # p 1, q 2: exponent of 1 - I is 2, of 1 + eta is -2.
    assert SAP(p=1.0, q=2.0, eta=0.25).to_prune(1000, 0.5) == 1000 - 160


ROW = [9.0, 0.0, 1.0, 4.0]


def test_each_layer_prunes_what_its_own_index_says():
    model = nn.Sequential(linear(ROW), linear([1.0], [1.0], [1.0], [1.0]), linear([8.0, 0.0, 0.0, 0.0]))
    run = attach(model, SAP(scope="layer", iterations=1, end=0.5, exact=False), {**UNSTRUCTURED, "sparsity": 0.9})
    for _ in range(4):
        run.step()
    assert run.sparsity == 0.0
    run.step()
    assert [layer.mask.flatten().tolist() for layer in run.layers] == [
        [True, False, True, True],
        [True] * 4,
        [True, False, False, False],
    ]


def test_globally_one_index_over_all_layers():
    # Together the eight magnitudes are two copies of ROW over 100 and over 1: roots 60 + 6, sum 1400 + 14.
    model = nn.Sequential(linear([900.0, 0.0, 100.0, 400.0]), linear([9.0], [0.0], [1.0], [4.0]))
    index = 1 - 66**2 / (8 * 1414)
    assert SAP().index(torch.tensor([900.0, 0, 100, 400, 9, 0, 1, 4])) == pytest.approx(index)
    assert SAP().to_prune(8, index) == 4  # m = ceil(8 * 0.385) = 4
    run = attach(model, SAP(iterations=1, exact=False), {**UNSTRUCTURED, "sparsity": 0.9})
    for _ in range(8):
        run.step()
    assert run.layers[0].mask.tolist() == [[True, False, True, True]]
    assert run.layers[1].mask.flatten().tolist() == [True, False, False, False]


def test_no_layer_is_emptied():
    model = nn.Sequential(linear([900.0, 400.0, 100.0, 100.0]), linear([0.02], [0.01], [0.02], [0.02]))
    attach(model, SAP(iterations=1), {**UNSTRUCTURED, "sparsity": 0.75}, steps=4).finish()
    assert int((model[1].weight != 0).sum()) == 1
    assert model[0].weight.tolist() == [[900.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_iterations_prune_what_is_left_evenly_over_the_run(scope):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 50, bias=False), nn.Linear(50, 20, bias=False))
    for layer in model:
        layer.weight.data.pow_(5)
    method = SAP(scope=scope, iterations=4, end=0.8, exact=False)
    run = attach(model, method, {**UNSTRUCTURED, "sparsity": 0.999}, steps=20)
    groups = [list(run.layers)] if scope == "global" else [[layer] for layer in run.layers]
    for number in range(1, 21):
        before, left = masks(run), []
        for group in groups:
            values = torch.cat([layer.weight.detach()[layer.mask].abs() for layer in group])
            left.append(len(values) - method.to_prune(len(values), method.index(values)))
        run.step()
        if number in (4, 8, 12, 16):
            assert [sum(int(layer.mask.sum()) for layer in group) for group in groups] == left
            assert not any(bool((new & ~old).any()) for new, old in zip(masks(run), before, strict=True))
        else:
            assert all(torch.equal(a, b) for a, b in zip(before, masks(run), strict=True))
    assert 0.5 < run.sparsity < 0.999


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_target_bounds_it_and_the_smallest_go_first(scope):
    model = nn.Sequential(linear([9.0, 0.1, 0.3, 0.2]), linear([8.0], [0.5], [0.4], [0.6]))
    run = attach(model, SAP(scope=scope, iterations=1, gamma=2.0), {**UNSTRUCTURED, "sparsity": 0.5})
    for _ in range(8):
        run.step()
    assert run.layers[0].mask.tolist() == [[True, False, False, False]]
    assert run.layers[1].mask.flatten().tolist() == [True, True, False, True]


def test_exact_keeps_up_with_an_even_path_else_the_rule_alone_decides():
    def sparsities(exact):
        model = nn.Sequential(linear([1.0, 1.1, 1.2, 1.3]), linear([2.0], [2.1], [2.2], [2.3]))
        run = attach(model, SAP(iterations=2, end=0.5, exact=exact), {**UNSTRUCTURED, "sparsity": 0.75}, steps=8)
        found = []
        for _ in range(8):
            run.step()
            found.append(run.sparsity)
        run.finish()
        return found, sum(int((layer.weight == 0).sum()) for layer in model)

    assert SAP(iterations=4).least(1, 0.9375) == pytest.approx(0.5 / 0.9375)  # half is left, then a quarter, ...
    assert SAP(iterations=4).least(2, 0.9375) == pytest.approx(0.75 / 0.9375)
    assert SAP(iterations=4).least(4, 0.9375) == 1.0
    # Magnitudes this even have an index of 0.03: the rule itself prunes nothing.
    assert sparsities(True) == ([0.0, 0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75], 6)
    assert sparsities(False) == ([0.0] * 8, 0)


def test_finish_completes_a_run_that_was_cut_short():
    for exact, zeros in ((True, 2), (False, 0)):
        model = linear([1.0, 3.0, 2.0, 4.0])
        attach(model, SAP(exact=exact)).finish()
        assert int((model.weight == 0).sum()) == zeros


def test_own_sparsity_bounds_its_layer():
    model = nn.Sequential(linear(ROW), linear([9.0, 0.0, 1.0, 4.0]))
    target = {**UNSTRUCTURED, "sparsity": 0.75, "layers": [{"match": "0", "sparsity": 0.25}]}
    run = attach(model, SAP(iterations=1), target)
    for _ in range(8):
        run.step()
    assert [layer.sparsity for layer in run.layers] == [0.25, 0.75]


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("pattern", ["1x4", "4x1", "4x4"])
def test_blocks(scope, pattern):
    run = attach(net(), SAP(scope=scope, iterations=3), {**UNSTRUCTURED, "pattern": pattern}, steps=12)
    for _ in range(12):
        step(run)
    for layer in run.layers:
        kept = layer.mask.clone()
        layer.set_units(layer.kept_units())
        assert torch.equal(kept, layer.mask)
    assert run.sparsity == pytest.approx(0.5, abs=0.02)


def test_bad_input():
    with pytest.raises(RecipeError, match="p must be below q"):
        registry.get_method("sap", {"p": 1.0})
    with pytest.raises(RecipeError, match=r"method 'sap' cannot make pattern 2:4"):
        attach(net(), SAP(), {"pattern": "2:4", "keep_dense": []})


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_resume(scope):
    check_resume(SAP(scope=scope, iterations=5), {**UNSTRUCTURED, "sparsity": 0.8}, steps=12, at=5)
