"""The logs: one JSON object a line, with the id of the request it belongs to."""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

request_id: ContextVar[str | None] = ContextVar("promptir_request_id", default=None)
"""Set by the API for the task that answers a request; worker threads have none."""

trace_id: ContextVar[str | None] = ContextVar("promptir_trace_id", default=None)
"""Likewise, where requests are traced."""

# What every record has, and uvicorn's coloured copy of the message: all else came in through `extra`.
_PLAIN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
# json.dumps with arguments makes an encoder for each line.
_to_json = json.JSONEncoder(default=str, ensure_ascii=False).encode
_ACCESS_FIELDS = ("client", "method", "path", "http_version", "status")


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger, message, request_id, the record's extra fields and its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (current := request_id.get()) is not None:
            line["request_id"] = current
        if (traced := trace_id.get()) is not None:
            line["trace_id"] = traced
        if record.name == "uvicorn.access" and isinstance(record.args, tuple):
            line.update(zip(_ACCESS_FIELDS, record.args, strict=False))
        line.update({name: value for name, value in vars(record).items() if name not in _PLAIN_FIELDS})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _to_json(line)


def quicken() -> None:
    """Leave out of every record what no line shows: looking it up would be the larger part of a line's cost."""
    logging._srcfile = None  # the Python documentation's own advice, as are these
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def config(level: str) -> dict[str, Any]:
    """Return the dict for `logging.config.dictConfig` and for uvicorn's `log_config`: all lines to stderr."""
    loggers = {name: {"level": level, "propagate": True, "handlers": []} for name in ("uvicorn", "uvicorn.access")}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": loggers,
    }
