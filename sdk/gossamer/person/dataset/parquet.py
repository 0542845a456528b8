"""Parquet shards with an ``image`` column of ``{bytes, path}``, as Hugging Face's datasets writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gossamer._errors import BackendError, InputError
from gossamer.person.dataset.photo_set import BadPhotoError

_BATCH = 32


class ParquetFile:
    """One shard.

    Args:
        path: of the file.

    Raises:
        BackendError: pyarrow is not installed.
        InputError: the file is no parquet file.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as e:
            raise BackendError(
                "parquet shards need pyarrow", where=str(path), hint="pip install 'gossamer[person]'"
            ) from e
        self.path = path
        self._errors = (pyarrow.ArrowException, OSError)
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
        except self._errors as e:
            raise self._broken(e) from e
        self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        self._starts = [0]
        for group in range(self._file.num_row_groups):
            self._starts.append(self._starts[-1] + self._file.metadata.row_group(group).num_rows)
        self._group = -1
        self._images: list[Any] = []

    def __enter__(self) -> ParquetFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def rows_in_all(self) -> int:
        """Rows of the file."""
        return self._starts[-1]

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every row with its number, counted from 0, a few in memory at a time."""
        number = 0
        try:
            for batch in self._file.iter_batches(batch_size=_BATCH, columns=list(columns)):
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
        except self._errors as e:
            raise self._broken(e, number) from e

    def image(self, row: int) -> bytes | BadPhotoError:
        """Content of the image of one row; the row group it lies in stays in memory for its neighbours."""
        if not 0 <= row < self._starts[-1]:
            raise InputError(f"no row {row} of {self._starts[-1]}", where=str(self.path))
        if not 0 <= self._group < len(self._starts) - 1 or not (
            self._starts[self._group] <= row < self._starts[self._group + 1]
        ):
            self._group = next(g for g in range(len(self._starts) - 1) if row < self._starts[g + 1])
            try:
                self._images = self._file.read_row_group(self._group, columns=["image"])["image"].to_pylist()
            except self._errors as e:
                self._group = -1
                raise self._broken(e, row) from e
        return content(self._images[row - self._starts[self._group]])

    def _broken(self, e: BaseException, row: int | None = None) -> InputError:
        place = str(self.path) if row is None else f"{self.path}#{row}"
        reason = str(e).splitlines()[0][:120] if str(e) else type(e).__name__
        return InputError(f"not a readable parquet file: {reason}", where=place, hint="copy the shard again")


def content(cell: Any) -> bytes | BadPhotoError:
    """Bytes of an ``image`` cell."""
    if not isinstance(cell, dict) or cell.get("bytes") is None:
        return BadPhotoError("without bytes")
    return bytes(cell["bytes"])
