"""Two slots and their life: receive, verify, stage, try, commit, fall back; and getting up again after a power cut.

The order of writes is what keeps a bundle whole. New bytes go to a file of their own (``part-<sha256>``), are synced,
hashed as the disk gives them back, verified and opened, and only then renamed to the slot that does not run. The
pointer record then says ``trial``; the trial run either commits it or takes it back. Whatever the instant of a power
cut, the record names a slot whose bytes were durable before the record was.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from gossamer_runtime._errors import (
    BackendError,
    GossamerError,
    IncompatibleError,
    InputError,
    LibraryError,
    OlderBundleError,
    OutOfMemoryError,
    RolledBackError,
    SlotError,
    UnsupportedError,
)
from gossamer_runtime.agent import _pointer, _record
from gossamer_runtime.agent._disk import Disk, FolderDisk
from gossamer_runtime.agent._pointer import MOST_PROBLEM, Entry, Failure, Pointer, other
from gossamer_runtime.agent._reasons import ROLLED_BACK, DigestError, RunError, StreamError, reason_of
from gossamer_runtime.agent._trial import Facts, Trial
from gossamer_runtime.agent._upload import MAX_BUNDLE_BYTES, Upload, Uploads

MOST_ATTEMPTS = 2
"""Trials begun before a bundle counts as failed: the first, and one after a restart that may have had another cause."""
_READ_BYTES = 1 << 17
_log = logging.getLogger("gossamer.agent")


def slot_file(slot: str) -> str:
    """File of a slot's bundle."""
    return f"slot-{slot}.goss"


def active_bundle(root: str | os.PathLike[str]) -> str:
    """Path of the bundle that runs on this device. Takes no lock, and may be called while an agent works.

    A session keeps the file that it has opened, whatever is flashed meanwhile.

    Raises:
        SlotError: the folder holds no committed bundle, or its pointer record is damaged.
    """
    folder = os.fspath(root)
    try:
        with open(os.path.join(folder, _pointer.NAME), "rb") as f:
            pointer = _pointer.decode(f.read(_record.MOST_BYTES), folder)
    except OSError as e:
        raise SlotError(f"no bundle runs here: {e.strerror}", where=folder, hint="flash one") from e
    if pointer.active is None:
        raise SlotError("no bundle is committed here", where=folder, hint=pointer.problem or "flash one")
    return os.path.join(folder, slot_file(pointer.active))


class Slots:
    """The slots of one folder. Not for several threads at once: callers take turns.

    Args:
        disk: the folder; closed by ``close``.
        trial: makes what opens bundles.
        try_here: False for a card of another machine: bundles are not opened, and a trial is left to the
            device's own agent.
        max_bytes: largest bundle taken.

    Raises:
        SlotError: the pointer record is damaged or the disk fails.
    """

    def __init__(
        self,
        disk: Disk,
        trial: Callable[[], Trial],
        *,
        try_here: bool = True,
        max_bytes: int = MAX_BUNDLE_BYTES,
    ) -> None:
        self.disk = disk
        self._trial = trial
        self._try_here = try_here
        self.uploads = Uploads(disk, max_bytes)
        self.running: str | None = None
        self.problem = ""
        self.pointer = Pointer()
        try:
            self._recover()
        except BaseException:
            disk.close()
            raise

    def close(self) -> None:
        """Give the folder back."""
        self.disk.close()

    def bundle(self) -> str | bytes:
        """The bundle that runs.

        Raises:
            SlotError: none does.
        """
        if self.running is None:
            raise SlotError("no bundle runs", hint=self.problem or "flash one")
        return self.disk.bundle(slot_file(self.running))

    def is_running(self, sha256: str) -> bool:
        """Whether that bundle is the one that runs."""
        entry = self.pointer.entries.get(self.running or "")
        return entry is not None and entry.sha256 == sha256

    # Life of a bundle

    def flash(
        self, upload: Upload, *, stage_only: bool = False, inputs: Sequence[bytes] = (), trial: Trial | None = None
    ) -> tuple[str, float]:
        """Verify a finished upload, put it into the slot that does not run, try it and commit it.

        Args:
            upload: all its bytes have come.
            stage_only: stop when it lies in its slot; ``activate`` goes on.
            inputs: raw arrays for the trial, by default zeros.
            trial: one that was made ahead; closed here.

        Returns:
            The slot, and the microseconds of the trial's inference (0 without one).

        Raises:
            StreamError: bytes are missing; they are kept.
            InputError: ``inputs`` are not the bundle's; the upload is kept.
            DigestError, BundleError, SignatureError, IncompatibleError, OlderBundleError: refused; the upload is gone.
            RolledBackError: the trial failed; what ran before runs.
            SlotError: the disk is full or failed.
        """
        with contextlib.closing(trial or self._trial()) as opened:
            facts = self._take(upload, opened, self._admit)
            _check_inputs(facts, inputs)
            slot = other(self.pointer.active)
            with self._reloading():
                self.disk.rename(upload.file, slot_file(slot))
                self.disk.sync_folder()
                entry = Entry(
                    upload.sha256, upload.total, facts.name[:200], facts.version[:200], facts.rollback_counter
                )
                staged = replace(self.pointer, trial=None, attempts=0).with_entry(slot, entry)
                if stage_only:
                    self._write(replace(staged, problem=""))
                    return slot, 0.0
                return slot, self._try(staged, slot, opened, inputs)

    def open_upload(self, upload: Upload, opened: Trial) -> Facts:
        """Verify a finished upload and open it without putting it into a slot, whatever its rollback counter; the bytes
        are kept.

        Raises:
            StreamError, DigestError, BundleError, SignatureError, IncompatibleError, SlotError: as ``flash``.
        """
        return self._take(upload, opened, self._fits)

    def activate(self, inputs: Sequence[bytes] = ()) -> tuple[str, float]:
        """Try and commit the staged bundle; returns as ``flash``.

        Raises:
            SlotError: nothing is staged, or it was damaged since.
            SignatureError, IncompatibleError, OlderBundleError, RolledBackError: as ``flash``.
        """
        slot = other(self.pointer.active)
        entry = self.pointer.entries.get(slot)
        if entry is None or entry.state != "staged":
            raise SlotError("no bundle is staged", hint="flash one with stage_only")
        return self._switch(slot, inputs)

    def rollback(self) -> tuple[str, float]:
        """Go back to the bundle that ran before; returns as ``flash``.

        Raises:
            SlotError: there is none.
            OlderBundleError: the device's counter is above it.
            SignatureError, IncompatibleError, RolledBackError: as ``flash``; what runs goes on running.
        """
        slot = other(self.pointer.active)
        entry = self.pointer.entries.get(slot)
        if self.pointer.active is None or entry is None or entry.state != "committed":
            raise SlotError("there is no bundle to go back to", hint="flash the one that should run")
        return self._switch(slot, ())

    def _switch(self, slot: str, inputs: Sequence[bytes]) -> tuple[str, float]:
        entry = self.pointer.entries[slot]
        if self._digest(slot_file(slot)) != entry.sha256:
            raise SlotError("the bundle in that slot was damaged since it was verified", hint="flash it again")
        with contextlib.closing(self._trial()) as opened, self._reloading():
            _check_inputs(self._admit(opened, slot_file(slot)), inputs)
            return slot, self._try(self.pointer, slot, opened, inputs)

    def _take(self, upload: Upload, opened: Trial, admit: Callable[[Trial, str], Facts]) -> Facts:
        """What is known of a finished upload; one that is refused is removed."""
        if upload.at != upload.total:
            raise StreamError(
                f"{upload.at} of {upload.total} bytes came",
                hint=f"go on from offset {upload.at}: what came is kept",
            )
        self.disk.sync(upload.file)
        try:
            if self._digest(upload.file) != upload.sha256:
                raise DigestError(
                    "the bytes that came do not have the announced SHA-256", hint="send all of them again"
                )
            return admit(opened, upload.file)
        except SlotError:
            raise
        except GossamerError:
            self.disk.remove(upload.file)
            raise

    def _fits(self, opened: Trial, file: str) -> Facts:
        """What is known of a bundle that this machine can run."""
        try:
            return opened.check(self.disk.bundle(file))
        except (UnsupportedError, BackendError, OutOfMemoryError, LibraryError, RunError) as e:
            raise IncompatibleError(f"this machine cannot run the bundle: {e.message}", hint=e.hint) from e

    def _admit(self, opened: Trial, file: str) -> Facts:
        """What is known of a bundle that may run here."""
        facts = self._fits(opened, file)
        if facts.rollback_counter < self.pointer.counter:
            raise OlderBundleError(
                f"the bundle's rollback counter is {facts.rollback_counter}, the device's {self.pointer.counter}",
                hint="make the bundle anew with a counter at least as high",
            )
        return facts

    def _try(self, staged: Pointer, slot: str, opened: Trial, inputs: Sequence[bytes]) -> float:
        """Switch the pointer to trial, run, and commit or fall back."""
        if not self._try_here:
            self._write(replace(staged, trial=slot, attempts=0, problem=""))
            return 0.0
        self._write(replace(staged, trial=slot, attempts=1, problem=""))
        return self._run_trial(slot, opened, inputs)

    def _run_trial(self, slot: str, opened: Trial, inputs: Sequence[bytes]) -> float:
        try:
            us = opened.run(inputs)
        except GossamerError as e:
            self._fall_back(slot, f"the trial run failed: {e.message}", ROLLED_BACK)
            raise RolledBackError(
                f"the trial run failed: {e.message}",
                hint="what ran before runs" if self.pointer.active else "nothing ran before, and nothing runs",
            ) from e
        entry = self.pointer.entries[slot]
        self._write(
            replace(
                self.pointer, active=slot, trial=None, attempts=0, problem="", failed=None,
                counter=max(self.pointer.counter, entry.rollback_counter),
            ).with_entry(slot, replace(entry, state="committed"))
        )  # fmt: skip
        self.running, self.problem = slot, ""
        _log.info("committed %s %s in slot %s after a trial of %.0f us", entry.name, entry.version, slot, us)
        return us

    def _fall_back(self, slot: str, problem: str, reason: str) -> None:
        _log.warning("slot %s: %s", slot, problem)
        pointer = replace(self.pointer, trial=None, attempts=0, problem=problem)
        if slot in pointer.entries:
            entry = pointer.entries[slot]
            failed = Failure(entry.sha256, reason, problem[:MOST_PROBLEM])
            pointer = replace(pointer, failed=failed).with_entry(slot, replace(entry, state="failed"))
        self.problem = problem
        self._write(pointer)

    def remember(self, failed: Failure | None) -> None:
        """Write down, or forget, the update that failed: one that was refused is not downloaded again after a restart.

        Raises:
            SlotError: the disk is full or failed.
        """
        if failed is not None:
            failed = replace(failed, message=failed.message[:MOST_PROBLEM])
        if failed != self.pointer.failed:
            self._write(replace(self.pointer, failed=failed))

    # Getting up

    def _recover(self) -> None:
        """After a start: finish or take back a trial, and find the bundle that runs."""
        self.pointer = _pointer.read(self.disk)
        with contextlib.suppress(SlotError):
            self.disk.remove(_record.next_name(_pointer.NAME))
        self.problem = self.pointer.problem
        self._drop_damaged()
        if not self._try_here:
            return
        trial = self.pointer.trial
        try:
            if trial is not None and self.pointer.attempts >= MOST_ATTEMPTS:
                problem = f"the agent or the machine stopped during {self.pointer.attempts} trials"
                self._fall_back(trial, problem, ROLLED_BACK)
            elif trial is not None:
                self._write(replace(self.pointer, attempts=self.pointer.attempts + 1))
                self._try_again(trial)
        except GossamerError as e:  # such as a full disk: the committed bundle runs all the same
            self.problem = e.message
            _log.error("%s", e)
        if self.running is None:
            self._choose()

    def _try_again(self, slot: str) -> None:
        with contextlib.closing(self._trial()) as opened, contextlib.suppress(RolledBackError):
            try:
                self._admit(opened, slot_file(slot))
            except SlotError:
                raise
            except GossamerError as e:
                self._fall_back(slot, e.message, reason_of(e)[0])
                return
            self._run_trial(slot, opened, ())

    def _choose(self) -> None:
        """The committed bundle if it is still good, else the one before it."""
        pointer = self.pointer
        for slot in sorted(pointer.entries, key=lambda slot: slot != pointer.active):
            if pointer.entries[slot].state != "committed":
                continue
            try:
                with contextlib.closing(self._trial()) as opened:
                    self._admit(opened, slot_file(slot))
            except GossamerError as e:
                self.problem = f"slot {slot}: {e.message}"
                _log.error("slot %s cannot run: %s", slot, e.message)
                continue
            self.running = slot
            if slot != pointer.active:
                self.pointer = replace(pointer, active=slot, problem=self.problem)
                with contextlib.suppress(SlotError):  # it runs, written down or not
                    self._write(self.pointer)
            return

    def _drop_damaged(self) -> None:
        """Forget slots whose bytes are not what the record says: a rename without its record, or a failing disk."""
        pointer = self.pointer
        for slot, entry in list(pointer.entries.items()):
            name = slot_file(slot)
            with contextlib.suppress(SlotError):  # what cannot be read is damaged too
                if self.disk.size(name) == entry.size and self._digest(name) == entry.sha256:
                    continue
            pointer = pointer.with_entry(slot, None)
            if pointer.active == slot:
                pointer = replace(pointer, active=None)
                self.problem = f"the bundle in slot {slot} is damaged"
                _log.error("%s", self.problem)
            if pointer.trial == slot:
                pointer = replace(pointer, trial=None, attempts=0)
        self.pointer = pointer

    # Inside

    def _write(self, pointer: Pointer) -> None:
        self.pointer = _pointer.write(self.disk, pointer)

    @contextlib.contextmanager
    def _reloading(self) -> Iterator[None]:
        """When the disk fails half-way: know again what it really holds."""
        try:
            yield
        except SlotError as e:
            with contextlib.suppress(SlotError):
                self.pointer = _pointer.read(self.disk)
                self._drop_damaged()
                if self.pointer.active is not None:
                    self.running = self.pointer.active
            self.problem = e.message
            raise

    def _digest(self, name: str) -> str:
        digest, at = hashlib.sha256(), 0
        while data := self.disk.read(name, at, _READ_BYTES):
            digest.update(data)
            at += len(data)
        return digest.hexdigest()


def _check_inputs(facts: Facts, inputs: Sequence[bytes]) -> None:
    """Before anything is switched: a mistake of the caller is no failure of the bundle."""
    given = [len(data) for data in inputs]
    if inputs and given != list(facts.input_bytes):
        raise InputError(f"the trial's inputs have {given} bytes, the bundle's {list(facts.input_bytes)}")


def open_folder(root: str | os.PathLike[str], trial: Callable[[], Trial], **options: bool | int) -> Slots:
    """The slots of a real folder.

    Raises:
        SlotError: another agent uses it, it cannot be written, or its record is damaged.
    """
    return Slots(FolderDisk(root), trial, **options)  # type: ignore[arg-type]
