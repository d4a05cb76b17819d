"""`promptir restore`: files, folders, patterns and lists of photos, in this process, by a server or over Ray."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.restore.files import sweep
from server.cli.restore.inputs import SUFFIXES, Errand, plan, plan_list
from server.cli.restore.lists import read_list
from server.cli.restore.local_engine import run_locally
from server.cli.restore.progress import Tally
from server.cli.restore.ray_engine import run_on_ray
from server.cli.restore.targets import OwnBench, RunEnded, ServerBench, Workbench
from server.cli.settings_flags import add_settings, settings_from
from server.errors import InvalidRequest
from server.formats.output import MetadataPolicy, OutputFormat
from server.imaging.strength import check_strength
from server.restore.options import RestoreOptions

if TYPE_CHECKING:
    from promptir_client import AsyncClient

DEFAULT_QUALITY = 95
# One image is decoded or encoded while another one runs; more would only hold memory.
DEFAULT_JOBS = 3
INTERRUPTED = 130  # the shells' convention: 128 + SIGINT


def add_command(commands: Any) -> None:
    """Add `restore` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "restore", help="restore files, folders, patterns or lists", usage="%(prog)s [options] IN [IN ...] OUT"
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="IN ... OUT",
        help=f"images, folders with images, patterns; last the restored image ({SUFFIXES}) or a folder",
    )
    parser.add_argument("--list", metavar="FILE", help="instead of IN: a path or URI a line; - is the standard input")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace files that exist")
    existing.add_argument(
        "--skip-existing",
        "--resume",
        action="store_true",
        help="pass over results that exist: goes on with a run that was interrupted",
    )
    parser.add_argument("--jobs", type=_positive, metavar="N", help="photos at a time; with ray, workers")
    parser.add_argument("--failures", type=Path, metavar="FILE", help="write what failed, and why, a line each")
    parser.add_argument("--server", metavar="URL", help="let this server restore them")
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help="its first line is the key to the server")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="ray: workers on many machines")
    parser.add_argument("--quality", type=int, default=DEFAULT_QUALITY, choices=range(1, 101), metavar="1..100")
    parser.add_argument(
        "--format",
        type=OutputFormat,
        default=OutputFormat.PNG,
        choices=list(OutputFormat),
        help="of the files in an OUT folder; an OUT file's suffix names its own",
    )
    parser.add_argument(
        "--metadata",
        type=MetadataPolicy,
        default=MetadataPolicy.KEEP,
        choices=list(MetadataPolicy),
        help="EXIF and XMP",
    )
    parser.add_argument("--strength", type=float, default=1.0, metavar="0..1", help="share of the restored photo")
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="longest side of a tile; large photos are cut")
    parser.add_argument("--overlap", type=int, metavar="PIXELS", help="what neighbouring tiles share at least")
    add_settings(parser, {"backend", "limits"})
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Restore everything; 1 if any photo failed, 130 after Ctrl-C. Raises InvalidRequest for what cannot be begun."""
    errands = _plan(arguments)
    options = RestoreOptions(
        quality=arguments.quality,
        metadata=arguments.metadata,
        strength=check_strength(arguments.strength),
        tile=arguments.tile,
        overlap=arguments.overlap,
    )
    waiting = errands
    if arguments.skip_existing:
        sweep({errand.target.parent for errand in errands})
        waiting = [errand for errand in errands if not errand.target.exists()]
    tally = Tally(len(errands), len(errands) - len(waiting), arguments.failures)
    try:
        with tally:
            if waiting:
                _restore(arguments, waiting, options, tally)
    except RunEnded as ended:
        tally.report()
        print(f"promptir: {ended}; the same command with --resume goes on from here", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        tally.report()
        print("promptir: interrupted; the same command with --resume goes on from here", file=sys.stderr)
        return INTERRUPTED
    tally.report()
    return 1 if tally.failed else 0


def _plan(arguments: argparse.Namespace) -> list[Errand]:
    *sources, target = arguments.files
    if arguments.list is not None:
        if sources:
            raise InvalidRequest("--list takes the place of IN: give OUT alone")
        return plan_list(read_list(arguments.list), target, arguments.format)
    if not sources:
        raise InvalidRequest("OUT is missing: promptir restore IN [IN ...] OUT")
    return plan(sources, target, arguments.format)


def _restore(arguments: argparse.Namespace, errands: Sequence[Errand], options: RestoreOptions, tally: Tally) -> None:
    if arguments.engine == "ray":
        if arguments.server is not None:
            raise InvalidRequest("--engine ray restores in its own workers: leave out --server")
        settings = settings_from(arguments)
        run_on_ray(settings, errands, options, tally, workers=arguments.jobs, overwrite=arguments.overwrite)
        return
    remote = arguments.server is not None
    bench: Workbench = (
        ServerBench(arguments.server, lambda: _client(arguments)) if remote else OwnBench(settings_from(arguments))
    )
    jobs = arguments.jobs or DEFAULT_JOBS
    asyncio.run(run_locally(bench, errands, options, tally, jobs=jobs, overwrite=arguments.overwrite))


def _client(arguments: argparse.Namespace) -> "AsyncClient":
    try:
        from promptir_client import AsyncClient
    except ImportError as error:
        raise InvalidRequest(
            f"--server needs {error.name}: install promptir-client (in a checkout: pip install ./promptir_client)"
        ) from error
    key = None
    if arguments.api_key_file is not None:
        key = _key(arguments.api_key_file)
    try:
        return AsyncClient(arguments.server, key)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _key(file: Path) -> str:
    try:
        return file.read_bytes().partition(b"\n")[0].strip().decode("ascii")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{file} holds no key: a key is of letters and digits") from None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number
