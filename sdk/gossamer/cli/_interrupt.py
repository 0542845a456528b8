"""Ctrl-C that cannot get lost.

Python drops an exception raised inside a destructor or a callback from C, KeyboardInterrupt included, and the command
would run on to its end. The handler therefore also remembers, and ``check`` raises what was dropped.
"""

from __future__ import annotations

import signal
import threading

_pressed = False


def install() -> None:
    """Handle SIGINT from here on; only the main thread may."""
    global _pressed
    _pressed = False
    signal.signal(signal.SIGINT, _press)


def pressed() -> bool:
    """Whether Ctrl-C was pressed since ``install``."""
    return _pressed


def check() -> None:
    """Raise KeyboardInterrupt when Ctrl-C was pressed since ``install``; in the main thread, which ends the others."""
    if _pressed and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def _press(_number: int, _frame: object) -> None:
    global _pressed
    _pressed = True
    raise KeyboardInterrupt
