"""`promptir config`: prints the settings in effect and the source of each, after the checks of `promptir serve`."""

import argparse
import json
import sys
from typing import Any

from server.cli.settings_flags import GROUPS, add_settings, given_flags
from server.restore.served_models import check_artifacts
from server.settings import PREFIX, Settings, Source, environment_names, is_secret, sources

HIDDEN = "********"


def add_command(commands: Any) -> None:
    """Add `config` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "config",
        help="print the settings that `serve` would use, and the source of each",
        description="Rejects settings, keys and artifacts that `serve` would reject, with the same message. "
        "Secrets are not printed.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_settings(parser, GROUPS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print every setting; raises SettingsError, KeysUnavailable and BackendUnavailable as `serve` does."""
    flags = given_flags(arguments)
    settings = Settings.from_environment(flags)
    _check(settings)
    origins = sources(flags)
    rows = {name: (_shown(settings, name), origins.get(name, "default")) for name in environment_names()}
    print(_as_json(rows) if arguments.json else _as_table(rows))
    if (choice := settings.backend.choice) is not None:  # not part of the JSON, which holds settings only
        print(f"{PREFIX}BACKEND=auto chose {choice.sentence}", file=sys.stderr if arguments.json else sys.stdout)
    return 0


def _check(settings: Settings) -> None:
    """Check what a start would, without a port, a jobs folder, a device or a runtime."""
    from server.app import create_app  # imports FastAPI

    if (access := create_app(settings).state.services.access) is not None:
        access.open()
    check_artifacts(settings.backend)


def _shown(settings: Settings, name: str) -> object:
    """Return the value as a JSON type; secrets are masked."""
    group, field = environment_names()[name]
    holder = getattr(settings, group) if group else settings
    value = getattr(holder, field)
    if is_secret(type(holder).model_fields[field].annotation):
        return HIDDEN if value else None
    return settings.in_effect().get(name) or holder.model_dump(mode="json")[field]


def _as_json(rows: dict[str, tuple[object, Source]]) -> str:
    return json.dumps({PREFIX + name: {"value": value, "source": source} for name, (value, source) in rows.items()})


def _as_table(rows: dict[str, tuple[object, Source]]) -> str:
    lines = [(PREFIX + name, _as_text(value), source) for name, (value, source) in rows.items()]
    widths = [max(len(line[column]) for line in lines) for column in (0, 2)]
    return "\n".join(f"{name:{widths[0]}}  {source:{widths[1]}}  {value}".rstrip() for name, value, source in lines)


def _as_text(value: object) -> str:
    """Format a value as in the environment; empty if it is unset."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ", ".join(f"{key}: {part}" for key, part in value.items())
    return "" if value is None else str(value)
