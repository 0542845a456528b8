"""Examples out of pictures: a folder with a subfolder a class, or a CSV of labels beside a folder or a zip."""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from gossamer import _images
from gossamer._errors import InputError
from gossamer._proto.v1 import manifest_pb2 as pb
from gossamer.search.examples import Classes, Entry, Examples, Sample


def folder(path: Path, ports: Sequence[pb.Port], classes: Classes) -> Examples:
    """A folder with a subfolder a class; one without such subfolders gives pictures without labels."""
    port = _port(ports, str(path))
    parts = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not _is_labelled(path, parts, classes):
        files = _images.image_files([path])
        return Examples([_entry(f, None, port, f.name) for f in files], str(path), classes)
    numbers = _numbers(path, parts, classes)
    entries = []
    for part in parts:
        files = sorted(f for f in part.rglob("*") if f.suffix.lower() in _images.SUFFIXES and f.is_file())
        if not files:
            raise InputError(
                f"class {part.name!r} has no pictures",
                where=str(part),
                hint=f"put pictures there ({', '.join(_images.SUFFIXES)}), or remove the folder",
            )
        entries += [_entry(f, numbers[part.name], port, f"{part.name}/{f.name}") for f in files]
    return Examples(entries, str(path), classes)


def _is_labelled(path: Path, parts: list[Path], classes: Classes) -> bool:
    """Subfolders are classes when they are called so; several that are not, with no picture beside them, are a mistake
    that ``_numbers`` names."""
    if not parts:
        return False
    if all(classes.index(p.name) is not None for p in parts):
        return True
    loose = any(p.suffix.lower() in _images.SUFFIXES for p in path.iterdir() if p.is_file())
    return len(parts) > 1 and not loose


def _numbers(path: Path, parts: list[Path], classes: Classes) -> dict[str, int]:
    """Class number by subfolder."""
    found = {p.name: classes.index(p.name) for p in parts}
    unknown = [name for name, number in found.items() if number is None]
    if unknown and not classes.names and len(unknown) == len(parts) == classes.count:
        return {name: i for i, name in enumerate(found)}  # sorted names, as torchvision's ImageFolder numbers them
    if unknown:
        hint = classes.told
        if not classes.names:
            hint += f"; give their names (--labels), or exactly {classes.count} subfolders, numbered in sorted order"
        raise InputError(f"subfolder {unknown[0]!r} is no class of the model", where=str(path), hint=hint)
    return {name: number for name, number in found.items() if number is not None}


def table(path: Path, ports: Sequence[pb.Port], classes: Classes, split: str | None) -> Examples:
    """A CSV with the columns ``file`` and ``label``, and ``split`` where it has several."""
    port = _port(ports, str(path))
    rows = _rows(path, split)
    open_file = _Shelf(path, rows[0][0]).opener
    entries = []
    for name, text, line in rows:
        label = classes.index(text)
        if label is None:
            raise InputError(f"label {text!r} is no class of the model", where=f"{path}:{line}", hint=classes.told)
        entries.append(_entry(open_file(name), label, port, name))
    where = f"{path}, split {split}" if split is not None else str(path)
    return Examples(entries, where, classes)


def _rows(path: Path, split: str | None) -> list[tuple[str, str, int]]:
    """(file, label, line) of the rows of one split."""
    found, splits = [], set()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            fields = reader.fieldnames or []
            for needed in ("file", "label"):
                if needed not in fields:
                    raise InputError(f"no column {needed!r}", where=f"{path}:1", hint="the first line is file,label")
            if split is not None and "split" not in fields:
                raise InputError("no column 'split'", where=f"{path}:1", hint="leave the split out")
            for row in reader:
                if not row["file"] or not row["label"]:
                    raise InputError("a file or a label is missing", where=f"{path}:{reader.line_num}")
                if "split" in fields:
                    splits.add(row["split"] or "")
                if split is None or row["split"] == split:
                    found.append((row["file"], row["label"], reader.line_num))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise InputError(f"cannot read the table: {e}", where=str(path), hint="UTF-8, first line file,label") from e
    names = ", ".join(sorted(splits))
    if split is None and len(splits) > 1:
        raise InputError(
            f"the table has the splits {names}",
            where=str(path),
            hint="say which: data that the model was trained on tell nothing about its accuracy",
        )
    if not found:
        hint = f"its splits are {names}" if splits else "one file,label a line"
        raise InputError(f"no rows of split {split!r}" if splits else "no rows", where=str(path), hint=hint)
    return found


class _Shelf:
    """Where the files of a table lie: beside it, in a folder beside it, or in a zip beside it."""

    def __init__(self, table: Path, first: str) -> None:
        self._archive: zipfile.ZipFile | None = None
        beside = sorted(table.parent.iterdir())
        for place in [table.parent, *(p for p in beside if p.is_dir())]:
            if (place / first).is_file():
                self._place = place
                return
        for path in (p for p in beside if p.suffix.lower() == ".zip"):
            try:
                archive = zipfile.ZipFile(path)
            except (OSError, zipfile.BadZipFile) as e:
                raise InputError(f"not a zip file that can be read: {e}", where=str(path)) from e
            if first in archive.NameToInfo:
                self._place, self._archive = path, archive
                return
            archive.close()
        raise InputError(
            f"{first!r} is nowhere to be found",
            where=str(table),
            hint="files lie beside the table, in a folder beside it or in a .zip beside it",
        )

    def opener(self, name: str) -> Callable[[], tuple[io.BytesIO, str]]:
        """Reads one file into memory, with its place for messages."""

        def read() -> tuple[io.BytesIO, str]:
            where = f"{self._place}/{name}"
            try:
                data = self._archive.read(name) if self._archive is not None else (self._place / name).read_bytes()
            except KeyError:
                raise InputError("not in the archive", where=where) from None
            except (OSError, zipfile.BadZipFile, zlib.error) as e:
                raise InputError(f"cannot be read: {e}", where=where) from e
            return io.BytesIO(data), where

        return read


def _entry(source: Path | Callable[[], tuple[io.BytesIO, str]], label: int | None, port: pb.Port, name: str) -> Entry:
    def read() -> Sample:
        if isinstance(source, Path):
            return {port.name: _images.to_input(_images.open_image(source), port)}
        file, where = source()
        return {port.name: _images.to_input(_images.decode_image(file, where), port)}

    return Entry(name, label, read)


def _port(ports: Sequence[pb.Port], where: str) -> pb.Port:
    if len(ports) != 1 or not ports[0].HasField("image"):
        told = f"the model has {len(ports)} inputs" if len(ports) != 1 else f"input {ports[0].name!r} takes no pictures"
        raise InputError(told, where=where, hint="give an .npz with one array per input and y")
    return ports[0]
