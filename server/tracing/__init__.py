"""Request traces: one span per request, with a child per stage; disabled tracing costs one lookup."""

from server.settings import PREFIX, SettingsError
from server.tracing.request_trace import RequestTrace, Tracing, current, stage

__all__ = ["RequestTrace", "Tracing", "create", "current", "stage"]


def create(version: str) -> Tracing:
    """Create tracing with OpenTelemetry, not started; raises SettingsError if its packages are not installed."""
    try:
        from server.tracing.open_telemetry import OpenTelemetry
    except ImportError as error:
        raise SettingsError(
            f"{PREFIX}TRACING=true: {error.name} is not installed; install this package with the extra `tracing`"
        ) from error
    return OpenTelemetry(version)
