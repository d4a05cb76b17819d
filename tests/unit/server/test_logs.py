"""Tests of the logs."""

import json
import logging
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from server import logs

PROJECT = Path(logs.__file__).parents[1]
# In a separate process, because configuring logging here would remove the test runner's handlers.
CONFIGURED_PROCESS = """
import logging
from uvicorn.config import Config
from server import logs

Config(app="unused", log_config=logs.config("INFO"), log_level="info")
logging.getLogger("server").debug("too much")
logging.getLogger("server").info("ours")
logging.getLogger("uvicorn.error").info("started", extra={"color_message": "in colour"})
logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:5000", "GET", "/readyz", "1.1", 200)
"""


def _line(name: str, message: str, *args: object, exc_info: Any = None, **extra: object) -> dict[str, Any]:
    record = logging.getLogger(name).makeRecord(
        name, logging.INFO, "file.py", 1, message, args, exc_info, func=None, extra=extra
    )
    text = logs.JsonFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert isinstance(line, dict)
    return line


def test_a_line_has_time_level_logger_message_and_the_extra_fields() -> None:
    line = _line("server.somewhere", "ran %d images", 3, shape=(3, 8, 8))
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "INFO", "logger": "server.somewhere", "message": "ran 3 images", "shape": [3, 8, 8]}


def test_the_request_id_of_the_context_is_on_the_line() -> None:
    token = logs.request_id.set("abc")
    inside = _line("server", "inside")
    logs.request_id.reset(token)
    assert inside["request_id"] == "abc"
    assert "request_id" not in _line("server", "outside")


def test_an_exception_stays_on_one_line_with_its_traceback() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        line = _line("server", "it failed", exc_info=sys.exc_info())
    assert line["message"] == "it failed"
    assert "ValueError: first\nsecond" in line["traceback"]


def test_a_value_json_does_not_know_is_written_as_text() -> None:
    assert _line("server", "odd", value={1})["value"] == "{1}"


def test_every_value_that_json_knows_is_written_as_json_writes_it() -> None:
    values = {"a": 'quo"te\n\x00é', "b": 1.5, "c": True, "d": None, "e": 2**70, "f": [1, {"g": "h"}], 'na"me': 0}
    assert {name: value for name, value in _line("server", "all", **values).items() if name in values} == values


def test_the_time_is_that_of_the_record_to_the_millisecond() -> None:
    formatter = logs.JsonFormatter()
    for created in (1e9, 1e9 + 0.25, 1e9 + 0.999, 1e9 + 1.5, 1e9):  # threads may see an older second
        record = logging.makeLogRecord({"created": created})
        time = datetime.fromisoformat(json.loads(formatter.format(record))["time"])
        assert abs(time.timestamp() - created) < 0.001


def test_an_access_line_of_uvicorn_has_its_fields() -> None:
    line = _line("uvicorn.access", '%s - "%s %s HTTP/%s" %d', "127.0.0.1:5000", "POST", "/restore", "1.1", 200)
    assert (line["client"], line["method"], line["path"], line["status"]) == ("127.0.0.1:5000", "POST", "/restore", 200)


def test_configured_through_uvicorn_every_line_appears_once_on_stderr() -> None:
    process = subprocess.run(
        [sys.executable, "-c", CONFIGURED_PROCESS], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in process.stderr.splitlines()]
    assert [line["logger"] for line in lines] == ["server", "uvicorn.error", "uvicorn.access"]
    assert "color_message" not in lines[1]
    assert process.stdout == ""


@pytest.mark.parametrize(
    "odd", ["\x7f", "\x85", "\x9b31m", "\u2028", "\u2029", "\u202e", "\u2066", "\ufeff", "\x1b[31m", "\n"]
)
def test_what_would_end_or_turn_a_line_is_escaped_and_reads_back_as_it_was(odd: str) -> None:
    record = logging.makeLogRecord({"msg": f"before{odd}after", "path": odd})
    text = logs.JsonFormatter().format(record)
    assert text.isprintable()
    assert len(text.splitlines()) == 1
    line = json.loads(text)
    assert (line["message"], line["path"]) == (f"before{odd}after", odd)


def test_words_of_other_languages_stay_as_they_are() -> None:
    assert "\u6771\u4eac caf\u00e9" in logs.JsonFormatter().format(
        logging.makeLogRecord({"msg": "\u6771\u4eac caf\u00e9"})
    )
