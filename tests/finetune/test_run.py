"""Fine-tuning a graph: what becomes zero, what is learned, how runs go on and how they end badly."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest
import torch

from gossamer._errors import CalibrationError, InputError, ModelError, RecipeError
from gossamer.finetune import fine_tune, loop
from gossamer.finetune.loop import adamw, learning_rate
from gossamer.recipe import QuantizeStep, load_recipe
from gossamer.sparsify import prune
from tests.finetune.conftest import accuracy, make_task, network, recipe, task, weights


def tune(case, made, **options):
    return fine_tune(case.model, made, case.examples, case.ports, case.output, **options)


def blocks_of_four(weight):
    """Whether each 1x4 block of a 1x1 convolution is wholly zero or not."""
    zero = (weight.reshape(weight.shape[0], -1, 4) == 0).sum(axis=2)
    return set(np.unique(zero[zero > 0])) <= {4}


def test_learning_rate_rises_and_falls_along_a_cosine():
    rates = [learning_rate(0.1, i, 100) for i in range(100)]
    assert rates[:6] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])
    assert rates[52] == pytest.approx(0.05 * (1 + math.cos(math.pi * 47 / 95)))
    assert 0 < rates[99] < 1e-4 and rates[5:] == sorted(rates[5:], reverse=True)
    assert learning_rate(0.1, 0, 1) == 0.1


def test_only_matrices_decay():
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    groups = {
        group["weight_decay"]: {tuple(p.shape) for p in group["params"]} for group in adamw(net, 0.1, 0.02).param_groups
    }
    assert groups == {0.02: {(3, 4)}, 0.0: {(3,)}}


def test_the_layers_of_the_recipe_become_sparse_in_its_pattern_and_no_other(small):
    seen = []
    tuned = tune(small, recipe(), progress=lambda d, n: seen.append((d, n)))
    found = weights(tuned.model)
    for name in ("w1", "w3"):
        assert (found[name] == 0).mean() == 0.75 and blocks_of_four(found[name])
    assert all((found[name] != 0).all() for name in ("w0", "w2", "w4"))
    assert tuned.patterns == {"body.1.conv": "1x4", "body.3.conv": "1x4"}
    assert tuned.sparsities == {"body.1.conv": 0.75, "body.3.conv": 0.75}
    assert seen == [(i + 1, 9) for i in range(9)]
    assert [(e.phase, e.number) for e in tuned.epochs] == [("sparse", 1), ("sparse", 2), ("sparse", 3)]
    assert tuned.epochs[-1].sparsity == 0.75 and tuned.epochs[-1].loss < tuned.epochs[0].loss
    before = weights(small.model)  # the graph that was given is as it was
    assert (before["w1"] != 0).all()
    assert [n.name for n in tuned.model.graph] == [n.name for n in small.model.graph]


def test_training_keeps_what_one_shot_pruning_loses(trained):
    case = make_task(ir.serde.to_proto(ir.load(trained)), 192)
    x, y = task(200, 9)
    dense = accuracy(case.model, x, y)
    made = load_recipe({"version": 1, "sparsify": {"pattern": "1x4", "sparsity": 0.75, "keep_dense": ["classifier"]},
                        "train": {"epochs": 6, "batch": 32, "learning_rate": 0.01, "distill": {}}})  # fmt: skip
    shot = ir.serde.deserialize_model(ir.serde.serialize_model(case.model))
    prune(shot, made.sparsify)
    tuned = tune(case, made)
    assert dense > 0.85
    assert accuracy(shot, x, y) < dense - 0.05
    assert accuracy(tuned.model, x, y) > dense - 0.04


def test_without_labels_the_model_as_given_is_the_teacher(trained):
    case = make_task(ir.serde.to_proto(ir.load(trained)), 192, labelled=False)
    tuned = tune(case, recipe(epochs=4))
    x, _ = task(200, 9)
    from gossamer._reference import open_reference

    before, after = open_reference(case.model), open_reference(tuned.model)
    agree = np.mean(
        [before.run({"image": a[None]})[0].argmax() == after.run({"image": a[None]})[0].argmax() for a in x]
    )
    assert agree > 0.9
    assert tuned.epochs[-1].accuracy > 0.9 and "without labels" in tuned.examples


def test_a_model_that_ends_in_softmax_trains_on_its_logarithm():
    case = make_task(network(softmax=True))
    assert not case.output.postprocessing.logits
    tuned = tune(case, recipe(epochs=4, distill={"weight": 0.3}))
    assert tuned.epochs[-1].loss < tuned.epochs[0].loss
    assert tuned.model.graph.node(-1).op_type == "Softmax"


def test_dense_training_without_a_sparsify_step(small):
    made = load_recipe({"version": 1, "train": {"epochs": 2, "batch": 32}})
    tuned = tune(small, made)
    assert tuned.patterns == {} and (weights(tuned.model)["w1"] != 0).all()
    assert not np.array_equal(weights(tuned.model)["w1"], weights(small.model)["w1"])


@pytest.mark.parametrize("method", ["gradual-magnitude", "rigl", "global-magnitude"])
def test_methods_end_at_the_sparsity_that_is_asked(small, method):
    tuned = tune(small, recipe(method=method))
    total = sum(weights(tuned.model)[n].size for n in ("w1", "w3"))
    zeros = sum(int((weights(tuned.model)[n] == 0).sum()) for n in ("w1", "w3"))
    assert zeros / total == pytest.approx(0.75, abs=0.01)


def test_n_of_m_by_a_method_for_it(small):
    made = load_recipe(
        {"version": 1, "sparsify": {"pattern": "2:4"}, "train": {"method": "sr-ste", "epochs": 2, "batch": 32}}
    )
    found = weights(tune(small, made).model)["w3"]
    assert ((found.reshape(32, 8, 4) != 0).sum(axis=2) <= 2).all() and tune(small, made).patterns[
        "body.3.conv"
    ] == "2:4"


def test_squarehead_compares_the_pruned_layers(small, monkeypatch):
    from gossamer.sparsify.training import squarehead

    made = []
    kept = squarehead.SquareHead

    def spy(*args, **options):
        made.append((args[2], options["weight"], kept(*args, **options)))
        return made[-1][2]

    monkeypatch.setattr(squarehead, "SquareHead", spy)
    tuned = tune(small, recipe(squarehead=0.5, distill={}))
    assert made[0][:2] == (["body.1.conv", "body.3.conv"], 0.5)
    assert set(made[0][2].terms) == {"body.1.conv", "body.3.conv"}
    assert (weights(tuned.model)["w3"] == 0).mean() == 0.75
    dense = load_recipe({"version": 1, "train": {"epochs": 1, "squarehead": 1.0}})
    with pytest.raises(InputError, match="SquareHead compares the layers that are pruned"):
        tune(small, dense)


# int8


def quantising(**train):
    settings = {"epochs": 2, "batch": 32, "learning_rate": 0.01, "quantization_aware": 2, **train}
    return load_recipe(
        {"version": 1, "sparsify": {"pattern": "1x4", "sparsity": 0.75}, "train": settings, "quantize": {}}
    )


def int8_weights(model, node):
    (found,) = [n for n in model.graph if n.name == node]
    return found.inputs[1].producer().inputs[0].const_value.numpy()


def test_int8_epochs_give_a_quantised_graph_with_the_same_zeros(small):
    samples = [{"image": row[None]} for row in small.x[:16]]
    tuned = tune(small, quantising(), calibration=samples)
    assert [(e.phase, e.number) for e in tuned.epochs] == [("sparse", 1), ("sparse", 2), ("int8", 1), ("int8", 2)]
    assert [e.sparsity for e in tuned.epochs][1:] == [0.75] * 3
    for node in ("body.1.conv", "body.3.conv"):
        stored = int8_weights(tuned.model, node)
        assert stored.dtype == np.int8 and (stored == 0).mean() >= 0.75
        blocks = stored.reshape(32, -1, 4)
        assert ((blocks == 0).all(axis=2)).mean() == pytest.approx(0.75, abs=0.02)
    with pytest.raises(CalibrationError, match="int8 epochs start from calibration samples"):
        tune(small, quantising())


def test_a_quantised_model_trains_in_int8_from_the_start(small):
    from gossamer.quantize import quantize
    from gossamer.recipe import QuantizeStep

    samples = [{"image": row[None]} for row in small.x[:16]]
    given = quantize(small.model, QuantizeStep(), samples)
    tuned = fine_tune(given, recipe(), small.examples, small.ports, small.output)
    assert (int8_weights(tuned.model, "body.3.conv") == 0).mean() >= 0.75
    assert [e.phase for e in tuned.epochs] == ["sparse"] * 3


# Going on


class KilledError(Exception):
    """Stands for the end of the process."""


def stop_after(monkeypatch, epochs):
    """Makes training stop as if killed, at the start of epoch ``epochs + 1`` over all phases."""
    kept, count = loop.Phase._epoch, [0]

    def epoch(self, number):
        if count[0] == epochs:
            raise KilledError
        count[0] += 1
        return kept(self, number)

    monkeypatch.setattr(loop.Phase, "_epoch", epoch)


@pytest.mark.parametrize("method", ["gradual-magnitude", "rigl"])
def test_a_run_that_is_resumed_is_the_run_that_was_not_interrupted(small, tmp_path, monkeypatch, method):
    made = recipe(method=method, distill={})
    whole = tune(small, made)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        stop_after(patch, 2)
        tune(small, made, checkpoint=tmp_path / "c")
    resumed = tune(small, made, checkpoint=tmp_path / "c")
    assert resumed.resumed == 2 and [e.number for e in resumed.epochs] == [1, 2, 3]
    assert resumed.epochs == whole.epochs
    for name, value in weights(whole.model).items():
        np.testing.assert_array_equal(value, weights(resumed.model)[name], err_msg=name)
    again = tune(small, made, checkpoint=tmp_path / "c")  # finished: nothing is trained again
    assert again.resumed == 3 and again.epochs == whole.epochs


def test_a_run_is_resumed_in_its_int8_epochs(small, tmp_path, monkeypatch):
    samples = [{"image": row[None]} for row in small.x[:16]]
    whole = tune(small, quantising(), calibration=samples)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        stop_after(patch, 3)
        tune(small, quantising(), calibration=samples, checkpoint=tmp_path)
    resumed = tune(small, quantising(), calibration=samples, checkpoint=tmp_path)
    assert resumed.resumed == 3 and resumed.epochs == whole.epochs
    assert resumed.patterns == whole.patterns and resumed.sparsities == whole.sparsities
    for node in ("body.0.conv", "body.1.conv", "body.3.conv", "head"):
        np.testing.assert_array_equal(int8_weights(resumed.model, node), int8_weights(whole.model, node))


def test_another_recipe_model_or_data_does_not_resume(small, tmp_path):
    tune(small, recipe(epochs=1), checkpoint=tmp_path)
    with pytest.raises(InputError, match=r"another run: train.epochs was 1, is 2"):
        tune(small, recipe(epochs=2), checkpoint=tmp_path)
    with pytest.raises(InputError, match=r"another run: train.method was 'gradual-magnitude', is 'rigl'"):
        tune(small, recipe(epochs=1, method="rigl"), checkpoint=tmp_path)
    sparser = load_recipe({"version": 1, "sparsify": {"sparsity": 0.5}, "train": recipe(epochs=1).train.model_dump()})
    with pytest.raises(InputError, match=r"another run: sparsify was .*0\.75.*, is .*0\.5"):
        tune(small, sparser, checkpoint=tmp_path)
    with pytest.raises(InputError, match="another run: model was"):
        tune(make_task(network(seed=1)), recipe(epochs=1), checkpoint=tmp_path)
    with pytest.raises(InputError, match="another run: examples was 96, is 95"):
        tune(make_task(network(), 95), recipe(epochs=1), checkpoint=tmp_path)


def test_other_pictures_of_the_same_number_and_labels_do_not_resume(small, tmp_path):
    tune(small, recipe(epochs=1), checkpoint=tmp_path)
    other = make_task(network())
    other.examples.entries[-1].read()["image"][0, 0, 0, 0] += 1.0
    with pytest.raises(InputError, match="another run: inputs was"):
        tune(other, recipe(epochs=1), checkpoint=tmp_path)


def test_other_quantisation_does_not_resume(small, tmp_path):
    samples = [{"image": row[None]} for row in small.x[:16]]
    tune(small, quantising(epochs=1), calibration=samples, checkpoint=tmp_path)
    wide = quantising(epochs=1).model_copy(update={"quantize": QuantizeStep(per_channel=False)})
    with pytest.raises(InputError, match=r"another run: quantize was .*'per_channel': True.*, is .*False"):
        tune(small, wide, calibration=samples, checkpoint=tmp_path)
    with pytest.raises(InputError, match="another run: calibration was"):
        tune(small, quantising(epochs=1), calibration=samples[:8], checkpoint=tmp_path)


# Ending badly


def test_a_loss_that_is_nan_stops_and_the_checkpoint_before_it_goes_on(small, tmp_path, monkeypatch):
    kept = loop.loss_of
    calls = [0]

    def poisoned(*args):
        calls[0] += 1
        return kept(*args) * (float("nan") if calls[0] == 8 else 1.0)

    made = recipe(epochs=4)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "loss_of", poisoned)
        with pytest.raises(ModelError, match=r"training diverged: the loss is nan in epoch 3, step 2") as caught:
            tune(small, made, checkpoint=tmp_path)
    assert "lower train.learning_rate (now 0.01)" in caught.value.hint
    assert "checkpoint after epoch 2 is whole and resumes" in caught.value.hint
    lower = recipe(epochs=4, learning_rate=0.002)  # the one setting that may change
    resumed = tune(small, lower, checkpoint=tmp_path)
    assert resumed.resumed == 2 and len(resumed.epochs) == 4
    assert all(math.isfinite(e.loss) for e in resumed.epochs)


def test_a_nan_in_the_first_int8_epoch_leaves_the_sparse_epochs(small, tmp_path, monkeypatch):
    kept = loop.Phase._step

    def poisoned(self, batch, epoch, number):
        if self.name == "int8":
            with torch.no_grad():
                next(self.network.parameters()).fill_(math.nan)
        return kept(self, batch, epoch, number)

    samples = [{"image": row[None]} for row in small.x[:16]]
    with monkeypatch.context() as patch:
        patch.setattr(loop.Phase, "_step", poisoned)
        with pytest.raises(ModelError, match="training diverged") as caught:
            tune(small, quantising(), calibration=samples, checkpoint=tmp_path)
    assert caught.value.where == "phase int8" and "after the sparse epochs is whole" in caught.value.hint
    assert tune(small, quantising(), calibration=samples, checkpoint=tmp_path).resumed == 2


def test_a_learning_rate_far_too_high_is_said_and_no_bad_checkpoint_is_left(small, tmp_path):
    with pytest.raises(ModelError, match="training diverged"):
        made = recipe(epochs=3, learning_rate=10.0)
        case = make_task(network())
        case.examples.entries[5].read()["image"][:] = 3e38  # overflows in the first layer
        tune(case, made, checkpoint=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_leaves_a_layer_empty(small):
    made = load_recipe({
        "version": 1,
        "sparsify": {"pattern": "4x4", "sparsity": 0.99, "layers": [{"match": "body.1.conv", "sparsity": 0.999}]},
        "train": {"epochs": 1, "batch": 32},
    })  # fmt: skip
    with pytest.raises(RecipeError, match=r"leaves layer 'body\.1\.conv' empty"):
        tune(small, made)
