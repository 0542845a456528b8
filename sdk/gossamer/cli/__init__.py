"""The ``gossamer`` command. Exit codes are listed in ``gossamer._errors`` and by ``gossamer --help``."""

from __future__ import annotations

from gossamer.cli._main import main

__all__ = ["main"]
