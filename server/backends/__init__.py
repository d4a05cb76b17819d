"""The registry of backends: a new one is one module here, which describes itself as `KIND`, and its line in MODULES."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from server.backends.base import Backend
from server.backends.kind import BackendKind
from server.backends.settings import RuntimeSettings

MODULES = (
    "onnx_runtime",
    "tensorrt_plan",
    "pytorch",
    "simulated",
)
"""None of them imports its runtime before a backend of it starts."""


@cache
def registry() -> Mapping[str, BackendKind]:
    """Return the backends by name."""
    kinds: list[BackendKind] = [import_module(f"{__name__}.{module}").KIND for module in MODULES]
    return MappingProxyType({kind.name: kind for kind in kinds})


def create(settings: RuntimeSettings, max_batch: int, device: str | None = None) -> Backend:
    """Return the backend that the settings name, not started, for `device` or for the first of the settings'."""
    kind = registry()[settings.backend]
    return kind.new(settings, max_batch, device or device_names(settings)[0])


def device_names(settings: RuntimeSettings) -> tuple[str, ...]:
    """Return the devices that the settings name, or the default device of their backend."""
    return settings.devices or (registry()[settings.backend].default_device(settings),)
