"""SquareHead distillation: the formula, gradients, AMP, and what happens when layers do not match."""

from __future__ import annotations

import copy

import pytest

from gossamer._errors import InputError

torch = pytest.importorskip("torch", reason="training needs the [torch] extra")

from torch import nn  # noqa: E402 - after the skip

from gossamer.sparsify.training import Sparsifier  # noqa: E402
from gossamer.sparsify.training.squarehead import SquareHead  # noqa: E402


def net(seed: int, width: int = 8) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))


def batch(seed: int = 5) -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))


def test_the_formula():
    student, teacher = net(0), net(1)
    squarehead = SquareHead(student, teacher, ["0", "2"], weight=0.5, eps=1e-3)
    x = batch()
    student(x)
    value = squarehead().detach()
    wanted = 0.0
    for depth in (1, 3):
        s, t = student[:depth](x), teacher[:depth](x)
        wanted += float((((s - t) ** 2).mean() / ((t**2).mean() + 1e-3)).detach())
    assert float(value) == pytest.approx(0.5 * wanted, rel=1e-6)
    assert set(squarehead.terms) == {"0", "2"}
    assert sum(map(float, squarehead.terms.values())) == pytest.approx(wanted, rel=1e-6)


def test_a_term_does_not_depend_on_the_scale_of_its_layer():
    student, teacher = net(0), net(1)
    squarehead = SquareHead(student, teacher, ["0"], eps=0.0)
    student(batch())
    small = float(squarehead().detach())
    with torch.no_grad():
        for model in (student, teacher):
            for p in model[0].parameters():
                p.mul_(100.0)
    student(batch())
    assert float(squarehead().detach()) == pytest.approx(small, rel=1e-5)


def test_gradients_reach_the_student_alone():
    student, teacher = net(0), net(1)
    squarehead = SquareHead(student, teacher, {"2": "2"})
    loss = student(batch()).square().mean() + squarehead()
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())
    assert not teacher.training


def test_the_gradient_is_that_of_the_formula():
    student, teacher = net(0), net(1)
    squarehead = SquareHead(student, teacher, ["2"])
    x = batch()
    student(x)
    squarehead().backward()
    found = student[2].bias.grad.clone()
    t = teacher(x).detach()
    wanted = 2 * (student(x) - t).sum(0) / t.numel() / ((t**2).mean() + 1e-6)
    torch.testing.assert_close(found, wanted.detach())


def test_a_student_like_its_teacher_costs_nothing():
    teacher = net(0)
    student = copy.deepcopy(teacher)
    squarehead = SquareHead(student, teacher, ["0", "1", "2"])
    student(batch())
    assert float(squarehead().detach()) == 0.0


def test_the_teacher_may_be_run_by_the_caller():
    student, teacher = net(0), net(1)
    squarehead = SquareHead(student, teacher, ["2"], run_teacher=False)
    calls = []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    student(batch())
    with pytest.raises(InputError, match="layer '2' of the teacher has not run"):
        squarehead()
    with torch.no_grad():
        teacher(batch())
    student(batch())
    assert float(squarehead().detach()) > 0 and len(calls) == 1


def test_the_teachers_output_is_kept():
    student, teacher = net(0), net(1)
    squarehead = SquareHead(student, teacher, ["0"])
    assert squarehead.teacher_output is None
    student(batch())
    torch.testing.assert_close(squarehead.teacher_output, teacher(batch()).detach())


def test_evaluation_between_steps_does_not_interfere():
    student, teacher = net(0), net(1)
    squarehead = SquareHead(student, teacher, ["2"])
    student(batch())
    with torch.no_grad():
        student(batch(9))
        copy.deepcopy(student)(batch(9))
    value = float(squarehead().detach())
    student(batch())
    assert float(squarehead().detach()) == value


def test_the_student_must_run_before_each_call():
    student, teacher = net(0), net(1)
    squarehead = SquareHead(student, teacher, ["2"])
    with pytest.raises(InputError, match="has not run since SquareHead was last asked"):
        squarehead()
    student(batch())
    squarehead()
    with pytest.raises(InputError, match="layer '2' of the student has not run"):
        squarehead()


def test_under_autocast_the_term_is_float32():
    student, teacher = net(0), net(1)
    squarehead = SquareHead(student, teacher, ["0"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = student[:1](batch())
        assert features.dtype == torch.bfloat16
        student(batch())
        value = squarehead()
    assert value.dtype == torch.float32
    student(batch())
    assert float(value.detach()) == pytest.approx(float(squarehead().detach()), rel=0.05)
    value.backward()


def test_with_a_sparsifier_on_the_student():
    student, teacher = net(0, 16), net(1, 16)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
    target = {"pattern": "unstructured", "sparsity": 0.5, "keep_dense": []}
    sparsifier = Sparsifier(student, target, total_steps=60, optimizer=optimizer)
    squarehead = SquareHead(student, teacher, ["0", "2"])
    first = last = 0.0
    for step in range(60):
        student(batch(step % 4))
        loss = squarehead() + sparsifier.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sparsifier.step()
        first, last = first or float(loss.detach()), float(loss.detach())
    assert last < 0.5 * first
    squarehead.close()
    assert sparsifier.finish() == {"0": 0.5, "2": 0.5}


def test_close_takes_the_hooks_off():
    student, teacher = net(0), net(1)
    with SquareHead(student, teacher, ["0"]) as squarehead:
        student(batch())
        squarehead()
    student(batch())
    assert not student._forward_pre_hooks and not student[0]._forward_hooks and not teacher[0]._forward_hooks
    with pytest.raises(InputError, match="has not run"):
        squarehead()


def test_bad_layers():
    student, teacher = net(0), net(1, width=16)
    with pytest.raises(InputError, match="the student has no layer '00'") as caught:
        SquareHead(student, teacher, ["00"])
    assert "0" in caught.value.hint
    with pytest.raises(InputError, match="the teacher has no layer 'head'"):
        SquareHead(student, teacher, {"0": "head"})
    with pytest.raises(InputError, match="at least one layer"):
        SquareHead(student, teacher, [])
    squarehead = SquareHead(student, teacher, ["0"])
    student(batch())
    with pytest.raises(InputError, match=r"'0' of the student gives \[6, 8\], '0' of the teacher \[6, 16\]"):
        squarehead()


def test_a_layer_that_returns_no_tensor():
    class Two(nn.Module):
        def forward(self, x):
            return {"a": x}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.two = Two()

        def forward(self, x):
            return self.two(x)["a"]

    student = Net()
    SquareHead(student, Net(), ["two"])
    with pytest.raises(InputError, match="layer 'two' returns dict, not a tensor"):
        student(batch())


def test_the_example_in_the_docstring():
    import doctest

    import gossamer.sparsify.training.squarehead as module

    torch.manual_seed(0)
    assert doctest.testmod(module).failed == 0 < doctest.testmod(module).attempted
