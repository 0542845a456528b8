"""plan.py mirrors plan_format.h: the same numbers under the same names, the same record sizes and field offsets."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from gossamer.bundle import container
from gossamer.compile import plan as pl

HEADER = (Path(__file__).parents[2] / "device_runtime/native/src/plan_format.h").read_text()
PUBLIC = (Path(__file__).parents[2] / "device_runtime/native/include/gossamer.h").read_text()
_CODE = re.sub(r"/\*.*?\*/", "", HEADER + PUBLIC, flags=re.S)


def _enums() -> dict[str, int]:
    values: dict[str, int] = {}
    for body in re.findall(r"enum\s*\{([^}]*)\}", _CODE):
        following = 0
        for item in filter(None, (part.strip() for part in body.split(","))):
            name, _, value = (s.strip() for s in item.partition("="))
            values[name] = int(value, 0) if value else following
            following = values[name] + 1
    return values


def _defines() -> dict[str, int]:
    """Integer #defines: a number, or a number shifted left."""
    number = r"(0x[0-9A-F]+|\d+)u?(?:ll)?"
    found = re.findall(rf"^#define (GS_\w+)\s+\(?{number}(?:\s*<<\s*(\d+))?\)?\s*$", _CODE, flags=re.M)
    return {name: int(value, 0) << int(shift or 0) for name, value, shift in found}


def _struct(name: str) -> list[tuple[str, int, int]]:
    """Fields of a C record as (name, offset, bytes) under packed rules; the header promises no implicit padding."""
    body = re.search(r"typedef struct \{([^}]*)\} " + name + ";", _CODE)
    assert body, name
    size = {"uint8_t": 1, "uint16_t": 2, "uint32_t": 4, "int32_t": 4, "float": 4, "uint64_t": 8}
    fields, at = [], 0
    for line in filter(None, (s.strip() for s in body[1].split(";"))):
        ctype, names = line.split(None, 1)
        for field in names.split(","):
            match = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", field.strip())
            assert match, field
            count = int(match[2] or 1)
            assert at % size[ctype] == 0, f"{name}.{match[1]} would need padding"
            fields.append((match[1], at, size[ctype] * count))
            at += size[ctype] * count
    return fields


@pytest.mark.parametrize(
    ("enum", "prefix", "names"),
    [
        (pl.DType, "GS_", {}),
        (pl.Layout, "GS_LAYOUT_", {}),
        (pl.Place, "GS_PLACE_", {}),
        (pl.Section, "GS_SECTION_", {}),
        (pl.Backend, "GS_BACKEND_", {}),
        (pl.OpKind, "GS_OP_", {}),
        (pl.Bin, "GS_BIN_", {}),
        (pl.Un, "GS_UN_", {}),
        (pl.Red, "GS_RED_", {}),
        (pl.PadMode, "GS_PAD_", {}),
        (pl.Rounding, "GS_ROUND_", {}),
        (pl.Encoding, "GS_ENC_", {}),
        (pl.PatternLabel, "GS_PATTERN_", {"B1X4": "1X4", "B4X1": "4X1", "B4X4": "4X4"}),
        (pl.P, "GS_P_", {}),
        (pl.F, "GS_F_", {}),
    ],
)
def test_enums_equal_the_header(enum, prefix, names):
    values = _enums()
    mirrored = {prefix + names.get(member.name, member.name): int(member) for member in enum}
    in_header = {k: values[k] for k in values if k.startswith(prefix) and not k.endswith("_COUNT")}
    if prefix in ("GS_", "GS_P_"):  # prefixes that other families share
        in_header = {k: v for k, v in in_header.items() if k in mirrored}
    assert mirrored == in_header


def test_operator_counts_close_the_enums():
    values = _enums()
    assert values["GS_OP_COUNT"] == max(pl.OpKind) + 1
    assert values["GS_UN_COUNT"] == max(pl.Un) + 1


@pytest.mark.parametrize(
    ("record", "struct"),
    [
        (pl.FILE_HEADER, "gs_file_header"),
        (pl.SECTION, "gs_section"),
        (pl.PLAN_HEADER, "gs_plan_header"),
        (pl.TENSOR, "gs_tensor_rec"),
        (pl.OP, "gs_op_rec"),
    ],
)
def test_records_equal_the_header(record, struct):
    assert record.fields is not None
    mirrored = [(n, record.fields[n][1], record.fields[n][0].itemsize) for n in record.names]
    assert mirrored == _struct(struct)


def test_constants_equal_the_header():
    defines = _defines()
    assert defines["GS_FORMAT_VERSION"] == pl.FORMAT_VERSION
    assert defines["GS_ALIGN"] == pl.ALIGN
    assert defines["GS_NONE"] == pl.NONE
    assert defines["GS_MAX_RANK"] == pl.MAX_RANK
    assert defines["GS_CAP_FILE"] == container.MAX_BYTES
    assert defines["GS_CAP_SECTIONS"] == container._CAP_SECTIONS
    assert defines["GS_SIGNATURE_BYTES"] == container.SIGNATURE_BYTES


@pytest.mark.parametrize(
    ("h", "w", "c", "block", "stride"),
    [
        (1, 1, 64, 4, 1),
        (7, 7, 1024, 4, 80),
        (7, 7, 4, 4, 64),
        (14, 14, 8, 4, 208),
        (112, 112, 32, 4, 12560),
        (2, 1, 3, 1, 16),
    ],
)
def test_plane_stride(h, w, c, block, stride):
    assert pl.plane_stride(h, w, c, block) == stride


def test_channel_blocked_bytes_count_padding():
    t = pl.Tensor("t", pl.DType.S8, (2, 5, 7, 7), pl.Layout.CB)
    assert t.pstride == 80
    assert t.nbytes == 2 * 2 * 80 * 4
    assert pl.DType.of(np.float32) is pl.DType.F32
