"""Times the matrix micro-kernels on the pointwise layers of MobileNetV1 1.0/224: ``python -m tools.bench_kernels``.

Activations lie as Conv hands them over: where a kernel reads shifted x, in gathered tiles (gathering itself is not
counted), else as whole planes. Every layer runs twice and
the second run is timed: in a network the previous layer has just written what it reads. Rounds are interleaved over the
kernels, and the median over the rounds is shown with the fastest and the 90th percentile, so that a disturbed machine
shows.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gossamer_runtime._native import library

S8, F32 = 2, 1
FORMS = ("dense", "1x4", "4x4", "4x1")
LAYERS = [
    (32, 64, 112 * 112),
    (64, 128, 56 * 56),
    (128, 128, 56 * 56),
    (128, 256, 28 * 28),
    (256, 256, 28 * 28),
    (256, 512, 14 * 14),
    *[(512, 512, 14 * 14)] * 5,
    (512, 1024, 7 * 7),
    (1024, 1024, 7 * 7),
]
"""Input channels, output channels, pixels."""


class Matrix(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int),
        ("rows", ctypes.c_uint32),
        ("cols", ctypes.c_uint32),
        ("br", ctypes.c_uint32),
        ("bc", ctypes.c_uint32),
        ("start", ctypes.c_void_p),
        ("col", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
    ]


class Packed(ctypes.Structure):
    _fields_ = [
        ("rows", ctypes.c_uint32),
        ("row_blocks", ctypes.c_uint32),
        ("groups", ctypes.c_uint32),
        ("start", ctypes.c_void_p),
        ("off", ctypes.c_void_p),
        ("val", ctypes.c_void_p),
        ("order", ctypes.c_void_p),
        ("slices", ctypes.c_uint32),
        ("bias", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("entries", ctypes.c_size_t),
        ("off_bytes", ctypes.c_uint32),
        ("memory", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
    ]


class Requant(ctypes.Structure):
    _fields_ = [
        ("scale", ctypes.c_void_p),
        ("zp", ctypes.c_int32),
        ("lo", ctypes.c_int32),
        ("hi", ctypes.c_int32),
    ]


class Args(ctypes.Structure):
    _fields_ = [
        ("x", ctypes.c_void_p),
        ("x_stride", ctypes.c_size_t),
        ("y", ctypes.c_void_p),
        ("y_stride", ctypes.c_size_t),
        ("npx", ctypes.c_uint32),
        ("block0", ctypes.c_uint32),
        ("block1", ctypes.c_uint32),
        ("w", ctypes.c_void_p),
        ("q", Requant),
        ("lo", ctypes.c_float),
        ("hi", ctypes.c_float),
    ]


@dataclass(frozen=True)
class Kernel:
    """A row of the kernel table."""

    index: int
    name: str
    isa: int
    dtype: int
    form: int
    tile: int
    x_offset: int


@dataclass
class Layer:
    """One packed layer, ready to run; ``keep`` holds what the C structures point at."""

    calls: list[tuple[Args, int, int]]
    macs: int
    packed: Packed
    keep: list[Any] = field(default_factory=list)


def kernels() -> list[Kernel]:
    """The matrix kernels that this machine can run on more than one pixel."""
    lib = library()
    lib.gs_test_packed_size.restype = ctypes.c_size_t
    if lib.gs_test_packed_size() != ctypes.sizeof(Packed):
        raise RuntimeError("gs_packed of src/kernels.h has changed: bring Packed here up to it")
    lib.gs_test_kernel_name.restype = ctypes.c_char_p
    info = (ctypes.c_uint32 * 9)()
    found = []
    for i in range(lib.gs_test_kernel_count()):
        lib.gs_test_kernel_info(i, info)
        family, isa, dtype, form, _, tile, x_offset, *_ = info
        if family == 0 and tile > 1 and lib.gs_test_isa_runs(isa):
            found.append(Kernel(i, lib.gs_test_kernel_name(i).decode(), isa, dtype, form, tile, x_offset))
    return found


def _aligned(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def prepare(kernel: Kernel, layer: tuple[int, int, int], density: float, rng: np.random.Generator) -> Layer:
    """Random weights with ``density`` of the blocks stored, packed for a kernel, and buffers for one layer."""
    cin, cout, pixels = layer
    lib = library()
    br, bc = {0: (1, 1), 1: (1, 4), 2: (4, 4), 3: (4, 1)}[kernel.form]
    if kernel.dtype == F32:
        bc = 1
    block_rows, block_cols = cout // br, cin // bc
    keep: list[Any] = []
    if kernel.form == 0:
        blocks, start, col = cout * cin, None, None
    else:
        mask = rng.random((block_rows, block_cols)) < density
        start = np.concatenate([[0], np.cumsum(mask.sum(1))]).astype(np.uint32)
        col = np.nonzero(mask)[1].astype(np.uint32)
        blocks = int(start[-1]) * br * bc
        keep += [start, col]
    if kernel.dtype == S8:
        values = rng.integers(-127, 128, blocks).astype(np.int8)
    else:
        values = rng.standard_normal(blocks).astype(np.float32)
    bias = np.zeros(cout, np.int32 if kernel.dtype == S8 else np.float32)
    scale = np.full(cout, 1e-3, np.float32)
    keep += [values, bias, scale]
    matrix = Matrix(
        kernel.dtype,
        cout,
        cin,
        0 if start is None else br,
        0 if start is None else bc,
        None if start is None else start.ctypes.data,
        None if col is None else col.ctypes.data,
        values.ctypes.data,
    )
    padded = -(-pixels // 16) * 16
    tile = min(kernel.tile, padded)
    lanes = 4 if kernel.dtype == S8 else 1
    groups = cin // lanes
    while kernel.x_offset and tile > 64 and groups * tile * 4 > 32 * 1024:  # as gs_tile_pixels of src/ops/mm.c chooses
        tile = -(-tile // 32) * 16
    packed = Packed()
    plane = (padded + (16 if padded // 16 % 2 == 0 else 0)) * 4
    x_stride = tile * 4 if kernel.x_offset else plane
    x_step = groups * x_stride if kernel.x_offset else tile * 4
    lib.gs_test_mm_pack.argtypes = [ctypes.c_uint32, *[ctypes.c_void_p] * 3, ctypes.c_size_t, ctypes.c_void_p]
    status = lib.gs_test_mm_pack(
        kernel.index, ctypes.addressof(matrix), bias.ctypes.data, scale.ctypes.data, x_stride, ctypes.addressof(packed)
    )
    if status != 0:
        raise RuntimeError(f"{kernel.name}: packing failed with status {status}")
    full, rest = divmod(padded, tile)
    x = _aligned((full + (rest > 0)) * groups * x_stride if kernel.x_offset else groups * plane)
    x[:] = rng.integers(0, 256, x.size) if kernel.dtype == S8 else 0
    y = _aligned(cout // lanes * plane)
    keep += [x, y, packed]
    calls = []
    for npx, tiles, at in ((tile, full, 0), (rest, 1 if rest else 0, full)):
        if not tiles:
            continue
        args = Args(
            x.ctypes.data + at * x_step,
            x_stride,
            y.ctypes.data + at * tile * 4,
            plane,
            npx,
            0,
            packed.row_blocks,
            ctypes.addressof(packed),
            Requant(packed.scale, 3, -128, 127),
            -np.inf,
            np.inf,
        )
        calls.append((args, tiles, x_step))
    return Layer(calls, blocks * pixels, packed, keep)


def run(kernel: Kernel, layers: list[Layer]) -> list[float]:
    """Seconds of every layer, its second run of two."""
    function = library().gs_test_mm_run
    function.argtypes = [ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_size_t]
    seconds = []
    for layer in layers:
        calls = [(ctypes.addressof(a), tiles, step) for a, tiles, step in layer.calls]
        for _ in range(2):
            start = time.perf_counter()
            for address, tiles, step in calls:
                function(kernel.index, address, tiles, step)
            end = time.perf_counter()
        seconds.append(end - start)
    return seconds


def main() -> int:
    """Command line; exit code 0, or 1 when no kernel matches."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench_kernels",
        description="Times matrix micro-kernels on the 13 pointwise layers of MobileNetV1 1.0/224, one thread.",
        epilog="example: python -m tools.bench_kernels --match s8_mm --sparsity 0.75 0.9",
    )
    parser.add_argument("--match", default="", help="only kernels whose name contains this")
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.5, 0.75, 0.9], help="shares of empty blocks")
    parser.add_argument("--rounds", type=int, default=30, help="timed passes over all layers (default 30)")
    parser.add_argument("--per-layer", action="store_true", help="also the median of every layer")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    chosen = [k for k in kernels() if options.match in k.name]
    if not chosen:
        print(f"error: no kernel of this machine contains {options.match!r}", file=sys.stderr)
        return 1
    subjects: list[tuple[Kernel, float, list[Layer]]] = []
    for kernel in chosen:
        for sparsity in [0.0] if kernel.form == 0 else options.sparsity:
            rng = np.random.default_rng(7)
            subjects.append((kernel, sparsity, [prepare(kernel, layer, 1 - sparsity, rng) for layer in LAYERS]))
    times: list[list[list[float]]] = [[] for _ in subjects]
    for r in range(options.rounds + 2):
        for t, (kernel, _, layers) in zip(times, subjects, strict=True):
            seconds = run(kernel, layers)
            if r >= 2:
                t.append(seconds)
    rows = []
    for t, (kernel, sparsity, layers) in zip(times, subjects, strict=True):
        by_layer = np.asarray(t)
        total = by_layer.sum(1)
        macs = sum(layer.macs for layer in layers)
        row = {
            "kernel": kernel.name,
            "sparsity": sparsity,
            "median_ms": round(float(np.median(total)) * 1e3, 4),
            "min_ms": round(float(total.min()) * 1e3, 4),
            "p90_ms": round(float(np.percentile(total, 90)) * 1e3, 4),
            "gmac_per_s": round(macs / float(np.median(total)) / 1e9, 1),
            "layers_us": [round(float(v) * 1e6, 2) for v in np.median(by_layer, 0)],
        }
        rows.append(row)
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'kernel':38} {'sparsity':>8} {'median [ms]':>12} {'min [ms]':>10} {'p90 [ms]':>10} {'GMAC/s':>8}")
    for row in rows:
        print(
            f"{row['kernel']:38} {row['sparsity']:8.2f} {row['median_ms']:12.3f} {row['min_ms']:10.3f} "
            f"{row['p90_ms']:10.3f} {row['gmac_per_s']:8.1f}"
        )
        if options.per_layer:
            print("    us: " + " ".join(f"{v:.1f}" for v in row["layers_us"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
