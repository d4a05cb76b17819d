"""Tests of planning which file goes where."""

from pathlib import Path

import pytest

from server.cli.restore import plan
from server.errors import InvalidRequest
from server.imaging.codec import OutputFormat


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(source: Path, target: Path, output: OutputFormat = OutputFormat.PNG) -> dict[str, str]:
    return {
        errand.source.relative_to(source).as_posix(): errand.target.relative_to(target).as_posix()
        for errand in plan(source, target, output)
    }


def test_a_folder_keeps_its_tree_and_leaves_out_what_is_no_image(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.JPG", tmp_path / "in/deep/er/b.tiff", tmp_path / "in/notes.txt")
    assert names(tmp_path / "in", tmp_path / "out") == {"a.JPG": "a.png", "deep/er/b.tiff": "deep/er/b.png"}


def test_two_files_of_one_stem_do_not_share_a_target(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.jpg", tmp_path / "in/a.png", tmp_path / "in/b.png")
    assert names(tmp_path / "in", tmp_path / "out", OutputFormat.WEBP) == {
        "a.jpg": "a.jpg.webp",
        "a.png": "a.png.webp",
        "b.png": "b.webp",
    }


def test_results_inside_the_source_folder_are_not_restored_again(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "out/old.png")
    assert names(tmp_path, tmp_path / "out") == {"a.png": "a.png"}


def test_a_file_goes_into_an_existing_folder_under_its_own_name(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    (tmp_path / "out").mkdir()
    (errand,) = plan(tmp_path / "a.jpg", tmp_path / "out", OutputFormat.JPEG)
    assert errand.target == tmp_path / "out/a.jpg"


@pytest.mark.parametrize(("name", "output"), [("b.jpeg", OutputFormat.JPEG), ("b.WEBP", OutputFormat.WEBP)])
def test_the_suffix_of_the_target_names_the_format(name: str, output: OutputFormat, tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    (errand,) = plan(tmp_path / "a.png", tmp_path / name, OutputFormat.PNG)
    assert errand.output is output


def test_what_cannot_be_done_is_said_before_anything_starts(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "empty/readme.txt", tmp_path / "file.png")
    for source, target, reason in (
        ("a.png", "b.gif", "output format"),
        ("none.png", "b.png", "does not exist"),
        ("empty", "out", "holds no image"),
        ("empty", "file.png", "is a file"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            plan(tmp_path / source, tmp_path / target, OutputFormat.PNG)
