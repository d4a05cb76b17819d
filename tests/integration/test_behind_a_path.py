"""A server that a proxy offers below a path, and requests with odd hosts and slashes."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from problems import assert_problem, assert_sound
from raw_http import connect, read_answer

Image = Callable[..., bytes]
ROOT = "/photos/app"


@pytest.fixture(scope="module")
def below(session_start: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server below a path, that keeps jobs."""
    return session_start(root_path=ROOT, jobs_folder=tmp_path_factory.mktemp("jobs")).until_ready()


@pytest.mark.parametrize("stripped", [True, False], ids=["taken off", "left on"])
def test_every_link_leads_back_through_the_proxy(stripped: bool, below: Any, png: Image) -> None:
    def ask(method: str, public: str, **how: Any) -> Any:
        assert public.startswith(f"{ROOT}/")
        return below.client.request(method, public.removeprefix(ROOT) if stripped else public, **how)

    links = ask("GET", f"{ROOT}/").json()["links"]
    for name, link in links.items():
        if name not in ("restore", "jobs"):
            assert ask("GET", link).status_code == 200, link
    assert ask("POST", links["restore"], content=png(8, 8)).status_code == 200
    submitted = ask("POST", links["jobs"], content=png(8, 8))
    job = urljoin(links["jobs"], submitted.headers["location"])
    assert submitted.json()["links"]["self"] == job
    below.until(lambda: ask("GET", job).json()["state"] == "done")
    document = ask("GET", job).json()
    assert document["links"]["result"] == f"{job}/result"
    assert ask("GET", document["links"]["result"]).status_code == 200
    assert f'"{job}/result"' in ask("GET", document["links"]["events"]).text
    assert ask("GET", links["openapi"]).json()["servers"] == [{"url": ROOT}]


def test_without_a_root_path_the_document_names_no_server(server: Any) -> None:
    assert "servers" not in server.client.get("/openapi.json").json()


def test_a_browser_at_the_root_path_is_led_below_it(below: Any) -> None:
    response = below.client.get(ROOT, headers={"Accept": "text/html"}, follow_redirects=True)
    assert (response.status_code, response.url.path) == (200, f"{ROOT}/")
    assert "<h1" in response.text


def test_a_bad_root_path_is_said_in_one_sentence(command: Any) -> None:
    finished = command("serve", "--root-path", "/restore")
    assert finished.returncode == 1
    assert "PROMPTIR_ROOT_PATH=/restore" in finished.stderr


@pytest.mark.parametrize("path", ["/restore/", "/restore//", "/v1/jobs/", "/v2/models/promptir-file/infer/"])
def test_a_final_slash_loses_no_photo(path: str, below: Any, png: Image) -> None:
    body: dict[str, Any] = {"content": png(8, 8)} if "infer" not in path else {"json": {"inputs": []}}
    response = below.client.post(path, **body)
    assert response.status_code in (200, 202, 400)
    assert "location" not in response.headers or response.status_code == 202


@pytest.mark.parametrize(
    "path", ["/docs/", "/redoc/", "/healthz/", "/v1/limits/", "/nothing/", "/v1/", "//evil.example/", "/docs//"]
)
def test_no_redirect_leads_to_where_host_says(path: str, server: Any) -> None:
    with closing(connect(server.url)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head = answer.partition(b"\r\n\r\n")[0]
    assert b"evil" not in head
    assert b"\r\nlocation: /" not in head.lower()


HOSTLESS = [
    b"GET /healthz HTTP/1.1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
    b"GET /healthz HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET http://a/healthz HTTP/1.1\r\n\r\n",
    b"GET /healthz\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a/../b?c#d@e\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: user@a\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a:80:80\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: [::1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: caf\xe9\r\n\r\n",
    b"POST /restore HTTP/1.1\r\nContent-Length: 5\r\n\r\nimage",
    b"POST /restore HTTP/1.1\r\nHost: a\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nimage\r\n0\r\n\r\n",
    b"POST /v2/models/promptir/infer HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
]


@pytest.mark.parametrize("data", HOSTLESS, ids=range(len(HOSTLESS)))
def test_a_request_for_no_host_or_two_is_400_and_the_last_on_its_connection(data: bytes, server: Any) -> None:
    with closing(connect(server.url)) as connection:
        connection.sendall(data)
        status, headers, document = read_answer(connection)
        assert connection.recv(100) == b""
    assert (status, headers["connection"]) == (400, "close")
    if b"/v2/" in data:
        assert "Host" in document["error"]
    else:
        assert_sound(status, headers, document)


@pytest.mark.parametrize(
    "host", ["a", "a:80", "127.0.0.1:8000", "[::1]:80", "[fe80::1%25eth0]", "a_b.c-d", "", "a.", "a:"]
)
def test_a_sound_host_is_let_through(host: str, server: Any) -> None:
    with closing(connect(server.url)) as connection:
        connection.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert read_answer(connection)[0] == 200


def test_one_of_http_1_0_needs_no_host(server: Any) -> None:
    with closing(connect(server.url)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert read_answer(connection)[0] == 200


def test_a_long_path_is_cut_in_the_log_and_in_the_answer(start: Any, png: Image, tmp_path: Path) -> None:
    server = start().until_ready()
    for path in ("/" + "a" * 50_000, "/a%0aINJECTED%C2%9B31m%E2%80%A8" + "%C3%A4" * 1000):
        response = server.client.get(path)
        assert_problem(response, 404, "not-found")
        assert len(response.text) < 1500
    server.terminate()
    assert server.wait() == 0
    told = [line for line in server.lines if line["message"] == "request"]
    assert len(told) == 2
    assert all(len(line["path"]) < 210 for line in told)


def test_the_any_address_of_ipv6_is_that_of_ipv4_too(start: Any) -> None:
    server = start(host="::")
    port = server.url.rpartition(":")[2]
    for address in ("127.0.0.1", "[::1]"):
        assert server.client.get(f"http://{address}:{port}/healthz").status_code == 200
