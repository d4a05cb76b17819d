"""`promptir bench`: measures a server under load."""

import argparse
import asyncio
import json
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from server.cli.command_parser import not_negative, positive, whole_number
from server.errors import InvalidRequest

if TYPE_CHECKING:
    from server.cli.bench.load import Load
    from server.cli.bench.summary import Summary

DEFAULT_PATH = "/restore"
DEFAULT_CLIENTS = 8


def add_command(commands: Any) -> None:
    """Add `bench` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser("bench", help="measure a server under load")
    parser.add_argument("url", help=f"URL to POST images to; without a path, {DEFAULT_PATH}")
    loop = parser.add_mutually_exclusive_group()
    loop.add_argument(
        "--clients",
        type=whole_number(1),
        metavar="N",
        help="closed loop: N clients, each sending one request at a time (8)",
    )
    loop.add_argument(
        "--rate", type=positive, metavar="R", help="open loop: R requests per second, independent of responses"
    )
    parser.add_argument(
        "--arrivals", choices=("poisson", "even"), default="poisson", help="arrival process of the open loop (poisson)"
    )
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        "--sizes",
        default="256",
        metavar="LIST",
        help="images to generate, as SIDE|WIDTHxHEIGHT[.FORMAT][:WEIGHT],... such as 64:3,96,640x480.jpeg:0.5 (256)",
    )
    images.add_argument("--images", type=Path, metavar="FOLDER", help="send the images of a folder in turn instead")
    parser.add_argument(
        "--format", choices=("png", "jpeg", "webp"), default="png", help="format of generated images (png)"
    )
    parser.add_argument("--form", metavar="FIELD", help="send a multipart form with the image in this field")
    parser.add_argument("--seconds", type=positive, default=10.0, metavar="S", help="measured time (10)")
    parser.add_argument(
        "--warm-up", type=not_negative, default=1.0, metavar="S", help="load before the measured time (1)"
    )
    parser.add_argument("--timeout", type=positive, default=60.0, metavar="S", help="longest wait for a response (60)")
    parser.add_argument("--deadline-ms", type=whole_number(1), metavar="MS", help="report goodput: responses within MS")
    parser.add_argument("--send-deadline", action="store_true", help="send the deadline as X-Deadline-Ms")
    parser.add_argument("--priority", choices=("interactive", "batch"), help="send as X-Priority")
    parser.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="additional header; repeatable"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of images, order and arrivals (0)")
    parser.add_argument(
        "--run-log", type=Path, metavar="FILE", help="run log of a simulated device (simulated_run_log)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Apply the load and print the table; returns 1 if nothing was restored. Raises InvalidRequest for an invalid load.

    Imports the packages of this command lazily, because the server must start without them.
    """
    try:
        from server.cli.bench import report
    except ModuleNotFoundError as error:
        raise InvalidRequest(
            f"bench needs the package {error.name}: run pip install 'promptir-serve[bench]'"
        ) from error
    url = address(arguments.url)
    headers = _headers(arguments)
    load = _load(arguments)
    _allow_many_connections()
    with _runner() as runner:
        summary = runner.run(_measure(arguments, url, headers, load))
    how = f"{load.clients} clients" if load.rate is None else f"{load.rate:g} requests per second, {load.arrivals}"
    print(f"{url}: {how}\nuploads: {', '.join(kind.name for kind in load.kinds)}\n\n{report.as_table(summary)}")
    if arguments.json is not None:
        given = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
        given.pop("run")
        figures = {"arguments": given, **report.as_json(summary)}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if summary.latency_ms is not None else 1


def address(url: str) -> str:
    """Return the URL to POST to; raises InvalidRequest for an invalid one."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidRequest(f"{url} is not a URL: write http://HOST:PORT")
    return urlunsplit(parts._replace(path=DEFAULT_PATH)) if parts.path in ("", "/") else url


async def _measure(arguments: argparse.Namespace, url: str, headers: dict[str, str], load: "Load") -> "Summary":
    from server.cli.bench.load import apply
    from server.cli.bench.probes import MetricsProbe
    from server.cli.bench.run_log import read_run_log
    from server.cli.bench.sender import Sender
    from server.cli.bench.summary import summarise

    async with Sender(url, headers, arguments.form, arguments.timeout) as sender:
        metrics = MetricsProbe(sender, url)
        recording = await apply(load, sender, [metrics])
    log = arguments.run_log
    device = metrics.device() if log is None else read_run_log(log, *recording.window)
    return summarise(load, recording, deadline_ms=arguments.deadline_ms, device=device, server=metrics.server())


def _load(arguments: argparse.Namespace) -> "Load":
    from server.cli.bench.load import Load
    from server.cli.bench.uploads import kind_of_folder, kinds_of_sizes

    if arguments.images is not None:
        kinds = [kind_of_folder(arguments.images)]
    else:
        kinds = kinds_of_sizes(arguments.sizes, arguments.format, arguments.seed)
    clients = arguments.clients or DEFAULT_CLIENTS if arguments.rate is None else None
    return Load(
        kinds, arguments.seconds, arguments.warm_up, clients, arguments.rate, arguments.arrivals, arguments.seed
    )


def _headers(arguments: argparse.Namespace) -> dict[str, str]:
    headers = {}
    for header in arguments.header:
        name, colon, value = header.partition(":")
        if not (name.strip() and colon):
            raise InvalidRequest(f"{header!r} is not a header: write 'NAME: VALUE'")
        headers[name.strip()] = value.strip()
    if arguments.send_deadline:
        if arguments.deadline_ms is None:
            raise InvalidRequest("--send-deadline requires --deadline-ms")
        headers["X-Deadline-Ms"] = str(arguments.deadline_ms)
    if arguments.priority is not None:
        headers["X-Priority"] = arguments.priority
    return headers


def _runner() -> asyncio.Runner:
    try:
        import uvloop
    except ModuleNotFoundError:  # missing on some platforms; the report shows the client's own CPU time
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def _allow_many_connections() -> None:
    # An open loop has one connection per waiting request; the usual limit of 1024 files would distort the result.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
