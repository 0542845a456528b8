"""Structured logs: one record a line with time, level, logger, message, request id, and what ``extra`` names."""

from __future__ import annotations

import contextvars
import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

REQUEST_ID: contextvars.ContextVar[str] = contextvars.ContextVar("gossamer_request_id", default="")
"""Id of the call that this task serves; empty outside of calls."""

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A JSON object a record; line breaks inside are escaped, so that nobody forges a record."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": REQUEST_ID.get(),
            **{k: v for k, v in vars(record).items() if k not in _PLAIN},
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps({k: v for k, v in fields.items() if v not in ("", None)}, default=str)


class TextFormatter(JsonFormatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        fields = json.loads(super().format(record))
        head = f"{fields.pop('time')} {fields.pop('level'):<7} {fields.pop('logger')}: {fields.pop('message', '')!s}"
        exception = fields.pop("exception", "")
        rest = " ".join(f"{k}={json.dumps(v)}" for k, v in fields.items())
        return head + (f" {rest}" if rest else "") + (f"\n{exception}" if exception else "")


def install(level: str, form: str, stream: TextIO | None = None) -> logging.Handler:
    """Log ``gossamer`` and ``gossamer_services`` to ``stream`` (stderr); returns the handler, for removal."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.disable(logging.NOTSET)  # the command line silences libraries; a server's log is its output
    for name in ("gossamer", "gossamer_services"):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(handler)
    return handler


def remove(handler: logging.Handler) -> None:
    """Undo :func:`install`."""
    for name in ("gossamer", "gossamer_services"):
        logging.getLogger(name).removeHandler(handler)
