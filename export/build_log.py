"""TensorRT logger that collects errors for error messages."""

import logging
from typing import Any

logger = logging.getLogger(__name__)

FAILURES = frozenset({"INTERNAL_ERROR", "ERROR"})
"""Severities that explain a failure; TensorRT's warnings and information go to the debug log."""


def create_build_log(trt: Any, failures: list[str]) -> Any:
    """Create an `ILogger` of the library `trt` that appends each error to `failures`.

    The class is defined inside a function because its base class exists only after the library is loaded.
    """

    class BuildLog(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the bindings reject `super()`: each base class must be initialised by name

        def log(self, severity: Any, message: str) -> None:
            if severity.name in FAILURES:
                failures.append(message.strip())
            logger.debug("%s: %s", severity.name, message)

    return BuildLog()
