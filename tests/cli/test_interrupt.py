"""Ctrl-C where its exception does not arrive: dropped in a destructor, or turned into another by what it hit."""

from __future__ import annotations

import gc
import signal

import pytest

from gossamer import GossamerError
from gossamer._errors import EXIT_INTERRUPTED
from gossamer.cli import _app, _interrupt
from gossamer.cli._main import run
from gossamer.cli._progress import Bar


class _Pressed:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dropped_interrupt_is_raised_by_the_next_step():
    before = signal.getsignal(signal.SIGINT)
    try:
        _interrupt.install()
        bar = Bar(["work"], quiet=True)
        bar("work", 0, 1)
        _Pressed()
        gc.collect()
        with pytest.raises(KeyboardInterrupt):
            bar("work", 1, 1)
        _interrupt.install()
        bar("work", 1, 1)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("error", [ImportError("initialization failed"), GossamerError("cannot be quantised")])
def test_what_ctrl_c_makes_fail_ends_as_interrupted(error, monkeypatch, capsys):
    """A native module that Ctrl-C hits while it loads raises an ImportError of its own."""

    def hit(**_options):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise error from None

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(_app.app, "main", hit)
    try:
        assert run(["doctor"]) == EXIT_INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    printed = capsys.readouterr()
    assert "interrupted" in printed.err and "defect" not in printed.err
