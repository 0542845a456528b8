"""A device without an agent: the static profiler and bundles pushed through a shell and run there, nothing to install.

Two slots and a record in a folder. A new bundle goes into the slot that is not active, is compared by SHA-256 and tried
with one run; then one rename of the record makes it the active one. Signatures are checked here, against this machine's
trust store, and by the profiler at every run against the key that signed at the flash. The folder is a workbench that
everyone with that login may write to: it measures, it does not protect. Nothing locks it: one user at a time.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gossamer._errors import (
    IncompatibleError,
    InputError,
    OlderBundleError,
    RolledBackError,
    SlotError,
    UnreachableError,
    UnsupportedError,
)
from gossamer.device import _bench_record as records
from gossamer.device._shell import Shell, said
from gossamer.device.book import Place
from gossamer.device.target import Flashed, Output, Progress

_REFUSED = (1, 2)
"""Exit codes of the program's own refusals, which begin with ``error:``."""


class Workbench(ABC):
    """What all devices without an agent do; subclasses say what the device is.

    Args:
        place: the device; ``profiler`` names a program to push instead of the one found for its machine.
        shell: closed by ``close``.
    """

    def __init__(self, place: Place, shell: Shell) -> None:
        self._place = place
        self._where = place.shown
        self._shell = shell

    @property
    @abstractmethod
    def folder(self) -> str:
        """Where the slots are on the device."""

    @abstractmethod
    def description(self) -> dict[str, str]:
        """``host``, ``machine``, ``system`` as the device names them."""

    @abstractmethod
    def profiler(self) -> bytes:
        """The static profiler that runs there.

        Raises:
            UnsupportedError: there is none for that machine.
            InputError: it is not built.
        """

    def info(self, *, manifest: bool = False) -> dict[str, Any]:
        """What the device is and what its slots hold."""
        description = self.description()
        record = self._record()
        active = record.slots.get(record.active)
        found: dict[str, Any] = {
            "address": self._where,
            **description,
            "root": self.folder,
            "rollback_counter": active["rollback_counter"] if active else 0,
            "disk_free_bytes": self._free_bytes(),
            "problem": "",
            "slots": [record.shown(slot) for slot in records.SLOTS],
        }
        if manifest and active:
            found["manifest_json"] = active["manifest_json"]
        return found

    def flash(
        self, path: Path, *, stage_only: bool = False, inputs: Sequence[bytes] = (), progress: Progress | None = None
    ) -> Flashed:
        """Push a bundle, try it, and make it the active one; what was active before stays, whatever fails.

        With ``stage_only`` it is pushed and compared alone; ``activate`` goes on.

        Raises:
            SignatureError, BundleError: refused here, nothing was sent.
            OlderBundleError: its rollback counter is below that of the active one.
            IncompatibleError: the profiler cannot run it there.
            RolledBackError: the trial crashed.
            UnreachableError: the device went away, or the copy there differs.
            SlotError: the device's disk refuses it.
        """
        from gossamer.bundle import inspect, sign, verify
        from gossamer.bundle.manifest import from_dict

        started = time.monotonic()
        data = sign.read(path)
        signer = verify.verify(data, where=str(path))
        assert signer.public is not None  # verify refuses unsigned ones
        described = inspect.inspect(data, str(path)).manifest
        facts = from_dict(described)
        sha = hashlib.sha256(data).hexdigest()
        record = self._record()
        active = record.slots.get(record.active)
        if active and active["sha256"] == sha:
            return Flashed("unchanged", record.active, time.monotonic() - started)
        if active and facts.rollback_counter < active["rollback_counter"]:
            raise OlderBundleError(
                f"the bundle's rollback counter is {facts.rollback_counter}, the device's {active['rollback_counter']}",
                where=self._where,
            )
        slot = record.idle
        self._prepare()
        if slot in record.slots:
            record.drop(slot)
            self._write(record)  # no record may name what is overwritten now
        self._shell.push(path, self._file(slot))
        self._same(self._file(slot), sha)
        if progress is not None:
            progress(len(data), len(data))
        entry = {
            "sha256": sha, "size_bytes": len(data), "name": facts.name, "version": facts.version,
            "rollback_counter": facts.rollback_counter, "key": signer.public.hex(),
            "manifest_json": json.dumps(described),
        }  # fmt: skip
        trial_us = 0.0
        if not stage_only:
            trial_us, _ = self._run_once(slot, entry, inputs, trial=True)
        record.slots[slot] = entry
        if stage_only:
            record.staged = slot
        else:
            record.active = slot
        self._write(record)
        status = "staged" if stage_only else "committed"
        return Flashed(status, slot, time.monotonic() - started, trial_us, 0, len(data))

    def activate(self) -> Flashed:
        """Try the staged bundle and make it the active one; one that fails is forgotten.

        Raises:
            SlotError: nothing is staged.
            IncompatibleError, RolledBackError: as ``flash``.
        """
        started = time.monotonic()
        record = self._record()
        slot = record.staged
        if not slot:
            raise SlotError("no bundle is staged", where=self._where, hint="flash one with --stage")
        entry = record.slots[slot]
        try:
            trial_us, _ = self._run_once(slot, entry, (), trial=True)
        except (IncompatibleError, RolledBackError):
            record.drop(slot)
            self._write(record)
            raise
        record.active, record.staged = slot, ""
        self._write(record)
        return Flashed("committed", slot, time.monotonic() - started, trial_us)

    def rollback(self) -> Flashed:
        """Make the bundle before the active one again.

        Raises:
            SlotError: there is none.
        """
        started = time.monotonic()
        record = self._record()
        other = record.idle
        if not record.active or other not in record.slots or other == record.staged:
            raise SlotError("there is no bundle to go back to", where=self._where)
        record.active = other
        self._write(record)
        return Flashed("committed", other, time.monotonic() - started)

    def run(self, inputs: Sequence[bytes]) -> tuple[float, list[Output]]:
        """One inference; without inputs on zeros."""
        import math

        import numpy as np

        from gossamer.bundle.manifest import from_dict

        slot, entry = self._active()
        manifest = from_dict(json.loads(entry["manifest_json"]))
        if not inputs:
            inputs = [bytes(math.prod(p.shape) * np.dtype(p.dtype).itemsize) for p in manifest.inputs]
        us, raw = self._run_once(slot, entry, inputs, outputs=len(manifest.outputs))
        outputs = [
            Output(port.name, port.dtype, tuple(port.shape), data)
            for port, data in zip(manifest.outputs, raw, strict=True)
        ]
        return us, outputs

    def profile(
        self, *, runs: int, warmup: int, inputs: Sequence[bytes] = (), trace: bool = False
    ) -> tuple[str, str, str]:
        """See ``Device``: the figures of an agent's profile, measured by the static profiler."""
        from gossamer.device import _static_profile

        slot, entry = self._active()
        self._prepare()  # the profiler there may be older than what reads its answer
        found, _ = self._execute(slot, entry, inputs, runs=runs, warmup=warmup, each=True)
        try:
            shown = _static_profile.figures(found, entry["name"])
            text = f"{shown.table()}\n\n{shown.summary()}"
            drawn = _static_profile.trace(found, entry["name"]) if trace else ""
        except (LookupError, TypeError, ValueError) as e:
            raise SlotError(f"the profiler's answer is no profile: {e}", where=self._where) from e
        return json.dumps(shown.to_json()), text, drawn

    def logs(self, *, limit: int = 0, follow: bool = False) -> Iterator[dict[str, Any]]:
        """Refused: nothing runs there that would keep any."""
        raise UnsupportedError(
            "there are no logs: the static profiler runs for the length of a command, which shows all that it says",
            where=self._where,
            hint="a device with gossamer-agent keeps them",
        )

    def close(self) -> None:
        """Let go of the device."""
        self._shell.close()

    def _run_once(
        self, slot: str, entry: dict[str, Any], inputs: Sequence[bytes], *, outputs: int = 0, trial: bool = False
    ) -> tuple[float, list[bytes]]:
        """Microseconds and raw outputs of one inference."""
        found, raw = self._execute(slot, entry, inputs, runs=1, warmup=0, outputs=outputs, trial=trial)
        try:
            return float(found["inference"]["median_us"]), raw
        except (KeyError, TypeError, ValueError) as e:
            raise SlotError(f"the profiler's answer tells no time: {e}", where=self._where) from e

    def _execute(
        self, slot: str, entry: dict[str, Any], inputs: Sequence[bytes], *, runs: int, warmup: int, outputs: int = 0,
        each: bool = False, trial: bool = False,
    ) -> tuple[dict[str, Any], list[bytes]]:  # fmt: skip
        """Run the profiler on a slot: its JSON and the raw outputs."""
        words = [self._program, self._file(slot), "--json", "--runs", str(runs), "--warmup", str(warmup)]
        words += ["--verify", entry["key"], *["--each"] * each]
        for i, data in enumerate(inputs):
            there = f"{self.folder}/input{i}.raw"
            self._push(data, there)
            words += ["--input", there]
        for i in range(outputs):
            words += ["--output", f"{self.folder}/output{i}.raw"]
        done = self._shell.call(*words)
        if done.returncode != 0:
            self._failed(done.returncode, said(done), trial)
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except ValueError as e:
            raise SlotError(f"the profiler's answer is no JSON: {e}", where=self._where) from e
        raw = []
        with tempfile.TemporaryDirectory() as folder:
            for i in range(outputs):
                local = Path(folder, f"output{i}.raw")
                self._shell.pull(f"{self.folder}/output{i}.raw", local)
                raw.append(local.read_bytes())
        return found, raw

    def _failed(self, code: int, text: str, trial: bool) -> None:
        if code in _REFUSED and text.startswith("error:"):
            raise IncompatibleError(f"the device cannot run the bundle: {text}", where=self._where)
        if code < 128:  # the shell's: not executable, not found, or of another machine
            raise IncompatibleError(
                f"the device cannot start the profiler: {text}",
                where=f"{self._where}:{self._program}",
                hint="is the file system mounted noexec, or --profiler of another machine?",
            )
        kind = RolledBackError if trial else SlotError
        raise kind(f"the profiler ended with code {code}: {text}", where=self._where)

    def _prepare(self) -> None:
        """The folder, and the profiler for the device's machine in it."""
        program = _read(self._place.profiler) if self._place.profiler else self.profiler()
        made = self._shell.call("mkdir", "-p", self.folder)
        if made.returncode != 0:
            raise SlotError(f"cannot make the folder: {said(made)}", where=f"{self._where}:{self.folder}")
        sha = hashlib.sha256(program).hexdigest()
        if self._digest(self._program) != sha:
            new = f"{self._program}.new"  # renamed into place: the old one may be running
            self._push(program, new)
            self._same(new, sha)
            done = self._shell.script(
                f"chmod 755 {shlex.quote(new)} && mv {shlex.quote(new)} {shlex.quote(self._program)}"
            )
            if done.returncode != 0:
                raise SlotError(f"cannot place the profiler: {said(done)}", where=f"{self._where}:{self._program}")

    def _push(self, data: bytes, remote: str) -> None:
        with tempfile.NamedTemporaryFile() as local:
            local.write(data)
            local.flush()
            self._shell.push(Path(local.name), remote)

    def _same(self, file: str, sha256: str) -> None:
        if self._digest(file) != sha256:
            raise UnreachableError("the copy on the device differs", where=f"{self._where}:{file}", hint="try again")

    def _digest(self, file: str) -> str:
        """SHA-256 of a file there; empty without one."""
        done = self._shell.script(f"sha256sum < {shlex.quote(file)}")  # a name with a backslash would change its output
        if done.returncode == 127:
            raise UnsupportedError("the device has no sha256sum to compare copies with", where=self._where)
        return (done.stdout.split() or [""])[0] if done.returncode == 0 else ""

    def _active(self) -> tuple[str, dict[str, Any]]:
        record = self._record()
        if not record.active:
            raise SlotError(
                "no bundle runs on the device", where=self._where, hint="'gossamer device flash' puts one there"
            )
        return record.active, record.slots[record.active]

    def _record(self) -> records.Record:
        there = shlex.quote(self._record_file)
        found = self._shell.script(f"if [ -e {there} ]; then cat {there}; fi")
        if found.returncode != 0:
            raise SlotError(f"cannot read the record: {said(found)}", where=f"{self._where}:{self._record_file}")
        return records.decode(found.stdout, f"{self._where}:{self._record_file}")

    def _write(self, record: records.Record) -> None:
        new = f"{self._record_file}.new"
        self._push(records.encode(record).encode(), new)
        done = self._shell.script(f"sync; mv {shlex.quote(new)} {shlex.quote(self._record_file)} && sync")
        if done.returncode != 0:
            raise SlotError(f"cannot write the record: {said(done)}", where=f"{self._where}:{self._record_file}")

    def _free_bytes(self) -> int:
        """Of the folder's file system, or of the login's before there is one; 0 where the device does not tell."""
        folder = shlex.quote(self.folder)
        done = self._shell.script(f"stat -f -c '%a %S' {folder} 2>/dev/null || stat -f -c '%a %S' .")
        words = done.stdout.split()
        return int(words[0]) * int(words[1]) if len(words) == 2 and all(w.isdigit() for w in words) else 0

    @property
    def _program(self) -> str:
        return f"{self.folder}/gossamer-profile"

    @property
    def _record_file(self) -> str:
        return f"{self.folder}/record.json"

    def _file(self, slot: str) -> str:
        return f"{self.folder}/{slot}.goss"


def _read(profiler: str) -> bytes:
    try:
        return Path(profiler).read_bytes()
    except OSError as e:
        raise InputError(f"the profiler cannot be read: {e.strerror}", where=profiler) from e
