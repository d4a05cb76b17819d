"""Tests of lists: every name that a file can have goes into a line and comes back."""

import io
import os
import sys
from pathlib import Path

import pytest

from server.cli.restore.files import read
from server.cli.restore.inputs import plan_list
from server.cli.restore.lists import STDIN, line_of, read_list, shown, sources_of
from server.formats.output import OutputFormat

AWKWARD = [
    b"a b.png",
    b"caf\xe9.png",
    b"new\nline.png",
    b"tab\there.png",
    b" blank.png ",
    b"#hash.png",
    b"100%25.png",
    b"form\x0cfeed.png",
    "line\u2028separator.png".encode(),
    "next\x85line.png".encode(),
    "größe 日本.png".encode(),
    b"\x1b[31mred.png",
    b"carriage\rreturn.png",
]


@pytest.mark.parametrize("name", AWKWARD)
def test_a_source_that_was_written_down_is_found_again(name: bytes, tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(name)
    source.write_bytes(name)
    line = line_of(str(source))
    assert line.isprintable()
    (tmp_path / "list").write_text(f"{line}\tit failed\n\n# {line}\n", encoding="utf-8")
    (item,) = plan_list(read_list(str(tmp_path / "list")), str(tmp_path / "out"), OutputFormat.PNG)
    assert read(item.source) == name
    place = source.relative_to("/")
    assert item.destination == tmp_path / "out" / (
        place if place.suffix == ".png" else place.with_name(f"{place.name}.png")
    )


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"form\x0cfeed.png", "line\u2028separator.png".encode()])
def test_a_list_that_other_programs_made_holds_names_as_they_are(
    name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list").write_bytes(b"/photos/" + name + b"\r\n/photos/b.png\n")
    expected = [os.fsdecode(b"/photos/" + name), "/photos/b.png"]
    assert sources_of(read_list(str(tmp_path / "list"))) == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((tmp_path / "list").read_bytes())))
    assert sources_of(read_list(STDIN)) == expected


def test_plain_names_and_uris_are_written_as_they_are() -> None:
    for source in ("in/a b.png", "s3://bucket/a.png", "größe.png"):
        assert line_of(source) == source


def test_what_a_terminal_would_obey_is_shown_and_not_done() -> None:
    assert shown("a\x1b[31m\nb\udce9 ü") == r"a\x1b[31m\nb\udce9 ü"
