"""The viewer of the API in a real Chromium: its own files alone, by the policy of the page, below any path."""

import re
from typing import Any

import pytest

from server.http.ops import page


def test_the_viewer_shows_every_path_and_loads_nothing_from_elsewhere(server: Any, viewer: Any) -> None:
    guest = viewer(server, "/docs")
    shown = {element.inner_text() for element in guest.page.query_selector_all(".opblock-summary-path")}
    paths = {path.replace("\u200b", "") for path in shown}
    assert paths == set(server.client.get("/openapi.json").json()["paths"])


def test_a_request_can_be_tried_from_it(server: Any, viewer: Any) -> None:
    guest = viewer(server, "/docs")
    guest.page.click("[id*='healthz'] .opblock-summary-control")
    guest.page.click("[id*='healthz'] .try-out__btn")
    guest.page.click("[id*='healthz'] .execute")
    guest.page.wait_for_selector("[id*='healthz'] .live-responses-table")
    assert "alive" in guest.page.inner_text("[id*='healthz'] .live-responses-table")


def test_it_works_below_a_root_path_and_with_a_slash_behind_it(start: Any, viewer: Any) -> None:
    server = start(root_path="/photos/app").until_ready()
    guest = viewer(server, "/photos/app/docs/")
    assert guest.page.url == f"{server.url}/photos/app/docs"
    guest.page.click("[id*='healthz'] .opblock-summary-control")
    guest.page.click("[id*='healthz'] .try-out__btn")
    guest.page.click("[id*='healthz'] .execute")
    guest.page.wait_for_selector("[id*='healthz'] .live-responses-table")
    assert f"{server.url}/photos/app/healthz" in guest.page.inner_text("[id*='healthz'] .request-url")


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/redoc", "/redoc/"])
def test_it_has_the_policy_of_the_page_and_no_address_of_another_site(path: str, server: Any) -> None:
    response = server.client.get(path, follow_redirects=True)
    assert response.url.path == "/docs"
    for name, value in page.SECURITY.items():
        assert response.headers[name].replace(" data:", "") == value  # icons in its style sheet, and nothing else
    addresses = re.findall(r'(?:href|src)="([^"]+)"', response.text)
    assert len(addresses) >= 4
    for address in addresses:
        assert not address.startswith(("/", "http")), "a proxy may offer the server below any path"
        assert server.client.get(f"/{address}").status_code == 200


def test_a_browser_that_has_no_gzip_gets_the_viewer_as_it_is(server: Any) -> None:
    (address,) = re.findall(r'src="([^"]+bundle.js)"', server.client.get("/docs").text)
    plain = server.client.get(f"/{address}", headers={"Accept-Encoding": "identity"})
    zipped = server.client.get(f"/{address}", headers={"Accept-Encoding": "gzip"})
    assert (plain.headers.get("content-encoding"), zipped.headers.get("content-encoding")) == (None, "gzip")
    assert plain.content == zipped.content
    assert int(zipped.headers["content-length"]) < len(plain.content) / 2
