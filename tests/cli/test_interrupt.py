"""Ctrl-C inside a destructor, where Python drops the exception: the next step of progress raises it again."""

from __future__ import annotations

import gc
import signal

import pytest

from gossamer.cli import _interrupt
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
