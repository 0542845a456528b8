"""Looks into a blob that a client sent, in a process of its own: ``python -m gossamer_services.optimizer.vet``.

Refuses what could make a later process run code or open other files, and what is not what it is said to be. The answer
is one JSON object on stdout: empty, or the error.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gossamer._errors import GossamerError, InputError, ModelError
from gossamer_services.optimizer import limits
from gossamer_services.optimizer.jobs import JobError, Kind
from gossamer_services.optimizer.unpack import checked

MAX_ARRAYS = 1000


def vet(path: Path, kind: Kind, role: str) -> None:
    """Raise unless the file is of this kind and harmless; nothing in it is run or unpickled.

    Raises:
        ModelError, UnsupportedError: of a model; see the importers.
        InputError: of data: object arrays, paths that leave the archive, links, damage.
    """
    match kind:
        case Kind.ZIP:
            _zip(path, role)
        case Kind.NPZ:
            _npz(path, role)
        case _:
            _model(path.read_bytes(), kind, role)


def _model(data: bytes, kind: Kind, where: str) -> None:
    from gossamer.importers.load import sniff

    found = sniff(data, where)
    if f".{found}" != kind:
        raise ModelError(f"the bytes are {found}, not {kind[1:]}", where=where, hint="say which format the model has")
    if kind is Kind.PT2:
        from gossamer.importers.pt2 import clean

        clean(data, where)
    elif kind is Kind.ONNX:
        from gossamer.importers.onnx_model import check_dataflow, parse, refuse_bytes, refuse_external

        proto = parse(data, where)
        refuse_bytes(proto.graph, where)
        refuse_external(proto, where)
        check_dataflow(proto.graph, where)


def _zip(path: Path, where: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            if not checked(archive, where):
                raise InputError("the archive holds no files", where=where, hint="pack the pictures into it")
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as e:
        raise InputError(f"not a .zip, or a damaged one: {e}", where=where, hint="pack it again") from e


def _npz(path: Path, where: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if not 0 < len(members) <= MAX_ARRAYS:
                raise InputError(f"{len(members)} arrays; 1 to {MAX_ARRAYS} are read", where=where)
            for info in members:
                if not info.filename.endswith(".npy"):
                    raise InputError(f"'{info.filename[:80]}' is no array", where=where, hint="save with numpy.savez")
                with archive.open(info) as member:
                    version = np.lib.format.read_magic(member)
                    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                    if version not in read:
                        raise InputError(f"'{info.filename[:80]}' is of a newer .npy format", where=where)
                    _shape, _order, dtype = read[version](member)
                    if dtype.hasobject:
                        raise InputError(
                            f"'{info.filename[:80]}' holds pickled objects, which can run any code when they are read",
                            where=where,
                            hint="save plain numeric arrays",
                        )
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as e:
        raise InputError(f"not an .npz, or a damaged one: {e}", where=where, hint="save with numpy.savez") from e


def main(arguments: list[str]) -> int:
    """Vet the file; exit code 0 whenever there is an answer."""
    role, path, memory_bytes = arguments[0], Path(arguments[1]), int(arguments[2])
    answer = os.dup(1)
    os.dup2(2, 1)
    limits.apply(memory_bytes, 1 << 20)
    found: dict[str, object] = {}
    try:
        vet(path, Kind(path.suffix), role)
    except GossamerError as e:
        found = {**asdict(JobError.of(e)), "class": type(e).__name__}
    except Exception as e:  # a damaged file can make the libraries that parse it raise anything
        if limits.out_of_memory(e):
            raise
        found = {
            **asdict(JobError.of(ModelError(f"the {role} cannot be read: {e}", where=role))),
            "class": "ModelError",
        }
    os.write(answer, json.dumps(found).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
