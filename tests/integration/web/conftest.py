"""A real Chromium on the page of a real server."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, Request, expect, sync_playwright

LISTEN = """() => {
  window.said = [];
  new MutationObserver(() => said.push(...[...document.querySelectorAll(".entry .state")].map((at) => at.textContent)))
    .observe(document.getElementById("entries"), { childList: true, subtree: true });
}"""
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS = 60_000
DESK = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 375, "height": 720}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}


class Visit:
    """One visitor: a page, and what a page must not do while it is looked at."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.faults: list[str] = []
        self.strangers: list[str] = []
        self.refusals = 0
        """Answers of 400 and more that a test provokes; Chromium itself writes each to the console."""
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: message.type in ("error", "warning") and self.faults.append(message.text))
        page.on("request", self._look_at)

    def _look_at(self, request: Request) -> None:
        if not request.url.startswith((self.origin, f"blob:{self.origin}")):
            self.strangers.append(request.url)

    def open(self) -> "Visit":
        self.page.goto(self.origin)
        self.page.wait_for_selector("#service[data-status=ready]")
        self.page.wait_for_function("() => document.getElementById('before').naturalWidth > 0")
        self.page.evaluate(LISTEN)
        return self

    def choose(self, *files: tuple[str, bytes]) -> None:
        named = [{"name": name, "mimeType": "application/octet-stream", "buffer": data} for name, data in files]
        self.page.set_input_files("#files", named)  # type: ignore[arg-type]

    def pick(self, name: str, value: str) -> None:
        """Choose a radio button by its label, as a person does: once the label stands still."""
        choice = self.page.locator(f"[name={name}][value={value}]")
        self.page.locator("label").filter(has=choice).click()
        expect(choice).to_be_checked()

    def until(self, state: str, entries: int = 1) -> None:
        """Wait until a number of entries of the tray are in a state."""
        self.page.wait_for_function(
            "([state, entries]) => document.querySelectorAll(`.entry[data-state=${state}]`).length === entries",
            arg=[state, entries],
        )

    def settle(self) -> None:
        """Wait until the restored photo is on the stage and its reveal is over."""
        self.page.wait_for_selector("#divider[aria-valuenow='50']:not([hidden])")

    def said(self) -> list[str]:
        """Return what the entries of the tray have said so far: words of a second may pass between two looks."""
        found: list[str] = self.page.evaluate("window.said")
        return found

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def close(self) -> None:
        self.page.context.close()
        assert self.strangers == []
        unexpected = [fault for fault in self.faults if not fault.startswith("Failed to load resource")]
        assert unexpected == []
        assert len(self.faults) == self.refusals, self.faults


Visiting = Callable[..., Visit]


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The Chromium of this machine; the test is skipped where there is none."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    return path


# Not for the session: Playwright keeps an event loop in this thread while it runs, and other tests have their own.
@pytest.fixture(scope="module")
def chromium(chromium_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        expect.set_options(timeout=WAIT_MS)
        browser = launch(playwright, chromium_path)
        yield browser
        browser.close()


def launch(playwright: Playwright, path: str) -> Browser:
    # As root, as in most containers, Chromium has no sandbox; it sees nothing here but our own page.
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])


@contextmanager
def visiting(chromium: Browser, origin: str, **how: Any) -> Iterator[Visit]:
    context = chromium.new_context(**(DESK | how))
    context.set_default_timeout(WAIT_MS)
    visit = Visit(context.new_page(), origin)
    try:
        yield visit
    except BaseException:
        context.close()
        raise
    visit.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visiting]:
    """Open the page of a server: `visit(server, **how)`, with what a new context of Playwright takes."""
    with ExitStack() as visits:
        yield lambda server, **how: visits.enter_context(visiting(chromium, server.url, **how)).open()


@pytest.fixture
def viewer(chromium: Browser) -> Iterator[Visiting]:
    """Open the viewer of the API: `viewer(server, path)`."""

    def opened(server: Any, path: str) -> Visit:
        guest = visits.enter_context(visiting(chromium, server.url))
        guest.page.goto(server.url + path)
        guest.page.wait_for_selector(".opblock")
        return guest

    with ExitStack() as visits:
        yield opened


@pytest.fixture
def phone() -> dict[str, Any]:
    return PHONE
