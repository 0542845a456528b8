"""Networks for 96x96 person detection, small enough for a microcontroller (torch).

Sources: MobileNetV1, arXiv 1704.04861, table 1; MobileNetV2, arXiv 1801.04381, table 2; a network in the manner of
MCUNet, arXiv 2007.10319. All start from RGB or grey 0..1 (the first layer subtracts nothing: batch normalisation takes
care of it) and end in two logits, no person and person. Channel counts are multiples of 8, so blocks of four channels
always fit.
"""

from __future__ import annotations

import re

from torch import Tensor, nn

from gossamer._errors import InputError

_V1_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
_V2_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_MCUNET_STAGES = (
    (16, 2, ((3, 3), (5, 4), (3, 4))),
    (24, 2, ((7, 4), (3, 4), (5, 4))),
    (40, 2, ((5, 6), (7, 4), (3, 5), (5, 4))),
    (48, 1, ((5, 5), (3, 4), (7, 3))),
    (96, 2, ((3, 5), (5, 5), (3, 4))),
    (160, 1, ((3, 5),)),
)
"""Channels, stride of the first block, and (kernel, expansion) of every block of a stage. MCUNet's search picks kernels
of 3, 5 and 7 and expansions of 3 to 6 block by block: large kernels where planes are large, few channels early. This
table follows those habits; it is not one of the published networks."""


def _channels(base: int, width: float) -> int:
    """Scaled channel count, rounded to a multiple of 8 and never below 90% of the exact product (V2 paper's code)."""
    exact = base * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch normalisation, and a ReLU6 unless ``linear``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, linear: bool = False
    ):
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        if not linear:
            layers.append(nn.ReLU6(inplace=True))
        super().__init__(*layers)


class SeparableBlock(nn.Sequential):
    """MobileNetV1's block: depthwise 3x3, then pointwise."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__(ConvNorm(inputs, inputs, 3, stride, groups=inputs), ConvNorm(inputs, outputs, 1))


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand, depthwise, linear projection; a skip when shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, kernel: int = 3):
        super().__init__()
        hidden = inputs * expansion
        layers = [] if expansion == 1 else [ConvNorm(inputs, hidden, 1)]
        layers += [ConvNorm(hidden, hidden, kernel, stride, groups=hidden), ConvNorm(hidden, outputs, 1, linear=True)]
        self.branch = nn.Sequential(*layers)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.branch(x)
        return x + y if self.skip else y


class PersonNet(nn.Module):
    """A trunk of blocks, global average pooling, dropout and a linear classifier.

    Input float32 [N, channels, 96, 96] in 0..1; output float32 [N, 2] logits (no person, person). A grey network takes
    RGB too and turns it into luma (ITU-R 601, as Pillow's mode L), so that one training loop serves both.

    Attributes:
        channels: of the input, 3 (RGB) or 1 (grey).
    """

    def __init__(self, name: str, trunk: list[nn.Module], features: int, dropout: float, channels: int = 3):
        super().__init__()
        self.name = name
        self.channels = channels
        self.trunk = nn.Sequential(*trunk)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """The last feature map, [N, F, 3, 3] for an input of 96x96."""
        if self.channels == 1 and x.shape[1] == 3:
            x = to_luma(x)
        out: Tensor = self.trunk(x)
        return out

    def classify(self, features: Tensor) -> Tensor:
        """Logits [N, 2] of a feature map."""
        logits: Tensor = self.classifier(self.dropout(features.mean(dim=(2, 3))))
        return logits


def to_luma(images: Tensor) -> Tensor:
    """Luma (ITU-R 601, as Pillow's mode L) of RGB: [N, 3, H, W] to [N, 1, H, W]."""
    return 0.299 * images[:, 0:1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:3]


def mobilenet_v1(width: float = 0.25, *, inputs: int = 3, dropout: float = 0.1) -> PersonNet:
    """MobileNetV1 with the given width multiplier; 0.25 is the network of MLPerf Tiny's visual wake words."""
    channels = _channels(32, width)
    trunk: list[nn.Module] = [ConvNorm(inputs, channels, 3, 2)]
    for base, stride in _V1_BLOCKS:
        outputs = _channels(base, width)
        trunk.append(SeparableBlock(channels, outputs, stride))
        channels = outputs
    return PersonNet(_name("v1", width, inputs), trunk, channels, dropout, inputs)


def mobilenet_v2(width: float = 0.35, *, inputs: int = 3, head: int = 320, dropout: float = 0.1) -> PersonNet:
    """MobileNetV2 with the given width multiplier and a last 1x1 convolution of ``head`` channels.

    The paper's 1280 channels serve a thousand classes; two classes need fewer.
    """
    channels = _channels(32, width)
    trunk: list[nn.Module] = [ConvNorm(inputs, channels, 3, 2)]
    for expansion, base, repeats, stride in _V2_STAGES:
        outputs = _channels(base, width)
        for i in range(repeats):
            trunk.append(InvertedResidual(channels, outputs, stride if i == 0 else 1, expansion))
            channels = outputs
    trunk.append(ConvNorm(channels, head, 1))
    return PersonNet(_name("v2", width, inputs), trunk, head, dropout, inputs)


def mcunet(width: float = 1.0, *, inputs: int = 3, dropout: float = 0.1) -> PersonNet:
    """Inverted residuals with kernels of 3, 5 and 7 and mixed expansions, in the manner of MCUNet (arXiv 2007.10319).

    Starts as the published networks do: a 3x3 convolution of 16 channels, then depthwise and a linear 8 channels.
    """
    stem, channels = _channels(16, width), _channels(8, width)
    trunk: list[nn.Module] = [
        ConvNorm(inputs, stem, 3, 2),
        ConvNorm(stem, stem, 3, groups=stem),
        ConvNorm(stem, channels, 1, linear=True),
    ]
    for base, stride, blocks in _MCUNET_STAGES:
        outputs = _channels(base, width)
        for i, (kernel, expansion) in enumerate(blocks):
            trunk.append(InvertedResidual(channels, outputs, stride if i == 0 else 1, expansion, kernel))
            channels = outputs
    return PersonNet(_name("mcunet", width, inputs), trunk, channels, dropout, inputs)


_KINDS = {"v1": mobilenet_v1, "v2": mobilenet_v2, "mcunet": mcunet}


def build(name: str, *, dropout: float = 0.1) -> PersonNet:
    """Network by name: ``v1-<width>``, ``v2-<width>`` or ``mcunet-<width>``, and ``-grey`` for a grey input.

    For example ``v1-0.25``, ``v2-0.35-grey``, ``mcunet-1``.

    Raises:
        InputError: the name has another form or the width is not in (0, 2].
    """
    match = re.fullmatch(r"(v1|v2|mcunet)-(\d+(?:\.\d+)?)(-grey)?", name)
    if match is None or not 0.0 < float(match[2]) <= 2.0:
        raise InputError(
            f"no network {name!r}",
            where="model name",
            hint="v1-<width>, v2-<width> or mcunet-<width>, with -grey for a grey input, such as v1-0.25",
        )
    return _KINDS[match[1]](float(match[2]), inputs=1 if match[3] else 3, dropout=dropout)


def _name(kind: str, width: float, inputs: int) -> str:
    return f"{kind}-{width:g}" + ("-grey" if inputs == 1 else "")


def parameter_count(model: nn.Module) -> int:
    """Trainable parameters (batch normalisation's running statistics are not counted)."""
    return sum(p.numel() for p in model.parameters())


def is_prunable(layer: nn.Module) -> bool:
    """True for what recipes prune by default: convolutions that are neither the first nor depthwise."""
    return isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.in_channels > 3
