"""Tests of the atomic replacement of artifact folders."""

from pathlib import Path

import pytest

from export.staging import OutputFolderError, staged
from models.artifact import MANIFEST_FILE, MODEL_FILE
from models.plan_manifest import PLAN_FILE


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write_artifact(folder: Path, word: str) -> None:
    (folder / MODEL_FILE).write_text(word)
    (folder / MANIFEST_FILE).write_text(word)


def write_and_fail(folder: Path, error: BaseException) -> None:
    with staged(folder) as staging:
        write_artifact(staging, "new")
        raise error


def test_the_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "artifact"
    with staged(folder) as staging:
        write_artifact(staging, "new")
        assert not folder.exists()
    assert contents(tmp_path) == {f"deep/artifact/{MODEL_FILE}": "new", f"deep/artifact/{MANIFEST_FILE}": "new"}


def test_an_interrupted_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_and_fail(tmp_path / "artifact", KeyboardInterrupt())
    assert not list(tmp_path.iterdir())


def test_a_failed_block_leaves_the_earlier_artifact(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    write_artifact(folder, "old")
    with pytest.raises(ValueError, match="wrong"):
        write_and_fail(folder, ValueError("wrong"))
    assert contents(tmp_path) == {f"artifact/{MODEL_FILE}": "old", f"artifact/{MANIFEST_FILE}": "old"}


def test_a_new_artifact_takes_the_place_of_the_old_one_and_keeps_what_lay_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    (folder / "figures").mkdir(parents=True)
    write_artifact(folder, "old")
    (folder / "MODEL_CARD.md").write_text("card")
    (folder / "figures" / "psnr.json").write_text("{}")
    with staged(folder) as staging:
        write_artifact(staging, "new")
    assert contents(tmp_path) == {
        f"artifact/{MODEL_FILE}": "new",
        f"artifact/{MANIFEST_FILE}": "new",
        "artifact/MODEL_CARD.md": "card",
        "artifact/figures/psnr.json": "{}",
    }


def test_a_folder_with_a_model_card_only_can_be_filled(tmp_path: Path) -> None:
    (tmp_path / "MODEL_CARD.md").write_text("card")
    with staged(tmp_path) as staging:
        write_artifact(staging, "new")
    assert set(contents(tmp_path)) == {MODEL_FILE, MANIFEST_FILE, "MODEL_CARD.md"}


def test_a_folder_in_other_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("photos")
    with pytest.raises(OutputFolderError, match=r"holds other files and no manifest\.json"), staged(tmp_path):
        pytest.fail("the block must not run")
    assert contents(tmp_path) == {"holiday.txt": "photos"}


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "artifact").write_text("photos")
    with pytest.raises(OutputFolderError, match="is a file"), staged(tmp_path / "artifact"):
        pytest.fail("the block must not run")


def test_a_plan_does_not_take_the_place_of_an_onnx_model(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    write_artifact(folder, "old")
    with pytest.raises(OutputFolderError, match="must not replace; name another folder"), staged(folder, PLAN_FILE):
        pytest.fail("the block must not run")
    assert contents(folder) == {MODEL_FILE: "old", MANIFEST_FILE: "old"}


def test_a_plan_takes_the_place_of_an_earlier_plan(tmp_path: Path) -> None:
    folder = tmp_path / "plan"
    for word in ("old", "new"):
        with staged(folder, PLAN_FILE) as staging:
            (staging / PLAN_FILE).write_text(word)
            (staging / MANIFEST_FILE).write_text(word)
    assert contents(tmp_path) == {f"plan/{PLAN_FILE}": "new", f"plan/{MANIFEST_FILE}": "new"}
