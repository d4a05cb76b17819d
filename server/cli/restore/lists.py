"""Lists of sources, a line each: read, and written so that they can be read again."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

STDIN = "-"
_BLANK = " \t\r\n"
_FILE = "file://"


def read_list(file: str) -> list[str]:
    """The lines of a list; `-` is the standard input. They may hold names in any encoding, as files have them."""
    data = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    return os.fsdecode(data).split("\n")  # alone: a name may hold what else Python takes for the end of a line


def sources_of(lines: Iterable[str]) -> list[str]:
    """The sources of a list, each up to a tab in its line; blank lines and # are passed over."""
    entries = [line.partition("\t")[0].strip(_BLANK) for line in lines]
    return [entry for entry in entries if entry and not entry.startswith("#")]


def line_of(source: str) -> str:
    """A source as a line can hold it: a name with a line feed, or that is not UTF-8, as a file URI."""
    if source.isprintable() and source == source.strip() and not source.startswith("#"):
        return source
    return f"{_FILE}{quote(os.fsencode(Path(source).absolute()))}"


def path_of(uri: str) -> str:
    """The path that a file URI names."""
    return os.fsdecode(unquote_to_bytes(urlsplit(uri).path))


def shown(text: str) -> str:
    """Text as a terminal can show it: without characters that move the cursor, or that it cannot encode."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
