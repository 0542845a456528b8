"""What a recipe may say: frozen pydantic models of its steps, with units and ranges."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

PatternName = Annotated[str, Field(pattern=r"^(dense|unstructured|1x4|4x1|4x4|[0-9]+:[0-9]+)$")]
PATTERN_NAMES = ("unstructured", "1x4", "4x1", "4x4", "2:4")
ISAS: dict[str, tuple[str, ...]] = {
    "x86_64": ("scalar", "avx2", "avxvnni", "avx512vnni"),
    "aarch64": ("scalar", "neon", "neondot"),
    "armv7": ("scalar", "neon"),
    "wasm32": ("scalar", "wasm128", "wasmrelaxed", "wasmdot"),
}
"""Instruction sets of the core, by architecture."""
_NM = re.compile(r"([0-9]+):([0-9]+)")


def _refuse(kind: str, message: str, field: str | None = None) -> PydanticCustomError:
    """An error that the loader places on ``field`` of the step it was found in."""
    return PydanticCustomError(kind, "{message}", {"message": message, "field": field})


def _number(value: Any) -> Any:
    """Refuses booleans, which Python takes for 0 and 1."""
    if isinstance(value, bool):
        raise _refuse("not_a_number", f"must be a number, not {str(value).lower()}")
    return value


def _sparsity(value: float | None) -> float | None:
    if value is None:
        return None
    if math.isnan(value) or not 0.0 <= value < 1.0:
        raise _refuse("sparsity_range", f"must be at least 0 and below 1 (the share of zeros), not {value:g}")
    return value


def nm_of(pattern: str) -> tuple[int, int] | None:
    """``(n, m)`` of a pattern named n:m, else ``None``."""
    found = _NM.fullmatch(pattern)
    return (int(found[1]), int(found[2])) if found else None


def _check_pattern(pattern: str | None, sparsity: float | None) -> None:
    pair = nm_of(pattern) if pattern else None
    if pair is None:
        return
    n, m = pair
    if not 1 <= n < m <= 64:
        raise _refuse("pattern", f"{n}:{m} is no pattern: n:m keeps n of m weights with 1 <= n < m <= 64", "pattern")
    if sparsity is not None and abs(sparsity - (1 - n / m)) > 1e-6:
        raise _refuse("sparsity_mismatch", f"{n}:{m} makes a sparsity of {1 - n / m:g}, not {sparsity:g}", "sparsity")


class _Step(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=True)


Sparsity = Annotated[float | None, BeforeValidator(_number)]
Names = Annotated[tuple[str, ...], Field(strict=False)]


class LayerRule(_Step):
    """An override for the layers it matches; of several rules that match, the last one counts."""

    match: str | None = Field(default=None, description="node name or glob, such as `block*/conv`; absent: any name")
    op: str | None = Field(default=None, description="ONNX operator type, such as Conv; absent: any type")
    pattern: PatternName | None = Field(default=None, description="pattern of these layers; absent: the step's")
    sparsity: Sparsity = Field(
        default=None, description="share of zeros of these layers, in [0, 1); absent: the step's"
    )
    dense: bool = Field(default=False, description="leave these layers as they are")

    _range = field_validator("sparsity")(_sparsity)

    @model_validator(mode="after")
    def _possible(self) -> LayerRule:
        if self.match is None and self.op is None:
            raise _refuse("rule_without_layers", "names no layers: give `match` (a name or glob), `op`, or both")
        if self.dense and (self.pattern is not None or self.sparsity is not None):
            raise _refuse("dense_and_sparse", "cannot be dense and have a pattern or sparsity", "dense")
        if self.pattern == "dense":
            raise _refuse("pattern", "to leave layers dense, write `dense: true`", "pattern")
        _check_pattern(self.pattern, self.sparsity)
        return self


class SparsifyStep(_Step):
    """One-shot pruning by magnitude.

    What `keep_dense` lists (by default the first convolution, depthwise convolutions and the classifier) and grouped
    convolutions stay dense unless `include` or the `match` of a rule names them.
    """

    pattern: PatternName = Field(default="1x4", description="unstructured, 1x4, 4x1, 4x4, or n:m such as 2:4")
    sparsity: Sparsity = Field(
        default=None,
        validate_default=True,
        description="share of zeros, in [0, 1); with n:m it follows from the pattern",
    )
    distribution: Literal["uniform", "global", "erk"] = Field(
        default="uniform", description="the same for every layer, one global threshold, or Erdos-Renyi-Kernel"
    )
    min_fraction: Annotated[float, BeforeValidator(_number)] = Field(
        default=0.0005, ge=0.0, le=1.0, description="global: every layer keeps at least this share of all weights"
    )
    keep_dense: Annotated[tuple[Literal["first_conv", "depthwise", "classifier"], ...], Field(strict=False)] = Field(
        default=("first_conv", "depthwise", "classifier"),
        description="kinds of layers that stay dense; classifier: every layer after which no other layer has weights",
    )
    rearrange: bool = Field(
        default=False,
        description="before pruning, put channels of the whole network in the order in which 1x4, 4x1 and 4x4 blocks "
        "keep most; the dense function stays the same",
    )
    include: Names = Field(default=(), description="node names or globs to prune although they are dense by default")
    exclude: Names = Field(default=(), description="node names or globs to leave dense")
    layers: Annotated[tuple[LayerRule, ...], Field(strict=False)] = Field(
        default=(), description="overrides by name or operator; the last match counts"
    )

    _range = field_validator("sparsity")(_sparsity)

    @model_validator(mode="after")
    def _possible(self) -> SparsifyStep:
        if self.pattern == "dense":
            raise _refuse("pattern", "to leave all layers dense, leave the sparsify step out", "pattern")
        _check_pattern(self.pattern, self.sparsity)
        pair = nm_of(self.pattern)
        if pair is None and self.sparsity is None:
            raise _refuse("sparsity_missing", f"is missing: pattern {self.pattern} needs a share of zeros", "sparsity")
        if pair is not None and self.distribution != "uniform":
            raise _refuse(
                "distribution",
                f"{self.pattern} is the same in every layer: {self.distribution} cannot apply",
                "distribution",
            )
        if self.distribution == "global" and self.sparsity is not None and self.min_fraction > 1 - self.sparsity:
            raise _refuse("min_fraction", "asks every layer to keep more than the whole network may", "min_fraction")
        for i, rule in enumerate(self.layers):
            if (
                not rule.dense
                and nm_of(rule.pattern or self.pattern) is None
                and rule.pattern is not None
                and (rule.sparsity is None and self.sparsity is None)
            ):
                raise _refuse("sparsity_missing", f"pattern {rule.pattern} needs a sparsity", f"layers.{i}.pattern")
            if rule.pattern is None and pair is not None:
                _check_pattern(self.pattern, rule.sparsity)
        return self

    @property
    def wanted(self) -> float:
        """The share of zeros asked for, in [0, 1)."""
        pair = nm_of(self.pattern)
        if pair is not None:
            return 1 - pair[0] / pair[1]
        return self.sparsity if self.sparsity is not None else 0.0


class Preprocess(_Step):
    """How a photo becomes an input: ``(pixel - mean) / std`` with pixels 0..255, after resizing to the model's size."""

    resize: Literal["stretch", "crop"] = Field(
        default="crop", description="stretch: ignore the aspect ratio; crop: cover the input, then cut the centre"
    )
    colour: Literal["rgb", "bgr", "gray"] = Field(
        default="rgb", description="channel order; gray for one-channel models"
    )
    mean: Annotated[tuple[float, ...], Field(strict=False)] = Field(
        default=(0.0,), description="subtracted from pixels of 0..255; one value or one per channel"
    )
    std: Annotated[tuple[float, ...], Field(strict=False)] = Field(
        default=(255.0,), description="divides after that; one value or one per channel; above 0"
    )

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _possible(self) -> Preprocess:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3) or (self.colour == "gray" and len(values) != 1):
                channels = "1 value" if self.colour == "gray" else "1 or 3 values"
                raise _refuse("channels", f"has {len(values)} values; {self.colour} takes {channels}", name)
            if not all(math.isfinite(v) for v in values):
                raise _refuse("finite", "must be finite", name)
        if min(self.std) <= 0:
            raise _refuse("std", f"must be above 0, not {min(self.std):g}", "std")
        return self


class QuantizeStep(_Step):
    """Static int8 with calibration: int8 activations, symmetric int8 weights."""

    format: Literal["int8"] = Field(default="int8", description="static int8, the one integer format of the core")
    calibrate: Literal["minmax", "entropy", "percentile"] = Field(default="minmax", description="how ranges are chosen")
    percentile: Annotated[float | None, BeforeValidator(_number)] = Field(
        default=None, description="with calibrate: percentile; share of values inside the range, in percent, 50 to 100"
    )
    per_channel: bool = Field(default=True, description="one weight scale per output channel")
    activation_bits: Literal[8, 7] = Field(
        default=8, description="7 keeps activations in 0..127, which every relaxed-SIMD dot product takes"
    )
    samples: int = Field(default=100, ge=1, le=100_000, description="at most this many calibration samples are read")
    preprocess: Preprocess = Field(default=Preprocess(), description="how photos become inputs")
    exclude: Names = Field(default=(), description="node names or globs that stay float32")

    @model_validator(mode="after")
    def _possible(self) -> QuantizeStep:
        if self.calibrate == "percentile":
            if self.percentile is None:
                raise _refuse(
                    "percentile_missing", "is missing: `calibrate: percentile` needs it, such as 99.99", "percentile"
                )
            if not 50.0 <= self.percentile <= 100.0:
                raise _refuse("percentile", f"must be within 50 and 100 percent, not {self.percentile:g}", "percentile")
        elif self.percentile is not None:
            raise _refuse("percentile_unused", f"has no meaning with `calibrate: {self.calibrate}`", "percentile")
        return self


class Distill(_Step):
    """Learning from what the model said before anything was pruned (Hinton et al., arXiv 1503.02531)."""

    weight: Annotated[float, BeforeValidator(_number)] = Field(
        default=0.5, gt=0.0, le=1.0, description="share of the loss; the labels have the rest"
    )
    temperature: Annotated[float, BeforeValidator(_number)] = Field(
        default=2.0, gt=0.0, le=100.0, description="divides the logits of both; its square scales that part of the loss"
    )


class TrainStep(_Step):
    """Fine-tuning while the weights become sparse: AdamW with a cosine learning rate. Needs `--train-data`.

    Without labels the model as given is the teacher and the whole of the loss. Without a sparsify step it trains dense.
    """

    method: str = Field(default="gradual-magnitude", description="how masks move: one of `gossamer recipes list`")
    options: dict[str, Any] = Field(default={}, description="settings of the method")
    epochs: int = Field(default=20, ge=1, le=100_000, description="passes over the training data")
    batch: int = Field(default=64, ge=1, le=65_536, description="examples in a step")
    learning_rate: Annotated[float, BeforeValidator(_number)] = Field(
        default=1e-3, gt=0.0, le=10.0, description="at its highest, after a twentieth of the steps"
    )
    weight_decay: Annotated[float, BeforeValidator(_number)] = Field(
        default=1e-4, ge=0.0, le=10.0, description="of AdamW, on weights of two dimensions and more"
    )
    distill: Distill | None = Field(
        default=None, description="learn from the model as given, too; absent: labels alone"
    )
    squarehead: Annotated[float, BeforeValidator(_number)] = Field(
        default=0.0, ge=0.0, le=100.0, description="weight of SquareHead's loss on the layers' outputs; 0: none"
    )
    quantization_aware: int = Field(
        default=0, ge=0, le=100_000, description="epochs in int8 behind the sparse ones, masks fixed"
    )
    mirror: bool = Field(default=False, description="half of the pictures are mirrored left to right, anew each epoch")
    seed: int = Field(default=0, ge=0, description="of the order of examples, of mirroring and of methods that draw")

    @model_validator(mode="after")
    def _possible(self) -> TrainStep:
        self.made()
        return self

    def made(self) -> Any:
        """The training method with its options; nothing here loads torch."""
        from gossamer._errors import RecipeError
        from gossamer.sparsify.training.registry import get_method

        try:
            return get_method(self.method, self.options)
        except RecipeError as e:
            text = f"is wrong: {e.message}" + (f". {e.hint}" if e.hint else "")
            raise _refuse("training_method", text, e.field or "method") from e


class Target(_Step):
    """The machine that kernels are chosen for. The bundle runs on every machine all the same."""

    arch: Literal["host", "x86_64", "aarch64", "armv7", "wasm32"] = Field(
        default="host", description="architecture; host: the one that compiles"
    )
    isa: Literal[
        "best", "scalar", "avx2", "avxvnni", "avx512vnni", "neon", "neondot", "wasm128", "wasmrelaxed", "wasmdot"
    ] = Field(default="best", description="highest instruction set to use")
    threads: int = Field(default=1, ge=1, le=64, description="threads of the session that is measured")
    kernels: Literal["fastest", "dense"] = Field(
        default="fastest",
        description="dense: store and run every layer dense whatever its zeros, as the baseline that sparse is "
        "compared with",
    )
    measure: bool | Literal["cached"] = Field(
        default="cached",
        description="true: time every candidate now; cached: time only what the cost table lacks; "
        "false: decide by a model, without running anything",
    )

    @model_validator(mode="after")
    def _possible(self) -> Target:
        if self.arch != "host" and self.isa != "best" and self.isa not in ISAS[self.arch]:
            raise _refuse("isa", f"{self.arch} has no {self.isa}; it has {', '.join(ISAS[self.arch])}", "isa")
        return self


class Policy(_Step):
    """What may happen to operators that the core lacks."""

    fallback: Annotated[tuple[Literal["onnxruntime", "litert", "tvm"], ...], Field(strict=False)] = Field(
        default=(),
        description="backends that may run them on the device, in order of preference; empty: compiling fails",
    )

    @model_validator(mode="after")
    def _possible(self) -> Policy:
        if len(set(self.fallback)) != len(self.fallback):
            raise _refuse("repeated", "names a backend twice", "fallback")
        return self


class Recipe(_Step):
    """How a model is made sparse, quantised and compiled. A step that is left out does not happen."""

    version: Literal[1] = Field(description="version of this schema, 1")
    name: str = Field(default="", max_length=200, description="shown in reports")
    description: str = Field(default="", max_length=4000)
    sparsify: SparsifyStep | None = None
    train: TrainStep | None = None
    quantize: QuantizeStep | None = None
    target: Target = Target()
    policy: Policy = Policy()

    @model_validator(mode="after")
    def _possible(self) -> Recipe:
        if self.train is None:
            return self
        if self.train.quantization_aware and self.quantize is None:
            raise _refuse("unquantized", "needs a quantize step", "train.quantization_aware")
        if self.sparsify is None:
            if "method" in self.train.model_fields_set:
                raise _refuse("nothing_sparse", "has nothing to do: there is no sparsify step", "train.method")
            return self
        rules = [rule.pattern for rule in self.sparsify.layers if rule.pattern is not None]
        takes = self.train.made().patterns
        for pattern in (self.sparsify.pattern, *rules):
            if ("n:m" if nm_of(pattern) else "blocks") not in takes:
                text = f"cannot make pattern {pattern}: {self.train.method} takes {' and '.join(takes)}"
                raise _refuse("pattern", text, "train.method")
        return self
