"""Hostile requests: sends thousands of malformed requests and checks the server's responses and memory.

Run as `python loadtests/hostile.py [--requests 10000]`; it prints the figures of docs/security.md and exits with 1 if
any response was missing, a 5xx, or neither a picture nor a problem document.
"""

import argparse
import itertools
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "corpus"))
import malformed  # noqa: E402 - the corpus is no package

SEED = 5
BROKEN_HTTP = "broken HTTP"
SENDERS = 4
PATIENCE_S = 20.0
WARM_UP_SHARE = 0.2
SAMPLES = 20
SIMULATED = {"BACKEND": "simulated", "SIMULATED_BASE_MS": "1", "SIMULATED_MS_PER_MEGAPIXEL": "1", "PORT": "0"}
# Files of several megabytes are sent rarely, because they would take most of the time.
LARGE_FILE, LARGE_EVERY = 200_000, 25
TYPES = ("image/png", "image/jpeg", "image/x-lie", "application/octet-stream", "", "text/html", "\xff")
QUERIES = (
    "", "format=webp", "format=avif&quality=1", "format=tiff&strength=0", "format=same&metadata=strip", "report=true",
    "tile=64&overlap=16", "tile=1", "tile=-8", "overlap=99999", "quality=101", "quality=NaN", "strength=nan",
    "strength=1e400", "format=gif", "format=%00", "=&=&&&;", "%", "quality=5&quality=6", "tile=" + "9" * 400,
    "color=srgb&effort=small", "report=maybe",
)  # fmt: skip
HEADERS = (
    "", "X-Deadline-Ms: 1", "X-Deadline-Ms: -1", "X-Deadline-Ms: 9e99", "X-Priority: batch", "X-Priority: \xff",
    "Accept: image/webp;q=0.1, */*;q=x", "Accept: text/html", "If-None-Match: *", "If-None-Match: W/\"", "Accept: ;;,,",
    "Expect: 100-continue", "Expect: nothing", "Range: bytes=0-", "X-Request-ID: a\tb",
    "Connection: upgrade\r\nUpgrade: h2c",
    "Accept: " + "a/b," * 2000, "Content-Encoding: gzip", "Cookie: " + "c" * 8000,
)  # fmt: skip

ELSEWHERE = (
    "/v1/jobs/x", "/v1/jobs/" + "0" * 32 + "/result", "/v1/jobs/%2e%2e/result", "/web/%2e%2e/app.py",
    "/V1/limits", "//restore", "/v2/models/x", "/" + "%01" * 2000,
)  # fmt: skip
CREDENTIALS = (
    "", "X-API-Key: \xff", "X-API-Key: a\r\nX-API-Key: b", "X-API-Key: " + "a," * 8000, "Authorization: Bearer",
    "Authorization: Bearer a, Bearer b\r\nAuthorization: Basic x", "Authorization: " + "Bearer a," * 4000,
)  # fmt: skip


class Answer(NamedTuple):
    """Outcome of a request: an HTTP status, `closed` or `silent`, and whether the response had a valid form."""

    kind: str
    outcome: str
    sound: bool


class Attack(NamedTuple):
    """One request as bytes on the wire; with `leaves`, the connection is closed before the response."""

    kind: str
    data: bytes
    leaves: bool = False


class Attacks:
    """Generates hostile requests from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._files = list(malformed.corpus().values())
        self._sound = [malformed.photo(kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF")]
        self._whole = itertools.cycle(self._files)
        self._makers: list[Callable[[], Attack]] = [
            *[self._file] * 4, *[self._mutated] * 6, *[self._form] * 3, *[self._options] * 4, self._http, self._cut,
            self._elsewhere,
        ]  # fmt: skip

    def __iter__(self) -> Iterator[Attack]:
        while True:
            yield self._random.choice(self._makers)()

    def _file(self) -> Attack:
        data = next(self._whole)
        while len(data) > LARGE_FILE and self._random.randrange(LARGE_EVERY):
            data = next(self._whole)
        if self._random.random() < 0.5:
            return Attack("corpus file as a form", self._in_form(data))
        return Attack("corpus file as the body", self._post(data, self._random.choice(TYPES)))

    def _mutated(self) -> Attack:
        data = bytearray(self._random.choice(self._sound))
        for _ in range(self._random.randrange(1, 12)):
            at = self._random.randrange(len(data))
            choice = self._random.randrange(4)
            if choice == 0:
                data[at] = self._random.randrange(256)
            elif choice == 1:
                data[at : at + 4] = self._random.choice((bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff"))
            elif choice == 2:
                del data[at : at + self._random.randrange(1, 20)]
            else:
                data[at:at] = data[at : at + self._random.randrange(1, 40)]
        return Attack("valid file with changed bytes", self._post(bytes(data), "image/png", self._query()))

    def _form(self) -> Attack:
        body = bytearray(self._multipart(self._random.choice(self._sound)))
        for _ in range(self._random.randrange(1, 5)):
            at = self._random.choice((self._random.randrange(110), self._random.randrange(len(body))))
            body[at : at + self._random.randrange(3)] = self._random.choice(
                (b"", b"\r\n", b"--x", b'"', b";", b"\xff\0")
            )
        return Attack("broken form", self._post(bytes(body), "multipart/form-data; boundary=x"))

    def _options(self) -> Attack:
        data = self._random.choice(self._sound)
        return Attack("senseless options", self._post(data, "image/png", self._query(), self._random.choice(HEADERS)))

    def _http(self) -> Attack:
        data = bytearray(self._post(self._sound[0], "image/png"))
        head = data.index(b"\r\n\r\n")
        for _ in range(self._random.randrange(1, 4)):
            data[self._random.randrange(head)] = self._random.randrange(256)
        return Attack(BROKEN_HTTP, bytes(data))

    def _cut(self) -> Attack:
        data = self._post(self._random.choice(self._sound), "image/png")
        return Attack("client disconnects", data[: self._random.randrange(len(data))], leaves=True)

    def _elsewhere(self) -> Attack:
        method, path = self._random.choice(("GET", "PUT", "PATCH", "DELETE")), self._random.choice(ELSEWHERE)
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *filter(None, [self._random.choice(CREDENTIALS)]), "", ""]
        return Attack("other paths, methods, credentials", "\r\n".join(lines).encode("latin-1"))

    def _query(self) -> str:
        return self._random.choice(QUERIES)

    def _in_form(self, data: bytes) -> bytes:
        return self._post(self._multipart(data), "multipart/form-data; boundary=x")

    def _multipart(self, data: bytes) -> bytes:
        name = self._random.choice(("a.png", "../../a", "\x01", "a" * 5000, "\u202e", 'a"; b="'))
        head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        return head.encode() + data + b"\r\n--x--\r\n"

    def _post(self, data: bytes, content_type: str, query: str = "", header: str = "") -> bytes:
        lines = ["POST /restore" + (f"?{query}" if query else "") + " HTTP/1.1", "Host: x"]
        lines += [f"Content-Type: {content_type}", *([header] if header else [])]
        if self._random.random() < 0.2:  # chunked, in two pieces
            half = len(data) // 2
            pieces = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:half], data[half:]) if part)
            return "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode("latin-1") + pieces + b"0\r\n\r\n"
        return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode("latin-1") + data


def send(address: tuple[str, int], attack: Attack) -> Answer:
    """Send a request on its own connection and check the response."""
    data = b""
    try:
        with socket.create_connection(address, PATIENCE_S) as connection:
            try:
                connection.sendall(attack.data)
                if attack.leaves:
                    return Answer(attack.kind, "left", True)
                if attack.kind == BROKEN_HTTP:  # it may declare more bytes than it sends
                    connection.shutdown(socket.SHUT_WR)
                while not whole(data) and (part := connection.recv(1 << 16)):
                    data += part
            except ConnectionError:
                pass  # what was received before counts
    except TimeoutError:
        return Answer(attack.kind, "silent", False)
    final = re.sub(rb"^(HTTP/1.1 100 [^\r]*\r\n\r\n)+", b"", data)
    if not final:
        return Answer(attack.kind, "closed", attack.kind == BROKEN_HTTP)
    head, _, body = final.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    return Answer(attack.kind, str(status), sound(status, head.lower(), body))


def whole(data: bytes) -> bool:
    """Return whether a response is complete."""
    head, end, body = re.sub(rb"^(HTTP/1.1 100 [^\r]*\r\n\r\n)+", b"", data).partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return bool(end) and (b" 304 " in head[:14] or (length is not None and len(body) >= int(length[1])))


def sound(status: int, head: bytes, body: bytes) -> bool:
    """Return whether a response is an image or a problem document with a detail."""
    if status in (200, 304):
        return status == 304 or any(kind in head for kind in (b": image/", b": multipart/mixed", b": application/json"))
    document = json.loads(body) if b"application/problem+json" in head else {}
    # 504: a deadline that no run can meet; 501: jobs are off.
    sentence = str(document.get("detail") or json.loads(body).get("error", ""))
    return (
        len(sentence.split()) > 3
        and document.get("status", status) == status
        and (status < 500 or status in (501, 504))
    )


def resident_mb(pid: int) -> float:
    """Return the resident memory of the process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def attack_server(count: int, log: Path) -> int:
    """Start a server, send the requests and print the figures; returns the number of findings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
    environment |= {f"PROMPTIR_{name}": value for name, value in SIMULATED.items()} | {"OMP_NUM_THREADS": "1"}
    with log.open("w") as stderr:
        command = [sys.executable, "-m", "server.cli", "serve"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=stderr)
    try:
        address = listening(log)
        attacks, answers, memory_mb = iter(Attacks(SEED)), Counter[Answer](), []
        began = time.perf_counter()
        with ThreadPoolExecutor(SENDERS) as senders:
            for _ in range(SAMPLES):
                some = list(itertools.islice(attacks, count // SAMPLES))
                answers.update(senders.map(lambda attack: send(address, attack), some))
                memory_mb.append(resident_mb(process.pid))
        alive = process.poll() is None and send(address, Attack("", b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")).outcome
        seconds = time.perf_counter() - began
        process.terminate()
        code = process.wait(PATIENCE_S)
    finally:
        process.kill()
    findings = sum(times for answer, times in answers.items() if not answer.sound)
    # Image libraries also write to stderr; only logged errors and tracebacks count.
    faults = re.findall(r'^(?:{.*"level": "(?:ERROR|CRITICAL)".*|Traceback.*|Fatal.*)$', log.read_text(), re.MULTILINE)
    report(answers, memory_mb, seconds)
    print(f"\ninvalid responses: {findings}; errors in the log: {len(faults)}; ready at the end: {alive}; exit {code}")
    for line in faults[:5]:
        print(line[:2000], file=sys.stderr)
    for answer, times in answers.items():
        if not answer.sound:
            print(times, answer, file=sys.stderr)
    return findings + len(faults) + (alive != "200") + (code != 0)


def listening(log: Path) -> tuple[str, int]:
    """Wait until the server is ready and return its host and port."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        places = [(line["host"], line["port"]) for line in lines if line["message"] == "listening"]
        if places and any(line["message"] == "ready" for line in lines):
            return places[0]
        time.sleep(0.1)
    raise TimeoutError("the server did not start: " + log.read_text()[-500:])


def report(answers: Counter[Answer], memory_mb: list[float], seconds: float) -> None:
    """Print the results as Markdown."""
    outcomes = sorted({answer.outcome for answer in answers})
    print("| requests | " + " | ".join(outcomes) + " | all |")
    print("|---|" + "---|" * (len(outcomes) + 1))
    for kind in sorted({answer.kind for answer in answers}):
        row = Counter[str]()
        for answer, times in answers.items():
            row[answer.outcome] += times if answer.kind == kind else 0
        print(f"| {kind} | " + " | ".join(str(row[outcome] or "") for outcome in outcomes) + f" | {row.total()} |")
    settled = memory_mb[int(len(memory_mb) * WARM_UP_SHARE) :]
    quarter = max(1, len(settled) // 4)
    early, late = (statistics.median(part) for part in (settled[:quarter], settled[-quarter:]))
    samples = ", ".join(f"{mb:.0f}" for mb in memory_mb)
    print(f"\n{answers.total()} requests in {seconds:.0f} s; resident MB: {samples}; growth from the first to the last "
          f"quarter after warm-up {100 * (late / early - 1):+.1f} %")  # fmt: skip


def main() -> int:
    """Run the test; returns 1 if there are findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    with tempfile.TemporaryDirectory() as folder:
        return int(attack_server(parser.parse_args().requests, Path(folder) / "server.log") > 0)


if __name__ == "__main__":
    sys.exit(main())
