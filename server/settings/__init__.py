"""Settings of the server, in groups, read once from the environment."""

from server.settings.access import AccessSettings
from server.settings.backend import BackendSettings
from server.settings.batching import BatchingSettings
from server.settings.environment import TOP, SettingsError, Source, sources
from server.settings.group import PREFIX, is_secret
from server.settings.http import HttpSettings
from server.settings.jobs import JobSettings
from server.settings.limits import MAX_RUN_PIXELS, LimitSettings
from server.settings.tree import Settings, environment_names

__all__ = [
    "MAX_RUN_PIXELS",
    "PREFIX",
    "TOP",
    "AccessSettings",
    "BackendSettings",
    "BatchingSettings",
    "HttpSettings",
    "JobSettings",
    "LimitSettings",
    "Settings",
    "SettingsError",
    "Source",
    "environment_names",
    "is_secret",
    "sources",
]
