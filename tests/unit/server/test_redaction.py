"""Tests of the redaction of clients' text."""

import secrets

import pytest

from server.logs import SHOWN_CHARACTERS, redacted, shortened

KEY = "promptir_" + "x_-9" * 10 + "abc"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"/restore/{KEY}", "/restore/promptir_***"),
        (f"/{KEY}/{KEY}?key={KEY}&x=1", "/promptir_***/promptir_***?key=promptir_***&x=1"),
        ("/a/Authorization: Bearer abc.def", "/a/Authorization: Bearer ***"),
        ("/a/bearer%20abc/b", "/a/bearer%20***/b"),
        ("/basic+YTpi", "/basic+***"),
    ],
)
def test_what_has_the_form_of_a_key_is_not_shown(text: str, expected: str) -> None:
    assert redacted(text) == expected
    assert shortened(text) == expected


@pytest.mark.parametrize("text", ["/v2/models/promptir/infer", "promptir_stage_duration_seconds", "/bearer", "/x" * 50])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert shortened(text) == text


def test_no_key_is_cut_in_two_and_shown_so() -> None:
    for before in range(SHOWN_CHARACTERS - 60, SHOWN_CHARACTERS + 5):
        key = f"promptir_{secrets.token_urlsafe(32)}"
        assert key[9:20] not in shortened("/" + "a" * before + "/" + key)
