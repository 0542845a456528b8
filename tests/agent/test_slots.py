"""What the slots refuse, leaving everything as it was; rollback, staging, the counter, the lock, real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gossamer.bundle import keys, sign
from gossamer.compile.plan import Backend, DType, Extern, OpKind
from gossamer_runtime import BundleError, GossamerError, InputError, Session, SignatureError
from gossamer_runtime._errors import IncompatibleError, OlderBundleError, RolledBackError, SlotError
from gossamer_runtime.agent import _pointer, active_bundle
from gossamer_runtime.agent._child import Child
from gossamer_runtime.agent._disk import FolderDisk
from gossamer_runtime.agent._reasons import DigestError, OffsetError, RunError, StreamError, TooLargeError, reason_of
from gossamer_runtime.agent._slots import Slots, open_folder
from tests.agent.conftest import Here, digest
from tests.agent.memdisk import MemoryDisk
from tests.agent.test_power_cut import flash
from tests.native.plans import Builder, bundle


@pytest.fixture
def slots(bundles):
    """Version 1 runs; counter 5."""
    made = Slots(MemoryDisk(), Here)
    flash(made, bundles("1", 5))
    return made


def unchanged(slots: Slots, before: _pointer.Pointer) -> None:
    assert slots.pointer == before
    assert _pointer.read(slots.disk) == before
    assert slots.disk.names() == ["pointer", "slot-a.goss"]


def test_an_older_bundle_is_refused_and_an_equal_one_taken(slots, bundles):
    before = slots.pointer
    with pytest.raises(OlderBundleError, match="rollback counter is 4, the device's 5"):
        flash(slots, bundles("2", 4))
    unchanged(slots, before)
    flash(slots, bundles("3", 5))
    assert slots.pointer.entries[slots.running].version == "3"


def test_a_new_counter_holds_from_the_commit_on(slots, bundles):
    flash(slots, bundles("2", 6))
    assert slots.pointer.counter == 6
    with pytest.raises(OlderBundleError, match="counter is 5, the device's 6"):
        slots.rollback()
    assert slots.pointer.entries[slots.running].version == "2"


def test_a_failed_trial_does_not_raise_the_counter(slots, bundles):
    def fail() -> None:
        raise RunError("it fell over")

    before = slots.bundle()
    slots._trial = lambda: Here(fail)
    with pytest.raises(RolledBackError, match="the trial run failed: it fell over"):
        flash(slots, bundles("2", 9))
    assert slots.pointer.counter == 5 and slots.bundle() == before
    assert slots.problem == "the trial run failed: it fell over"
    assert [slots.pointer.entries[s].state for s in "ab"] == ["committed", "failed"]
    with pytest.raises(SlotError, match="no bundle to go back to"):
        slots.rollback()
    slots._trial = Here
    flash(slots, bundles("3", 5))
    assert slots.problem == ""


def test_unknown_and_revoked_keys(slots, bundles, other_key, work, monkeypatch, tmp_path):
    before = slots.pointer
    with pytest.raises(SignatureError, match=r"not among the \d+ trusted keys"):
        flash(slots, bundles("2", 5, key=other_key))
    unchanged(slots, before)
    home = tmp_path / "home"
    monkeypatch.setenv("GOSSAMER_HOME", str(home))  # the key that signed both is no longer trusted
    keys.new_key("another")
    with pytest.raises(SignatureError):
        flash(slots, bundles("2", 5))
    unchanged(slots, before)
    revived = Slots(slots.disk, Here)
    assert revived.running is None and "is not among the" in revived.problem
    with pytest.raises(SlotError, match="no bundle runs"):
        revived.bundle()


def test_unsigned_is_refused(slots, bundles):
    data = bundles("2", 5)
    with pytest.raises(SignatureError, match=r"unsigned|not signed"):
        flash(slots, data[:-96] + bytes(96))


def test_a_byte_changed_anywhere_is_refused(slots, bundles):
    """On the way (the digest does not fit), and at the source (it fits, the signature does not)."""
    before, data = slots.pointer, bundles("2", 5)
    places = [*range(64), *range(64, len(data) - 96, 211), *range(len(data) - 96, len(data), 5)]
    for at in places:
        bad = bytearray(data)
        bad[at] ^= 1 << at % 8
        upload = slots.uploads.receive(digest(data), len(data), 0)
        slots.uploads.write(upload, bytes(bad))
        with pytest.raises(DigestError, match="do not have the announced SHA-256"):
            slots.flash(upload)
        with pytest.raises(BundleError):
            flash(slots, bytes(bad))
    unchanged(slots, before)


def test_a_damaged_slot_never_runs(bundles):
    old, new = bundles("1"), bundles("2")
    for at in range(0, len(new), 997):
        disk = MemoryDisk()
        slots = Slots(disk, Here)
        flash(slots, old)
        flash(slots, new)
        file = disk._file("slot-b.goss")
        file.now[at] ^= 0x10
        again = Slots(disk, Here)
        assert again.bundle() == old
        assert again.problem == "the bundle in slot b is damaged"
        with pytest.raises(SlotError, match="no bundle to go back to"):
            again.rollback()


def test_a_slot_that_cannot_be_read(bundles):
    disk = MemoryDisk()
    slots = Slots(disk, Here)
    flash(slots, bundles("1"))
    flash(slots, bundles("2"))
    disk.unreadable = {"slot-b.goss"}
    assert Slots(disk, Here).bundle() == bundles("1")


def test_inputs_of_a_trial(slots, bundles):
    """Wrong ones are the caller's mistake: nothing is switched, and the upload is kept for the next try."""
    before, data = slots.pointer, bundles("2", 5)

    class Sized(Here):
        def check(self, bundle):
            return super().check(bundle)._replace(input_bytes=(3 * 16 * 16 * 4,))

    slots._trial = Sized
    with pytest.raises(InputError, match=r"inputs have \[4\] bytes, the bundle's \[3072\]"):
        flash(slots, data, inputs=[b"1234"])
    assert slots.pointer == before and slots.uploads.offset(digest(data)) == len(data)
    flash(slots, data, inputs=[bytes(3072)])
    assert slots.bundle() == data


def test_a_damaged_pointer_record_is_said_and_nothing_runs(slots):
    data = slots.disk.read("pointer", 0, 1 << 16)
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 1
        with pytest.raises(SlotError, match="pointer record"):
            _pointer.decode(bytes(bad))
    for bad in (b"", data[:-1], data + b"x", data.replace(b"\n", b"", 1)):
        with pytest.raises(SlotError, match="damaged"):
            _pointer.decode(bad)
    assert _pointer.decode(data) == slots.pointer


def test_a_newer_or_senseless_record():
    import hashlib

    def signed(value: object) -> bytes:
        body = json.dumps(value).encode()
        return hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n"

    good = {"format": 1, "active": None, "trial": None, "attempts": 0, "counter": 0, "entries": {}, "problem": "",
            "generation": 0}  # fmt: skip
    assert _pointer.decode(signed(good)) == _pointer.Pointer()
    with pytest.raises(SlotError, match="has format 2, this agent reads 1"):
        _pointer.decode(signed({**good, "format": 2}))
    for wrong in (
        {"active": "a"},
        {"counter": -1},
        {"entries": {"../x": {"sha256": "0" * 64, "size": 1}}},
        {"entries": 3},
    ):
        with pytest.raises(SlotError, match="makes no sense"):
            _pointer.decode(signed({**good, **wrong}))


def test_staging_and_activating(slots, bundles):
    old, new = slots.bundle(), bundles("2", 5)
    assert flash(slots, new, stage_only=True) == "b"
    assert slots.bundle() == old and slots.pointer.entries["b"].state == "staged"
    assert Slots(slots.disk, Here).bundle() == old
    slots.activate()
    assert slots.bundle() == new
    with pytest.raises(SlotError, match="no bundle is staged"):
        slots.activate()


def test_a_staged_bundle_that_was_damaged_is_not_activated(slots, bundles):
    flash(slots, bundles("2", 5), stage_only=True)
    slots.disk._file("slot-b.goss").now[100] ^= 1
    with pytest.raises(SlotError, match="damaged since it was verified"):
        slots.activate()


def test_rollback_and_forth(slots, bundles):
    first, second = slots.bundle(), bundles("2", 5)
    flash(slots, second)
    slots.rollback()
    assert slots.bundle() == first
    slots.rollback()
    assert slots.bundle() == second


def test_uploads_that_are_wrong(slots):
    with pytest.raises(GossamerError, match="64 lower-case hexadecimal digits"):
        slots.uploads.receive("../../etc/passwd", 10, 0)
    with pytest.raises(TooLargeError, match="10737418240 bytes; this device takes 1 to 2147483648"):
        slots.uploads.receive("0" * 64, 10 << 30, 0)
    with pytest.raises(TooLargeError):
        slots.uploads.receive("0" * 64, 0, 0)
    with pytest.raises(OffsetError, match="stands at 0 bytes, not at 5"):
        slots.uploads.receive("0" * 64, 10, 5)
    upload = slots.uploads.receive("0" * 64, 10, 0)
    slots.uploads.write(upload, b"12345")
    with pytest.raises(StreamError, match="more than the 10 bytes"):
        slots.uploads.write(upload, b"123456")
    with pytest.raises(StreamError, match="5 of 10 bytes came"):
        slots.flash(upload)
    assert slots.uploads.offset("0" * 64) == 5
    slots.uploads.receive("1" * 64, 10, 0)  # another bundle: what came of the first is discarded
    assert slots.uploads.offset("0" * 64) == 0


def test_every_error_has_a_reason_of_its_own_kind():
    assert reason_of(DigestError("x")) == ("DIGEST_MISMATCH", "DATA_LOSS")
    assert reason_of(SignatureError("x")) == ("SIGNATURE_REFUSED", "PERMISSION_DENIED")
    assert reason_of(BundleError("x")) == ("BAD_BUNDLE", "INVALID_ARGUMENT")
    assert reason_of(GossamerError("x")) == ("FAILED", "INTERNAL")


# Real folders and processes


def test_a_lock_that_is_let_go_soon_is_waited_for(tmp_path):
    held = FolderDisk(tmp_path)
    threading.Timer(0.3, held.close).start()
    FolderDisk(tmp_path).close()


def test_two_agents_on_one_folder(tmp_path):
    first = FolderDisk(tmp_path)
    with pytest.raises(SlotError, match=rf"another agent uses this slot folder \(process {os.getpid()}\)"):
        FolderDisk(tmp_path)
    first.close()
    FolderDisk(tmp_path).close()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SlotError, match="cannot use the slot folder"):
        FolderDisk(tmp_path / "file")
    disk = FolderDisk(tmp_path / "x")
    with pytest.raises(SlotError, match="no plain file name"):
        disk.path("../file")
    disk.close()


def test_a_real_flash_and_what_an_application_opens(tmp_path, bundles):
    import numpy as np

    old, new = bundles("1"), bundles("2")
    with pytest.raises(SlotError, match="no bundle runs here"):
        active_bundle(tmp_path)
    slots = open_folder(tmp_path, Child)
    flash(slots, old)
    path = active_bundle(tmp_path)
    assert Path(path).read_bytes() == old
    x = np.ones((1, 3, 16, 16), np.float32)
    with Session(path) as session:
        want = session.run(x)
        flash(slots, new)
        flash(slots, bundles("3"))  # goes over the file that the session has open
        np.testing.assert_array_equal(session.run(x), want)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lock", "pointer", "slot-a.goss", "slot-b.goss"]
    slots.close()
    again = open_folder(tmp_path, Child)
    assert Path(again.bundle()).read_bytes() == bundles("3")
    again.close()


def test_a_bundle_for_another_machine(tmp_path, bundles, work):
    """Whole and signed, but it holds a partition for an FPGA that this machine does not have."""
    data = bundles("1")
    b = Builder(4)
    x = b.input((1, 4))
    b.externs.append(Extern(Backend.FPGA, b"a bit stream"))
    y = b.op(OpKind.EXTERN, [x], (1, 4), DType.F32, p={0: 0, 1: Backend.FPGA})
    built = bundle(b.plan(y))
    foreign = sign.sign(built, keys.load_private(work.home / "keys" / "default.key"))
    slots = open_folder(tmp_path, Child)
    flash(slots, data)
    before = slots.pointer
    with pytest.raises(IncompatibleError, match="this machine cannot run the bundle"):
        flash(slots, foreign)
    assert slots.pointer == before and Path(slots.bundle()).read_bytes() == data
    slots.close()


def test_a_trial_that_crashes_or_hangs_takes_only_its_process(tmp_path, bundles, monkeypatch):
    crash = tmp_path / "crash.py"
    crash.write_text(
        "import os, signal, sys, time\n"
        "from gossamer_runtime.agent import _worker\n"
        "how = sys.argv.pop()\n"
        "def run(self, inputs, no_nan):\n"
        "    if how == 'hang': time.sleep(60)\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)\n"
        "_worker.Worker.run = run\n"
        "_worker.main()\n"
    )
    slots = open_folder(tmp_path / "slots", Child)
    flash(slots, bundles("1"))
    real = subprocess.Popen
    for how, words in (("crash", "its process was ended by SIGSEGV"), ("hang", "took longer than 0.5 s")):
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "Popen", lambda _, how=how, **o: real([sys.executable, crash, how], **o))
            slots._trial = lambda: Child(run_seconds=0.5)
            with pytest.raises(RolledBackError, match=words):
                flash(slots, bundles("2"))
        assert Path(slots.bundle()).read_bytes() == bundles("1")
    slots.close()


def test_a_process_for_bundles_ends_with_its_agent():
    """Also one that hangs: here it is stopped, so that it cannot see its pipe close."""
    code = (
        "import os, signal, sys, time\n"
        "from gossamer_runtime import GossamerError\n"
        "from gossamer_runtime.agent._child import Child\n"
        "child = Child()\n"
        "try: child.check('/none')\n"  # it has started
        "except GossamerError: pass\n"
        "os.kill(child._process.pid, signal.SIGSTOP)\n"
        "print(child._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_agent_itself_loads_no_numpy():
    code = "import sys, gossamer_runtime.agent._service; print('numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
