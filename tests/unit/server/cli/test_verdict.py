"""Tests of the words for what a restoration did to a photo."""

import pytest

from server.cli.restore.verdict import SLIGHT, UNSEEN, verdict

CLEAN = {"noise": 0.02, "rain": 0.01, "haze": 0.5, "jpeg": 0.1}


@pytest.mark.parametrize(
    ("mean_abs", "degradations", "words"),
    [
        (0.0, CLEAN, "looks clean: almost nothing changed"),
        (0.0, None, "almost nothing changed"),
        (UNSEEN / 2, CLEAN | {"noise": 0.9}, "almost nothing changed"),
        (UNSEEN, CLEAN | {"noise": 0.9}, "noise found and reduced"),
        (0.1, CLEAN | {"jpeg": 0.9, "haze": 0.51}, "haze and JPEG blocks found and reduced"),
        (UNSEEN, CLEAN, "slightly changed"),
        (SLIGHT, None, "clearly changed"),
    ],
)
def test_the_words_tell_what_was_found_and_how_much_changed(
    mean_abs: float, degradations: dict[str, float] | None, words: str
) -> None:
    assert verdict(mean_abs, degradations) == words
