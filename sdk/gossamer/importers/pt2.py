"""Opens a .pt2 archive (torch.export.save) without running anything that it carries.

``torch.export.load`` unpickles custom objects, falls back to unpickling sample inputs, evaluates symbolic expressions
and guard code, and resolves operator names by attribute lookup. The archive is therefore checked member by member, and
only a cleaned copy (program, raw weight bytes, nothing else) is given to torch.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from gossamer._errors import ModelError, UnsupportedError

MAX_MEMBERS = 1 << 16
MAX_BYTES = 1 << 31
PROGRAM = "models/model.json"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
SAMPLES = "data/sample_inputs/model.pt"
MARKS = ("archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id", "version")
RAW = ("data/weights/weight_", "data/constants/tensor_")
TARGETS = ("torch.ops.aten.", "torch.ops.prims.", "torch.ops.higher_order.", "torch.ops.quantized_decomposed.")
PLAIN_TARGETS = ("_operator.getitem",)


def clean(data: bytes, where: str) -> bytes:
    """A .pt2 archive that holds the program and raw tensors of ``data`` alone.

    Raises:
        ModelError: not a .pt2 archive, damaged, or with members that such an archive does not have.
        UnsupportedError: pickled objects, native code, symbolic shapes or operators outside of torch's own.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = _read_members(archive, where)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ModelError(
            f"not a .pt2 archive, or a damaged one: {error}", where=where, hint="save it again with torch.export.save"
        ) from error
    if PROGRAM not in members:
        if any(name == "data.pkl" or name.endswith("/data.pkl") for name in members):
            raise UnsupportedError(
                "this archive is a pickled torch file, which can run any code when it is opened: it is not read",
                where=where,
                hint="save with torch.export.save(torch.export.export(module, (x,)), 'model.pt2')",
            )
        raise ModelError(f"the archive has no {PROGRAM}", where=where, hint="save it with torch.export.save")
    kept: dict[str, bytes] = {}
    for name, content in members.items():
        if name == PROGRAM:
            kept[name] = _program(content, where)
        elif name in CONFIGS:
            _refuse_pickles(content, f"{where}, {name}")
            kept[name] = content
        elif name == SAMPLES:
            kept[name] = b""
        elif name in MARKS or name.startswith(RAW):
            kept[name] = content
        elif not name.startswith("extra/"):
            raise UnsupportedError(
                f"the archive carries '{name}': objects and code in a model are not loaded",
                where=where,
                hint="export a module whose state is tensors only",
            )
    return _write(kept)


def _read_members(archive: zipfile.ZipFile, where: str) -> dict[str, bytes]:
    infos = [i for i in archive.infolist() if not i.is_dir()]
    if len(infos) > MAX_MEMBERS or sum(i.file_size for i in infos) > MAX_BYTES:
        raise ModelError(f"the archive has more than {MAX_MEMBERS} members or {MAX_BYTES} bytes", where=where)
    roots = {i.filename.split("/", 1)[0] for i in infos}
    flat = any("/" not in i.filename for i in infos)
    members: dict[str, bytes] = {}
    for info in infos:
        name = info.filename if flat or len(roots) != 1 else info.filename.split("/", 1)[1]
        if name in members:
            raise ModelError(f"the archive has two members named '{name}'", where=where)
        members[name] = archive.read(info)
    return members


def _json(content: bytes, where: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"damaged JSON: {error}", where=where) from error


def _refuse_pickles(content: bytes, where: str) -> None:
    config = _json(content, where)
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict):
        raise ModelError("the payload list is malformed", where=where)
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("path_name"), str):
            raise ModelError(f"the entry of '{name}' is malformed", where=where)
        if entry.get("use_pickle") is not False or not entry["path_name"].startswith(("weight_", "tensor_")):
            raise UnsupportedError(
                f"'{name}' is stored as a pickle, which can run any code when it is opened",
                where=where,
                hint="export a module whose parameters and buffers are plain dense tensors",
            )


def _program(content: bytes, where: str) -> bytes:
    program = _json(content, f"{where}, {PROGRAM}")
    if not isinstance(program, dict):
        raise ModelError("the program is malformed", where=f"{where}, {PROGRAM}")
    pending: list[Any] = [program]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            if "expr_str" in item:
                raise UnsupportedError(
                    f"the program has a dynamic dimension ({str(item['expr_str'])[:40]})",
                    where=where,
                    hint="export it without dynamic_shapes, so that the example inputs fix every dimension",
                )
            target = item.get("target")
            if "inputs" in item and "outputs" in item and isinstance(target, str):
                _check_target(target, where)
            pending.extend(item.values())
    program["guards_code"] = []
    program["range_constraints"] = {}
    return json.dumps(program).encode()


def _check_target(target: str, where: str) -> None:
    if not target.startswith(TARGETS) and target not in PLAIN_TARGETS:
        raise UnsupportedError(
            f"operator '{target[:80]}' is not one of torch's own",
            where=where,
            hint="decompose custom operators before torch.export, or export to ONNX yourself",
        )


def _write(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    return buffer.getvalue()
