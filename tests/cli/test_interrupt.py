"""Ctrl-C where its exception does not arrive, dropped or turned into another; and terminals that go away."""

from __future__ import annotations

import fcntl
import gc
import os
import pty
import signal
import subprocess
import sys
import termios

import pytest

from gossamer import GossamerError
from gossamer._errors import EXIT_HUNG_UP, EXIT_INTERRUPTED
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

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(_app.app, "main", hit)
    try:
        assert run(["doctor"]) == EXIT_INTERRUPTED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    printed = capsys.readouterr()
    assert "interrupted" in printed.err and "defect" not in printed.err


@pytest.mark.parametrize(("handler", "code"), [(signal.SIG_DFL, EXIT_HUNG_UP), (signal.SIG_IGN, 0)])
def test_a_terminal_that_goes_away(handler, code):
    """Its SIGHUP ends the command in order, though nothing can be said any more; what nohup started goes on."""
    script = (
        "import os, time; from gossamer.cli import _app, _main\n"
        "_app.app.main = lambda **_: os.write(1, b'on') and time.sleep(1)\n"
        "raise SystemExit(_main.run([]))"
    )
    ours, its = pty.openpty()
    before = signal.signal(signal.SIGHUP, handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    os.close(its)
    with process:
        assert os.read(ours, 2) == b"on"
        os.close(ours)
        assert process.wait(20) == code
