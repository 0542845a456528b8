"""The recipe's step in the names of modules: the same layers, patterns and sparsities as pruning the graph."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from gossamer._errors import RecipeError
from gossamer.finetune.target import step_for_modules
from gossamer.recipe import SparsifyStep
from gossamer.sparsify import prune
from gossamer.sparsify.training import Sparsifier
from gossamer.trainable import TrainableGraph
from tests.finetune.conftest import network


def graph(names=None):
    proto = network()
    for node in proto.graph.node:
        node.name = (names or {}).get(node.name, node.name)
    return ir.from_proto(proto)


STEPS = [
    {"sparsity": 0.75},
    {"sparsity": 0.5, "keep_dense": []},
    {"sparsity": 0.75, "include": ["body.0.conv"], "exclude": ["body.3.*"]},
    {"sparsity": 0.9, "distribution": "global"},
    {"sparsity": 0.6, "distribution": "erk"},
    {"pattern": "2:4", "layers": [{"match": "body.1.conv", "pattern": "4x4", "sparsity": 0.5}]},
    {"sparsity": 0.75, "layers": [{"match": "head", "sparsity": 0.5}, {"match": "body.1.*", "dense": True}]},
]


@pytest.mark.parametrize("fields", STEPS, ids=lambda s: "-".join(map(str, s)))
@pytest.mark.parametrize("odd", [False, True])
def test_masks_are_those_of_pruning_the_graph(fields, odd):
    step = SparsifyStep(**fields)
    names = {"body.3.conv": "body 3:conv [x]"} if odd else {}
    if odd and "exclude" in fields:
        step = step.model_copy(update={"exclude": ("body 3*",)})
    model = graph(names)
    network = TrainableGraph(model)
    made = Sparsifier(network, step_for_modules(model, step, network.names), "random", total_steps=1)
    pruned = graph(names)
    report = {r.name: r for r in prune(pruned, step).layers if r.pattern != "dense"}
    modules = {module: node for node, module in network.names.items()}
    assert {modules[layer.name]: layer.pattern.name for layer in made.layers} == {
        n: r.pattern for n, r in report.items()
    }
    if step.pattern == "1x4":
        made.prune(1.0)
        for layer in made.layers:
            assert layer.sparsity == pytest.approx(report[modules[layer.name]].reached, abs=1e-9)


def test_names_that_are_not_there_and_nothing_to_prune():
    model = graph()
    names = TrainableGraph(model).names
    with pytest.raises(RecipeError, match=r"names no layer of this model: 'body\.7'"):
        step_for_modules(model, SparsifyStep(sparsity=0.5, exclude=("body.7",)), names)
    with pytest.raises(RecipeError, match="prunes no layer"):
        step_for_modules(model, SparsifyStep(sparsity=0.5, exclude=("*",)), names)
