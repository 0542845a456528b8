"""The ``gossamer`` command. Exit codes are listed in ``gossamer._errors`` and by ``gossamer --help``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``gossamer`` with ``arguments`` (by default the process's) and exit."""
    try:
        from gossamer.cli._main import run
    except KeyboardInterrupt:  # loading takes long enough to be interrupted
        print("error: interrupted; nothing was done", file=sys.stderr)
        sys.exit(130)
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))
