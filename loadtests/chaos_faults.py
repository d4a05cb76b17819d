"""Faults of the chaos test, one function each."""

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from chaos_clients import SUBMITTERS, Counts, Crowd, crowd, encoded, pictures
from chaos_sockets import attack
from chaos_subject import Subject, alive

SEED, ATTACK_SEED = 11, 99
DAY_S = 86_400
KEPT_HOURS = 24
SHORTEST_LIFE_S, LONGEST_LIFE_S = 0.3, 1.5
LONGEST_CODEC_LIFE_S, LARGE = 3.0, 4
LONGEST_HTTP_LIFE_S, HTTP_PROCESSES = 4.0, 2
SEGMENTS = Path("/dev/shm")  # noqa: S108 - only looked at
FULL_MB, FULL_S = 48, 0.6
BUDGET_BYTES = 2_000_000
PATIENT_MS = 30_000
IDLE_POLLS, POLL_S = 100, 0.05
FIRST_FAULT_S = 30.0


@dataclass
class Row:
    """Result of one kind of fault."""

    fault: str
    counts: Counts
    faults: int
    notes: dict[str, object] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    """Broken guarantees that the counts do not cover."""

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong, lost or unexplained, and at least one fault and one result occurred."""
        counts = self.counts
        nothing = not (self.faults and counts.restored)
        return not (nothing or counts.wrong or counts.lost or counts.unexpected or self.violations)


Fault = Callable[[Path, float], Awaitable[Row]]


async def kill(folder: Path, seconds: float) -> Row:
    """Kill the server at random moments and restart it."""
    rng, kills = random.Random(SEED), 0
    async with alive(Subject(folder)) as subject, crowd(subject.url) as clients:
        for _ in _while(seconds):
            await asyncio.sleep(rng.uniform(SHORTEST_LIFE_S, LONGEST_LIFE_S))
            await subject.kill()
            kills += 1
            await subject.start()
    return Row("kill -9 of the server", clients.counts, kills)


async def terminate(folder: Path, seconds: float) -> Row:
    """Send SIGTERM at random moments; the server must exit with 0 and finish all earlier requests."""
    rng, ends, cut, violations = random.Random(SEED), 0, 0, []
    async with alive(Subject(folder)) as subject, crowd(subject.url) as clients:
        for _ in _while(seconds):
            await asyncio.sleep(rng.uniform(SHORTEST_LIFE_S, LONGEST_LIFE_S))
            signalled_at = time.monotonic()
            code = await subject.drain()
            ends += 1
            cut += sum(began < signalled_at <= broke for began, broke in clients.broken_at)
            violations += [f"exit code {code}"] * (code != 0)
            await subject.start()
    violations += [f"{cut} requests sent before SIGTERM were cut off"] * bool(cut)
    return Row("SIGTERM", clients.counts, ends, {"cut off": cut}, violations)


def of_device(name: str, fault: str, share: float, *flags: str, http_processes: int = 1) -> Fault:
    """Create a fault that occurs in a fraction of the device's runs."""

    async def inject(folder: Path, seconds: float) -> Row:
        submitters = SUBMITTERS if http_processes == 1 else 0
        explained = frozenset({"backend-error", "wrong-output"})
        async with alive(Subject(folder, fault, share, flags, http_processes=http_processes)) as subject:
            async with crowd(subject.url, submitters=submitters, explained=explained) as clients:
                for _ in _while(seconds, lambda: subject.faults == 0):
                    await asyncio.sleep(POLL_S)
            code = await subject.drain()
        return Row(name, clients.counts, subject.faults, {}, [f"exit code {code}"] * (code != 0))

    return inject


async def codec(folder: Path, seconds: float) -> Row:
    """Kill codec processes at random moments, on images large enough for them; nothing of them may remain."""
    rng, kills = random.Random(SEED), 0
    async with alive(Subject(folder, flags=("--codec-processes", "2"))) as subject:
        async with crowd(subject.url, scale=LARGE, explained=frozenset({"codec-lost"})) as clients:
            for _ in _while(seconds):
                await asyncio.sleep(rng.uniform(0, LONGEST_CODEC_LIFE_S))
                if victims := _spawned(subject):
                    with suppress(ProcessLookupError):
                        os.kill(rng.choice(victims), signal.SIGKILL)
                        kills += 1
        last, server = _spawned(subject), subject.running.process.pid
        code = await subject.drain()
    violations = [f"exit code {code}"] * (code != 0)
    violations += ["a codec process remains"] * any(Path(f"/proc/{pid}").exists() for pid in last)
    violations += [f"{file.name} remains in /dev/shm" for file in SEGMENTS.glob(f"promptir-{server}-*")]
    return Row("kill -9 of codec processes", clients.counts, kills, {}, violations)


async def http(folder: Path, seconds: float) -> Row:
    """Kill all HTTP processes but one at random moments; nothing of them may remain."""
    rng, kills, victims = random.Random(SEED), 0, set[int]()
    async with alive(Subject(folder, http_processes=HTTP_PROCESSES)) as subject:
        survivor = _spawned(subject)[0]
        async with crowd(subject.url, submitters=0) as clients:
            for _ in _while(seconds):
                await asyncio.sleep(rng.uniform(0, LONGEST_HTTP_LIFE_S))
                for pid in set(_spawned(subject)) - {survivor}:
                    os.kill(pid, signal.SIGKILL)
                    victims.add(pid)
                    kills += 1
        code = await subject.drain()
    violations = [f"exit code {code}"] * (code != 0)
    violations += [f"HTTP process {pid} remains" for pid in victims | {survivor} if Path(f"/proc/{pid}").exists()]
    left = [file.name for pid in victims | {survivor} for file in SEGMENTS.glob(f"promptir-{pid}-*")]
    violations += [f"{name} remains in /dev/shm" for name in left]
    return Row("kill -9 of HTTP processes", clients.counts, kills, {}, violations)


async def slow(folder: Path, seconds: float) -> Row:
    """Send heads and bodies byte by byte on many connections; other clients must not be affected."""
    flags = ("--upload-stall-s", "1")
    async with alive(Subject(folder, flags=flags)) as subject, crowd(subject.url) as clients:
        ends = await attack(subject.port, ("slow head", "slow body"), seconds)
    return Row("slow-loris", clients.counts, ends.total(), dict(ends))


async def half_closed(folder: Path, seconds: float) -> Row:
    """Half-close or reset connections before, during and after a request."""
    kinds = ("half-closed whole", "half-closed early", "reset", "never reads")
    async with alive(Subject(folder)) as subject:
        async with crowd(subject.url) as clients:
            ends = await attack(subject.port, kinds, seconds, encoded(next(pictures(ATTACK_SEED))))
        violations = [] if await _until_idle(subject) else ["uploads of closed connections are still counted"]
    wrong = ends.pop("wrong", 0)
    violations += [f"{wrong} wrong responses on half-closed connections"] * bool(wrong)
    return Row("half-closed and reset sockets", clients.counts, ends.total(), dict(ends), violations)


async def full_disk(folder: Path, seconds: float) -> Row:
    """Fill the jobs' disk for a while; if no disk can be mounted, exhaust the budget instead."""
    with_disk = _mount(folder / "disk")
    flags = () if with_disk else ("--jobs-max-bytes", str(BUDGET_BYTES))
    fills, filler = 0, folder / "disk" / "filler"
    subject = Subject(folder, flags=flags, jobs=folder / "disk" / "jobs")
    try:
        async with alive(subject), crowd(subject.url, explained=frozenset({"disk-full"})) as clients:
            for _ in _while(seconds):
                await asyncio.sleep(FULL_S)
                if with_disk:
                    await asyncio.to_thread(_fill, filler)
                    await asyncio.sleep(FULL_S)
                    filler.unlink()
                fills += 1
    finally:
        if with_disk:
            subprocess.run(["umount", folder / "disk"], check=True)  # noqa: S607
    refused = sum(times for outcome, times in clients.counts.retried.items() if "full" in outcome)
    violations = ["no job was refused"] * (refused == 0)
    return Row("full disk for jobs" if with_disk else "full budget for jobs", clients.counts, fills, {}, violations)


async def clock(folder: Path, seconds: float) -> Row:
    """Move the wall clock by days in both directions; only the expiry of jobs may depend on it."""
    subject = Subject(folder, flags=("--jobs-keep-hours", str(KEPT_HOURS)))
    violations, jumps = [], 0
    headers = {"X-Deadline-Ms": str(PATIENT_MS)}
    async with alive(subject), crowd(subject.url, submitters=0, headers=headers) as clients:
        for _ in _while(seconds):
            violations += await _around_a_jump(subject, clients)
            jumps += 3
    return Row("clock jump", clients.counts, jumps, {}, violations)


async def _around_a_jump(subject: Subject, clients: Crowd) -> list[str]:
    """Move the clock back two days, then ahead, then to the correct time, and check jobs retained for one day."""
    found = []
    location = await _done_job(clients)
    subject.set_clock(-2 * DAY_S)
    found.append(("after the clock went back", await clients.state(location), "done"))
    in_the_past = await _done_job(clients)
    subject.set_clock(3 * DAY_S // 2)
    found.append(("after 36 hours, retained for a day", await clients.state(location), "job-expired"))
    found.append(("after 84 hours, retained for a day", await clients.state(in_the_past), "unknown-job"))
    in_the_future = await _done_job(clients)
    subject.set_clock(0)
    found.append(("after the clock was corrected", await clients.state(in_the_future), "done"))
    return [f"{what}: {state}, not {wanted}" for what, (state, _), wanted in found if state != wanted]


async def _done_job(clients: Crowd) -> str:
    picture = next(pictures(int(time.monotonic_ns() % 2**32)))
    headers = {"X-Deadline-Ms": str(PATIENT_MS)}
    async with clients.session.post(f"{clients.url}/v1/jobs", data=encoded(picture), headers=headers) as response:
        location = response.headers["Location"]
    while (await clients.state(location))[0] in ("queued", "running"):
        await asyncio.sleep(0.02)
    return location


FAULTS: dict[str, Fault] = {
    "kill": kill,
    "terminate": terminate,
    "lost": of_device("device lost during a run", "lost", 0.005, "--devices", "sim:0,sim:1"),
    "thread": of_device("device thread ends", "thread", 0.005, "--devices", "sim:0,sim:1"),
    "hang": of_device("run hangs and returns later", "hang", 0.005, "--run-timeout-s", "0.3"),
    "out-of-memory": of_device("out of memory", "out-of-memory", 0.3),
    "not-finite": of_device("output not finite", "not-finite", 0.1),
    "wrong-shape": of_device("output with a wrong shape", "wrong-shape", 0.1),
    "error": of_device("run fails", "error", 0.1),
    "codec": codec,
    "http": http,
    "http-lost": of_device("device lost, two HTTP processes", "lost", 0.005, http_processes=HTTP_PROCESSES),
    "http-hang": of_device(
        "run hangs, two HTTP processes", "hang", 0.005, "--run-timeout-s", "0.3", http_processes=HTTP_PROCESSES
    ),
    "slow": slow,
    "half-closed": half_closed,
    "full-disk": full_disk,
    "clock": clock,
}


def _while(seconds: float, not_yet: Callable[[], bool] = lambda: False) -> Iterator[None]:
    until = time.monotonic() + seconds
    while time.monotonic() < until or (not_yet() and time.monotonic() < until + FIRST_FAULT_S):
        yield


def _spawned(subject: Subject) -> list[int]:
    """Return the codec processes or HTTP processes of the server."""
    children = [(pid, Path(f"/proc/{pid}/cmdline")) for pid in subject.running.children()]
    return [pid for pid, line in children if line.exists() and b"--multiprocessing-fork" in line.read_bytes()]


async def _until_idle(subject: Subject) -> bool:
    """Wait until no upload is counted; returns False after a timeout."""
    for _ in range(IDLE_POLLS):
        async with aiohttp.ClientSession() as session, session.get(f"{subject.url}/metrics") as response:
            if "\npromptir_upload_bytes 0.0\n" in await response.text():
                return True
        await asyncio.sleep(POLL_S)
    return False


def _mount(folder: Path) -> bool:
    """Mount a small disk; returns False if that is not permitted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={FULL_MB}m", "tmpfs", folder]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _fill(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as filler:
        while filler.write(bytes(2**16)):
            pass
