"""Command line flags for settings; each overrides its environment variable."""

import argparse
from collections.abc import Collection
from typing import get_origin

from pydantic import BaseModel

from server.settings import PREFIX, TOP, Settings, environment_names

_DEST = "setting_"
GROUPS = frozenset(group for group, _ in environment_names().values())
"""The setting groups that `serve` accepts: all."""


def add_settings(parser: argparse.ArgumentParser, groups: Collection[str]) -> None:
    """Add a flag for each setting of the named groups; the settings validate the values."""
    flags = parser.add_argument_group("settings", f"each can also be set as the environment variable {PREFIX}<NAME>")
    for name, (group, field) in environment_names().items():
        if group not in groups:
            continue
        info = (Settings if group == TOP else _group_model(group)).model_fields[field]
        flags.add_argument(
            f"--{field.replace('_', '-')}",
            dest=_DEST + name.lower(),
            metavar="VALUE",
            action="append" if get_origin(info.annotation) is tuple else "store",
            help=(info.description or "").replace("%", "%%"),
        )


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Read the settings from the environment, overridden by the given flags; raises SettingsError."""
    return Settings.from_environment(given_flags(arguments))


def given_flags(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the flags' values by field name; None for flags that were not given.

    Values of a repeated flag are joined by commas.
    """
    flags = {name.removeprefix(_DEST): value for name, value in vars(arguments).items() if name.startswith(_DEST)}
    return {name: ",".join(value) if isinstance(value, list) else value for name, value in flags.items()}


def _group_model(group: str) -> type[BaseModel]:
    model = Settings.model_fields[group].annotation
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"{group} is not a group of settings")
    return model
