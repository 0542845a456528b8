"""Entry point: runs a command and turns every failure into a message and an exit code."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path

import click

from gossamer._errors import EXIT_HUNG_UP, EXIT_INTERRUPTED, EXIT_TERMINATED, GossamerError
from gossamer._tables import printable
from gossamer.cli import _interrupt

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Terminated(BaseException):
    """SIGTERM, or SIGHUP where nobody ignores it, as an exception: temporary files are removed on the way out, and held
    devices given back.

    ``came``: which of them did, also where it made something else fail: a native module that it hits while loading
    raises an ImportError.
    """

    came: signal.Signals | None = None


def run(arguments: list[str]) -> int:
    """Run a command line; returns the exit code and prints errors to stderr (as JSON when ``--json`` is given).

    A traceback is shown only when ``GOSSAMER_DEBUG`` is set.
    """
    debug = bool(os.environ.get("GOSSAMER_DEBUG"))
    as_json = "--json" in arguments
    if not debug:
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)  # libraries log what becomes an error of ours anyway
    try:
        _Terminated.came = None
        signal.signal(signal.SIGTERM, _terminate)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else nohup, or who called, wants another end
            signal.signal(signal.SIGHUP, _terminate)
        _interrupt.install()
        from gossamer.cli._app import app

        code = app.main(args=arguments, prog_name="gossamer", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except GossamerError as e:
        if _interrupt.pressed():
            return _interrupted(debug, as_json)
        if _Terminated.came:
            return _terminated(debug, as_json)
        _trace(debug)
        _show(type(e).__name__, e.message, e.where, e.hint, e.exit_code, as_json)
        return e.exit_code
    except click.ClickException as e:
        if as_json:
            _show("UsageError", e.format_message(), None, "see --help", e.exit_code, True)
        else:
            e.show()
        return e.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _interrupted(debug, as_json)
    except _Terminated:
        return _terminated(debug, as_json)
    except OSError as e:
        if _Terminated.came:  # as of writing to a terminal that went away
            return _terminated(debug, as_json)
        if e.errno not in _FULL:
            return _defect(e, debug, as_json)
        _trace(debug)
        _show("OutputError", f"cannot write the output: {e.strerror}", None, "free space on that disk", 11, as_json)
        _abandon_stdout()
        return 11
    except MemoryError:
        _trace(debug)
        _show("OutOfMemoryError", "out of memory", None, "free memory, or use a smaller model", 16, as_json)
        return 16
    except Exception as e:
        if _interrupt.pressed():
            return _interrupted(debug, as_json)
        if _Terminated.came:
            return _terminated(debug, as_json)
        return _defect(e, debug, as_json)
    finally:
        logging.disable(logging.NOTSET)


def _interrupted(debug: bool, as_json: bool) -> int:
    """Also where Ctrl-C made something else fail: a native module that it hits while loading raises an ImportError."""
    _trace(debug)
    _show("Interrupted", "interrupted; nothing half-written is left", None, None, EXIT_INTERRUPTED, as_json)
    return EXIT_INTERRUPTED


def _terminated(debug: bool, as_json: bool) -> int:
    name, code = ("SIGHUP", EXIT_HUNG_UP) if _Terminated.came is signal.SIGHUP else ("SIGTERM", EXIT_TERMINATED)
    with contextlib.suppress(OSError):  # stderr went with the terminal
        _trace(debug)
        _show("Terminated", f"ended by {name}; nothing half-written is left", None, None, code, as_json)
    return code


def _defect(e: Exception, debug: bool, as_json: bool) -> int:
    _trace(debug)
    _show(
        "InternalError",
        f"internal error: {type(e).__name__}: {e}",
        _place(e),
        "this is a defect: run again with GOSSAMER_DEBUG=1 and report what it prints",
        1,
        as_json,
    )
    return 1


def _abandon_stdout() -> None:
    """What is left in the buffer cannot be written: the interpreter must not try again as it exits."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _terminate(number: int, _frame: object) -> None:
    _Terminated.came = signal.Signals(number)
    raise _Terminated


def _trace(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def _place(e: BaseException) -> str | None:
    frames = traceback.extract_tb(e.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else None


def _show(kind: str, message: str, where: str | None, hint: str | None, code: int, as_json: bool) -> None:
    if as_json:
        record = {"type": kind, "message": message, "where": where, "hint": hint, "exit_code": code}
        print(json.dumps({"error": record}), file=sys.stderr)
        return
    print(printable(f"error: {message}"), file=sys.stderr)
    if where:
        print(printable(f"  where: {where}"), file=sys.stderr)
    if hint:
        print(printable(f"  do:    {hint}"), file=sys.stderr)
