"""Faults injected into a server under load, one function each."""

import asyncio
import random
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from chaos_clients import Crowd, Tally, crowd, encoded, pictures
from chaos_sockets import attack
from chaos_subject import Subject, alive

SEED, ATTACK_SEED = 11, 99
DAY_S = 86_400
KEPT_HOURS = 24
SHORTEST_LIFE_S, LONGEST_LIFE_S = 0.3, 1.5
FULL_MB, FULL_S = 48, 0.6
BUDGET_BYTES = 2_000_000
PATIENT_MS = 30_000
IDLE_LOOKS, LOOK_S = 100, 0.05
FIRST_FAULT_S = 30.0


@dataclass
class Row:
    """Result of one kind of fault."""

    fault: str
    tally: Tally
    faults: int
    notes: dict[str, object] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    """Broken guarantees beyond those that the tally counts."""

    @property
    def sound(self) -> bool:
        """Return whether nothing was wrong, lost or unexplained, and the fault did occur."""
        tally = self.tally
        nothing = not (self.faults and tally.restored)
        return not (nothing or tally.wrong or tally.lost or tally.unexpected or self.violations)


Fault = Callable[[Path, float], Awaitable[Row]]


async def kill(folder: Path, seconds: float) -> Row:
    """Send SIGKILL at random moments and restart the server each time."""
    rng, kills = random.Random(SEED), 0
    async with alive(Subject(folder)) as subject, crowd(subject.url) as clients:
        for _ in _while(seconds):
            await asyncio.sleep(rng.uniform(SHORTEST_LIFE_S, LONGEST_LIFE_S))
            await subject.kill()
            kills += 1
            await subject.start()
    return Row("kill -9 of the server", clients.tally, kills)


async def terminate(folder: Path, seconds: float) -> Row:
    """Send SIGTERM at random moments; the server must exit with 0 and finish all open requests."""
    rng, ends, cut, violations = random.Random(SEED), 0, 0, []
    async with alive(Subject(folder)) as subject, crowd(subject.url) as clients:
        for _ in _while(seconds):
            await asyncio.sleep(rng.uniform(SHORTEST_LIFE_S, LONGEST_LIFE_S))
            told_at = time.monotonic()
            code = await subject.drain()
            ends += 1
            cut += sum(began < told_at <= broke for began, broke in clients.broken_at)
            violations += [f"exit code {code}"] * (code != 0)
            await subject.start()
    violations += [f"{cut} cut off that were sent before SIGTERM"] * bool(cut)
    return Row("SIGTERM", clients.tally, ends, {"cut off": cut}, violations)


def of_device(name: str, fault: str, share: float, *flags: str) -> Fault:
    """Return a fault that affects a share of the device's runs."""

    async def inject(folder: Path, seconds: float) -> Row:
        async with alive(Subject(folder, fault, share, flags)) as subject:
            async with crowd(subject.url, explained=frozenset({"backend-error", "wrong-output"})) as clients:
                for _ in _while(seconds, lambda: subject.faults == 0):
                    await asyncio.sleep(LOOK_S)
            code = await subject.drain()
        return Row(name, clients.tally, subject.faults, {}, [f"exit code {code}"] * (code != 0))

    return inject


async def slow(folder: Path, seconds: float) -> Row:
    """Open connections that send a head or body byte by byte, beside clients that must not be affected."""
    flags = ("--upload-stall-s", "1")
    async with alive(Subject(folder, flags=flags)) as subject, crowd(subject.url) as clients:
        ends = await attack(subject.port, ("slow head", "slow body"), seconds)
    return Row("slow-loris", clients.tally, ends.total(), dict(ends))


async def half_closed(folder: Path, seconds: float) -> Row:
    """Half-close or reset connections before, during and after a request."""
    kinds = ("half-closed whole", "half-closed early", "reset", "never reads")
    async with alive(Subject(folder)) as subject:
        async with crowd(subject.url) as clients:
            ends = await attack(subject.port, kinds, seconds, encoded(next(pictures(ATTACK_SEED))))
        violations = [] if await _until_idle(subject) else ["memory of disconnected uploads is still reserved"]
    wrong = ends.pop("wrong", 0)
    violations += [f"{wrong} wrong answers on half-closed connections"] * bool(wrong)
    return Row("half-closed and reset sockets", clients.tally, ends.total(), dict(ends), violations)


async def full_disk(folder: Path, seconds: float) -> Row:
    """Fill the job store's disk for a while; if no disk can be mounted, its storage budget."""
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
    refused = sum(times for outcome, times in clients.tally.again.items() if "full" in outcome)
    violations = ["no job was refused"] * (refused == 0)
    return Row("full disk for jobs" if with_disk else "full budget for jobs", clients.tally, fills, {}, violations)


async def clock(folder: Path, seconds: float) -> Row:
    """Move the wall clock by days, forward and back; only expiry may depend on it, not deadlines and waits."""
    subject = Subject(folder, flags=("--jobs-keep-hours", str(KEPT_HOURS)))
    violations, jumps = [], 0
    headers = {"X-Deadline-Ms": str(PATIENT_MS)}
    async with alive(subject), crowd(subject.url, submitters=0, headers=headers) as clients:
        for _ in _while(seconds):
            violations += await _around_a_jump(subject, clients)
            jumps += 3
    return Row("clock jump", clients.tally, jumps, {}, violations)


async def _around_a_jump(subject: Subject, clients: Crowd) -> list[str]:
    """Move the clock back two days, beyond the true time and back; check jobs that are kept for one day."""
    found = []
    place = await _done_job(clients)
    subject.set_clock(-2 * DAY_S)
    found.append(("kept when the clock went back", await clients.state(place), "done"))
    in_the_past = await _done_job(clients)
    subject.set_clock(3 * DAY_S // 2)
    found.append(("kept for a day, 36 hours later", await clients.state(place), "job-expired"))
    found.append(("kept for a day, 84 hours later", await clients.state(in_the_past), "unknown-job"))
    in_the_future = await _done_job(clients)
    subject.set_clock(0)
    found.append(("kept when the clock was put right", await clients.state(in_the_future), "done"))
    return [f"{what}: {state}, not {wanted}" for what, (state, _), wanted in found if state != wanted]


async def _done_job(clients: Crowd) -> str:
    picture = next(pictures(int(time.monotonic_ns() % 2**32)))
    headers = {"X-Deadline-Ms": str(PATIENT_MS)}
    async with clients.session.post(f"{clients.url}/v1/jobs", data=encoded(picture), headers=headers) as response:
        place = response.headers["Location"]
    while (await clients.state(place))[0] in ("queued", "running"):
        await asyncio.sleep(0.02)
    return place


FAULTS: dict[str, Fault] = {
    "kill": kill,
    "terminate": terminate,
    "lost": of_device("device lost in a run", "lost", 0.005, "--devices", "sim:0,sim:1"),
    "thread": of_device("thread of a device ends", "thread", 0.005, "--devices", "sim:0,sim:1"),
    "hang": of_device("run hangs, and comes back later", "hang", 0.005, "--run-timeout-s", "0.3"),
    "out-of-memory": of_device("out of memory", "out-of-memory", 0.3),
    "not-finite": of_device("output not finite", "not-finite", 0.1),
    "wrong-shape": of_device("output of a wrong shape", "wrong-shape", 0.1),
    "error": of_device("run fails", "error", 0.1),
    "slow": slow,
    "half-closed": half_closed,
    "full-disk": full_disk,
    "clock": clock,
}


def _while(seconds: float, not_yet: Callable[[], bool] = lambda: False) -> Iterator[None]:
    until = time.monotonic() + seconds
    while time.monotonic() < until or (not_yet() and time.monotonic() < until + FIRST_FAULT_S):
        yield


async def _until_idle(subject: Subject) -> bool:
    """Return whether all upload memory is released within a short time."""
    for _ in range(IDLE_LOOKS):
        async with aiohttp.ClientSession() as session, session.get(f"{subject.url}/metrics") as response:
            if "\npromptir_upload_bytes 0.0\n" in await response.text():
                return True
        await asyncio.sleep(LOOK_S)
    return False


def _mount(folder: Path) -> bool:
    """Mount a small disk; return False if that is not permitted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={FULL_MB}m", "tmpfs", folder]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _fill(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as filler:
        while filler.write(bytes(2**16)):
            pass
