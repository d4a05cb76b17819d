"""Request cost: the processor time that servers of several checkouts spend on a request, taken in turns.

    python loadtests/request_cost.py --checkout before=/path/to/another/checkout --checkout now=.

On a busy machine the time that a request takes says little, the processor time of the server's process much more. The
checkouts take turns, a short load each, so that what neighbours do meets all of them. It is read once for every
SPAN answers; neighbours only ever add to it, so the figure of a checkout is the mean of the lower half of these. The
client is a bare socket and costs little.
"""

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import uvloop  # noqa: E402
from bench_rows import PHOTO, TINY  # noqa: E402
from peers import Peer, promptir  # noqa: E402

from server.cli.bench.uploads import make_kind  # noqa: E402

SPAN = 32
PROCESS_CLOCK = 2  # Linux, clock_getcpuclockid(3): the clock of process p is (~p << 3) | 2
HEAD = (
    b"POST /restore HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
    b"User-Agent: request-cost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
)


@dataclass
class Turns:
    """What was measured of one checkout: a value for each span, each turn, each request and each turn."""

    cpu_ms: list[float] = field(default_factory=list)
    whole_cpu_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)


class Client(asyncio.Protocol):
    """One connection in a closed loop: the next request as soon as the answer to the last is whole."""

    def __init__(self, requests: Iterator[bytes], answered: Callable[[bytes, float], None]) -> None:
        self._requests = requests
        self._answered = answered
        self._received = bytearray()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self._received[:head_end]).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(self._received) < head_end + 4 + length:
            return
        self._answered(head[9:12], time.perf_counter() - self._sent_at)
        self._received.clear()
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)


def processor_s(peer: Peer) -> float:
    """Seconds of processor time of the process, all of its threads."""
    return time.clock_gettime((~peer.process.pid << 3) | PROCESS_CLOCK)


async def turn(peer: Peer, requests: list[bytes], clients: int, turns: Turns) -> None:
    """Send all requests once and note what they cost."""
    port = int(peer.url.rpartition(":")[2])
    count, cpu_s, began = 0, processor_s(peer), time.perf_counter()
    before_s = cpu_s

    def answered(status: bytes, seconds: float) -> None:
        nonlocal count, cpu_s
        turns.latency_ms.append(seconds * 1e3)
        turns.statuses[status.decode()] += 1
        count += 1
        if count % SPAN == 0:
            before, cpu_s = cpu_s, processor_s(peer)
            turns.cpu_ms.append((cpu_s - before) * 1e3 / SPAN)

    pending, loop = iter(requests), asyncio.get_running_loop()
    protocols = [Client(pending, answered) for _ in range(clients)]
    for protocol in protocols:
        await loop.create_connection(lambda protocol=protocol: protocol, "127.0.0.1", port)
    await asyncio.gather(*(protocol.ended for protocol in protocols))
    turns.whole_cpu_ms.append((processor_s(peer) - before_s) * 1e3 / len(requests))
    turns.per_s.append(len(requests) / (time.perf_counter() - began))


def main() -> int:
    options = _options()
    device = TINY if options.side <= 128 else PHOTO
    serial = itertools.count()
    bodies = [body.data for body in make_kind(options.side, options.side, options.format, seed=7).bodies]
    measured: dict[str, Turns] = {name: Turns() for name, _ in options.checkout}

    def fresh(count: int) -> list[bytes]:  # no two alike, so that nothing is shared
        uploads = (bodies[number % len(bodies)] + b"%012d" % next(serial) for number in range(count))
        return [HEAD % len(upload) + upload for upload in uploads]

    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        peers = {
            name: running.enter_context(promptir(device, Path(folder) / f"{name}.csv", root=root, **dict(options.set)))
            for name, root in options.checkout
        }
        for name, peer in peers.items():
            print(f"{name}: {peer.resident_mb():.1f} MB idle")
            uvloop.run(turn(peer, fresh(options.requests), options.clients, Turns()))  # warm
        for number in range(options.turns):
            names = list(peers) if number % 2 else list(peers)[::-1]
            for name in names:
                uvloop.run(turn(peers[name], fresh(options.requests), options.clients, measured[name]))
        for name, turns in measured.items():
            print(_line(name, turns, peers[name].resident_mb()))
    return 0


def _line(name: str, turns: Turns, resident_mb: float) -> str:
    lower = sorted(turns.cpu_ms)[: (len(turns.cpu_ms) + 1) // 2]
    whole, p50 = statistics.median(turns.whole_cpu_ms), statistics.median(turns.latency_ms)
    return (
        f"{name:12} CPU {statistics.mean(lower):.3f} ms a request (median {statistics.median(turns.cpu_ms):.3f}, "
        f"of whole turns {whole:.3f}), p50 {p50:.2f} ms, {statistics.median(turns.per_s):.1f}/s, {resident_mb:.1f} MB, "
        f"{dict(turns.statuses)}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=_checkout, action="append", metavar="NAME=FOLDER", required=True)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=160, help="of a turn")
    parser.add_argument("--turns", type=int, default=24)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--format", default="png")
    parser.add_argument("--set", type=_setting, action="append", default=[], metavar="NAME=VALUE", help="a setting")
    return parser.parse_args()


def _setting(value: str) -> tuple[str, str]:
    name, _, given = value.partition("=")
    return name, given


def _checkout(value: str) -> tuple[str, Path]:
    name, _, folder = value.partition("=")
    return name, Path(folder).resolve()


if __name__ == "__main__":
    sys.exit(main())
