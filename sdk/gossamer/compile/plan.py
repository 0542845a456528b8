"""The plan: what the compiler builds and the C core runs.

Python mirror of ``device_runtime/native/src/plan_format.h`` (a test compares the two) and the small intermediate
representation that passes between lowering, sparse encoding, memory planning and emission. Numeric rules are in
``device_runtime/native/NUMERICS.md``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"GOSSAMER"
FORMAT_VERSION = 1
ALIGN = 64
NONE = 0xFFFFFFFF
MAX_RANK = 6
PIXELS = 16
"""Planes of more than one pixel are padded to a multiple of this many pixels."""


class DType(enum.IntEnum):
    """Element types of a plan tensor."""

    F32 = 1
    S8 = 2
    U8 = 3
    S32 = 4
    S64 = 5
    S16 = 6
    U32 = 7

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(_NUMPY[self])

    @classmethod
    def of(cls, dtype: npt.DTypeLike) -> DType:
        """The plan type of a numpy type; ``KeyError`` when the core has none."""
        return {np.dtype(v): k for k, v in _NUMPY.items()}[np.dtype(dtype)]


_NUMPY = {
    DType.F32: "<f4",
    DType.S8: "i1",
    DType.U8: "u1",
    DType.S32: "<i4",
    DType.S64: "<i8",
    DType.S16: "<i2",
    DType.U32: "<u4",
}


class Layout(enum.IntEnum):
    """ROW: row-major. CB: channel-blocked, rank 4, 4 (S8) or 1 (F32) channels per group."""

    ROW = 0
    CB = 1


class Place(enum.IntEnum):
    ARENA = 0
    CONST = 1


class Section(enum.IntEnum):
    PLAN = 1
    WEIGHTS = 2
    MANIFEST = 3
    EXTERN = 4
    SIGNATURE = 5


class Backend(enum.IntEnum):
    ONNXRUNTIME = 1
    LITERT = 2
    TVM = 3
    FPGA = 4


class OpKind(enum.IntEnum):
    CONV = 1
    DWCONV = 2
    GEMM = 3
    MATMUL = 4
    BINARY = 5
    UNARY = 6
    LUT = 7
    PRELU = 8
    MAXPOOL = 9
    AVGPOOL = 10
    REDUCE = 11
    PAD = 12
    CONCAT = 13
    SLICE = 14
    RESHAPE = 15
    TRANSPOSE = 16
    SOFTMAX = 17
    RESIZE = 18
    QUANTIZE = 19
    DEQUANTIZE = 20
    LAYOUT = 21
    LAYERNORM = 22
    EXTERN = 23


class Bin(enum.IntEnum):
    ADD = 0
    SUB = 1
    MUL = 2
    DIV = 3
    MAX = 4
    MIN = 5
    POW = 6


class Un(enum.IntEnum):
    CLIP = 0
    HARDSWISH = 1
    HARDSIGMOID = 2
    SIGMOID = 3
    TANH = 4
    LEAKYRELU = 5
    ELU = 6
    GELU = 7
    GELU_TANH = 8
    SILU = 9
    EXP = 10
    LOG = 11
    SQRT = 12
    RECIPROCAL = 13
    ABS = 14
    NEG = 15
    ERF = 16
    SOFTPLUS = 17
    FLOOR = 18
    CEIL = 19


class Red(enum.IntEnum):
    MEAN = 0
    SUM = 1
    MAX = 2
    MIN = 3


class PadMode(enum.IntEnum):
    CONSTANT = 0
    EDGE = 1
    REFLECT = 2


class Rounding(enum.IntEnum):
    """How an int8 average rounds; the last two are TFLite's integer rules for int8 and uint8."""

    EVEN = 0
    HALF_AWAY = 1
    HALF_UP = 2


class Encoding(enum.IntEnum):
    DELTA8 = 1
    BITMAP = 2


class PatternLabel(enum.IntEnum):
    DENSE = 0
    UNSTRUCTURED = 1
    B1X4 = 2
    B4X1 = 3
    B4X4 = 4
    NM = 5


class P(enum.IntEnum):
    """Slots of the integer parameters of window and weight operators (``GS_P_*``)."""

    KH = 0
    KW = 1
    SH = 2
    SW = 3
    DH = 4
    DW = 5
    PT = 6
    PL = 7
    PB = 8
    PR = 9
    GROUPS = 10
    WBR = 11
    WBC = 12
    WBLOCKS = 13
    WENC = 14
    WLABEL = 15
    WN = 16
    WM = 17
    ROUND = 18
    QLO = 20
    QHI = 21


class F(enum.IntEnum):
    """Slots of the float parameters (``GS_F_*``)."""

    LO = 0
    HI = 1
    RA = 2
    RB = 3


P_COUNT = 28
F_COUNT = 8

FILE_HEADER = np.dtype(
    [("magic", "S8"), ("version", "<u4"), ("n_sections", "<u4"), ("file_size", "<u8"), ("reserved", "V40")]
)
SECTION = np.dtype([("kind", "<u4"), ("tag", "<u4"), ("offset", "<u8"), ("size", "<u8"), ("reserved", "<u8")])
PLAN_HEADER = np.dtype(
    [
        ("n_tensors", "<u4"),
        ("n_ops", "<u4"),
        ("n_refs", "<u4"),
        ("n_inputs", "<u4"),
        ("n_outputs", "<u4"),
        ("strings_size", "<u4"),
        ("arena_size", "<u8"),
        ("n_externs", "<u4"),
        ("reserved", "V28"),
    ]
)
TENSOR = np.dtype(
    [
        ("name", "<u4"),
        ("dtype", "u1"),
        ("layout", "u1"),
        ("rank", "u1"),
        ("place", "u1"),
        ("dims", "<u4", (6,)),
        ("pstride", "<u4"),
        ("scale", "<f4"),
        ("zero_point", "<i4"),
        ("reserved", "<u4"),
        ("offset", "<u8"),
        ("size", "<u8"),
    ]
)
OP = np.dtype(
    [
        ("kind", "<u2"),
        ("n_in", "u1"),
        ("n_out", "u1"),
        ("refs", "<u4"),
        ("name", "<u4"),
        ("source", "<u4"),
        ("p", "<i4", (P_COUNT,)),
        ("f", "<f4", (F_COUNT,)),
    ]
)


def plane_stride(height: int, width: int, channels: int, block: int) -> int:
    """Pixels between channel groups of a CB tensor.

    One for one-pixel planes; else the plane rounded up to 16 pixels, plus one more line of 16 when that count of
    64-byte lines is even and there are several groups: an even stride maps the lines of one pixel tile to few cache
    sets (KERNELS, "power-of-two strides").
    """
    pixels = height * width
    if pixels == 1:
        return 1
    lines = -(-pixels // PIXELS)
    groups = -(-channels // block)
    if groups > 1 and lines % 2 == 0:
        lines += 1
    return lines * PIXELS


@dataclass(eq=False)
class Tensor:
    """A value of the plan. ``data`` is set for constants: C-contiguous, of ``dtype``, shaped ``shape``."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    layout: Layout = Layout.ROW
    scale: float = 0.0
    zero_point: int = 0
    data: npt.NDArray[Any] | None = None

    @property
    def is_const(self) -> bool:
        return self.data is not None

    @property
    def block(self) -> int:
        """Channels per group in CB layout."""
        return 4 if self.dtype == DType.S8 else 1

    @property
    def pstride(self) -> int:
        if self.layout is not Layout.CB:
            return 0
        _, c, h, w = self.shape
        return plane_stride(h, w, c, self.block)

    @property
    def elements(self) -> int:
        n = 1
        for d in self.shape:
            n *= d
        return n

    @property
    def nbytes(self) -> int:
        """Bytes as stored, channel and pixel padding included."""
        item = self.dtype.numpy.itemsize
        if self.layout is Layout.CB:
            n, c, _, _ = self.shape
            return n * -(-c // self.block) * self.pstride * self.block * item
        return self.elements * item


@dataclass(eq=False)
class Weights:
    """Weights of a CONV or GEMM before encoding.

    ``dense`` is the full array in plan order (CONV ``[Cout, kh, kw, Cin/groups]``, GEMM ``[N, K]``), int16 while exact
    integer weights may pass int8 (removed by encoding), else int8 or float32. ``pattern`` is the pattern's name
    (``dense``, ``unstructured``, ``1x4``, ``4x1``, ``4x4``, ``n:m`` such as ``2:4``) that the zeros were made for.
    ``storage`` keeps the bundle small where ``pattern`` is ``dense``: weights are stored in blocks of that pattern, and
    the core spreads them out at load.
    """

    dense: npt.NDArray[Any]
    pattern: str = "dense"
    storage: str = "dense"


@dataclass(eq=False)
class Op:
    """An operator of the plan.

    ``inputs`` follow the order of plan_format.h, ``None`` for an absent one. ``p`` and ``f`` are keyed by slot number.
    For CONV and GEMM, ``weights`` holds the matrix until encoding replaces it with the value and index inputs
    (inputs 1 and 2 are ``None`` before).
    """

    kind: OpKind
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    p: dict[int, int] = field(default_factory=dict)
    f: dict[int, float] = field(default_factory=dict)
    name: str = ""
    source: str = ""
    weights: Weights | None = None


@dataclass(eq=False)
class Extern:
    """An external partition: ``payload`` is the ONNX, TFLite or compiled TVM module that runs it."""

    backend: Backend
    payload: bytes
    nodes: list[str] = field(default_factory=list)
    reason: str = ""


@dataclass(eq=False)
class Plan:
    """Operators in execution order; every tensor is an input, a constant, or made by an earlier operator."""

    ops: list[Op]
    inputs: list[Tensor]
    outputs: list[Tensor]
    externs: list[Extern] = field(default_factory=list)
