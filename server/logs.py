"""JSON logs: one object per line, with the request id."""

import json
import logging
import random
import re
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import islice
from typing import Any

request_id: ContextVar[str | None] = ContextVar("promptir_request_id", default=None)
"""Set by the API for the task that handles a request; not set in worker threads."""

trace_id: ContextVar[str | None] = ContextVar("promptir_trace_id", default=None)
"""Set likewise if requests are traced."""

# `extra` fields follow the standard ones in a record. Fields of other formatters and uvicorn's coloured copy of the
# message are left out.
_PLAIN_FIELDS = len(vars(logging.makeLogRecord({})))
_NOT_SHOWN = frozenset({"message", "asctime", "taskName", "color_message"})
# json.dumps with arguments creates an encoder on each call; strings and numbers do not need it.
_to_json = json.JSONEncoder(default=str, ensure_ascii=False).encode
_text = json.encoder.encode_basestring
_WRITERS: dict[type, Callable[[Any], str]] = {str: _text, int: int.__repr__, float: float.__repr__}
# Characters that break or reverse a line in some viewers and terminals: DEL and C1 controls, line and paragraph
# separators, and direction marks.
_UNSEEN = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
# Safe in a header, in a log line and in a URI.
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
SHOWN_CHARACTERS = 200
"""Longest text from a client that is logged."""
KEY_PREFIX = "promptir_"
"""Prefix of every API key, which lets secret scanners and the redaction below recognise keys."""
# A key has 43 characters after its prefix; a shorter text is harmless and may be a name. Other credentials are
# recognised only by the word before them.
_SECRET = re.compile(
    rf"({KEY_PREFIX})[A-Za-z0-9_-]{{32,}}|\b((?:bearer|basic)(?:\s|%20|\+)+)[^\s\"\\/?&#,;]+", re.IGNORECASE
)
_ACCESS_FIELDS = ("client", "method", "path", "http_version", "status")


def shortened(text: str) -> str:
    """Shorten a client's text for a log line or an error message, and redact API keys in it."""
    text = redacted(text)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def request_id_from(given: Iterable[str]) -> str:
    """Return the first of the given request ids that is safe to use, or else a new id."""
    for id_ in given:
        if _SANE_ID.fullmatch(id_):
            return id_
    return f"{random.getrandbits(128):032x}"  # unique, not secret: a fifth of a UUID's cost


def redacted(text: str) -> str:
    """Replace API keys, and the credentials after the words Bearer and Basic, with `***`."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2]}***", text)


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON: time, level, logger, message, request_id, extra fields and traceback."""

    def __init__(self) -> None:
        super().__init__()
        self._second = -1, ""
        """The latest second and its formatted text."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if (current := request_id.get()) is not None:
            line["request_id"] = current
        if (traced := trace_id.get()) is not None:
            line["trace_id"] = traced
        if record.name == "uvicorn.access" and isinstance(record.args, tuple):
            line.update(zip(_ACCESS_FIELDS, record.args, strict=False))
        extra = islice(vars(record).items(), _PLAIN_FIELDS, None)
        line.update({name: value for name, value in extra if name not in _NOT_SHOWN})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        members = [f"{_text(name)}: {_WRITERS.get(type(value), _to_json)(value)}" for name, value in line.items()]
        return _safe(f'{{"time": "{self._time(record.created)}", {", ".join(members)}}}')

    def _time(self, created: float) -> str:
        second, text = self._second  # one read, since threads share it
        if second != int(created):
            second = int(created)
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second = second, text
        return f"{text}.{int((created - second) * 1e3):03d}+00:00"


def _safe(line: str) -> str:
    if KEY_PREFIX in line:  # from a traceback or a library; our own fields are already redacted
        line = redacted(line)
    if line.isascii() and "\x7f" not in line:  # nearly always
        return line
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def skip_unused_fields() -> None:
    """Disable record fields that no line shows; they would be most of the cost of a line."""
    logging._srcfile = None  # advised by the Python documentation, as are the flags below
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def config(level: str) -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig` and uvicorn's `log_config`: all lines to stderr."""
    loggers = {name: {"level": level, "propagate": True, "handlers": []} for name in ("uvicorn", "uvicorn.access")}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": loggers,
    }
