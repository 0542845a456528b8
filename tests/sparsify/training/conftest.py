"""A small network with every kind of layer that a sparsifier meets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Depthwise and pointwise convolution with a skip."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.pointwise(torch.relu(self.norm(self.depthwise(x))))
        return out


class Net(nn.Module):
    """Inputs ``[N, 3, 8, 8]``, outputs ``[N, 5]``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Sequential(Block(8), nn.Dropout(0.1), Block(8))
        self.wide = nn.Conv2d(8, 16, 3, padding=1)
        self.grouped = nn.Conv2d(16, 16, 1, groups=2)
        self.line = nn.Conv1d(16, 12, 3, padding=1)
        self.hidden = nn.Linear(12, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.grouped(torch.relu(self.wide(self.body(self.stem(x))))))
        out: Tensor = self.head(torch.relu(self.hidden(self.line(x.flatten(2)).mean(dim=2))))
        return out


@pytest.fixture
def make_net() -> Callable[[int], Net]:
    """The network with the random weights of a seed."""

    def make(seed: int) -> Net:
        torch.manual_seed(seed)
        return Net()

    return make
