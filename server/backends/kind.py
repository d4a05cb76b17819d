"""BackendKind: how a backend module describes itself to the registry."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.artifact import ArtifactError, Manifest
from models.plan_manifest import PLAN_FILE, PlanManifest
from server.backends.base import Backend
from server.backends.settings import RuntimeSettings

CPU = r"cpu(:\d+)?"
CUDA = r"cuda:\d+"


def _accept(settings: Any, device: str) -> None:
    """Find nothing wrong with any device."""


def _accept_artifact(settings: Any) -> None:
    """Find nothing wrong with any artifact."""


def manifest_of(folder: Path) -> Manifest:
    """Load the manifest of an artifact, which may be a plan; raises ArtifactError."""
    return (PlanManifest if (folder / PLAN_FILE).exists() else Manifest).load(folder)


def name_of(settings: RuntimeSettings) -> str:
    """Return the name in the artifact's manifest; where there is none, the name of its folder or file."""
    try:
        return manifest_of(settings.artifact).name
    except ArtifactError:  # the start of the backend says what is wrong
        return settings.artifact.stem


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
    model_name: Callable[[Any], str] = name_of
    """Returns the name of the model that its settings name, without loading it."""
    check_artifact: Callable[[Any], object] = _accept_artifact
    """Checks the files of the artifact as `start` does, without the runtime; raises BackendUnavailable."""
    platform: str = ""
    """Its name in the model metadata of the Open Inference Protocol; empty: the name itself."""

    @property
    def own_fields(self) -> frozenset[str]:
        """Names of the settings that only this backend reads."""
        return frozenset(self.settings_type.model_fields.keys() - RuntimeSettings.model_fields.keys())
