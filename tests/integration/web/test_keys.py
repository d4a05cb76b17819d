"""The page before a server that asks for keys."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from server.access.keys_file import Terms, new_key

Image = Callable[..., bytes]
ADA, ADA_LINE = new_key("ada", Terms())
EVE, EVE_LINE = new_key("eve", Terms(suspended=True))
WHOLE_PIXELS = 65_536
LARGE = (300, 400)


@pytest.fixture(scope="module")
def guarded(session_start: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with one key that opens it, that keeps jobs; shared, so that no test may stop it."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text(f"{ADA_LINE}\n{EVE_LINE}")
    settings = {"keys_file": folder / "keys", "jobs_folder": folder / "jobs", "max_whole_pixels": WHOLE_PIXELS}
    return session_start(**settings).until_ready()


def test_the_key_is_asked_for_once_and_opens_photos_and_jobs(guarded: Any, visit: Any, png: Image) -> None:
    guest = visit(guarded)
    guest.choose(("secret.png", png(16, 16, seed=701)), ("secret too.png", png(16, 16, seed=702)))
    note = guest.page.locator("#key-note")
    for key, said in (("a guess", "unknown"), (EVE, "suspended")):
        guest.page.fill("#key-value", key)
        guest.page.keyboard.press("Enter")
        expect(note).to_contain_text(said)
    guest.page.fill("#key-value", ADA)
    guest.page.click("#key [type=submit]")
    guest.until("done", entries=2)
    guest.choose(("large.png", png(*LARGE, seed=703)))
    guest.until("done", entries=3)
    assert "in tiles" in guest.page.text_content("#figures-facts")
    assert guest.page.evaluate("[Object.keys(localStorage).length, document.cookie]") == [0, ""]
    guest.refusals = len(guest.faults)  # each photo is refused once for each key that was none


def test_without_a_key_nothing_is_restored_and_the_page_says_why(guarded: Any, visit: Any, png: Image) -> None:
    guest = visit(guarded)
    guest.choose(("secret.png", png(16, 16, seed=704)))
    expect(guest.page.locator("#key")).to_be_visible()
    guest.page.keyboard.press("Escape")
    guest.until("failed")
    assert "key" in guest.text(".entry .state")
    guest.refusals = 1
