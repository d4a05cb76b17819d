"""Photos through the page: how they come, how far they are, what becomes of them."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from playwright.sync_api import Route, expect

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]
WHOLE_PIXELS = 65_536
LARGE = (512, 640)
MOST_BYTES = 2 * 2**20

# A file in the hands of a visitor, as the page's own script sees it: dropped or pasted.
BRING = """([name, base64, way]) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: "image/png" }));
  const init = { bubbles: true, cancelable: true };
  if (way === "paste") document.dispatchEvent(new ClipboardEvent("paste", { ...init, clipboardData: carried }));
  else for (const type of ["dragenter", "dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(type, { ...init, dataTransfer: carried }));
}"""


@pytest.fixture(scope="module")
def jobs(session_start: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that keeps jobs, whose tiles can be held, and with limits that are soon met."""
    folder = tmp_path_factory.mktemp("jobs")
    limits = {"max_whole_pixels": WHOLE_PIXELS, "max_image_pixels": 1_000_000, "max_upload_bytes": MOST_BYTES}
    # Without the guide, for which tiles wait: the first run that ends is counted.
    settings = {"jobs_folder": folder / "jobs", "max_batch": 1, "tone_guide": False}
    return session_start(gate=folder / "gate", **settings, **limits).until_ready()


def test_a_photo_comes_back_under_the_name_the_server_gives_it(
    server: Any, visit: Any, png: Image, samples: Samples
) -> None:
    guest = visit(server)
    photo = png(60, 90, seed=101)
    guest.choose(("ein Hügel.png", photo))
    guest.until("done")
    guest.settle()
    with guest.page.expect_download() as expected:
        guest.page.click("#download")
    assert expected.value.suggested_filename == "ein Hügel-restored.png"
    np.testing.assert_array_equal(samples(Path(expected.value.path()).read_bytes()), samples(photo))
    assert guest.text("#caption-facts") == "90 \u00d7 60 \u00b7 Almost nothing changed"
    assert not guest.page.is_visible("#timings")
    guest.page.click("#figures summary")
    assert "in one piece" in guest.text("#figures-facts")
    stages = guest.page.locator(".timing dt").all_inner_texts()
    assert stages == ["Reading the file", "Waiting for its run", "The network", "Writing the file"]
    assert guest.text("#news").startswith("ein Hügel.png: Almost nothing changed")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_photo_may_be_dropped_or_pasted(way: str, server: Any, visit: Any, png: Image) -> None:
    guest = visit(server)
    photo = base64.b64encode(png(20, 30, seed=len(way))).decode()
    guest.page.evaluate(BRING, [f"{way}.png", photo, way])
    guest.until("done")
    assert guest.text(".entry .name") == f"{way}.png"
    assert not guest.page.locator("#drop").is_visible()


def test_several_photos_have_an_entry_each(server: Any, visit: Any, png: Image) -> None:
    guest = visit(server)
    guest.choose(*((f"{index}.png", png(24, 36, seed=200 + index)) for index in range(5)))
    guest.until("done", entries=5)
    assert guest.page.locator(".entry .name").all_inner_texts() == [f"{index}.png" for index in range(5)]
    guest.page.click(".entry:nth-child(4) .open")
    assert guest.text("#caption-name") == "3.png"
    assert guest.page.get_attribute(".entry:nth-child(4) .open", "aria-pressed") == "true"
    guest.page.click("[aria-label='Remove 3.png']")
    assert guest.page.locator(".entry").count() == 4
    guest.page.click("#clear")
    assert not guest.page.is_visible("#tray")
    assert guest.page.is_visible("#restore-sample")


def test_what_is_no_photo_is_told_in_a_sentence(server: Any, visit: Any) -> None:
    guest = visit(server)
    guest.choose(("notes.txt", b"These are words."))
    guest.until("failed")
    guest.refusals = 1
    sentence = guest.text(".entry .state")
    assert "not an image" in sentence
    assert "JPEG, PNG, WebP" in sentence
    expect(guest.page.locator("#blank")).to_contain_text(sentence)  # the picture may be found unreadable later
    assert sentence in guest.text("#news")
    assert not guest.page.is_visible("#download")
    assert not guest.page.is_visible("[aria-label='Try notes.txt again']"), "it would be refused again"


def test_a_photo_beyond_a_limit_is_told_the_limit(jobs: Any, visit: Any, png: Image) -> None:
    guest = visit(jobs)
    guest.choose(("wide.png", png(1001, 1000, 1)))
    guest.until("failed")
    guest.refusals = 1
    assert "A photo may have 1\u00a0megapixel." in guest.text(".entry .state")
    assert guest.text("#working-text") == guest.text(".entry .state")


def test_a_file_beyond_the_limit_is_not_even_sent(jobs: Any, visit: Any) -> None:
    guest = visit(jobs)
    asked: list[str] = []
    guest.page.on("request", lambda request: asked.append(request.method))
    guest.choose(("long.png", bytes(MOST_BYTES + 1)))
    guest.until("failed")
    assert guest.text(".entry .state") == "The file has 2.1 MB. It may have 2 MB."
    assert "POST" not in asked


def test_what_no_browser_shows_is_restored_all_the_same(server: Any, visit: Any, samples: Samples) -> None:
    guest = visit(server)
    photo = np.random.default_rng(305).integers(0, 65536, (20, 30, 3), np.uint16)
    guest.page.select_option("#format", "same")
    guest.choose(("scan.tif", cv2.imencode(".tif", photo)[1].tobytes()))
    guest.until("done")
    expect(guest.page.locator("#blank")).to_contain_text("It is restored, though")
    with guest.page.expect_download() as expected:
        guest.page.click("#download")
    assert expected.value.suggested_filename == "scan-restored.tif"
    np.testing.assert_array_equal(samples(Path(expected.value.path()).read_bytes()), photo)


def test_options_are_asked_for_and_can_be_asked_for_again(server: Any, visit: Any, png: Image) -> None:
    guest = visit(server)
    guest.page.select_option("#format", "webp")
    guest.choose(("hill.png", png(32, 48, seed=301)))
    guest.until("done")
    assert guest.page.get_attribute("#download", "download") == "hill-restored.webp"
    assert not guest.page.is_visible("#again")
    with guest.page.expect_request(lambda request: "/restore" in request.url) as expected:
        guest.page.select_option("#format", "jpeg")
        guest.page.focus("#strength")
        guest.page.keyboard.press("Home")
        guest.page.click("#again")
    assert expected.value.url.endswith("/restore?format=jpeg&strength=0")
    guest.page.wait_for_selector("#download[download='hill-restored.jpg']")


def test_a_large_photo_is_a_job_whose_tiles_are_counted(jobs: Any, visit: Any, png: Image, samples: Samples) -> None:
    guest = visit(jobs)
    photo = png(*LARGE, seed=401)
    asked: list[str] = []
    guest.page.on("request", lambda request: asked.append(f"{request.method} {request.url.removeprefix(jobs.url)}"))
    with jobs.holding():
        guest.choose(("large.png", photo))
        jobs.until(jobs.running)
        jobs.end_one()
        expect(guest.page.locator(".entry .state")).to_have_text(re.compile(r"^Tile 1 of \d+"))
        assert int(guest.page.get_attribute(".entry [role=progressbar]", "aria-valuenow") or 0) > 0
    guest.until("done")
    assert any(line.startswith("POST /v1/jobs?") for line in asked)
    assert not any(line.startswith("POST /restore") for line in asked)
    assert "in tiles" in guest.page.text_content("#figures-facts")
    assert guest.page.locator(".timing").count() == 4
    with guest.page.expect_download() as expected:
        guest.page.click("#download")
    assert expected.value.suggested_filename == "large-restored.png"
    np.testing.assert_array_equal(samples(Path(expected.value.path()).read_bytes()), samples(photo))
    jobs.until(lambda: jobs.metric("promptir_jobs_bytes") == 0)


def test_a_photo_that_is_chosen_at_once_waits_until_the_page_knows_how_to_send_it(
    jobs: Any, visit: Any, png: Image
) -> None:
    guest = visit(jobs)
    asked: list[str] = []
    guest.page.on("request", lambda request: asked.append(f"{request.method} {request.url.removeprefix(jobs.url)}"))
    held: list[Route] = []
    guest.page.route("**/v1/limits", lambda route: held.append(route))  # Playwright marks it, and a method cannot be
    guest.page.reload()
    guest.page.wait_for_selector("#service[data-status=ready]")
    guest.choose(("large.png", png(*LARGE, seed=404)))
    expect(guest.page.locator(".entry .state")).to_have_text("Waiting")
    held[0].continue_()
    guest.until("done")
    sent = [line.partition("?")[0] for line in asked if line.startswith("POST")]
    assert sent == ["POST /v1/jobs"]


def test_news_that_break_off_are_taken_up_again(jobs: Any, visit: Any, png: Image) -> None:
    guest = visit(jobs)
    breaks = iter([True, False])
    guest.page.route("**/events", lambda route: route.abort() if next(breaks) else route.continue_())
    guest.choose(("patient.png", png(260, 260, seed=403)))
    guest.until("done")
    guest.refusals = 1


def test_a_photo_that_is_removed_is_no_longer_worked_on(jobs: Any, visit: Any, png: Image) -> None:
    guest = visit(jobs)
    with jobs.holding():
        guest.choose(("gone.png", png(*LARGE, seed=402)))
        jobs.until(jobs.running)
        jobs.end_one()
        expect(guest.page.locator(".entry .state")).to_have_text(re.compile("^Tile"))
        with guest.page.expect_request(lambda request: request.method == "DELETE"):
            guest.page.click("[aria-label='Remove gone.png']")
        jobs.until(lambda: jobs.metric('promptir_jobs{state="running"}') == 0)
    assert guest.page.locator(".entry").count() == 0


def test_a_refusal_for_load_is_sent_again(server: Any, visit: Any, png: Image) -> None:
    guest = visit(server)
    refusals = iter([True, False])

    def answer(route: Route) -> None:
        if next(refusals):
            problem = '{"detail": "The backlog is full.", "status": 429}'
            headers = {"Content-Type": "application/problem+json", "Retry-After": "1"}
            route.fulfill(status=429, headers=headers, body=problem)
        else:
            route.continue_()

    guest.page.route("**/restore?*", answer)
    guest.choose(("patient.png", png(16, 16, seed=501)))
    guest.until("done")
    assert any("next try in 1.0 s" in words for words in guest.said()), guest.said()
    guest.refusals = 1


def test_a_server_that_is_gone_is_told_and_the_photo_can_be_tried_again(server: Any, visit: Any, png: Image) -> None:
    guest = visit(server)
    guest.page.wait_for_selector("#service[data-status=ready]")
    guest.page.context.set_offline(True)
    guest.choose(("later.png", png(16, 16, seed=504)))
    guest.until("failed")
    assert "does not answer" in guest.text(".entry .state")
    guest.page.context.set_offline(False)
    guest.page.click("[aria-label='Try later.png again']")
    guest.until("done")
    guest.refusals = 1


def test_the_page_works_below_a_path_of_a_proxy(server: Any, visit: Any, png: Image) -> None:
    guest = visit(server)
    below = f"{server.url}/photos/"

    def forward(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace(below, f"{server.url}/")))

    guest.page.route(f"{below}**", forward)
    asked: list[str] = []
    guest.page.on("request", lambda request: asked.append(request.url))
    guest.page.goto(below)
    guest.page.wait_for_selector("#service[data-status=ready]")
    guest.choose(("hill.png", png(16, 16, seed=505)))
    guest.until("done")
    assert all(url.startswith((below, "blob:")) for url in asked), asked
