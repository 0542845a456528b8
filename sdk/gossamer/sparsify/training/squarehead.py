"""SquareHead distillation: the student's features follow the teacher's, each layer weighed by the teacher's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gossamer._errors import InputError
from gossamer.sparsify.training.names import modules_named

if TYPE_CHECKING:
    from torch import Tensor, nn

TITLE = "feature distillation that each layer's own size normalises"
SOURCE = "Kurtic et al., arXiv 2310.06927: SquareHead"
RULE = "loss + weight * sum over layers of MSE(h_s, h_t) / (mean(h_t^2) + eps)"
PATTERNS = ("blocks", "n:m")


class SquareHead:
    """A loss term over the outputs of named layers of a student and a teacher.

    >>> import torch
    >>> from gossamer.sparsify.training.squarehead import SquareHead
    >>> net = lambda: torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> student, teacher = net(), net()
    >>> squarehead = SquareHead(student, teacher, ["0", "2"])
    >>> loss = student(torch.randn(5, 4)).square().mean() + squarehead()
    >>> loss.backward()

    The features are those of the student's last forward pass with gradients enabled (of a layer that runs twice, the
    second time); the teacher sees the same inputs, without gradients.
    They are compared in float32, under autocast too. Attach to the plain modules: a module inside ``torch.compile``
    does not call hooks that are added afterwards.

    Args:
        student: trained.
        teacher: put into eval mode; it gets no gradients.
        layers: names as in ``named_modules``, the same in both, or student's name to teacher's.
        weight: of the term.
        eps: added to the teacher's mean square, for layers that are all zero.
        run_teacher: call the teacher with the student's inputs, whenever the student runs with gradients enabled; else
            the caller does before asking for the term.

    Attributes:
        teacher_output: what the teacher returned for those inputs, for a term on its logits; None before.
        terms: each layer's part of the last value, detached, by the student's name.

    Raises:
        InputError: no layers, a name that is not there, or (when called) shapes that differ.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        layers: Sequence[str] | Mapping[str, str],
        *,
        weight: float = 1.0,
        eps: float = 1e-6,
        run_teacher: bool = True,
    ):
        pairs = dict(layers) if isinstance(layers, Mapping) else {name: name for name in layers}
        if not pairs:
            raise InputError("SquareHead needs at least one layer", where="layers")
        self.pairs, self.weight, self.eps, self.teacher = pairs, weight, eps, teacher.eval()
        self.teacher_output: Any = None
        self.terms: dict[str, Tensor] = {}
        self._student_features: dict[str, Tensor] = {}
        self._teacher_features: dict[str, Tensor] = {}
        ours = modules_named(student, pairs, "student")
        theirs = modules_named(teacher, pairs.values(), "teacher")
        # Closures, not methods: copying the student (for a moving average, say) must not copy the teacher with it.
        self._hooks = [student.register_forward_pre_hook(self._opener(run_teacher), with_kwargs=True)]
        for name, module in ours.items():
            self._hooks.append(module.register_forward_hook(_keeper(self._student_features, name, always=False)))
        for name, module in theirs.items():
            self._hooks.append(module.register_forward_hook(_keeper(self._teacher_features, name, always=True)))

    def __call__(self) -> Tensor:
        """The term for the last forward pass; a scalar in float32.

        Raises:
            InputError: the student or the teacher has not run since the last call, or shapes differ.
        """
        import torch

        total: Tensor | None = None
        self.terms = {}
        for ours, theirs in self.pairs.items():
            student = self._student_features.pop(ours, None)
            teacher = self._teacher_features.get(theirs)
            if student is None or teacher is None:
                who, name = ("student", ours) if student is None else ("teacher", theirs)
                raise InputError(
                    f"layer '{name}' of the {who} has not run since SquareHead was last asked",
                    where=name,
                    hint="call the student (with gradients enabled) once before each `squarehead()`",
                )
            if student.shape != teacher.shape:
                raise InputError(
                    f"'{ours}' of the student gives {list(student.shape)}, "
                    f"'{theirs}' of the teacher {list(teacher.shape)}",
                    where=ours,
                    hint="compare layers of the same width, on the same inputs",
                )
            with torch.autocast(student.device.type, enabled=False):
                target = teacher.detach().float()
                term = (student.float() - target).square().mean() / (target.square().mean() + self.eps)
            self.terms[ours] = term.detach()
            total = term if total is None else total + term
        self._teacher_features.clear()
        assert total is not None
        return total * self.weight

    def close(self) -> None:
        """Takes the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def __enter__(self) -> SquareHead:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opener(self, run_teacher: bool) -> Callable[..., None]:
        def opened(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            import torch

            if not torch.is_grad_enabled():
                return
            self._student_features.clear()
            if run_teacher:
                self._teacher_features.clear()
                with torch.no_grad():
                    self.teacher_output = self.teacher(*args, **kwargs)

        return opened


def _keeper(features: dict[str, Tensor], name: str, *, always: bool) -> Callable[..., None]:
    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        import torch

        if not (always or torch.is_grad_enabled()):
            return
        if isinstance(output, (tuple, list)) and output:
            output = output[0]
        if not isinstance(output, torch.Tensor):
            raise InputError(
                f"layer '{name}' returns {type(output).__name__}, not a tensor",
                where=name,
                hint="name a layer inside it",
            )
        features[name] = output

    return keep
