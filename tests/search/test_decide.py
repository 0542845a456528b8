"""Decisions and accuracy, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gossamer._errors import InputError
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.search.decide import AGREEMENT, Judge, classes_of, decisions, divergence, probabilities


def port(shape, kind="classes", *, logits=True, scale=0.0, zero_point=0, threshold=0.0, labels=()):
    p = pb.Port(name="y", dtype="float32", shape=shape, scale=scale, zero_point=zero_point)
    p.postprocessing.kind = {"classes": p.postprocessing.KIND_CLASSES, "binary": p.postprocessing.KIND_BINARY}[kind]
    p.postprocessing.logits, p.postprocessing.threshold = logits, threshold
    p.postprocessing.labels[:] = labels
    return p


def test_probabilities_of_each_kind_of_output():
    two = np.log(np.array([[1.0, 3.0]], np.float32))
    assert probabilities(two, port([1, 2])) == pytest.approx([0.25, 0.75], abs=1e-6)
    assert probabilities(np.array([[0.2, 0.8]], np.float32), port([1, 2], logits=False)) == pytest.approx([0.2, 0.8])
    one = np.array([[math.log(3)]], np.float32)
    assert probabilities(one, port([1, 1], "binary")) == pytest.approx([0.25, 0.75], abs=1e-6)
    assert probabilities(np.array([[0.9]], np.float32), port([1, 1], "binary", logits=False)) == pytest.approx(
        [0.1, 0.9]
    )
    int8 = np.array([[-128, 64]], np.int8)
    assert probabilities(int8, port([1, 2], logits=False, scale=1 / 256, zero_point=-128)) == pytest.approx([0, 0.75])
    # scores far from 0 do not overflow
    assert probabilities(np.array([[1e4, 1e4]], np.float32), port([1, 2])) == pytest.approx([0.5, 0.5])


def test_decisions_take_the_first_of_equals_and_the_threshold():
    found = np.array([[0.5, 0.5], [0.3, 0.7], [0.9, 0.1]])
    assert decisions(found, port([1, 2])).tolist() == [0, 1, 0]
    assert decisions(found, port([1, 1], "binary")).tolist() == [1, 1, 0]
    assert decisions(found, port([1, 1], "binary", threshold=0.6)).tolist() == [0, 1, 0]


def test_divergence_by_hand():
    p, q = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([[0.25, 0.75], [0.5, 0.5]])
    one = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert divergence(p, q) == pytest.approx(one / 2, rel=1e-9)
    assert divergence(q, q) == 0.0
    assert math.isfinite(divergence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])))


def test_accuracy_and_drop_against_the_original():
    labels, original = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    judge = Judge(labels, original, "accuracy")
    loss = judge.loss(np.array([0, 1, 1, 1]))
    assert (loss.accuracy, loss.baseline, loss.drop) == (0.5, 0.75, 0.25)
    # differences 0, 1, 0, 0: variance of a mean of four is sum (x - 1/4)^2 / 16
    # and one more pair that differs
    assert loss.interval == pytest.approx(1.96 * math.sqrt((3 * 0.0625 + 0.5625 + 1) / 16))


def test_nothing_lost_on_a_few_examples_is_not_nothing_lost():
    for count in (10, 1000):
        labels = np.arange(count) % 2
        same = Judge(labels, labels, "balanced_accuracy").loss(labels)
        assert same.drop == 0.0 and same.interval == pytest.approx(1.96 / count)


def test_balanced_accuracy_is_the_mean_over_classes():
    labels = np.array([0] * 9 + [1])
    judge = Judge(labels, labels, "balanced_accuracy")
    always_zero = judge.loss(np.zeros(10, np.int64))
    assert (always_zero.accuracy, always_zero.drop) == pytest.approx((0.5, 0.5))
    assert Judge(labels, labels, "accuracy").loss(np.zeros(10, np.int64)).accuracy == pytest.approx(0.9)
    assert judge.name == "balanced accuracy" and judge.key == "balanced_accuracy_percent"
    # a class that does not occur does not count
    assert Judge(np.array([2, 2]), np.array([2, 2])).loss(np.array([2, 0])).accuracy == 0.5


def test_without_labels_agreement_stands_for_accuracy():
    judge = Judge(None, np.array([1, 1, 1, 0]), "balanced_accuracy")
    loss = judge.loss(np.array([1, 1, 0, 0]))
    assert (loss.accuracy, loss.baseline, loss.drop) == (0.75, 1.0, 0.25)
    assert judge.name == AGREEMENT == "agreement with the original" and judge.key == "agreement_percent"


def test_classes_of_an_output():
    assert classes_of(port([1, 3], labels=["a", "b", "c"])).names == ("a", "b", "c")
    assert classes_of(port([1, 1], "binary")).count == 2
    with pytest.raises(InputError, match="does not score classes"):
        classes_of(pb.Port(name="y", dtype="float32", shape=[1, 640]))
