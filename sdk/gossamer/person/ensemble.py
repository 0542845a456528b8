"""Several teachers as one: a fitted probability, and their feature maps side by side on the student's grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from gossamer.person.augment import resize
from gossamer.person.teachers import Teacher

GRID = 3
"""Height and width of the feature maps, those of a MobileNet's last layer at 96x96."""


class TeacherEnsemble(nn.Module):
    """Logistic regression over the teachers' margins, and their standardised features, both fitted on views.

    Args:
        teachers: at least one.
    """

    scale: Tensor
    weights: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, teachers: Sequence[Teacher]):
        super().__init__()
        self.teachers = nn.ModuleList(teachers)
        for name in ("scale", "weights", "mean", "deviation"):
            self.register_buffer(name, torch.ones(1))

    @torch.no_grad()
    def raw(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Margins [N, teachers] and features [N, C, GRID, GRID] as the teachers give them."""
        margins, maps = [], []
        for teacher in self.teachers:
            assert isinstance(teacher, Teacher)
            margin, features = teacher(resize(views, teacher.size))
            margins.append(margin)
            maps.append(functional.adaptive_avg_pool2d(features, GRID))
        return torch.stack(margins, dim=1), torch.cat(maps, dim=1)

    @torch.no_grad()
    def fit(self, margins: Tensor, features: Tensor, label: Tensor) -> None:
        """Newton's method on the logistic loss with a small ridge; mean and deviation of each feature channel.

        Args:
            margins, features: from :meth:`raw`.
            label: [N], 0..1.
        """
        self.mean = features.mean(dim=(0, 2, 3), keepdim=True)
        self.deviation = features.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-4)
        self.scale = margins.std(dim=0).clamp_min(1e-6)
        x = functional.pad(margins / self.scale, (0, 1), value=1.0).double()
        w = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
        ridge = 1e-3 * torch.eye(x.shape[1], dtype=torch.float64, device=x.device)
        for _ in range(30):
            p = torch.sigmoid(x @ w)
            gradient = x.T @ (p - label.double()) / len(x) + ridge @ w
            hessian = (x * (p * (1 - p))[:, None]).T @ x / len(x) + ridge
            w = w - torch.linalg.solve(hessian, gradient)
        self.weights = w.float()

    @torch.no_grad()
    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Probability of a person [N] and standardised features [N, C, GRID, GRID], clipped to 6 deviations."""
        margins, features = self.raw(views)
        x = functional.pad(margins / self.scale, (0, 1), value=1.0)
        return torch.sigmoid(x @ self.weights), ((features - self.mean) / self.deviation).clamp_(-6.0, 6.0)
