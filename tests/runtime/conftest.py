"""Fixtures of the shell's tests."""

from tests.shellkit import _made, cli, home, work

__all__ = ["_made", "cli", "home", "work"]
