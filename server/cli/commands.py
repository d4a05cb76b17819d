"""The commands of the command line, and the errors that they say in one sentence."""

import argparse

from server.app import version
from server.cli import bench, config, key, restore, serve
from server.cli.command_parser import CommandParser
from server.errors import PromptIRServeError
from server.settings import SettingsError

REFUSALS = (SettingsError, PromptIRServeError, OSError)
"""What the user can mend."""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; `run` of what it parses is the command."""
    program = argparse.ArgumentParser(prog="promptir", description="Blind image restoration.")
    program.add_argument("--version", action="version", version=f"%(prog)s {version()}")
    commands = program.add_subparsers(required=True, metavar="command", parser_class=CommandParser)
    for command in (serve, restore, config, key, bench):
        command.add_command(commands)
    return program
