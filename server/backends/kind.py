"""BackendKind: how a backend module describes itself to the registry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from server.backends.base import Backend
from server.backends.settings import RuntimeSettings

CPU = r"cpu(:\d+)?"
CUDA = r"cuda:\d+"


def _accept(settings: Any, device: str) -> None:
    """Find nothing wrong with any device."""


@dataclass(frozen=True)
class BackendKind:
    """One backend: its name, the devices it serves, its defaults and its settings.

    `settings` in the callables below is an instance of `settings_type`, or of a class derived from it.
    """

    name: str
    """Its value in PROMPTIR_BACKEND."""
    new: Callable[[Any, int, str], Backend]
    """Makes a backend, not started, from its settings, its largest batch and the name of its device."""
    devices: str
    """Regular expression of the names of its devices."""
    devices_in_words: str
    default_device: Callable[[Any], str]
    """Returns the device that the backend uses if its settings name none."""
    settings_type: type[RuntimeSettings] = RuntimeSettings
    device_fault: Callable[[Any, str], str | None] = _accept
    """Returns one sentence on why the settings do not allow a device, or None if they do."""
    platform: str = ""
    """Its name in the model metadata of the Open Inference Protocol; empty: the name itself."""

    @property
    def own_fields(self) -> frozenset[str]:
        """Names of the settings that only this backend reads."""
        return frozenset(self.settings_type.model_fields.keys() - RuntimeSettings.model_fields.keys())
