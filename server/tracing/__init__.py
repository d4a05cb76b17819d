"""The traces: what a request did when, as one span with a child for each stage; off, they cost one look-up."""

from server.settings import PREFIX, SettingsError
from server.tracing.request_trace import RequestTrace, Tracing, current, stage

__all__ = ["RequestTrace", "Tracing", "create", "current", "stage"]


def create(version: str) -> Tracing:
    """Traces through OpenTelemetry, not started; SettingsError where its packages are not installed."""
    try:
        from server.tracing.open_telemetry import OpenTelemetry
    except ImportError as error:
        raise SettingsError(
            f"{PREFIX}TRACING=true: {error.name} is not installed; install this package with the extra `tracing`"
        ) from error
    return OpenTelemetry(version)
