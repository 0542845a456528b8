"""Batches: every example once an epoch, the same epoch alike, mirroring along the width."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer import _images
from gossamer._errors import InputError
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.finetune.batches import Batches
from gossamer.search.examples import Classes
from gossamer.search.read import read_examples

PORT = pb.Port(name="x", dtype="float32", shape=[1, 2])


def batches(count, size, **options):
    x = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    examples = read_examples((x, np.arange(count) % 3), [PORT], Classes(3))
    return Batches(examples, [PORT], size, **options)


@pytest.mark.parametrize(("count", "size", "sizes"), [(9, 4, [4, 5]), (10, 4, [4, 4, 2]), (8, 4, [4, 4]), (5, 64, [5])])
def test_every_example_once_and_no_batch_of_one(count, size, sizes):
    made = batches(count, size)
    found = list(made.epoch(0))
    assert [len(b.labels) for b in found] == sizes and len(made) == len(sizes)
    rows = sorted(float(v) for b in found for v in b.inputs[0][:, 0])
    assert rows == [2.0 * i for i in range(count)]
    for b in found:  # labels stay with their inputs
        assert [int(v / 2) % 3 for v in b.inputs[0][:, 0]] == b.labels.tolist()


def order(made, epoch):
    return [float(v) for b in made.epoch(epoch) for v in b.inputs[0][:, 0]]


def test_an_epoch_is_known_by_its_number_and_seed():
    made = batches(20, 8, seed=5)
    assert order(made, 3) == order(batches(20, 8, seed=5), 3)
    assert order(made, 3) != order(made, 4) and order(made, 3) != order(batches(20, 8, seed=6), 3)


@pytest.mark.parametrize(("shape", "width"), [([1, 3, 4, 4], 3), ([1, 4, 4, 3], 2)])
def test_mirroring_turns_half_of_the_pictures_left_to_right(shape, width):
    port = pb.Port(name="image", dtype="float32", shape=shape)
    port.image.CopyFrom(_images.preprocessing(shape, np.float32, "unit"))
    x = np.random.default_rng(0).random((40, *shape[1:]), np.float32)
    made = Batches(read_examples((x, np.arange(40)), [port], Classes(40)), [port], 16, mirror=True)
    turned = 0
    for batch in made.epoch(0):
        for row, label in zip(batch.inputs[0].numpy(), batch.labels.tolist(), strict=True):
            flipped = np.flip(x[label], axis=width - 1)
            assert np.array_equal(row, x[label]) or np.array_equal(row, flipped)
            turned += np.array_equal(row, flipped)
    assert 10 <= turned <= 30


def test_too_few_examples_and_mirroring_of_no_pictures():
    with pytest.raises(InputError, match="1 training examples"):
        batches(1, 4)
    with pytest.raises(InputError, match="only pictures can be mirrored"):
        batches(8, 4, mirror=True)
