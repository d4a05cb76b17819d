"""The served models: the name of each artifact of the settings, and the settings of the backend that runs it."""

from pathlib import Path

from server.backends import registry
from server.backends.settings import RuntimeSettings
from server.errors import BackendUnavailable
from server.settings import PREFIX, BackendSettings, SettingsError


def served_models(settings: BackendSettings) -> dict[str, RuntimeSettings]:
    """Map the name of each model to the settings of its backend, the default model first.

    Models on one device share the memory for its buffers; each has its own folder for compiled engines and kernels.
    Raises SettingsError if two artifacts have the same name.
    """
    kind, count = registry()[settings.backend], len(settings.artifact)
    models: dict[str, RuntimeSettings] = {}
    for artifact in settings.artifact:
        own = settings.of_model(artifact, device_cache_bytes=settings.device_cache_bytes // count)
        name = kind.model_name(own)
        if name in models:
            raise SettingsError(
                f"{PREFIX}ARTIFACT: {models[name].artifact} and {artifact} both hold a model called {name}; models "
                "that are served together need different names, which are those of the folders they were exported to"
            )
        if count > 1 and settings.cache_folder is not None:
            own = own.model_copy(update={"cache_folder": settings.cache_folder / _folder_name(name)})
        models[name] = own
    return models


def check_artifacts(settings: BackendSettings) -> None:
    """Check the files of every artifact as the start of its backend does; raises BackendUnavailable, SettingsError."""
    for own in served_models(settings).values():
        try:
            registry()[settings.backend].check_artifact(own)
        except BackendUnavailable as error:
            raise BackendUnavailable(f"{settings.device_names[0]}: {error}") from error


def _folder_name(name: str) -> str:
    return Path(name.replace("/", "_")).name
