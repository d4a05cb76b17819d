"""Tests of the types of numbers on the command line."""

import argparse

import pytest

from server.cli import main
from server.cli.command_parser import not_negative, positive, whole_number


@pytest.mark.parametrize("text", ["0", "101", "-1", "1.5", "ten", "", "1e2", "²"])
def test_a_whole_number_outside_its_bounds_is_named_with_them(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number from 1 to 100"):
        whole_number(1, 100)(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "much"])
def test_numbers_are_finite_and_not_below_0(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is not a number above 0"):
        positive(text)
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is not a number of 0 or more"):
        not_negative(text)
    assert (whole_number(1)("7"), positive("0.5"), not_negative("0")) == (7, 0.5, 0)


def test_a_missing_file_is_told_without_an_error_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restore", "--list", "/nowhere/list.txt", "out"]) == 1
    assert capsys.readouterr().err == "promptir: /nowhere/list.txt: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "usage", "told"),
    [
        (["restore", "a.jpg", "b.png", "--formt=png"], "promptir restore", "--formt=png; did you mean --format?"),
        (["serve", "--prot", "8000"], "promptir serve", "--prot 8000; did you mean --port?"),
        (["config", "everything"], "promptir config", "everything"),
    ],
)
def test_an_unknown_argument_is_reported_by_its_command(
    arguments: list[str], usage: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    written = capsys.readouterr().err
    assert written.startswith(f"usage: {usage} ")
    assert written.endswith(f"{usage}: error: unrecognized arguments: {told}\n")
