"""Checkpoints against crashes, damage, other runs and malice."""

from __future__ import annotations

import hashlib
import io
import os

import pytest
import torch

from gossamer import _atomic
from gossamer._errors import InputError, OutputError
from gossamer.finetune import checkpoint
from gossamer.finetune.checkpoint import Checkpoints

WHO = {"train.epochs": 3, "model": "abc"}


def state(value):
    return {"done": value, "network": {"w": torch.full((4,), float(value))}, "note": "x"}


def test_the_newest_of_two_slots_is_loaded(tmp_path):
    kept = Checkpoints(tmp_path / "c", WHO)
    assert kept.load() is None
    for number in (1, 2, 3):
        kept.save(state(number), number)
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["checkpoint.0", "checkpoint.1"]
    found = Checkpoints(tmp_path / "c", WHO).load()
    assert found["done"] == 3 and found["network"]["w"].tolist() == [3.0] * 4


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_slot_leaves_the_one_before_it(tmp_path, damage):
    kept = Checkpoints(tmp_path, WHO)
    kept.save(state(1), 1)
    newest = kept.save(state(2), 2)
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 4
    newest.write_bytes({"cut": data[:-9], "flipped": data, "empty": b"", "text": b"hello\n" * 30}[damage])
    assert Checkpoints(tmp_path, WHO).load()["done"] == 1
    kept.save(state(3), 3)  # takes the other slot
    kept.save(state(4), 4)
    assert kept.load()["done"] == 4


def test_nothing_whole_is_an_error_and_not_a_fresh_start(tmp_path):
    (tmp_path / "checkpoint.0").write_bytes(b"GSCHECK1" + bytes(50))
    with pytest.raises(InputError, match=r"no checkpoint is whole: checkpoint\.0: damaged") as caught:
        Checkpoints(tmp_path, WHO).load()
    assert caught.value.where == str(tmp_path)


def test_another_run_is_refused_by_what_differs(tmp_path):
    Checkpoints(tmp_path, WHO).save(state(1), 1)
    with pytest.raises(InputError, match=r"another run: train.epochs was 3, is 5"):
        Checkpoints(tmp_path, {**WHO, "train.epochs": 5}).load()
    with pytest.raises(InputError, match=r"another run: train.batch was None, is 8"):
        Checkpoints(tmp_path, {**WHO, "train.batch": 8}).load()


def test_killed_in_the_middle_of_writing(tmp_path):
    """A process that dies between writing and renaming leaves the last good checkpoint."""
    kept = Checkpoints(tmp_path, WHO)
    kept.save(state(1), 1)
    kept.save(state(2), 2)
    child = os.fork()
    if child == 0:
        os.fsync = lambda _fd: os._exit(9)  # the bytes are written, the name is not theirs yet
        kept.save(state(3), 3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert any(p.name.endswith(".tmp") for p in tmp_path.iterdir())
    assert Checkpoints(tmp_path, WHO).load()["done"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.0", "checkpoint.1"]  # nothing piles up


def test_a_full_disk_leaves_both_slots(tmp_path, monkeypatch):
    kept = Checkpoints(tmp_path, WHO)
    kept.save(state(1), 1)

    def full(*_args, **_options):
        raise OutputError("cannot write the file: no space left on device", where="x")

    monkeypatch.setattr(_atomic, "write", full)
    with pytest.raises(OutputError, match="no space"):
        kept.save(state(2), 2)
    assert kept.load()["done"] == 1


def test_only_tensors_and_plain_values_are_loaded(tmp_path):
    """A checkpoint with a right checksum that would run code on loading counts as damaged, and does not run it."""

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    buffer = io.BytesIO()
    torch.save({"identity": WHO, "number": 1, "state": Evil()}, buffer)
    payload = buffer.getvalue()
    (tmp_path / "checkpoint.1").write_bytes(checkpoint._MAGIC + hashlib.sha256(payload).digest() + payload)
    with pytest.raises(InputError, match="not a checkpoint"):
        Checkpoints(tmp_path, WHO).load()
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot make the folder"):
        Checkpoints(tmp_path / "file" / "c", WHO)
