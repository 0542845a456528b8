"""Methods that move masks, on a GPU: the same twice, resumable, with deterministic algorithms, and without waiting."""

from __future__ import annotations

import pytest
import torch

from gossamer.sparsify.training import METHODS, Method
from tests.sparsify.training.nets import UNSTRUCTURED, attach, check_resume, masks, net, step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

OPTIONS = {
    "global-magnitude": {"every": 2},
    "granet": {"every": 2},
    "rigl": {"every": 2},
    "set": {"every": 2},
    "random": {},
    "iss-p": {},
    "sap": {"iterations": 4},
}


@pytest.fixture(params=list(OPTIONS))
def method(request) -> Method:
    return METHODS[request.param](**OPTIONS[request.param])


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_deterministic_and_resumable(method, pattern, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        check_resume(method, {**UNSTRUCTURED, "pattern": pattern}, steps=12, at=5, device="cuda")
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_reaches_the_sparsity_and_masks_are_whole(method, pattern):
    run = attach(net().cuda(), method, {**UNSTRUCTURED, "pattern": pattern, "sparsity": 0.6}, steps=20)
    for _ in range(20):
        step(run)
    run.method.finish(run)
    assert run.sparsity == pytest.approx(0.6, abs=0.03)
    for layer, mask in zip(run.layers, masks(run), strict=True):
        layer.set_units(layer.kept_units())
        assert torch.equal(mask, layer.mask)


def test_steps_that_move_nothing_do_not_wait_for_the_device(method):
    # ISS-P shrinks in every step; the others' moves, every second step here, may wait.
    run = attach(net().cuda(), method, steps=100)
    step(run)
    step(run)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_gradients_and_moments_of_new_weights_on_the_device():
    run = attach(net().cuda(), METHODS["rigl"](every=3, alpha=0.5), steps=30)
    for _ in range(2):
        step(run)
    before = masks(run)
    step(run)
    new = [layer.mask & ~old for layer, old in zip(run.layers, before, strict=True)]
    assert sum(int(n.sum()) for n in new) > 0
    for layer, grown in zip(run.layers, new, strict=True):
        assert (layer.weight[grown] == 0).all()
        assert (run.optimizer.state[layer.weight]["momentum_buffer"][grown] == 0).all()
