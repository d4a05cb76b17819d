"""Tests of planning which file goes where."""

from pathlib import Path

import pytest

from server.cli.restore.inputs import plan, plan_list
from server.errors import InvalidRequest
from server.formats.output import OutputFormat


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(target: Path, *sources: Path, output: OutputFormat = OutputFormat.PNG) -> dict[str, str]:
    base = target.parent
    return {
        Path(item.source).relative_to(base).as_posix(): item.destination.relative_to(target).as_posix()
        for item in plan([str(source) for source in sources], str(target), output)
    }


def test_a_folder_keeps_its_tree_and_leaves_out_what_is_no_image(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.JPG", tmp_path / "in/deep/er/b.tiff", tmp_path / "in/notes.txt")
    expected = {"in/a.JPG": "a.png", "in/deep/er/b.tiff": "deep/er/b.png"}
    assert names(tmp_path / "out", tmp_path / "in") == expected


def test_two_files_of_one_stem_do_not_share_a_target(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.jpg", tmp_path / "in/a.png", tmp_path / "in/b.png")
    assert names(tmp_path / "out", tmp_path / "in", output=OutputFormat.WEBP) == {
        "in/a.jpg": "a.jpg.webp",
        "in/a.png": "a.png.webp",
        "in/b.png": "b.webp",
    }


def test_results_inside_the_source_folder_are_not_restored_again(tmp_path: Path) -> None:
    touch(tmp_path / "in/a.png", tmp_path / "in/out/old.png", tmp_path / "in/out/deep/old.png")
    for source in (str(tmp_path / "in"), str(tmp_path / "in/**/*.png")):
        (item,) = plan([source], str(tmp_path / "in/out"), OutputFormat.PNG)
        assert item.destination == tmp_path / "in/out/a.png"
    with pytest.raises(InvalidRequest, match="is both IN and OUT"):
        plan([str(tmp_path / "in")], str(tmp_path / "in"), OutputFormat.PNG)


def test_several_sources_go_into_a_folder_and_folders_keep_their_names(tmp_path: Path) -> None:
    touch(tmp_path / "one/a.png", tmp_path / "two/a.png", tmp_path / "two/deep/b.png", tmp_path / "c.jpg")
    assert names(tmp_path / "out", tmp_path / "one", tmp_path / "two", tmp_path / "c.jpg") == {
        "one/a.png": "one/a.png",
        "two/a.png": "two/a.png",
        "two/deep/b.png": "two/deep/b.png",
        "c.jpg": "c.png",
    }
    with pytest.raises(InvalidRequest, match="would both become"):
        names(tmp_path / "out", tmp_path / "one/a.png", tmp_path / "two/a.png")


def test_a_pattern_keeps_the_tree_below_its_first_wildcard(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("in/2024/may/a.jpg", "in/2025/b.png", "in/2025/b.txt", "in/c.png")))
    assert names(tmp_path / "out", tmp_path / "in/**/*.*") == {
        "in/2024/may/a.jpg": "2024/may/a.png",
        "in/2025/b.png": "2025/b.png",
        "in/c.png": "c.png",
    }
    assert names(tmp_path / "out", tmp_path / "in/20*/*") == {"in/2025/b.png": "2025/b.png"}
    with pytest.raises(InvalidRequest, match="matches no image"):
        names(tmp_path / "out", tmp_path / "in/*.webp")


def test_a_file_goes_into_a_folder_under_its_own_name(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    (tmp_path / "out").mkdir()
    for target in (str(tmp_path / "out"), f"{tmp_path}/new/"):
        (item,) = plan([str(tmp_path / "a.jpg")], target, OutputFormat.JPEG)
        assert item.destination == Path(target) / "a.jpg"


@pytest.mark.parametrize(("name", "output"), [("b.jpeg", OutputFormat.JPEG), ("b.WEBP", OutputFormat.WEBP)])
def test_the_suffix_of_the_target_names_the_format(name: str, output: OutputFormat, tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    (item,) = plan([str(tmp_path / "a.png")], str(tmp_path / name), OutputFormat.PNG)
    assert item.output is output


def test_what_cannot_be_done_is_said_before_anything_starts(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("a.png", "empty/readme.txt", "full/a.png", "file.png")))
    for source, target, reason in (
        ("a.png", "b.gif", "output format"),
        ("none.png", "b.png", "does not exist"),
        ("empty", "out", "contains no image"),
        ("empty", "file.png", "is a file"),
        ("full", "new.png", "is the name of an image"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            plan([str(tmp_path / source)], str(tmp_path / target), OutputFormat.PNG)


def test_each_line_of_a_list_has_its_own_place(tmp_path: Path) -> None:
    lines = ["# photos", "a/b.jpg", "a/b.png\ta reason", "", "/data/c.tif", "s3://bucket/d%20e.png", "a/b.jpg"]
    placed = {
        item.source: item.destination.relative_to(tmp_path).as_posix()
        for item in plan_list(lines, str(tmp_path), OutputFormat.PNG)
    }
    assert placed == {
        "a/b.jpg": "a/b.jpg.png",
        "a/b.png": "a/b.png",
        "/data/c.tif": "data/c.tif.png",
        "s3://bucket/d%20e.png": "bucket/d e.png",
    }
    for bad in (["../up.png"], ["s3://bucket/../../up.png"], ["# nothing"]):
        with pytest.raises(InvalidRequest, match="list"):
            plan_list(bad, str(tmp_path), OutputFormat.PNG)
    with pytest.raises(InvalidRequest, match="would both become"):
        plan_list(["a.jpg", "a.jpg.png"], str(tmp_path), OutputFormat.PNG)
