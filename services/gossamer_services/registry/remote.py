"""Finished blobs in an S3 bucket, through fsspec; uploads still gather on the local disk.

An object appears in S3 as a whole, when its PUT or multipart upload completes: what FolderShelf gets from a rename. S3
cannot change an object's time, so the times of last use are those of empty local files; where they are lost, an
object's own time counts, and garbage collection may come earlier than the grace period promises.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from gossamer_services.common.errors import SettingsError
from gossamer_services.registry.files import FileInfo, Files

USED = "used"
"""Folder of the times of last use."""

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_READ_AHEAD = 4 << 20


class S3Shelf:
    """Blobs as objects ``PREFIX/DIGEST`` of a bucket; thread-safe.

    Args:
        url: ``s3://bucket`` or ``s3://bucket/prefix``; the bucket exists.
        options: of s3fs, such as ``endpoint_url``, ``key`` and ``secret``; by default what the AWS environment says.
        files: the local disk, below ``root``.

    Raises:
        SettingsError: the URL is not one of S3, s3fs is not installed, or the bucket cannot be reached.
    """

    def __init__(self, url: str, options: Mapping[str, Any], files: Files, root: Path) -> None:
        if not url.startswith("s3://") or not url.removeprefix("s3://").strip("/"):
            raise SettingsError(
                "blobs are kept in a folder or on S3", where=f"registry.storage={url}", hint="give s3://bucket/prefix"
            )
        try:
            import fsspec
            import s3fs  # noqa: F401  # named here for the error; fsspec loads it by the URL's scheme
        except ImportError as e:
            raise SettingsError(
                f"S3 needs {e.name}", where="registry.storage", hint="pip install 'gossamer-services[s3]'"
            ) from e
        # s3fs takes keys and endpoints apart by itself; listings are never cached, for other servers write too.
        self._fs = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True, **options)
        self._base = url.removeprefix("s3://").strip("/")
        self._files, self._root = files, root
        files.make_folder(USED)
        try:
            with _faults():
                self._fs.ls(self._base.partition("/")[0], detail=False)
        except OSError as e:
            raise SettingsError(
                f"the bucket cannot be reached: {e.strerror or e}", where=f"registry.storage={url}"
            ) from e

    def info(self, digest: str) -> FileInfo | None:
        try:
            with _faults():
                found = self._fs.info(self._path(digest))
        except FileNotFoundError:
            return None
        used = self._files.info(f"{USED}/{digest}")
        written = found["LastModified"].timestamp()
        return FileInfo(found["size"], max(written, used.modified_s if used is not None else written))

    def open(self, digest: str) -> BinaryIO:
        with _faults():
            stream = self._fs.open(self._path(digest), "rb", block_size=_READ_AHEAD, cache_type="readahead")
        return cast(BinaryIO, stream)

    def take(self, part: str, digest: str) -> None:
        local = self._root / part
        with _faults():
            self._fs.put_file(str(local), self._path(digest))
            stored = self._fs.info(self._path(digest))["size"]
        if stored != local.stat().st_size:
            raise OSError(errno.EIO, f"S3 stored {stored} bytes")
        self.touch(digest)

    def touch(self, digest: str) -> None:
        self._files.create(f"{USED}/{digest}")
        self._files.touch(f"{USED}/{digest}")

    def list(self) -> list[str]:
        try:
            with _faults():
                paths = self._fs.ls(self._base, detail=False)
        except FileNotFoundError:
            return []
        return sorted(n for n in (p.rpartition("/")[2] for p in paths) if _DIGEST.fullmatch(n))

    def remove(self, digest: str) -> None:
        with _faults(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(digest))
        self._files.remove(f"{USED}/{digest}")

    def _path(self, digest: str) -> str:
        return f"{self._base}/{digest}"


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """botocore's own exceptions (no network, no credentials, ...) as OSError, which is what a shelf raises."""
    try:
        yield
    except OSError:
        raise
    except Exception as e:
        raise OSError(errno.EIO, f"{type(e).__name__}: {e}") from e
