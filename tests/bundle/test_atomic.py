"""Writing whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from gossamer import OutputError, _atomic


def test_new_file_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        path = _atomic.write(tmp_path / "a", b"12")
    finally:
        os.umask(old)
    assert path.read_bytes() == b"12"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_replaced_file_keeps_its_mode(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o604)
    _atomic.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_link_is_followed(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    _atomic.write(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_no_overwrite(tmp_path):
    _atomic.write(tmp_path / "a", b"1", overwrite=False)
    with pytest.raises(OutputError, match="exists already"):
        _atomic.write(tmp_path / "a", b"2", overwrite=False)
    assert (tmp_path / "a").read_bytes() == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("failing", ["fsync", "fchmod", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_after_a_failure(tmp_path, monkeypatch, failing, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(*_):
        raise error

    target = "pathlib.Path.replace" if failing == "replace" else f"os.{failing}"
    monkeypatch.setattr(target, fail)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        _atomic.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    if isinstance(error, OSError):
        assert "No space left" in str(caught.value) and "free space" in str(caught.value)


def test_targets_that_are_no_files(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for bad in (tmp_path, fifo, "/dev/null", tmp_path / "none" / "a", tmp_path / ("n" * 300)):
        with pytest.raises(OutputError) as caught:
            _atomic.check_target(bad)
        assert caught.value.hint
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        _atomic.check_target(tmp_path / "file" / "a")
