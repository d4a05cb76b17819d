"""Tests of the arguments of the command line."""

import argparse
from pathlib import Path

import pytest

from server.cli import bench, main
from server.errors import InvalidRequest


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://host:81", "http://host:81/restore"),
        ("http://host/", "http://host/restore"),
        ("https://host/?format=jpeg", "https://host/restore?format=jpeg"),
        ("http://host/predict?x=1", "http://host/predict?x=1"),
    ],
)
def test_an_address_without_a_path_means_restore(given: str, meant: str) -> None:
    assert bench.address(given) == meant


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["localhost:8000"], "is not a URL"),
        (["http://host", "--sizes", "big"], "'big' is not a size"),
        (["http://host", "--header", "no colon"], "'no colon' is not a header"),
        (["http://host", "--send-deadline"], "--deadline-ms"),
        (["http://host", "--images", "no such folder"], "contains no image"),
    ],
)
def test_a_load_that_cannot_be_is_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 1
    stderr = capsys.readouterr().err
    assert words in stderr
    assert stderr.startswith("promptir: ")
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--clients", "0"], ["--rate", "-1"], ["--rate", "nan"], ["--clients", "2", "--rate", "5"]]
)
def test_numbers_that_make_no_load_are_refused_by_name(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "http://host", *arguments])
    assert arguments[-2] in capsys.readouterr().err


def test_headers_carry_the_deadline_and_the_priority() -> None:
    given = argparse.Namespace(header=["X-A: b:c"], send_deadline=True, deadline_ms=250, priority="batch")
    assert bench._headers(given) == {"X-A": "b:c", "X-Deadline-Ms": "250", "X-Priority": "batch"}
    given.deadline_ms = None
    with pytest.raises(InvalidRequest):
        bench._headers(given)


def test_an_unreadable_run_log_is_named(tmp_path: Path) -> None:
    from server.cli.bench.run_log import read_run_log

    with pytest.raises(OSError, match=r"missing\.csv"):
        read_run_log(tmp_path / "missing.csv", 0, 1)
