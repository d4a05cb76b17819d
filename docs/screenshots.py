"""Take pictures of the web page: light, dark and on a phone, each with a sample restored by a running server.

Usage: start a server (`make serve`), then `make screenshots`; needs Chromium (`apt-get install chromium`).
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

SERVER = "http://127.0.0.1:8000/"
FOLDER = Path(__file__).resolve().parent / "pictures"
DESK = {"viewport": {"width": 1360, "height": 860}}
PHONE = {"viewport": {"width": 390, "height": 880}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
LARGEST_BYTES = 200_000
RESTORE_TIMEOUT_MS = 120_000

SHOTS = {
    "page-light": ("town", None, {**DESK, "color_scheme": "light"}),
    "page-dark": ("cat", "noise", {**DESK, "color_scheme": "dark"}),
    "page-phone": ("rocket", "rain", {**PHONE, "color_scheme": "light"}),
}


def main(server: str = SERVER) -> int:
    """Write all pictures to docs/pictures."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        sys.exit("Chromium is not installed: apt-get install chromium")
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, (sample, kind, look) in SHOTS.items():
            picture = shot(browser, server, sample, kind, look)
            (FOLDER / f"{name}.jpg").write_bytes(picture)
            print(f"{name}.jpg: {len(picture)} bytes")
        browser.close()
    return 0


def shot(browser: Browser, server: str, sample: str, kind: str | None, look: dict[str, object]) -> bytes:
    """Return a JPEG below LARGEST_BYTES of the page after it has restored one sample; a real one has no kind."""
    page = browser.new_page(**look, reduced_motion="reduce")  # type: ignore[arg-type]
    page.goto(server)
    page.wait_for_selector("#service[data-status=ready]")
    if kind is not None:
        page.click(f"label:has([name=kind][value={kind}])")
    page.click(f"label:has([name=sample][value={sample}])")
    name = f"{sample}.jpg" if kind is None else f"{sample}-{kind}.png"
    page.wait_for_selector(f"#caption-name:text-is('{name}')")
    page.click("#restore-sample")
    page.wait_for_selector("#divider:not([hidden])", timeout=RESTORE_TIMEOUT_MS)
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")
    page.evaluate("document.activeElement.blur()")
    for quality in (88, 80, 70, 60, 50):
        picture = page.screenshot(type="jpeg", quality=quality)
        if len(picture) < LARGEST_BYTES:
            break
    page.context.close()
    return picture


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
