"""Losses by hand."""

from __future__ import annotations

import math

import pytest
import torch

from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.finetune.losses import distillation, logits, loss_of


def port(kind, is_logits):
    p = pb.Port(name="y", dtype="float32", shape=[1, 2])
    p.postprocessing.kind, p.postprocessing.logits = getattr(p.postprocessing, kind), is_logits
    return p


def test_logits_of_each_kind_of_output():
    y = torch.tensor([[[[1.0]], [[3.0]]]])
    assert logits(y, port("KIND_CLASSES", True)).tolist() == [[1.0, 3.0]]
    soft = logits(torch.tensor([[0.25, 0.75]]), port("KIND_CLASSES", False))
    assert torch.softmax(soft, 1).tolist()[0] == pytest.approx([0.25, 0.75])
    one = logits(torch.tensor([[math.log(3)]]), port("KIND_BINARY", True))
    assert torch.softmax(one, 1).tolist()[0] == pytest.approx([0.25, 0.75])
    p = logits(torch.tensor([[0.75], [1.0]]), port("KIND_BINARY", False))
    assert torch.softmax(p, 1)[0].tolist() == pytest.approx([0.25, 0.75], abs=1e-6)
    assert (
        torch.isfinite(p).all()
        and torch.isfinite(logits(torch.tensor([[0.0, 1.0]]), port("KIND_CLASSES", False))).all()
    )


def test_distillation_by_hand():
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(9) * 2, 0.0]])
    # at temperature 2 the teacher says 0.9, 0.1 and the student 0.5, 0.5
    expected = 4 * (0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5))
    assert float(distillation(student, teacher, 2.0)) == pytest.approx(expected, rel=1e-6)
    assert float(distillation(teacher, teacher, 2.0)) == pytest.approx(0.0, abs=1e-7)
    twice = distillation(student.repeat(2, 1), torch.cat([teacher, student]), 2.0)
    assert float(twice) == pytest.approx(expected / 2, rel=1e-6)  # a mean over the batch


def test_loss_mixes_labels_and_teacher_and_takes_what_there_is():
    student, teacher, labels = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[1.0, 0.0]]), torch.tensor([1])
    hard, soft = -math.log(0.75), float(distillation(student, teacher, 3.0))
    assert float(loss_of(student, labels, None)) == pytest.approx(hard)
    assert float(loss_of(student, None, teacher, 0.3, 3.0)) == pytest.approx(soft)
    assert float(loss_of(student, labels, teacher, 0.3, 3.0)) == pytest.approx(0.7 * hard + 0.3 * soft)
