"""The stage: the divider, the zoom and the samples."""

import re
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from server.http.ops.page import FOLDER

SAMPLES = FOLDER / "samples"


@pytest.fixture(scope="module")
def shipped(session_start: Callable[..., Any]) -> Any:
    return session_start(backend="onnx").until_ready()


@pytest.fixture(scope="module")
def noisy() -> bytes:
    """A grey photo of strong noise, small enough to be restored at once."""
    samples = np.random.default_rng(5).normal(128, 45, (160, 240, 3)).clip(0, 255).astype(np.uint8)
    return cv2.imencode(".png", samples)[1].tobytes()


@pytest.fixture
def compared(server: Any, visit: Any, noisy: bytes) -> Any:
    """A visitor before a restored photo, the divider at rest in the middle."""
    guest = visit(server)
    guest.choose(("noisy.png", noisy))
    guest.until("done")
    guest.settle()
    return guest


def place(guest: Any) -> int:
    return int(guest.page.get_attribute("#divider", "aria-valuenow"))


def spread(guest: Any, left: float, right: float) -> float:
    """How much the samples differ between two places of what is seen, as shares of its width."""
    seen = np.frombuffer(guest.page.locator("#view").screenshot(), np.uint8)
    pixels = cv2.imdecode(seen, cv2.IMREAD_GRAYSCALE)
    height, width = pixels.shape
    return float(pixels[int(height * 0.1) : int(height * 0.4), int(width * left) : int(width * right)].std())


def boxes(guest: Any) -> tuple[dict[str, float], dict[str, float]]:
    return tuple(guest.page.locator(f"#{name}").bounding_box() for name in ("before", "after"))  # type: ignore[return-value]


def test_noise_is_left_of_the_divider_and_none_right_of_it(shipped: Any, visit: Any, noisy: bytes) -> None:
    guest = visit(shipped)
    guest.choose(("noisy.png", noisy))
    guest.until("done")
    guest.settle()
    assert spread(guest, 0.05, 0.4) > 3 * spread(guest, 0.6, 0.95)
    guest.page.focus("#divider")
    guest.page.keyboard.press("Home")
    assert place(guest) == 0
    calm = spread(guest, 0.05, 0.4)
    guest.page.keyboard.press("End")
    assert spread(guest, 0.05, 0.4) > 3 * calm


def test_the_divider_is_moved_by_keys_and_says_where_it_is(compared: Any) -> None:
    divider = compared.page.locator("#divider")
    divider.focus()
    places = []
    for key in ("ArrowLeft", "ArrowRight", "Shift+ArrowRight", "PageDown", "End", "ArrowUp", "Home"):
        compared.page.keyboard.press(key)
        places.append(place(compared))
    assert places == [48, 50, 60, 50, 100, 100, 0]
    assert divider.get_attribute("aria-valuetext") == "0 % before, 100 % restored"


def test_the_divider_follows_the_mouse(compared: Any) -> None:
    mouse, view = compared.page.mouse, compared.page.locator("#view").bounding_box()
    y = view["y"] + view["height"] / 2
    mouse.move(view["x"] + view["width"] / 2, y)
    mouse.down()
    mouse.move(view["x"] + view["width"] * 0.25, y, steps=3)
    assert place(compared) == 25
    mouse.move(view["x"] - 400, y)
    assert place(compared) == 0
    mouse.up()
    mouse.move(view["x"] + view["width"] / 2, y)
    assert place(compared) == 0
    assert compared.page.evaluate("document.activeElement.id") == "divider"


def test_both_pictures_zoom_and_move_together(compared: Any) -> None:
    page = compared.page
    view = page.locator("#view").bounding_box()
    fit = boxes(compared)
    x, y = view["x"] + view["width"] / 4, view["y"] + view["height"] / 4
    page.mouse.move(x, y)
    page.mouse.wheel(0, -400)
    wider = "width => document.getElementById('before').getBoundingClientRect().width > width"
    page.wait_for_function(wider, arg=fit[0]["width"])
    wheeled = boxes(compared)
    assert wheeled[0] == wheeled[1]
    # What lay under the pointer still does.
    share = (x - fit[0]["x"]) / fit[0]["width"]
    assert (x - wheeled[0]["x"]) / wheeled[0]["width"] == pytest.approx(share, abs=0.002)
    page.mouse.down()
    page.mouse.move(x + 40, y + 25, steps=2)
    page.mouse.up()
    moved = boxes(compared)
    assert moved[0] == moved[1]
    assert moved[0]["x"] - wheeled[0]["x"] == pytest.approx(min(40, view["x"] - wheeled[0]["x"]), abs=0.5)
    page.click("#zoom-fit")
    assert boxes(compared) == fit


def test_keys_and_buttons_zoom_and_move(compared: Any) -> None:
    page = compared.page
    page.focus("#view")
    widths = [boxes(compared)[0]["width"]]
    for act in (lambda: page.keyboard.press("+"), lambda: page.click("#zoom-in"), lambda: page.click("#zoom-out")):
        act()
        widths.append(boxes(compared)[0]["width"])
    assert widths[0] < widths[1] < widths[2]
    assert widths[3] == pytest.approx(widths[1])
    page.focus("#view")
    before = boxes(compared)[0]
    page.keyboard.press("ArrowRight")
    assert boxes(compared)[0]["x"] < before["x"]
    page.keyboard.press("0")
    assert boxes(compared)[0]["width"] == pytest.approx(widths[0])
    page.keyboard.press("-")
    assert boxes(compared)[0]["width"] == pytest.approx(widths[0]), "no smaller than the view"


def test_two_fingers_zoom(server: Any, visit: Any, noisy: bytes, phone: dict[str, Any]) -> None:
    guest = visit(server, **phone)
    guest.choose(("noisy.png", noisy))
    guest.until("done")
    guest.settle()
    guest.page.locator("#view").scroll_into_view_if_needed()
    view, fit = guest.page.locator("#view").bounding_box(), boxes(guest)[0]
    middle, y = view["x"] + view["width"] / 2, view["y"] + view["height"] / 2
    touch = guest.page.context.new_cdp_session(guest.page)

    def fingers(kind: str, apart: float | None) -> None:
        points = [] if apart is None else [{"x": middle + side * apart, "y": y, "id": side + 1} for side in (-1, 1)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 30)
    for apart in (45, 60, 90):
        fingers("touchMove", apart)
    fingers("touchEnd", None)
    assert boxes(guest)[0]["width"] > 2 * fit["width"]
    assert boxes(guest)[0] == boxes(guest)[1]


def test_a_sample_is_spoilt_here_and_restored_there(server: Any, visit: Any) -> None:
    guest = visit(server)
    assert guest.text("#caption-name") == "cat-noise.png"
    strong = spread(guest, 0.05, 0.95)
    guest.page.focus("#amount")
    guest.page.keyboard.press("Home")
    expect(guest.page.locator("#amount-text")).to_have_text("5 %")
    name = guest.page.locator("#caption-name")
    for kind in ("rain", "haze"):
        guest.pick("kind", kind)
        expect(name).to_have_text(f"cat-{kind}.png")
    assert spread(guest, 0.05, 0.95) < strong
    guest.pick("sample", "pier")
    expect(name).to_have_text("pier-haze.png")
    guest.page.click("#restore-sample")
    guest.until("done")
    guest.settle()
    assert guest.text(".entry .name") == "pier-haze.png"
    assert guest.page.get_attribute("#download", "download") == "pier-haze-restored.png"


def test_the_mark_of_a_sample_goes_where_another_photo_is_shown(server: Any, visit: Any, noisy: bytes) -> None:
    guest = visit(server)
    marked = guest.page.locator("[name=sample]:checked")
    guest.page.click("#restore-sample")
    guest.until("done")
    expect(marked).to_have_value("cat")
    guest.choose(("own.png", noisy))
    guest.until("done", 2)
    expect(marked).to_have_count(0)
    guest.pick("sample", "cat")  # one click is enough
    expect(guest.page.locator("#caption-name")).to_have_text("cat-noise.png")
    expect(marked).to_have_value("cat")
    guest.page.click(".entry:has-text('own.png') .name")
    expect(marked).to_have_count(0)
    guest.pick("kind", "rain")
    expect(guest.page.locator("#caption-name")).to_have_text("cat-rain.png")
    expect(marked).to_have_value("cat")


@pytest.mark.parametrize("name", ["hopper", "town"])
def test_a_real_sample_is_sent_as_it_is(server: Any, visit: Any, name: str) -> None:
    guest = visit(server)
    # The page may not read a blob by its URL (connect-src), so the files behind the URLs are kept as they are made.
    guest.page.evaluate(
        """() => {
          const [made, make] = [(window.made = new Map()), URL.createObjectURL];
          URL.createObjectURL = (blob) => {
            const url = make(blob);
            made.set(url, blob);
            return url;
          };
        }"""
    )
    guest.pick("sample", name)
    expect(guest.page.locator("#caption-name")).to_have_text(f"{name}.jpg")
    expect(guest.page.locator("#caption-facts")).to_have_text(re.compile("^A real photo with "))
    assert guest.page.is_disabled("#amount")
    assert guest.page.is_disabled("[name=kind][value=rain]")
    guest.page.click("#restore-sample")
    guest.until("done")
    guest.settle()
    read = "async () => [...new Uint8Array(await made.get(document.getElementById('before').src).arrayBuffer())]"
    assert bytes(guest.page.evaluate(read)) == (SAMPLES / f"{name}.jpg").read_bytes()
    assert guest.text(".entry .name") == f"{name}.jpg"
    found = Axe().run(guest.page)
    assert found.violations_count == 0, found.generate_report()
    guest.pick("sample", "cat")
    expect(guest.page.locator("#caption-name")).to_have_text("cat-noise.png")
    assert guest.page.is_enabled("#amount")


def restored_sample(server: Any, name: str) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Return a real sample, its restoration and the probability of each degradation."""
    sent = (SAMPLES / name).read_bytes()
    response = server.client.post("/restore", files={"file": (name, sent)})
    found = dict(pair.split("=") for pair in response.headers["x-degradations"].split(", "))
    before, after = (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in (sent, response.content))
    return before.astype(np.float32), after.astype(np.float32), {label: float(share) for label, share in found.items()}


def test_the_grain_that_the_page_names_is_found_and_reduced(shipped: Any) -> None:
    before, after, found = restored_sample(shipped, "hopper.jpg")
    assert found["noise"] > 0.5
    backdrop = np.s_[20:100, 380:460]
    grain_before, grain_after = (
        np.std(part[backdrop] - cv2.GaussianBlur(part[backdrop], (0, 0), 3)) for part in (before, after)
    )
    assert grain_after < 0.6 * grain_before


def test_the_haze_that_the_page_names_is_found_and_reduced(shipped: Any) -> None:
    before, after, found = restored_sample(shipped, "town.jpg")
    assert found["haze"] > 0.5
    assert after.std() > 1.3 * before.std()
    assert after.min(axis=2).mean() < 0.8 * before.min(axis=2).mean(), "the veil is as bright as it was"


def test_the_same_choice_spoils_in_the_same_way(server: Any, visit: Any) -> None:
    guest = visit(server)
    script = """async () => {
      const address = new URL("degradations.js", document.querySelector("script[type=module]").src);
      const { DEGRADATIONS, seeded } = await import(address);
      const clean = new ImageData(new Uint8ClampedArray(64 * 48 * 4).fill(128), 64, 48);
      return Object.values(DEGRADATIONS).map((degrade) =>
        [0.2, 0.9, 0.9].map((amount) => {
          const { data } = degrade(clean, amount, seeded(3));
          return [...data].reduce((sum, sample) => sum + Math.abs(sample - 128), 0);
        }));
    }"""
    for weak, strong, again in guest.page.evaluate(script):
        assert 0 < weak < strong == again
