"""The ArtifactWatcher: replaces a served artifact by a better one of the same weights that appears in a folder."""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from models.artifact import MANIFEST_FILE, MAX_MANIFEST_BYTES, ArtifactError, Manifest, sha256_of
from models.plan_manifest import PlanManifest
from models.regular_file import read_regular
from server.backends import registry
from server.backends.base import BackendInfo
from server.backends.kind import manifest_of
from server.backends.settings import RuntimeSettings
from server.errors import BackendUnavailable
from server.metrics import Metrics
from server.restore.served_models import served_models
from server.settings import BackendSettings, SettingsError

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""Seconds between two looks at the folder."""
# A device that is restarting may take it a little later; a plan that cannot be loaded fails every time.
MOST_TRIES = 3

Replace = Callable[[str, RuntimeSettings], Awaitable[BackendInfo]]
"""Serves the model of a name with the backend of other settings."""


class ArtifactWatcher:
    """Watches a folder for a verified artifact and lets the devices serve it; a refused one changes nothing.

    Verified means that its parity was measured and that it was made from the weights of a served model, which it then
    replaces; its hash is checked when it is loaded. A manifest is tried a few times and then ignored until it changes.
    """

    def __init__(
        self,
        folder: Path,
        present: BackendSettings,
        replace: Replace,
        metrics: Metrics,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._folder = folder
        self._present = present
        self._replace = replace
        self._metrics = metrics
        self._sleep = sleep
        self._seen = ""
        self._tries = 0

    async def run(self, started: Awaitable[object]) -> None:
        """Look at the folder from the end of the start until cancelled."""
        with suppress(Exception):  # its starter reports this
            await asyncio.shield(started)
        while True:
            await self.look()
            await self._sleep(LOOK_S)

    async def look(self) -> None:
        """Serve the artifact in the folder if it is new and sound."""
        seen = await asyncio.to_thread(_fingerprint, self._folder)
        if seen != self._seen:
            self._seen, self._tries = seen, 0
        if not seen or self._tries >= MOST_TRIES:
            return
        self._tries += 1
        try:
            model, better = await asyncio.to_thread(successor, self._folder, self._present)
            info = await self._replace(model, better)
        except (ArtifactError, BackendUnavailable, SettingsError) as error:
            self._metrics.count_swap("failed")
            log.error("a better artifact is not served", extra={"folder": str(self._folder), "reason": str(error)})
        else:
            self._tries = MOST_TRIES
            self._metrics.count_swap("done")
            log.info("a better artifact is served", extra={"model": model} | info.log_fields)


def successor(folder: Path, present: BackendSettings) -> tuple[str, RuntimeSettings]:
    """Return the model that the artifact in `folder` replaces, and the settings of the backend that serves it.

    Raises ArtifactError if it may replace nothing.
    """
    manifest = manifest_of(folder)
    if not manifest.parity:
        raise ArtifactError(f"{folder} is not verified: its parity was not measured")
    model, replaced = _replaced(folder, manifest, present)
    backend = "tensorrt" if isinstance(manifest, PlanManifest) else "onnx"
    of_others = {field for kind in registry().values() if kind.name != backend for field in kind.own_fields}
    given = present.model_dump(include=present.model_fields_set - of_others - {"successor"})
    chosen = {"backend": backend, "artifact": (folder,), "devices": present.device_names}
    try:
        better = BackendSettings.model_validate(given | chosen)
    except ValidationError as error:
        reasons = "; ".join(entry["msg"].removeprefix("Value error, ") for entry in error.errors())
        raise ArtifactError(f"{folder} cannot be served: {reasons}") from None
    shared = {name: getattr(replaced, name) for name in ("device_cache_bytes", "cache_folder")}
    return model, better.of_model(folder, **shared)


def _replaced(folder: Path, manifest: Manifest, present: BackendSettings) -> tuple[str, RuntimeSettings]:
    """Find the model that was made from the weights of a manifest, by its name if there are several."""
    models = {
        name: settings
        for name, settings in served_models(present).items()
        if manifest.weights_sha256 is not None and manifest.weights_sha256 == weights_of(settings.artifact)
    }
    if not models:
        raise ArtifactError(f"{folder} was not made from the weights that are served")
    name = manifest.name if manifest.name in models else next(iter(models))
    return name, models[name]


def weights_of(artifact: Path) -> str | None:
    """Return the SHA-256 of the weights that an artifact folder was made from, or of a weights file."""
    if artifact.is_dir():
        return manifest_of(artifact).weights_sha256
    try:
        return sha256_of(artifact)
    except OSError as error:
        raise ArtifactError(f"cannot read {artifact}: {error.strerror}") from error


def _fingerprint(folder: Path) -> str:
    """Identify the artifact in the folder; empty if there is none."""
    try:
        return hashlib.sha256(read_regular(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES)).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:  # something is there; loading it will say what is wrong
        return str(error)
