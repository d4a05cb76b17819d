"""Taking photos home: blended and converted in the page, as one archive, through the clipboard, after a reload."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from playwright.sync_api import expect

Image = Callable[..., bytes]
SIDE = 64
OLD, NEW = 40, 200
"""Grey levels of a photo, and of what a stand-in network makes of it."""


def grey(level: int, ending: str = ".png", kind: type = np.uint8) -> bytes:
    return cv2.imencode(ending, np.full((SIDE, SIDE, 3), level, kind))[1].tobytes()


def saved(guest: Any, selector: str = "#download") -> tuple[str, bytes]:
    with guest.page.expect_download() as expected:
        guest.page.click(selector)
    return expected.value.suggested_filename, Path(expected.value.path()).read_bytes()


def mean(data: bytes) -> float:
    return float(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).mean())


def choose(guest: Any, strength: int, image_format: str) -> None:
    guest.page.evaluate(
        """([strength, format]) => {
          for (const [id, value, event] of [["strength", strength, "input"], ["format", format, "change"]]) {
            const control = document.getElementById(id);
            control.value = value;
            control.dispatchEvent(new Event(event));
          }
        }""",
        [str(strength), image_format],
    )


@pytest.fixture
def changed(server: Any, visit: Any) -> Any:
    """A visitor whose photo of one grey came back as another; counts what is asked of the server."""
    guest = visit(server)
    guest.runs = []
    disposition = {"Content-Disposition": 'attachment; filename="hill-restored.png"', "Content-Type": "image/png"}

    def answer(route: Any) -> None:
        guest.runs.append(route.request.url)
        route.fulfill(status=200, headers=disposition | {"X-Degradations": "noise=0.98, haze=0.90"}, body=grey(NEW))

    guest.page.route("**/restore?*", answer)
    guest.choose(("hill.png", grey(OLD)))
    guest.until("done")
    guest.settle()
    return guest


def test_strength_and_format_are_applied_in_the_page_without_another_run(changed: Any) -> None:
    assert changed.runs == [changed.runs[0]]
    assert changed.runs[0].endswith("strength=1")
    for strength, image_format, ending, magic in (
        (50, "png", "png", b"\x89PNG"),
        (25, "jpeg", "jpg", b"\xff\xd8"),
        (100, "webp", "webp", b"RIFF"),
    ):
        choose(changed, strength, image_format)
        name, data = saved(changed)
        assert name == f"hill-restored.{ending}"
        assert data.startswith(magic)
        assert mean(data) == pytest.approx(OLD + (NEW - OLD) * strength / 100, abs=2)
    assert len(changed.runs) == 1
    assert "without camera data" in changed.text("#save-note")


def test_the_picture_on_the_stage_follows_the_strength(changed: Any) -> None:
    choose(changed, 40, "png")
    assert changed.page.evaluate("document.getElementById('after').style.opacity") == "0.4"
    choose(changed, 100, "png")
    assert changed.page.is_hidden("#save-note")
    assert saved(changed) == ("hill-restored.png", grey(NEW))


def test_what_only_the_server_can_write_is_said_to_need_a_run(changed: Any) -> None:
    choose(changed, 100, "tiff")
    assert "another run" in changed.text("#save-note")
    assert changed.page.is_visible("#again")
    assert saved(changed) == ("hill-restored.png", grey(NEW))


def test_a_result_of_16_bits_is_never_made_8_bits_by_the_page(server: Any, visit: Any) -> None:
    guest = visit(server)
    guest.choose(("deep.png", grey(9000, kind=np.uint16)))
    guest.until("done")
    guest.settle()
    choose(guest, 50, "png")
    assert "another run" in guest.text("#save-note")
    with guest.page.expect_request(lambda request: "strength=0.5" in request.url):
        guest.page.click("#again")
    guest.page.wait_for_selector("#save-note", state="hidden")


@pytest.mark.parametrize(("least_alpha", "said"), [(255, "without camera data"), (254, "another run")])
def test_only_an_opaque_picture_is_blended_in_the_page(least_alpha: int, said: str, server: Any, visit: Any) -> None:
    photo = np.full((600, 24, 4), 255, np.uint8)
    photo[-1, -1, 3] = least_alpha
    guest = visit(server)
    guest.choose(("sticker.png", cv2.imencode(".png", photo)[1].tobytes()))
    guest.until("done")
    guest.settle()
    choose(guest, 50, "png")
    assert said in guest.text("#save-note")


def test_the_page_says_what_was_found_and_that_the_tone_changed(changed: Any) -> None:
    assert changed.text(".entry .state") == "Noise and haze found and reduced, tone changed"
    assert changed.text(".entry .state") in changed.text("#caption-facts")


def test_holding_a_button_shows_the_original(changed: Any) -> None:
    after = changed.page.locator("#after")
    button = changed.page.locator("#original")
    button.hover()
    changed.page.mouse.down()
    expect(after).to_be_hidden()
    changed.page.mouse.up()
    expect(after).to_be_visible()
    button.focus()
    changed.page.keyboard.down(" ")
    expect(after).to_be_hidden()
    changed.page.keyboard.up(" ")
    expect(after).to_be_visible()


def test_the_result_is_copied_as_a_picture(changed: Any) -> None:
    changed.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    choose(changed, 50, "jpeg")
    changed.page.click("#copy")
    expect(changed.page.locator("#copy")).to_have_text("Copied")
    copied = changed.page.evaluate(
        """async () => {
          const [item] = await navigator.clipboard.read();
          return [...new Uint8Array(await (await item.getType("image/png")).arrayBuffer())];
        }"""
    )
    assert mean(bytes(copied)) == pytest.approx((OLD + NEW) / 2, abs=2)


def test_all_photos_are_downloaded_as_one_archive(server: Any, visit: Any, png: Image) -> None:
    guest = visit(server)
    photos = {"ein Hügel": png(24, 36, seed=901), "two": png(30, 20, seed=902)}
    guest.choose(*((f"{name}.png", data) for name, data in photos.items()), ("two.png", photos["ein Hügel"]))
    guest.until("done", entries=3)
    name, data = saved(guest, "#download-all")
    assert name == "restored.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == ["ein Hügel-restored.png", "two-restored.png", "two-restored (2).png"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        for entry, sent in zip(names, [*photos.values(), photos["ein Hügel"]], strict=True):
            restored = cv2.imdecode(np.frombuffer(archive.read(entry), np.uint8), cv2.IMREAD_COLOR)
            np.testing.assert_array_equal(restored, cv2.imdecode(np.frombuffer(sent, np.uint8), cv2.IMREAD_COLOR))


def test_what_this_tab_restored_survives_a_reload_and_no_other_tab_sees_it(changed: Any, server: Any) -> None:
    changed.page.wait_for_function(
        """() => new Promise((resolve) => {
          indexedDB.open("promptir").onsuccess = ({ target }) => {
            const request = target.result.transaction("photos").objectStore("photos").count();
            request.onsuccess = () => { target.result.close(); resolve(request.result === 1); };
          };
        })"""
    )
    changed.page.reload()
    changed.until("done")
    changed.settle()
    assert changed.text(".entry .state") == "Noise and haze found and reduced, tone changed"
    assert saved(changed) == ("hill-restored.png", grey(NEW))
    assert len(changed.runs) == 1
    other = changed.page.context.new_page()
    other.goto(server.url)
    other.wait_for_selector("#service[data-status=ready]")
    assert other.locator(".entry").count() == 0
    # In one turn: the reload aborts what the page has begun to delete.
    with changed.page.expect_navigation():
        changed.page.evaluate("""() => {
          document.querySelector("#clear").click();
          location.reload();
        }""")
    changed.page.wait_for_selector("#service[data-status=ready]")
    assert changed.page.locator(".entry").count() == 0


def test_the_history_is_bounded(server: Any, visit: Any) -> None:
    guest = visit(server)
    kept = guest.page.evaluate(
        """async () => {
          const base = document.querySelector("script[type=module]").src;
          const { History } = await import(new URL("history.js", base));
          const { Photo } = await import(new URL("photo.js", base));
          const history = new History();
          for (let index = 0; index < 30; index++) {
            const photo = new Photo(new Blob(["before"]), `${index}.png`);
            photo.finish({ blob: new Blob(["after"]), name: `${index}.png` }, { strength: 1, format: "png" });
            await history.keep(photo);
          }
          return (await history.photos()).map(({ name }) => name);
        }"""
    )
    assert kept == [f"{index}.png" for index in range(6, 30)]


@pytest.mark.parametrize("name", ["DSC_0042.NEF", "img.cr3", "scan.dng"])
def test_a_raw_file_is_named_as_such_and_not_sent(name: str, server: Any, visit: Any) -> None:
    guest = visit(server)
    asked: list[str] = []
    guest.page.on("request", lambda request: asked.append(request.method))
    guest.choose((name, grey(OLD, ".tif")))
    guest.until("failed")
    assert "raw file" in guest.text(".entry .state")
    assert "Develop it first" in guest.text(".entry .state")
    assert "POST" not in asked


def test_an_empty_file_is_named_as_such_and_not_sent(server: Any, visit: Any) -> None:
    guest = visit(server)
    asked: list[str] = []
    guest.page.on("request", lambda request: asked.append(request.method))
    guest.choose(("empty.jpg", b""))
    guest.until("failed")
    assert guest.text(".entry .state") == "The file is empty."
    assert "POST" not in asked


def test_a_heic_that_this_server_does_not_read_is_told_the_way_out(server: Any, visit: Any) -> None:
    guest = visit(server)
    problem = '{"status": 415, "detail": "HEIC is not read here.", "allowed_formats": ["JPEG", "PNG"]}'
    headers = {"Content-Type": "application/problem+json"}
    guest.page.route("**/restore?*", lambda route: route.fulfill(status=415, headers=headers, body=problem))
    guest.choose(("IMG_0001.HEIC", b"not shown"))
    guest.until("failed")
    guest.refusals = 1
    assert "Taken are JPEG and PNG." in guest.text(".entry .state")
    assert "Most Compatible" in guest.text(".entry .state")


def test_a_running_job_does_not_wait_for_its_turn(server: Any, visit: Any) -> None:
    script = """async () => {
      const { stateOf } = await import(new URL("tray.js", document.querySelector("script[type=module]").src));
      const state = (tiles) => stateOf({ state: "restoring", tiles: { leftS: null, ...tiles } });
      return [
        state({ done: 0, total: null, isRunning: false }), state({ done: 0, total: null, isRunning: true }),
        state({ done: 3, total: 8, isRunning: true }),
      ];
    }"""
    assert visit(server).page.evaluate(script) == ["Waiting for its turn", "Restoring", "Tile 3 of 8"]


def test_the_sentence_says_what_the_pixels_say(server: Any, visit: Any) -> None:
    guest = visit(server)
    script = """async (cases) => {
      const { compare, sentence } = await import(
        new URL("verdict.js", document.querySelector("script[type=module]").src));
      const picture = (sample) => {
        const made = new ImageData(96, 64);
        made.data.forEach((_, at) => (made.data[at] = sample(at)));
        return made;
      };
      const flat = picture(() => 100);
      const noisy = picture((at) => 100 + (((at * 7919) % 41) - 20));
      const darker = picture(() => 60);
      const same = compare(flat, flat);
      return [
        sentence(same, []), sentence(same, null), sentence(compare(noisy, flat), ["noise", "jpeg"]),
        sentence(compare(flat, darker), []), sentence(null, ["noise"]), sentence({ change: 0.01, tone: null }, []),
      ];
    }"""
    assert guest.page.evaluate(script, []) == [
        "Looks clean: almost nothing changed",
        "Almost nothing changed",
        "Noise and JPEG blocks found and reduced",
        "Clearly changed, tone changed",
        "Restored",
        "Slightly changed",
    ]
