"""Entry point: runs a command and turns every failure into a message and an exit code."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn

import click

from gossamer._errors import EXIT_INTERRUPTED, EXIT_TERMINATED, GossamerError


class _Terminated(BaseException):
    """SIGTERM as an exception, so that temporary files are removed on the way out."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``gossamer`` with ``arguments`` (by default the process's) and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Run a command line; returns the exit code and prints errors to stderr (as JSON when ``--json`` is given).

    A traceback is shown only when ``GOSSAMER_DEBUG`` is set.
    """
    from gossamer.cli._app import app

    debug = bool(os.environ.get("GOSSAMER_DEBUG"))
    as_json = "--json" in arguments
    if not debug:
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)  # libraries log what becomes an error of ours anyway
    try:
        signal.signal(signal.SIGTERM, _terminate)
        code = app.main(args=arguments, prog_name="gossamer", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except GossamerError as e:
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
        _trace(debug)
        _show("Interrupted", "interrupted; nothing half-written is left", None, None, EXIT_INTERRUPTED, as_json)
        return EXIT_INTERRUPTED
    except _Terminated:
        _show("Terminated", "ended by SIGTERM; nothing half-written is left", None, None, EXIT_TERMINATED, as_json)
        return EXIT_TERMINATED
    except MemoryError:
        _trace(debug)
        _show("OutOfMemoryError", "out of memory", None, "free memory, or use a smaller model", 16, as_json)
        return 16
    except Exception as e:
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
    finally:
        logging.disable(logging.NOTSET)


def _terminate(_number: int, _frame: object) -> None:
    raise _Terminated


def _trace(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def _place(e: BaseException) -> str | None:
    frames = traceback.extract_tb(e.__traceback__)
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else None  # noqa: PTH119


def _show(kind: str, message: str, where: str | None, hint: str | None, code: int, as_json: bool) -> None:
    if as_json:
        record = {"type": kind, "message": message, "where": where, "hint": hint, "exit_code": code}
        print(json.dumps({"error": record}), file=sys.stderr)
        return
    print(f"error: {message}", file=sys.stderr)
    if where:
        print(f"  where: {where}", file=sys.stderr)
    if hint:
        print(f"  do:    {hint}", file=sys.stderr)
