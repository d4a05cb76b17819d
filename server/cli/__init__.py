"""The command line: `promptir serve | restore | config | key | bench`."""

import argparse
import os
import sys
from collections.abc import Sequence

from server.app import version
from server.cli import bench, config, key, restore, serve
from server.cli.command_parser import CommandParser
from server.errors import PromptIRServeError
from server.settings import SettingsError

INTERRUPTED = 130  # the shells' convention: 128 + SIGINT
UNREAD = 141  # the same of SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. What the user can mend is one sentence on stderr, not a traceback."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit of Python would try once more
        return UNREAD
    except (SettingsError, PromptIRServeError, OSError) as error:
        print(f"promptir: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="promptir", description="Blind image restoration.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version()}")
    commands = parser.add_subparsers(required=True, metavar="command", parser_class=CommandParser)
    serve.add_command(commands)
    restore.add_command(commands)
    config.add_command(commands)
    key.add_command(commands)
    bench.add_command(commands)
    return parser
