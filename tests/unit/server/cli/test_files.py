"""Tests of results that appear whole or not at all."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from server.cli.restore.files import check_free, read, sweep, write
from server.errors import InvalidRequest


def test_a_file_is_written_with_its_folders_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "new/deep/a.png"
    write(target, b"one", overwrite=False)
    write(target, b"two", overwrite=True)
    assert target.read_bytes() == b"two"
    assert list(target.parent.iterdir()) == [target]
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("has_links", [True, False])
def test_a_result_that_came_meanwhile_is_not_overwritten(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "a.png"
    write(target, b"first", overwrite=False)
    with pytest.raises(InvalidRequest, match="--overwrite"):
        write(target, b"second", overwrite=False)
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_or_a_file_in_the_way_of_a_result_is_named(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(InvalidRequest, match=r"would be .*a\.png, which is a folder; move it"):
        check_free(tmp_path / "a.png", overwrite=overwrite)
    (tmp_path / "photos").write_bytes(b"")
    with pytest.raises(InvalidRequest, match=r"photos/deep/a\.png, but .*photos is a file; move it"):
        check_free(tmp_path / "photos/deep/a.png", overwrite=overwrite)
    check_free(tmp_path / "new/a.png", overwrite=overwrite)


@pytest.mark.parametrize("can_skip", [True, False])
def test_only_an_option_that_the_command_has_is_advised(can_skip: bool, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InvalidRequest, match="exists; replace it with --overwrite") as refusal:
        check_free(tmp_path / "a.png", overwrite=False, can_skip=can_skip)
    assert ("--skip-existing" in str(refusal.value)) is can_skip


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path / "a.png", b"data", overwrite=True)
    assert list(tmp_path.iterdir()) == []


def test_what_killed_runs_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = socket.gethostname()
    dead = tmp_path / f".promptir-{host}-{ended.pid}-aa.partial"
    kept = [
        tmp_path / f".promptir-{host}-{os.getppid()}-bb.partial",  # somebody writes it
        tmp_path / ".promptir-elsewhere-1-cc.partial",
        tmp_path / "mine.partial",
    ]
    for path in (dead, *kept):
        path.touch()
    assert sweep([tmp_path, tmp_path / "none"]) == 1
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_sources_are_paths_and_uris(tmp_path: Path) -> None:
    path = tmp_path / "a b.png"
    path.write_bytes(b"image")
    assert read(str(path)) == read(path.as_uri()) == b"image"
    for absent in ("http://127.0.0.1:9/a.png", "nonsense://a/b.png", str(tmp_path / "none")):
        with pytest.raises(OSError, match=r"a\.png|nonsense|none"):
            read(absent)
