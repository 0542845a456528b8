"""Programs that end with the process that started them, also where SIGKILL leaves it no time to stop them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_START = f"""
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):  # it ended before that
    sys.exit(1)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what it starts would, too
os.execvp(sys.argv[2], sys.argv[2:])
"""


def bound(command: Sequence[str]) -> list[str]:
    """The command line under which Linux sends the program SIGTERM when the thread that started it ends."""
    return [sys.executable, "-I", "-S", "-c", _START, str(os.getpid()), *command]
