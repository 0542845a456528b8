"""Sparse model soups: one mask a cycle, the average inside it, cycles that prune further, greedy choice, batch norm."""

from __future__ import annotations

import pytest

from gossamer._errors import InputError, RecipeError

torch = pytest.importorskip("torch", reason="training needs the [torch] extra")

from torch import nn  # noqa: E402 - after the skip

from gossamer.sparsify.training.soups import average, recalibrate_batch_norm, sparse_soup  # noqa: E402

TARGET = {"pattern": "unstructured", "sparsity": 0.75, "keep_dense": []}


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    x = torch.randn(64, 8, generator=g)
    return x, (x @ torch.randn(8, 4, generator=g)).argmax(1)


def train(model: nn.Module, seed: int, settings: dict) -> nn.Module:
    x, y = data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, **settings)
    g = torch.Generator().manual_seed(seed)
    for _ in range(15):
        pick = torch.randperm(64, generator=g)[:16]
        loss = nn.functional.cross_entropy(model(x[pick]), y[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def accuracy(model: nn.Module) -> float:
    x, y = data()
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


def zeros(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p == 0 for name, p in model.named_parameters() if name.endswith("weight")}


def test_cycles_prune_the_same_share_of_what_is_left():
    model = train(net(), 0, {})
    cycles = sparse_soup(model, TARGET, train, cycles=2, copies=2)
    assert [c.sparsity for c in cycles] == [0.5, 0.75]  # 1 - 0.25^(1/2), 1 - 0.25
    assert [c.seeds for c in cycles] == [(0, 1), (2, 3)]
    assert all(c.members == (0, 1) and c.scores == () and c.score is None for c in cycles)
    assert type(model[0].weight) is nn.Parameter
    assert {n: float(z.float().mean()) for n, z in zeros(model).items()} == {"0.weight": 0.75, "2.weight": 0.75}


def test_every_copy_of_a_cycle_starts_from_one_model_on_one_mask():
    seen: list[dict] = []

    def remember(model: nn.Module, seed: int, settings: dict) -> nn.Module:
        seen.append({k: v.clone() for k, v in model.state_dict().items()} | {"seed": seed, "settings": settings})
        return train(model, seed, settings)

    model = train(net(), 0, {})
    sparse_soup(
        model, TARGET, remember, cycles=2, copies=3, settings=[{"weight_decay": 0.0}, {"weight_decay": 1e-3}], seed=100
    )
    assert [s["seed"] for s in seen] == [100, 101, 102, 103, 104, 105]
    assert [s["settings"]["weight_decay"] for s in seen] == [0.0, 1e-3, 0.0] * 2
    mask, weight = "0.parametrizations.weight.0.mask", "0.parametrizations.weight.original"
    for first, others in ((seen[0], seen[1:3]), (seen[3], seen[4:6])):
        assert all(torch.equal(first[mask], o[mask]) and torch.equal(first[weight], o[weight]) for o in others)
    assert not (seen[3][mask] & ~seen[0][mask]).any()  # what the first cycle pruned stays pruned
    assert (seen[3][mask] != seen[0][mask]).any()


def test_the_average_is_the_mean_of_the_copies_inside_the_mask():
    weights: list[list[torch.Tensor]] = []
    masks: list[torch.Tensor] = []

    def remember(model: nn.Module, seed: int, settings: dict) -> nn.Module:
        train(model, seed, settings)
        weights.append([model[i].weight.detach().clone() for i in (0, 2)])
        masks[:] = [model[i].parametrizations.weight[0].mask.clone() for i in (0, 2)]
        return model

    model = train(net(), 0, {})
    sparse_soup(model, TARGET, remember, cycles=1, copies=3)
    for i, layer in enumerate((0, 2)):
        mean = torch.stack([w[i] for w in weights]).mean(0)
        torch.testing.assert_close(model[layer].weight.detach(), mean, rtol=1e-6, atol=1e-7)
        assert torch.equal(model[layer].weight == 0, ~masks[i])
        assert not torch.equal(weights[0][i], weights[1][i])


def test_weights_that_a_copy_moved_at_pruned_places_do_not_come_back():
    def leak(model: nn.Module, seed: int, settings: dict) -> nn.Module:
        with torch.no_grad():
            model[0].parametrizations.weight.original.add_(1.0)
        return model

    model = train(net(), 0, {})
    sparse_soup(model, TARGET, leak, cycles=1, copies=2)
    assert float((model[0].weight == 0).float().mean()) == 0.75


def test_greedy_takes_only_what_does_not_lower_the_score():
    offsets = {0: 0.0, 1: 5.0, 2: 0.0, 3: -5.0}

    def shift(model: nn.Module, seed: int, settings: dict) -> nn.Module:
        with torch.no_grad():
            model[2].bias.fill_(offsets[seed])
        return model

    def score(model: nn.Module) -> float:
        return -float(model[2].bias.detach().abs().mean())

    model = net()
    (cycle,) = sparse_soup(model, TARGET, shift, cycles=1, copies=4, mixing="greedy", evaluate=score)
    assert cycle.scores == (0.0, -5.0, 0.0, -5.0)
    assert cycle.members == (0, 2) and cycle.score == 0.0
    uniform = net()
    (cycle,) = sparse_soup(uniform, TARGET, shift, cycles=1, copies=4, evaluate=score)
    assert cycle.members == (0, 1, 2, 3) and cycle.score == 0.0
    offsets[3] = 5.0
    (cycle,) = sparse_soup(net(), TARGET, shift, cycles=1, copies=4, evaluate=score)
    assert cycle.score == -2.5


def test_a_soup_of_trained_copies_is_as_good_as_they_are():
    model = train(net(), 0, {})
    (cycle,) = sparse_soup(model, TARGET, train, cycles=1, copies=3, mixing="greedy", evaluate=accuracy)
    assert cycle.score >= max(cycle.scores) and cycle.score == accuracy(model)


def test_nm_patterns_are_whole_from_the_first_cycle():
    model = net()
    cycles = sparse_soup(model, {"pattern": "2:4", "keep_dense": []}, train, cycles=2, copies=1)
    assert [c.sparsity for c in cycles] == [0.5, 0.5]
    assert ((model[0].weight != 0).reshape(16, 2, 4).sum(-1) <= 2).all()


def test_average_of_states():
    first = {"w": torch.tensor([1.0, 3.0]), "n": torch.tensor(7), "m": torch.tensor([True, False])}
    second = {"w": torch.tensor([2.0, 5.0]), "n": torch.tensor(9), "m": torch.tensor([True, False])}
    mixed = average([first, second])
    assert mixed["w"].tolist() == [1.5, 4.0] and mixed["w"].dtype == torch.float32
    assert int(mixed["n"]) == 7 and mixed["m"].tolist() == [True, False]


def test_batch_norm_is_measured_anew():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.BatchNorm1d(3, momentum=0.1))
    model.train()
    batches = [(torch.randn(8, 4), None) for _ in range(4)]
    assert recalibrate_batch_norm(model, batches) == 1
    h = torch.stack([model[0](x) for x, _ in batches]).detach()
    torch.testing.assert_close(model[2].running_mean, h.mean((0, 1)))
    torch.testing.assert_close(model[2].running_var, h.var(dim=1).mean(0))
    assert model.training and model[1].training and model[2].momentum == 0.1
    assert recalibrate_batch_norm(nn.Linear(2, 2), []) == 0
    with pytest.raises(InputError, match="no batches"):
        recalibrate_batch_norm(model, [])


def test_recalibrate_sees_every_average():
    called: list[int] = []
    x = torch.randn(16, 8)

    def measure(model: nn.Module) -> None:
        called.append(recalibrate_batch_norm(model, [x]))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 4))
    sparse_soup(model, TARGET, lambda m, *_: m, cycles=2, copies=2, recalibrate=measure)
    assert called == [1, 1]
    torch.testing.assert_close(model[1].running_mean, model[0](x).detach().mean(0))


def test_bad_input():
    with pytest.raises(InputError, match="at least 1 cycle and 1 copy, not 0 and 3"):
        sparse_soup(net(), TARGET, train, cycles=0)
    with pytest.raises(InputError, match="greedy mixing compares scores"):
        sparse_soup(net(), TARGET, train, mixing="greedy")
    with pytest.raises(InputError, match="mixing is 'uniform' or 'greedy', not 'best'"):
        sparse_soup(net(), TARGET, train, mixing="best")
    with pytest.raises(InputError, match="other parameters") as caught:
        sparse_soup(net(), TARGET, lambda m, *_: nn.Linear(2, 2))
    assert "copy 0" in caught.value.where

    def burn(model: nn.Module, seed: int, settings: dict) -> nn.Module:
        with torch.no_grad():
            model[2].bias.fill_(float("nan") if seed == 1 else 0.0)
        return model

    with pytest.raises(InputError, match="NaN or infinity") as caught:
        sparse_soup(net(), TARGET, burn)
    assert caught.value.where == "copy 1, 2.bias"

    def unmask(model: nn.Module, seed: int, settings: dict) -> nn.Module:
        model[0].parametrizations.weight[0].mask.fill_(True)
        return model

    with pytest.raises(InputError, match="retrain changed a mask"):
        sparse_soup(net(), TARGET, unmask)
    with pytest.raises(InputError, match="evaluate returned nan"):
        sparse_soup(net(), TARGET, train, evaluate=lambda m: float("nan"))
    with pytest.raises(RecipeError, match="names no layer"):
        sparse_soup(net(), TARGET | {"include": ["stem"]}, train)


def test_copies_that_the_caller_keeps_run_on_after_the_last_cycle():
    kept = []

    def keeping(model: nn.Module, seed: int, settings: dict) -> nn.Module:
        kept.append(train(model, seed, settings))
        return kept[-1]

    model = train(net(), 0, {})
    sparse_soup(model, TARGET, keeping, cycles=1, copies=2)
    x, _ = data()
    torch.testing.assert_close(torch.stack([c[0].weight for c in kept]).mean(0), model[0].weight)
    assert all(c(x).shape == (64, 4) for c in kept)


def test_a_loop_that_fails_leaves_plain_weights():
    model = train(net(), 0, {})

    def failing(copy: nn.Module, seed: int, settings: dict) -> nn.Module:
        if seed == 2:
            raise ValueError("the loop's own")
        return train(copy, seed, settings)

    with pytest.raises(ValueError, match="the loop's own"):
        sparse_soup(model, TARGET, failing, cycles=2, copies=2)
    assert type(model[0]) is nn.Linear and type(model[0].weight) is nn.Parameter
    assert float((model[0].weight == 0).float().mean()) == 0.75  # the mask of the second cycle, on the first's average
    assert len(sparse_soup(model, TARGET, train, cycles=1, copies=1)) == 1
