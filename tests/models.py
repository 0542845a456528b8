"""Small, seeded torch networks that tests and benchmarks share: MobileNetV1, MobileNetV2, ResNet-18, TinyViT, DS-CNN.

Plain definitions with random weights; nothing is downloaded. Every builder returns a module in eval mode whose batch
norms hold statistics measured on seeded noise, so activations stay of order one through the depth and batch norm
folding has something to fold. ``example(name)`` gives a matching seeded input, ``build(name)`` the module.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "BUILDERS",
    "DSCNN",
    "INPUT_SHAPES",
    "MobileNetV1",
    "MobileNetV2",
    "ResNet18",
    "TinyViT",
    "build",
    "example",
    "seeded",
]


def conv_bn(cin: int, cout: int, kernel: int, stride: int, groups: int = 1, act: type[nn.Module] | None = nn.ReLU6):
    """Convolution without bias, batch norm and an optional activation, with "same"-like symmetric padding."""
    layers: list[nn.Module] = [
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
    ]
    if act is not None:
        layers.append(act())
    return nn.Sequential(*layers)


class MobileNetV1(nn.Module):
    """Howard et al. 2017 (arXiv:1704.04861, table 1): depthwise separable blocks, global pool, classifier."""

    BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *(((512, 1),) * 5), (1024, 2), (1024, 1))

    def __init__(self, width: float = 1.0, classes: int = 1000, channels: int = 3) -> None:
        super().__init__()
        cin = max(8, int(32 * width))
        layers = [conv_bn(channels, cin, 3, 2)]
        for base, stride in self.BLOCKS:
            cout = max(8, int(base * width))
            layers += [conv_bn(cin, cin, 3, stride, groups=cin), conv_bn(cin, cout, 1, 1)]
            cin = cout
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(cin, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.classifier(x)


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; the input is added when stride is 1 and the width does not change."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = cin * expand
        layers = [] if expand == 1 else [conv_bn(cin, hidden, 1, 1)]
        layers += [conv_bn(hidden, hidden, 3, stride, groups=hidden), conv_bn(hidden, cout, 1, 1, act=None)]
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def _divisible(value: float, by: int = 8) -> int:
    rounded = max(by, int(value + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * value else rounded


class MobileNetV2(nn.Module):
    """Sandler et al. 2018 (arXiv:1801.04381, table 2)."""

    # expansion, channels, repeats, stride of the first
    STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self, width: float = 1.0, classes: int = 1000, channels: int = 3) -> None:
        super().__init__()
        cin = _divisible(32 * width)
        layers: list[nn.Module] = [conv_bn(channels, cin, 3, 2)]
        for expand, base, repeats, first in self.STAGES:
            cout = _divisible(base * width)
            for i in range(repeats):
                layers.append(InvertedResidual(cin, cout, first if i == 0 else 1, expand))
                cin = cout
        last = _divisible(1280 * max(1.0, width))
        layers.append(conv_bn(cin, last, 1, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean(dim=(2, 3)))


class BasicBlock(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.first = conv_bn(cin, cout, 3, stride, act=nn.ReLU)
        self.second = conv_bn(cout, cout, 3, 1, act=None)
        self.shortcut = nn.Identity() if stride == 1 and cin == cout else conv_bn(cin, cout, 1, stride, act=None)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


class ResNet18(nn.Module):
    """He et al. 2015 (arXiv:1512.03385, table 1, 18 layers). ``width`` is the channel count of the first stage."""

    def __init__(self, width: int = 64, classes: int = 1000, channels: int = 3) -> None:
        super().__init__()
        self.stem = conv_bn(channels, width, 7, 2, act=nn.ReLU)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks: list[nn.Module] = []
        cin = width
        for stage in range(4):
            cout = width << stage
            blocks += [BasicBlock(cin, cout, 1 if stage == 0 else 2), BasicBlock(cout, cout, 1)]
            cin = cout
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(cin, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.pool(self.stem(x)))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = torch.softmax(q @ k.transpose(-2, -1) * (d // self.heads) ** -0.5, dim=-1)
        return self.proj((scores @ v).transpose(1, 2).reshape(b, n, d))


class EncoderLayer(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TinyViT(nn.Module):
    """A small vision transformer after Dosovitskiy et al. 2020 (arXiv:2010.11929): 8x8 patches, mean pooling."""

    def __init__(
        self, size: int = 64, patch: int = 8, dim: int = 64, depth: int = 3, heads: int = 4, classes: int = 10
    ) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2, dim))
        self.layers = nn.Sequential(*(EncoderLayer(dim, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.layers(x)).mean(dim=1))


class DSCNN(nn.Module):
    """Keyword spotting on 49x10 MFCC after Zhang et al. 2017 (arXiv:1711.07128, DS-CNN S)."""

    def __init__(self, classes: int = 12, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, (10, 4), (2, 2), (5, 1), bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        for _ in range(4):
            blocks += [conv_bn(width, width, 3, 1, groups=width, act=nn.ReLU), conv_bn(width, width, 1, 1, act=nn.ReLU)]
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1).flatten(1)
        return self.fc(x)


def seeded(make: Callable[[], nn.Module], shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    """``make()`` with seeded weights and batch-norm statistics measured on seeded noise of ``shape``; eval mode.

    The global torch generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        module = make()
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_in")
            elif isinstance(part, nn.BatchNorm2d):
                part.weight.uniform_(0.7, 1.3)
                part.bias.normal_(0.0, 0.2)
                part.momentum = 1.0
        module.train()
        module(torch.randn(max(4, shape[0]), *shape[1:]))
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 0.1
                part.num_batches_tracked.zero_()
    return module.eval()


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v1_0.25": lambda: MobileNetV1(0.25, classes=10),
    "mobilenet_v2": MobileNetV2,
    "mobilenet_v2_0.35": lambda: MobileNetV2(0.35, classes=10),
    "resnet18": ResNet18,
    "resnet18_small": lambda: ResNet18(16, classes=10),
    "tiny_vit": TinyViT,
    "ds_cnn": DSCNN,
}

INPUT_SHAPES: dict[str, tuple[int, ...]] = {
    "mobilenet_v1": (1, 3, 224, 224),
    "mobilenet_v1_0.25": (1, 3, 96, 96),
    "mobilenet_v2": (1, 3, 224, 224),
    "mobilenet_v2_0.35": (1, 3, 96, 96),
    "resnet18": (1, 3, 224, 224),
    "resnet18_small": (1, 3, 64, 64),
    "tiny_vit": (1, 3, 64, 64),
    "ds_cnn": (1, 1, 49, 10),
}


def build(name: str, seed: int = 0) -> nn.Module:
    """The named network of ``BUILDERS``, seeded, in eval mode; ``KeyError`` for an unknown name."""
    shape = INPUT_SHAPES[name]
    return seeded(BUILDERS[name], tuple(min(d, 96) for d in shape), seed)


def example(name: str, seed: int = 1) -> Tensor:
    """A seeded float32 input of the named network, shaped ``INPUT_SHAPES[name]``, standard normal."""
    return torch.randn(INPUT_SHAPES[name], generator=torch.Generator().manual_seed(seed))
