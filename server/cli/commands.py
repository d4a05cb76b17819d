"""All commands."""

import argparse

from server.cli import bench, config, key, restore, serve
from server.cli.command_parser import CommandParser
from server.wiring import version


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; the parsed arguments have the command's function as `run`."""
    program = argparse.ArgumentParser(prog="promptir", description="Blind image restoration.")
    program.add_argument("--version", action="version", version=f"%(prog)s {version()}")
    commands = program.add_subparsers(required=True, metavar="command", parser_class=CommandParser)
    for command in (serve, restore, config, key, bench):
        command.add_command(commands)
    return program
