"""Lists of sources, one per line: reading and writing."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

STDIN = "-"
_BLANK = " \t\r\n"
_FILE = "file://"


def read_list(file: str) -> list[str]:
    """Read the lines of a list; `-` is standard input. Names may have any encoding, like file names."""
    data = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    return os.fsdecode(data).split("\n")  # not splitlines: a name may contain other line separators


def sources_of(lines: Iterable[str]) -> list[str]:
    """Extract the sources from the lines, each up to the first tab; blank lines and # comments are skipped."""
    entries = [line.partition("\t")[0].strip(_BLANK) for line in lines]
    return [entry for entry in entries if entry and not entry.startswith("#")]


def line_of(source: str) -> str:
    """Write a source as one line; names with line feeds or invalid UTF-8 become file URIs."""
    if source.isprintable() and source == source.strip() and not source.startswith("#"):
        return source
    return f"{_FILE}{quote(os.fsencode(Path(source).absolute()))}"


def path_of(uri: str) -> str:
    """Return the path of a file URI."""
    return os.fsdecode(unquote_to_bytes(urlsplit(uri).path))


def shown(text: str) -> str:
    """Escape characters that would move the cursor or that a terminal cannot encode."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
