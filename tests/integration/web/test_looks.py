"""How the page looks and reads: phones, dark rooms, screen readers, keyboards."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from server.cli.restore.verdict import PRESENT, SLIGHT, UNSEEN, verdict

Image = Callable[..., bytes]


def busy(guest: Any, png: Image, seed: int) -> Any:
    """A restored photo, a failed one, and every control in sight."""
    guest.choose(("hill.png", png(40, 60, seed=seed)), ("notes.txt", b"words"))
    guest.until("done")
    guest.until("failed")
    guest.refusals = 1
    guest.settle()
    return guest


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(scheme: str, server: Any, visit: Any, png: Image) -> None:
    guest = visit(server, color_scheme=scheme, reduced_motion="reduce")
    first = Axe().run(guest.page)
    assert first.violations_count == 0, first.generate_report()
    after = Axe().run(busy(guest, png, seed=601 if scheme == "light" else 602).page)
    assert after.violations_count == 0, after.generate_report()


def test_axe_finds_nothing_where_a_key_is_asked_for(server: Any, visit: Any) -> None:
    guest = visit(server, reduced_motion="reduce")
    guest.page.evaluate("document.getElementById('key').showModal()")
    found = Axe().run(guest.page)
    assert found.violations_count == 0, found.generate_report()


def test_dark_is_dark_and_light_is_light(server: Any, visit: Any) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        colour = visit(server, color_scheme=scheme).page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness[scheme] = sum(int(part) for part in colour[4:-1].split(","))
    assert brightness["dark"] < 100
    assert brightness["light"] > 700


def test_a_phone_needs_no_sideways_scrolling(server: Any, visit: Any, png: Image, phone: dict[str, Any]) -> None:
    guest = busy(visit(server, **phone), png, seed=603)
    assert guest.page.evaluate("document.documentElement.scrollWidth") == 375
    small = guest.page.evaluate(
        """() => [...document.querySelectorAll("button, a.button, label.button, select, .knob")]
          .filter((part) => part.checkVisibility())
          .map((part) => [part.id || part.textContent, part.getBoundingClientRect().height])
          .filter(([, height]) => height < 36)"""
    )
    assert small == [], "too small for a finger"
    guest.choose((f"{'a_long_name_of_a_camera_' * 5}.png", png(40, 90, seed=608)))
    guest.until("done", 2)
    assert guest.page.evaluate("document.documentElement.scrollWidth") == 375


def test_strength_and_format_stay_in_reach_beside_the_picture_on_a_phone(
    server: Any, visit: Any, png: Image, phone: dict[str, Any]
) -> None:
    guest = busy(visit(server, **phone), png, seed=606)
    guest.page.evaluate("document.getElementById('view').scrollIntoView({ block: 'end' })")
    tops = {}
    for name in ("strength", "format", "view"):
        box = guest.page.locator(f"#{name}").bounding_box()
        assert box is not None
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 721, f"{name} is out of sight"
        tops[name] = box["y"]
    assert max(tops["strength"], tops["format"]) < tops["view"]


def test_a_phone_names_the_menu_of_formats(server: Any, visit: Any, phone: dict[str, Any]) -> None:
    guest = visit(server, **phone | {"viewport": {"width": 390, "height": 844}})
    label, menu = (guest.page.locator(part).bounding_box() for part in ("label[for=format]", "#format"))
    assert label is not None
    assert menu is not None
    assert label["width"] > 40
    assert label["y"] + label["height"] <= menu["y"]
    assert menu["x"] <= label["x"] <= label["x"] + label["width"] <= menu["x"] + menu["width"] <= 390


def test_every_control_of_the_samples_is_in_sight_on_a_laptop(server: Any, visit: Any) -> None:
    guest = visit(server, viewport={"width": 1440, "height": 900})
    expect(guest.page.locator("#amount")).to_be_in_viewport(ratio=1)


def test_what_is_chosen_on_a_phone_comes_into_sight(server: Any, visit: Any, phone: dict[str, Any]) -> None:
    guest = visit(server, **phone)
    view, knob = guest.page.locator("#view"), guest.page.locator("#amount")
    for choice in (".thumb:has([value=rocket])", "label:has([value=rain])"):
        guest.page.locator(choice).tap()
        expect(view).to_be_in_viewport(ratio=1)
    knob.scroll_into_view_if_needed()
    place = guest.page.evaluate("scrollY")
    knob.fill("30")
    expect(guest.page.locator("#amount-text")).to_have_text("30 %")
    assert guest.page.evaluate("scrollY") == place, "the page moved away under the finger"
    guest.page.evaluate("scrollTo(0, 0)")
    guest.page.locator("#restore-sample").tap()
    guest.until("done")
    guest.settle()
    expect(view).to_be_in_viewport(ratio=1)
    expect(guest.page.locator("#download")).to_be_in_viewport(ratio=1)
    guest.page.locator(".entry .name").tap()
    expect(view).to_be_in_viewport(ratio=1)


def test_everything_is_reached_by_the_keyboard(server: Any, visit: Any, png: Image) -> None:
    guest = busy(visit(server), png, seed=604)
    guest.page.focus(".skip")
    reached = []
    for _ in range(40):
        guest.page.keyboard.press("Tab")
        name = guest.page.evaluate("(at => at.id || at.ariaLabel || at.className)(document.activeElement)")
        reached.append(name)
        if name == "amount":
            break
    wanted = ["files", "strength", "format", "view", "divider", "zoom-out", "zoom-fit", "zoom-in", "original"]
    wanted += ["download", "clear", "amount"]
    assert [name for name in reached if name in wanted] == wanted
    assert "Save hill-restored.png" in reached


def test_motion_is_left_out_where_it_is_not_wanted(server: Any, visit: Any, png: Image) -> None:
    guest = visit(server, reduced_motion="reduce")
    guest.page.evaluate(
        """() => {
          window.places = [];
          new MutationObserver(() => places.push(document.getElementById("divider").getAttribute("aria-valuenow")))
            .observe(document.getElementById("divider"), { attributes: true, attributeFilter: ["aria-valuenow"] });
        }"""
    )
    guest.choose(("still.png", png(30, 30, seed=605)))
    guest.until("done")
    guest.page.wait_for_selector("#divider:not([hidden])")
    assert set(guest.page.evaluate("places")) <= {"50"}


def test_the_page_and_the_command_line_say_the_same(server: Any, visit: Any) -> None:
    present, absent = PRESENT + 0.01, PRESENT
    found = [None, {}, {"noise": absent}, {"noise": present, "rain": absent, "haze": present, "jpeg": present}]
    cases = [(change, shares) for change in (0, UNSEEN * 0.99, UNSEEN, SLIGHT * 0.99, SLIGHT, 1) for shares in found]
    script = """async (cases) => {
      const at = document.querySelector("script[type=module]").src;
      const [{ sentence }, { reportedChange, reportedFound }] = await Promise.all(
        ["verdict.js", "answer.js"].map((name) => import(new URL(name, at))));
      const reports = cases.map(([change, degradations]) => ({ change: { mean_abs: change }, degradations }));
      return reports.map((report) => sentence(reportedChange(report), reportedFound(report)));
    }"""
    assert visit(server).page.evaluate(script, cases) == [
        words[0].upper() + words[1:] for words in (verdict(*case) for case in cases)
    ]
