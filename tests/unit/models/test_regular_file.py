"""Tests of opening files that must be regular ones."""

import os
import socket
from pathlib import Path

import pytest

from models.regular_file import open_regular, read_regular


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_regular(path, 4)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", 5)


def test_a_link_is_followed_unless_that_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 5) == b"12345"
    with pytest.raises(OSError, match="regular"):
        open_regular(tmp_path / "link", follow_links=False)
    with open_regular(tmp_path / "file", follow_links=False) as file:
        assert file.read() == b"12345"


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "socket", "endless"])
def test_nothing_else_is_opened_or_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        os.chdir(tmp_path)  # a socket's path must be short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("x")
    else:
        path.symlink_to({"device": "/dev/null", "endless": "/dev/zero"}[kind])
    with pytest.raises(OSError, match="not a regular file"):
        read_regular(path, 10)
