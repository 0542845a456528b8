"""Download of a bundle from the registry into the uploads: goes on from what is there, and keeps what came."""

from __future__ import annotations

from collections.abc import Callable

from gossamer_runtime.agent._link import Link
from gossamer_runtime.agent._proto import registry_pb2 as pb
from gossamer_runtime.agent._reasons import ServerError, ServerUnreachableError
from gossamer_runtime.agent._upload import Upload, Uploads
from gossamer_runtime.agent._watch import Watch

_PIECES = (0, 1 << 18, 1 << 16, 1 << 14, 1 << 12)
"""Bytes asked for at a time, 0: all. The registry's messages are large, and a connection that lives briefly carries
none of them whole: each attempt without a message asks for less, and pieces that come well for more."""
_GOOD = 16
"""Pieces in a row after which more is asked for at a time."""


class Download:
    """The download of one bundle, over as many connections as it takes.

    Args:
        uploads: where it goes.
        sha256, size: of the bundle.
    """

    def __init__(self, uploads: Uploads, sha256: str, size: int) -> None:
        self.sha256, self.size = sha256, size
        self._uploads = uploads
        self._piece = 0
        self._good = 0

    def run(self, link: Link, step: Callable[[int], None]) -> Upload:
        """Get what is missing; the finished upload.

        Args:
            link: to the registry.
            step: called with the bytes that are there, first and after each message; what it raises ends the download.

        Raises:
            ServerUnreachableError: the connection broke or went silent; what came is kept.
            ServerError: the registry refuses, or sends something else.
            InputError: ``sha256`` is none.
            SlotError: too large, or the disk is full or failed; what came is kept.
        """
        there = self._uploads.offset(self.sha256)
        upload = self._uploads.receive(self.sha256, self.size, there if there <= self.size else 0)
        step(upload.at)
        began = upload.at
        try:
            while upload.at < upload.total:
                self._take_piece(link, upload, step)
        except ServerUnreachableError:
            self._good = 0
            if upload.at == began:
                self._piece = min(self._piece + 1, len(_PIECES) - 1)
            raise
        return upload

    def _take_piece(self, link: Link, upload: Upload, step: Callable[[int], None]) -> None:
        began = upload.at
        request = pb.ReadBlobRequest(sha256=self.sha256, offset=began, limit=_PIECES[self._piece])
        stream = link.stream(link.registry.ReadBlob, request)
        with Watch("download", stream.cancel) as watch:
            try:
                for message in stream:
                    if message.offset != upload.at or message.total != upload.total or not message.data:
                        raise _odd(f"bytes at {message.offset} of {message.total}", upload)
                    watch.heard(len(message.data))
                    self._uploads.write(upload, message.data)
                    step(upload.at)
            finally:
                stream.cancel()
        if upload.at == began:
            raise _odd("nothing", upload)
        self._good += 1
        if self._good >= _GOOD:
            self._piece, self._good = max(self._piece - 1, 0), 0


def _odd(what: str, upload: Upload) -> ServerError:
    return ServerError(
        f"the registry sent {what} instead of those at {upload.at} of {upload.total}", reason="BAD_ANSWER"
    )
