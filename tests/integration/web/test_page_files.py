"""The page's files over HTTP: who gets them, and with which headers."""

import re
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

from models.artifact import DEFAULT_ARTIFACT
from models.photos import read_photo
from models.training.near_duplicates import near_duplicate, perceptual_hash
from server import formats
from server.http.ops import page

SAMPLES = page.FOLDER / "samples"
FREE_LICENCES = {"CC0", "public domain", "Apache 2.0"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}


def start_page(server: Any, **headers: str) -> httpx.Response:
    response: httpx.Response = server.client.get("/", headers=BROWSER | headers)
    return response


def assets(html: str) -> list[str]:
    return sorted(set(re.findall(r'(?:href|src)="(web/[^"]+)"', html)))


def test_a_browser_gets_the_page_and_a_program_the_description(server: Any) -> None:
    response = start_page(server)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1" in response.text
    for accept in ("*/*", "application/json", "text/html;q=0.1, application/json", "image/png"):
        response = server.client.get("/", headers={"Accept": accept})
        assert response.json()["name"] == "PromptIR Serve", accept
        assert "Accept" in response.headers["vary"]


def test_the_page_may_load_its_own_files_and_nothing_else(server: Any) -> None:
    response = start_page(server)
    policy = dict(rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    html = response.text
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert all(re.search(r"\ssrc=", tag) for tag in re.findall(r"<script[^>]*>", html))
    assert not re.search(r"(?:href|src)=\"(?:https?:)?//", html)


def test_files_are_kept_for_ever_under_a_name_that_changes_with_them(server: Any) -> None:
    addresses = assets(start_page(server).text)
    assert len(addresses) > 5
    for address in addresses:
        response = server.client.get(f"/{address}")
        assert response.status_code == 200, address
        assert "immutable" in response.headers["cache-control"]
        assert response.headers["x-content-type-options"] == "nosniff"
    other = re.sub("web/[0-9a-f]+/", "web/0000000000000000/", addresses[0])
    assert server.client.get(f"/{other}").headers["cache-control"] == "no-cache"


def test_who_has_the_page_is_told_so(server: Any) -> None:
    first = start_page(server)
    assert first.headers["cache-control"] == "no-cache"
    again = start_page(server, **{"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = start_page(server, **{"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.headers["etag"] != first.headers["etag"]
    assert plain.text == first.text


def test_nothing_but_the_pages_files_is_served(server: Any) -> None:
    prefix = assets(start_page(server).text)[0].rpartition("/")[0]
    for name in ("nothing.js", "fonts/OFL.txt", "samples/README.md", "%2e%2e/app.py", "%2e%2e%2fapp.py", ""):
        response = server.client.get(f"/{prefix}/{name}")
        assert response.status_code == 404, name
        assert response.headers["content-type"] == "application/problem+json"


def test_every_sample_is_served_opens_and_is_credited(server: Any) -> None:
    html = start_page(server).text
    offered = re.findall(r'<img src="(web/\w+/samples/([^"]+))" alt="([^"]+)" width="(\d+)" height="(\d+)">', html)
    assert {name for _, name, *_ in offered} == {path.name for path in SAMPLES.glob("*") if path.suffix != ".md"}
    for address, name, _, width, height in offered:
        served = server.client.get(f"/{address}")
        assert served.headers["content-type"] == {".jpg": "image/jpeg", ".webp": "image/webp"}[Path(name).suffix]
        assert served.content == (SAMPLES / name).read_bytes()
        pixels = cv2.imdecode(np.frombuffer(served.content, np.uint8), cv2.IMREAD_COLOR)
        assert pixels.shape == (int(height), int(width), 3), name
        what, source, licence = credits_of_samples()[name]
        assert what.startswith(f"{width}x{height}, "), name
        assert source, name
        assert licence in FREE_LICENCES, name


def test_real_samples_name_their_author_or_source_and_licence_on_the_page(server: Any) -> None:
    facts = dict(re.findall(r'name="sample" value="(\w+)" data-facts="([^"]+)"', start_page(server).text))
    assert len(facts) == 2
    for name, sentence in facts.items():
        what, source, licence = credits_of_samples()[f"{name}.jpg"]
        assert sentence.startswith("A real photo with ")
        author_or_source, _, named_licence = re.split(r", (?:by|from) ", sentence)[1].partition("; ")
        assert author_or_source in what + source, name
        assert named_licence == licence, name


def credits_of_samples() -> dict[str, tuple[str, str, str]]:
    """Return what, source and licence of each file of the table in samples/README.md."""
    rows = re.findall(r"^\| (\S+\.\w+) \| (.+?) \| (.+?) \| (.+?) \|$", (SAMPLES / "README.md").read_text(), re.M)
    return {name: (what, source, licence) for name, what, source, licence in rows}


def test_no_sample_was_trained_on() -> None:
    lines = (DEFAULT_ARTIFACT / "photos.tsv").read_text(encoding="utf-8").splitlines()[1:]
    trained = {line.split("\t")[0]: int(line.split("\t")[-1], 16) for line in lines}
    for path in (*SAMPLES.glob("*.jpg"), *SAMPLES.glob("*.webp")):
        assert near_duplicate(perceptual_hash(read_photo(path)), trained) is None, path.name


def test_the_files_change_the_version(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("web/{version}/main.js")
    (tmp_path / "main.js").write_text("one")
    first = page.Page(tmp_path).version
    (tmp_path / "main.js").write_text("two")
    assert page.Page(tmp_path).version != first


def test_the_page_is_small() -> None:
    sizes = {path: path.stat().st_size for path in page.FOLDER.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 350_000
    assert sum(size for path, size in sizes.items() if path.suffix in (".jpg", ".webp")) < 150_000


def test_the_page_offers_the_formats_that_the_server_reads_and_writes(server: Any) -> None:
    html = start_page(server).text
    limits = server.client.get("/v1/limits").json()
    assert re.findall(r'<option value="(\w+)">', html) == limits["output_formats"]
    accept = re.search(r'accept="([^"]+)"', html)
    assert accept is not None
    assert set(accept[1].split(",")) == {"image/*", *formats.SUFFIXES}
    assert f">{formats.listing(limits['input_formats'], 'or')}.<" in html
    assert not re.search(r"\{\w+\}", html)
