"""Power cuts and failing disks after every operation: the old or the new bundle runs, whole."""

from __future__ import annotations

import contextlib
import errno

import pytest

from gossamer_runtime import GossamerError
from gossamer_runtime._errors import SlotError
from gossamer_runtime.agent._slots import Slots
from tests.agent.conftest import Here, digest
from tests.agent.memdisk import MODES, MemoryDisk, PowerCut

CHUNK = 4096


def flash(slots: Slots, data: bytes, **options) -> str:
    """As a client does: ask where the upload stands, go on from there."""
    sha = digest(data)
    upload = slots.uploads.receive(sha, len(data), slots.uploads.offset(sha))
    for at in range(upload.at, len(data), CHUNK):
        slots.uploads.write(upload, data[at : at + CHUNK])
    return slots.flash(upload, **options)[0]


def flash_until_good(slots: Slots, data: bytes) -> None:
    """A digest that does not fit (torn writes) discards the upload: a client sends it once more."""
    try:
        flash(slots, data)
    except GossamerError as e:
        assert "SHA-256" in e.message
        flash(slots, data)


def running(disk: MemoryDisk) -> tuple[Slots, bytes | None]:
    """Start on a disk; what runs then."""
    slots = Slots(disk, Here)
    return slots, None if slots.running is None else slots.bundle()


def with_old(old: bytes) -> MemoryDisk:
    disk = MemoryDisk()
    flash(Slots(disk, Here), old)
    return disk.after_cut("lost")  # what was committed lasts


def cuts(begin, act):
    """Every disk that a cut of ``act`` can leave: (k, disk before the cut's losses); the last one had no cut."""
    k = 0
    while True:
        k += 1
        disk = begin()
        disk.cut_after = k
        try:
            act(disk)
        except PowerCut:
            yield k, disk
            continue
        assert disk.operations < k
        yield 0, disk
        return


def test_every_cut_of_a_flash_leaves_the_old_or_the_new_bundle(bundles):
    old, new = bundles("1", 3), bundles("2", 4)
    seen = set()
    count = 0
    for k, disk in cuts(lambda: with_old(old), lambda disk: flash(Slots(disk, Here), new)):
        for mode in (*MODES, *range(6)):
            again = disk.after_cut(mode)
            slots, found = running(again)
            assert found in (old, new), (k, mode)
            assert k or found == new
            assert slots.pointer.counter == (4 if found == new else 3), (k, mode)
            assert slots.pointer.trial is None
            seen.add(found == new)
            flash_until_good(slots, new)
            assert slots.bundle() == new
            assert running(again.after_cut("lost"))[1] == new, (k, mode)
            count += 1
    assert seen == {True, False}
    assert count >= 150


def test_every_cut_of_the_first_flash_leaves_nothing_or_the_bundle(bundles):
    new = bundles("1")
    for k, disk in cuts(MemoryDisk, lambda disk: flash(Slots(disk, Here), new)):
        for mode in (*MODES, 0, 1, 2):
            slots, found = running(disk.after_cut(mode))
            assert found in (None, new), (k, mode)
            assert k or found == new
            flash_until_good(slots, new)
            assert slots.bundle() == new


def test_a_second_cut_while_getting_up(bundles):
    old, new = bundles("1"), bundles("2")
    pairs = 0
    for k, disk in cuts(lambda: with_old(old), lambda disk: flash(Slots(disk, Here), new)):
        for mode in ("lost", "kept", 1):
            for j, second in cuts(lambda d=disk, m=mode: d.after_cut(m), lambda d: Slots(d, Here)):
                for again in ("lost", "kept", 2):
                    assert running(second.after_cut(again))[1] in (old, new), (k, mode, j, again)
                    pairs += 1
    assert pairs > 200


def test_every_cut_of_a_rollback(bundles):
    old, new = bundles("1"), bundles("2")

    def both() -> MemoryDisk:
        disk = with_old(old)
        flash(Slots(disk, Here), new)
        return disk.after_cut("lost")

    for k, disk in cuts(both, lambda disk: Slots(disk, Here).rollback()):
        for mode in (*MODES, 0, 1, 2, 3):
            found = running(disk.after_cut(mode))[1]
            assert found in (old, new), (k, mode)
            assert k or found == old


def test_every_cut_of_stage_and_activate(bundles):
    old, new = bundles("1"), bundles("2")

    def act(disk: MemoryDisk) -> None:
        slots = Slots(disk, Here)
        flash(slots, new, stage_only=True)
        assert slots.bundle() == old
        slots.activate()

    for k, disk in cuts(lambda: with_old(old), act):
        for mode in (*MODES, 0, 1):
            found = running(disk.after_cut(mode))[1]
            assert found in (old, new), (k, mode)
            assert k or found == new


def test_a_bundle_that_stops_the_machine_is_given_up_after_two_trials(bundles):
    def stop() -> None:
        raise PowerCut

    old, new = bundles("1"), bundles("2")
    disk = with_old(old)
    with pytest.raises(PowerCut):
        flash(Slots(disk, lambda: Here(stop)), new)
    disk = disk.after_cut("kept")
    with pytest.raises(PowerCut):  # the restart tries once more: the first stop may have had another cause
        Slots(disk, lambda: Here(stop))
    disk = disk.after_cut("kept")
    slots = Slots(disk, lambda: Here(stop))  # and does not run it a third time
    assert slots.bundle() == old
    assert slots.problem == "the agent or the machine stopped during 2 trials"
    assert slots.pointer.entries["b"].state == "failed"
    assert running(disk.after_cut("lost"))[0].problem == slots.problem


def test_a_restart_finishes_a_trial_that_was_cut(bundles):
    old, new = bundles("1", 1), bundles("2", 2)
    disk = with_old(old)

    def stop() -> None:
        raise PowerCut

    with pytest.raises(PowerCut):
        flash(Slots(disk, lambda: Here(stop)), new)
    slots, found = running(disk.after_cut("lost"))
    assert found == new and slots.pointer.counter == 2 and slots.problem == ""


@pytest.mark.parametrize("fault", ["full", "io"])
def test_a_disk_that_is_full_or_fails_at_every_operation(bundles, fault):
    old, new = bundles("1"), bundles("2")
    failed = 0
    for k in range(1, 100):
        disk = with_old(old)
        slots = Slots(disk, Here)
        disk.operations = 0
        if fault == "full":
            disk.full_from = k
        else:
            disk.fail_at, disk.fail_with = k, errno.EIO
        try:
            flash(slots, new)
        except SlotError as e:
            failed += 1
            assert ("full" in e.message) == (fault == "full")
            assert slots.bundle() in (old, new)
        else:
            break
        assert running(disk.after_cut("kept"))[1] in (old, new), k
        assert running(disk.after_cut("lost"))[1] in (old, new), k
        disk.heal()
        with contextlib.suppress(GossamerError):
            flash(slots, new)
        if slots.bundle() != new:
            flash(slots, new)
        assert slots.bundle() == new, k
        assert running(disk.after_cut("lost"))[1] == new, k
    assert 10 <= failed < 99
    assert slots.bundle() == new


def test_a_full_disk_at_a_start_in_mid_trial_runs_the_old_bundle(bundles):
    def stop() -> None:
        raise PowerCut

    old, new = bundles("1"), bundles("2")
    disk = with_old(old)
    with pytest.raises(PowerCut):
        flash(Slots(disk, lambda: Here(stop)), new)
    disk = disk.after_cut("kept")
    disk.full_from = 0
    slots = Slots(disk, Here)
    assert slots.bundle() == old and slots.problem == "the disk of the slot folder is full"
    disk.heal()
    assert running(disk.after_cut("kept"))[1] == new  # the trial is made up for when it can be written down
