"""An Android phone on a cable: the static profiler and bundles pushed by ``adb`` and run there, nothing to install.

Two slots and a record in ``/data/local/tmp/gossamer``. A new bundle goes into the slot that is not active, is compared
by SHA-256 and tried with one run; then one rename of the record makes it the active one. Signatures are checked here,
against this machine's trust store, and by the profiler at every run against the key that signed at the flash. That
folder is a workbench that every ``adb shell`` may write to: it measures, it does not protect.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
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
from gossamer.device._adb_shell import AdbShell
from gossamer.device.book import Place
from gossamer.device.target import Flashed, Output, Progress

FOLDER = "/data/local/tmp/gossamer"
_PROGRAM = f"{FOLDER}/gossamer-profile"
_RECORD = f"{FOLDER}/record.json"
_SLOTS = ("a", "b")
_ENTRY = {
    "sha256": str, "size_bytes": int, "name": str, "version": str, "rollback_counter": int, "key": str,
    "manifest_json": str,
}  # fmt: skip
_BUILDS = {"arm64-v8a": "aarch64-profiler", "armeabi-v7a": "armv7-profiler", "x86_64": "x86_64-profiler"}


class Adb:
    """The phone at ``place.adb``, its serial number.

    Raises:
        UnreachableError: there is no ``adb`` on this machine.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._where = place.shown
        self._shell = AdbShell(place.adb)

    def info(self, *, manifest: bool = False) -> dict[str, Any]:
        """What the phone is and what its slots hold."""
        record = self._record()
        active = record["active"]
        found: dict[str, Any] = {
            "address": self._where,
            "host": self._property("ro.product.model"),
            "machine": self._property("ro.product.cpu.abi"),
            "system": f"Android {self._property('ro.build.version.release')}".strip(),
            "root": FOLDER,
            "rollback_counter": record["slots"][active]["rollback_counter"] if active else 0,
            "disk_free_bytes": self._free_bytes(),
            "problem": "",
            "slots": [self._state(record, slot) for slot in _SLOTS],
        }
        if manifest and active:
            found["manifest_json"] = record["slots"][active]["manifest_json"]
        return found

    def flash(
        self, path: Path, *, stage_only: bool = False, inputs: Sequence[bytes] = (), progress: Progress | None = None
    ) -> Flashed:
        """Push a bundle, try it, and make it the active one; what was active before stays, whatever fails.

        Raises:
            SignatureError, BundleError: refused here, nothing was sent.
            OlderBundleError: its rollback counter is below that of the active one.
            IncompatibleError: the profiler cannot run it there.
            RolledBackError: the trial crashed.
            UnreachableError: the phone went away, or the copy there differs.
        """
        from gossamer.bundle import inspect, sign, verify
        from gossamer.bundle.manifest import from_dict

        if stage_only:
            raise UnsupportedError("--stage needs an agent on the device", where=self._where)
        started = time.monotonic()
        data = sign.read(path)
        signer = verify.verify(data, where=str(path))
        assert signer.public is not None  # verify refuses unsigned ones
        described = inspect.inspect(data, str(path)).manifest
        facts = from_dict(described)
        sha = hashlib.sha256(data).hexdigest()
        record = self._record()
        active = record["active"]
        if active and record["slots"][active]["sha256"] == sha:
            return Flashed("unchanged", active, time.monotonic() - started)
        if active and facts.rollback_counter < record["slots"][active]["rollback_counter"]:
            raise OlderBundleError(
                f"the bundle's rollback counter is {facts.rollback_counter}, "
                f"the device's {record['slots'][active]['rollback_counter']}",
                where=self._where,
            )
        slot = next(s for s in _SLOTS if s != active)
        self._prepare()
        if record["slots"].pop(slot, None) is not None:
            self._write(record)  # no record may name what is overwritten now
        self._shell.push(path, _file(slot))
        there = self._shell.call("sha256sum", _file(slot)).stdout.split()
        if not there or there[0] != sha:
            raise UnreachableError(
                "the copy on the device differs from the bundle", where=self._where, hint="try again"
            )
        if progress is not None:
            progress(len(data), len(data))
        entry = {
            "sha256": sha, "size_bytes": len(data), "name": facts.name, "version": facts.version,
            "rollback_counter": facts.rollback_counter, "key": signer.public.hex(),
            "manifest_json": json.dumps(described),
        }  # fmt: skip
        trial, _ = self._execute(slot, entry, inputs, runs=1, warmup=0, outputs=0, trial=True)
        record["slots"][slot], record["active"] = entry, slot
        self._write(record)
        return Flashed(
            "committed", slot, time.monotonic() - started, float(trial["inference"]["median_us"]), 0, len(data)
        )

    def activate(self) -> Flashed:
        """Refused: nothing is staged on a phone."""
        raise UnsupportedError("nothing can be staged over adb", where=self._where, hint="flash without --stage")

    def rollback(self) -> Flashed:
        """Make the bundle before the active one again.

        Raises:
            SlotError: there is none.
        """
        started = time.monotonic()
        record = self._record()
        other = next((s for s in record["slots"] if s != record["active"]), None)
        if other is None:
            raise SlotError("there is no bundle to go back to", where=self._where)
        record["active"] = other
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
        found, raw = self._execute(slot, entry, inputs, runs=1, warmup=0, outputs=len(manifest.outputs))
        outputs = [
            Output(port.name, port.dtype, tuple(port.shape), data)
            for port, data in zip(manifest.outputs, raw, strict=True)
        ]
        return float(found["inference"]["median_us"]), outputs

    def profile(
        self, *, runs: int, warmup: int, inputs: Sequence[bytes] = (), trace: bool = False
    ) -> tuple[str, str, str]:
        """The static profiler's JSON, a table, and no trace: it keeps statistics, not single runs."""
        if trace:
            raise UnsupportedError(
                "the static profiler keeps no single runs to draw", where=self._where, hint="profile without a trace"
            )
        from gossamer._tables import columns

        slot, entry = self._active()
        found, _ = self._execute(slot, entry, inputs, runs=runs, warmup=warmup, outputs=0)
        found["model"] = entry["name"]  # the program knows its slot's file alone
        whole = found["inference"]
        head = ["#", "op", "median us", "min us", "p90 us", "kernel", "source"]
        rows = [
            [str(op["index"]), op["kind"], *(f"{op[k]:.1f}" for k in ("median_us", "min_us", "p90_us")),
             op["kernel"], op["source"]]
            for op in found["operators"]
        ]  # fmt: skip
        text = (
            f"{columns(head, rows, left={1, 5, 6}, widest={6: 60})}\n\n"
            f"Timings (microseconds): count={found['runs']} min={whole['min_us']:.1f} median={whole['median_us']:.1f} "
            f"p90={whole['p90_us']:.1f}\nMachine: isa={found['isa']} threads={found['threads']}"
        )
        return json.dumps(found), text, ""

    def logs(self, *, limit: int = 0, follow: bool = False) -> Iterator[dict[str, Any]]:
        """Refused: no agent runs there."""
        raise UnsupportedError("no agent runs there that could keep logs", where=self._where)

    def close(self) -> None:
        """Nothing is held."""

    def _execute(
        self, slot: str, entry: dict[str, Any], inputs: Sequence[bytes], *, runs: int, warmup: int, outputs: int,
        trial: bool = False,
    ) -> tuple[dict[str, Any], list[bytes]]:  # fmt: skip
        """Run the profiler on a slot: its JSON and the raw outputs."""
        words = [_PROGRAM, _file(slot), "--json", "--runs", str(runs), "--warmup", str(warmup)]
        words += ["--verify", entry["key"]]
        with tempfile.TemporaryDirectory() as folder:
            for i, data in enumerate(inputs):
                local = Path(folder, f"input{i}.raw")
                local.write_bytes(data)
                self._shell.push(local, f"{FOLDER}/input{i}.raw")
                words += ["--input", f"{FOLDER}/input{i}.raw"]
            for i in range(outputs):
                words += ["--output", f"{FOLDER}/output{i}.raw"]
            done = self._shell.call(*words)
            if done.returncode != 0:
                said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
                if done.returncode in (1, 2):  # the program's own refusals
                    raise IncompatibleError(f"the device cannot run the bundle: {said}", where=self._where)
                kind = RolledBackError if trial else SlotError
                raise kind(f"the profiler ended with code {done.returncode}: {said}", where=self._where)
            try:
                found: dict[str, Any] = json.loads(done.stdout)
            except ValueError as e:
                raise SlotError(f"the profiler's answer is no JSON: {e}", where=self._where) from e
            raw = []
            for i in range(outputs):
                local = Path(folder, f"output{i}.raw")
                self._shell.pull(f"{FOLDER}/output{i}.raw", local)
                raw.append(local.read_bytes())
        return found, raw

    def _prepare(self) -> None:
        """The folder, and the profiler for the phone's ABI in it."""
        program = self._program()
        made = self._shell.call("mkdir", "-p", FOLDER)
        if made.returncode != 0:
            raise SlotError(f"cannot make the folder: {made.stderr.strip()}", where=f"{self._where}:{FOLDER}")
        local = hashlib.sha256(program.read_bytes()).hexdigest()
        if self._shell.call("sha256sum", _PROGRAM).stdout.split()[:1] != [local]:
            self._shell.push(program, _PROGRAM)
            self._shell.call("chmod", "755", _PROGRAM)

    def _program(self) -> Path:
        if self._place.profiler:
            path = Path(self._place.profiler)
        else:
            abi = self._property("ro.product.cpu.abi")
            if abi not in _BUILDS:
                raise UnsupportedError(f"there is no static profiler for {abi or 'an unknown ABI'}", where=self._where)
            # of a source tree; the wheels hold none
            path = Path(__file__).parents[3] / "build" / "native" / _BUILDS[abi] / "gossamer-profile"
            if not path.is_file():
                raise InputError(
                    "the static profiler is not built", where=str(path),
                    hint=f"python -m tools.build_native --target {_BUILDS[abi]}, or --profiler FILE when it is added",
                )  # fmt: skip
        if not path.is_file():
            raise InputError("there is no such profiler", where=str(path))
        return path

    def _active(self) -> tuple[str, dict[str, Any]]:
        record = self._record()
        if not record["active"]:
            raise SlotError(
                "no bundle runs on the device", where=self._where, hint="'gossamer device flash' puts one there"
            )
        return record["active"], record["slots"][record["active"]]

    def _record(self) -> dict[str, Any]:
        found = self._shell.script(f"if [ -e {_RECORD} ]; then cat {_RECORD}; fi")
        if not found.stdout.strip():
            return {"active": "", "slots": {}}
        try:
            record: dict[str, Any] = json.loads(found.stdout)
            if record["active"] not in record["slots"] or not set(record["slots"]) <= set(_SLOTS):
                raise ValueError("it names a slot that is not there")
            for entry in record["slots"].values():
                if any(not isinstance(entry[k], kind) for k, kind in _ENTRY.items()):
                    raise ValueError("a slot's fields are of the wrong type")
        except (ValueError, KeyError, TypeError) as e:
            raise SlotError(
                f"the record is damaged: {e}", where=f"{self._where}:{_RECORD}", hint="remove that folder, flash anew"
            ) from e
        return record

    def _write(self, record: dict[str, Any]) -> None:
        if not record["active"]:
            return  # nothing was there before either
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, "record.json")
            local.write_text(json.dumps(record))
            self._shell.push(local, f"{_RECORD}.new")
        done = self._shell.script(f"sync; mv {_RECORD}.new {_RECORD} && sync")
        if done.returncode != 0:
            raise SlotError(f"cannot write the record: {done.stderr.strip()}", where=f"{self._where}:{_RECORD}")

    def _state(self, record: dict[str, Any], slot: str) -> dict[str, Any]:
        entry = record["slots"].get(slot)
        if entry is None:
            return {"slot": slot, "status": "empty"}
        shown = {k: v for k, v in entry.items() if k not in ("key", "manifest_json")}
        return {"slot": slot, "status": "active" if slot == record["active"] else "previous", **shown}

    def _property(self, name: str) -> str:
        return self._shell.call("getprop", name).stdout.strip()

    def _free_bytes(self) -> int:
        words = self._shell.call("stat", "-f", "-c", "%a %S", "/data/local/tmp").stdout.split()
        return int(words[0]) * int(words[1]) if len(words) == 2 and all(w.isdigit() for w in words) else 0


def _file(slot: str) -> str:
    return f"{FOLDER}/{slot}.goss"
