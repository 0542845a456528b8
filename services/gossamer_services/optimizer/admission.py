"""What a job has to pass before it is accepted: its blobs are there, and are what they are said to be, and harmless."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gossamer import _errors
from gossamer._errors import GossamerError, ModelError
from gossamer_services.common.errors import Code, ServiceError
from gossamer_services.optimizer.blobs import Blobs
from gossamer_services.optimizer.jobs import Blob, JobSpec, check_digest
from gossamer_services.optimizer.store import JobStore
from gossamer_services.optimizer.subprocesses import kept_environment

VET_S = 60.0
VET_BYTES = 4 << 30
MAX_BYTES = {"model": 1 << 31, "calibration": 4 << 30, "training": 16 << 30}
"""Largest blob, by role."""


class Admission:
    """Looks into what jobs bring along; a blob that passed is not looked into again.

    Args:
        store: remembers the blobs that passed.
        blobs: where they are.
        folder: for copies while they are looked into.
    """

    def __init__(self, store: JobStore, blobs: Blobs, folder: Path) -> None:
        self._store, self._blobs, self._folder = store, blobs, folder

    def check(self, spec: JobSpec) -> None:
        """Raise unless the job can be accepted. Nothing is stored but that harmless blobs are harmless.

        Raises:
            InputError: a digest is malformed, or data are harmful or damaged.
            ServiceError: NOT_FOUND (BLOB_NOT_FOUND), RESOURCE_EXHAUSTED (BLOB_TOO_LARGE).
            ModelError, UnsupportedError: the model is harmful, damaged, or of another format.
        """
        for role, blob in spec.blobs().items():
            check_digest(blob.digest, _FIELDS[role])
            size = self._blobs.size(blob.digest) if self._blobs.use(blob.digest) else None
            if size is None:
                raise ServiceError(
                    Code.NOT_FOUND,
                    "BLOB_NOT_FOUND",
                    f"the {role} is not in the registry",
                    where=_FIELDS[role],
                    hint="upload it first",
                    metadata={"sha256": blob.digest},
                )
            if size > MAX_BYTES[role]:
                raise ServiceError(
                    Code.RESOURCE_EXHAUSTED,
                    "BLOB_TOO_LARGE",
                    f"the {role} has {size} bytes; at most {MAX_BYTES[role]} are taken",
                    where=_FIELDS[role],
                    metadata={"sha256": blob.digest},
                )
        for role, blob in spec.blobs().items():
            if self._store.vetted(blob.digest, role) != blob.kind:
                self._vet(role, blob)
                self._store.remember_vetted(blob.digest, role, blob.kind)

    def _vet(self, role: str, blob: Blob) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="vet-", dir=self._folder) as folder:
            path = Path(folder) / f"{role}{blob.kind}"
            self._blobs.fetch(blob.digest, path)
            command = [sys.executable, "-P", "-m", "gossamer_services.optimizer.vet", role, str(path.resolve())]
            try:
                ran = subprocess.run(
                    [*command, str(VET_BYTES)],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=VET_S,
                    cwd=folder,
                    env=kept_environment(),
                )
            except subprocess.TimeoutExpired:
                raise ModelError(
                    f"the {role} takes longer than {VET_S:g} s to look into", where=_FIELDS[role], hint="is it damaged?"
                ) from None
        if ran.returncode:
            raise ModelError(
                f"the {role} cannot be looked into: it is damaged, or far larger inside than outside",
                where=_FIELDS[role],
                hint="export it again",
            )
        found = json.loads(ran.stdout)
        if found:
            raise _error(found, _FIELDS[role])


_FIELDS = {"model": "spec.model_sha256", "calibration": "spec.calibration", "training": "spec.training"}


def _error(found: dict[str, Any], field: str) -> GossamerError:
    """The error that the vetting process raised, about a field of the request."""
    kind = getattr(_errors, found["class"], ModelError)
    where = found["where"]
    message = found["message"] if where in ("", "model", "calibration", "training") else f"{found['message']} ({where})"
    error: GossamerError = kind(message, where=field, hint=found["hint"] or None)
    return error
