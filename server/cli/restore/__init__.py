"""`promptir restore`: restores files, folders, lists or pipes of photos, in this process, by a server or on Ray."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.command_parser import not_negative, whole_number
from server.cli.restore.batch import SUFFIX, restore_batch
from server.cli.restore.files import sweep
from server.cli.restore.inputs import SUFFIXES, Input, plan, plan_list
from server.cli.restore.lists import read_list
from server.cli.restore.local_engine import run_locally
from server.cli.restore.pipe import PIPE, restore_piped
from server.cli.restore.progress import Progress
from server.cli.restore.ray_engine import run_on_ray
from server.cli.restore.targets import LocalTarget, RestoreTarget, RunEnded, ServerTarget
from server.cli.restore.watch.command import watch
from server.cli.settings_flags import add_settings, settings_from
from server.errors import InvalidRequest
from server.formats.output import MetadataPolicy, OutputFormat
from server.imaging.strength import check_strength
from server.restore.options import RestoreOptions
from server.restore.served_models import served_models
from server.settings import Settings

if TYPE_CHECKING:
    from promptir_client import AsyncClient

DEFAULT_QUALITY = 95
# One image is decoded or encoded while another one runs; more would only take memory.
DEFAULT_JOBS = 3
DEFAULT_SETTLE_S = 2.0
# The watch itself waits for a server that is lost.
WATCH_ATTEMPTS = 2
INTERRUPTED = 130  # shell convention: 128 + SIGINT


def add_command(commands: Any) -> None:
    """Add `restore` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "restore", help="restore files, folders, patterns or lists", usage="%(prog)s [options] IN [IN ...] OUT"
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="IN ... OUT",
        help=f"images, folders of images or patterns; the last argument is the result ({SUFFIXES}) or a folder; "
        "- is standard input or output",
    )
    parser.add_argument(
        "--list", metavar="FILE", help="read paths or URIs from FILE, one per line, instead of IN; - is standard input"
    )
    parser.add_argument(
        "--watch", metavar="FOLDER", type=Path, help="restore each photo that appears in FOLDER, once, instead of IN"
    )
    parser.add_argument(
        "--settle",
        type=not_negative,
        metavar="SECONDS",
        help=f"with --watch: a photo is taken once it has not changed for this long (default: {DEFAULT_SETTLE_S:g})",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace existing files")
    existing.add_argument(
        "--skip-existing",
        "--resume",
        action="store_true",
        help="skip photos whose result exists, to continue an interrupted run",
    )
    parser.add_argument(
        "--jobs", type=whole_number(1), metavar="N", help="photos restored in parallel; with ray, workers"
    )
    parser.add_argument("--failures", type=Path, metavar="FILE", help="write failed photos and reasons to FILE")
    parser.add_argument("--server", metavar="URL", help="restore with this server")
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help="file with the server's API key in line 1")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="ray: workers on several machines")
    parser.add_argument("--quality", type=whole_number(1, 100), default=DEFAULT_QUALITY, metavar="1..100")
    parser.add_argument(
        "--format",
        type=OutputFormat,
        default=OutputFormat.PNG,
        choices=list(OutputFormat),
        help="format of the results in an OUT folder; the suffix of an OUT file names its format",
    )
    parser.add_argument(
        "--metadata",
        type=MetadataPolicy,
        default=MetadataPolicy.KEEP,
        choices=list(MetadataPolicy),
        help="what happens to EXIF and XMP",
    )
    parser.add_argument("--strength", type=float, default=1.0, metavar="0..1", help="0: the photo, 1: its restoration")
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="longest side of a tile of a large photo")
    parser.add_argument("--model", metavar="NAME", help="one of the artifacts or of the server's models")
    parser.add_argument("--overlap", type=int, metavar="PIXELS", help="least overlap of neighbouring tiles")
    add_settings(parser, {"backend", "limits"})
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Restore all photos; returns 1 if any failed, 130 after Ctrl-C. Raises InvalidRequest for invalid arguments."""
    options = RestoreOptions(
        quality=arguments.quality,
        metadata=arguments.metadata,
        strength=check_strength(arguments.strength),
        tile=arguments.tile,
        overlap=arguments.overlap,
        model=arguments.model,
    )
    _needs("--settle", arguments.settle, "--watch", arguments.watch)
    _needs("--api-key-file", arguments.api_key_file, "--server", arguments.server)
    if arguments.watch is not None:
        return _watch(arguments, options)
    if PIPE in arguments.files:
        return _pipe(arguments, options)
    if len(arguments.files) > 1 and Path(arguments.files[-1]).suffix.lower() == SUFFIX:
        return _batch(arguments, options)
    inputs = _plan(arguments)
    waiting = inputs
    if arguments.skip_existing:
        sweep({item.destination.parent for item in inputs})
        waiting = [item for item in inputs if not item.destination.exists()]
    progress = Progress(len(inputs), len(inputs) - len(waiting), arguments.failures)
    try:
        with progress:
            if waiting:
                _restore(arguments, waiting, options, progress)
    except RunEnded as ended:
        progress.report()
        print(f"promptir: {ended}; continue with the same command and --resume", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.report()
        print("promptir: interrupted; continue with the same command and --resume", file=sys.stderr)
        return INTERRUPTED
    progress.report()
    return 1 if progress.failed else 0


def _plan(arguments: argparse.Namespace) -> list[Input]:
    *sources, target = arguments.files
    if arguments.list is not None:
        if sources:
            raise InvalidRequest("--list replaces IN: give OUT only")
        return plan_list(read_list(arguments.list), target, arguments.format)
    if not sources:
        raise InvalidRequest("OUT is missing: promptir restore IN [IN ...] OUT")
    return plan(sources, target, arguments.format)


def _restore(
    arguments: argparse.Namespace, inputs: Sequence[Input], options: RestoreOptions, progress: Progress
) -> None:
    if arguments.engine == "ray":
        if arguments.server is not None:
            raise InvalidRequest("--engine ray uses its own workers and cannot be combined with --server")
        settings = _settings(arguments)
        run_on_ray(settings, inputs, options, progress, workers=arguments.jobs, overwrite=arguments.overwrite)
        return
    jobs = arguments.jobs or DEFAULT_JOBS
    asyncio.run(run_locally(_target(arguments), inputs, options, progress, jobs=jobs, overwrite=arguments.overwrite))


def _watch(arguments: argparse.Namespace, options: RestoreOptions) -> int:
    if len(arguments.files) != 1 or PIPE in arguments.files:
        raise InvalidRequest("--watch FOLDER replaces IN: give only OUT, a folder")
    _alone(arguments, "--watch", list=arguments.list, skip_existing=arguments.skip_existing)
    return watch(
        arguments.watch,
        Path(arguments.files[0]),
        _target(arguments),
        arguments.format,
        options,
        failures=arguments.failures,
        settle_s=DEFAULT_SETTLE_S if arguments.settle is None else arguments.settle,
        jobs=arguments.jobs or DEFAULT_JOBS,
        overwrite=arguments.overwrite,
        max_upload_bytes=settings_from(arguments).limits.max_upload_bytes,
    )


def _pipe(arguments: argparse.Namespace, options: RestoreOptions) -> int:
    if len(arguments.files) != 2:
        raise InvalidRequest("- is one photo: promptir restore - -, or IN - or - OUT with a file")
    given = {"list": arguments.list, "failures": arguments.failures, "skip_existing": arguments.skip_existing}
    _alone(arguments, PIPE, **given)
    try:
        source, destination = arguments.files
        restore_piped(
            _target(arguments),
            source,
            destination,
            arguments.format,
            options,
            overwrite=arguments.overwrite,
            max_bytes=settings_from(arguments).limits.max_upload_bytes,
        )
    except RunEnded as ended:
        print(f"promptir: {ended}", file=sys.stderr)
        return 1
    return 0


def _batch(arguments: argparse.Namespace, options: RestoreOptions) -> int:
    *sources, archive = arguments.files
    if arguments.server is None:
        raise InvalidRequest(f"{archive} needs --server: an archive is the result of a job there")
    _alone(arguments, archive, list=arguments.list, failures=arguments.failures, skip_existing=arguments.skip_existing)
    client = _client(arguments, None)
    try:
        return restore_batch(client, sources, Path(archive), arguments.format, options, overwrite=arguments.overwrite)
    except RunEnded as ended:
        print(f"promptir: {ended}", file=sys.stderr)
        return 1


def _alone(arguments: argparse.Namespace, what: str, **others: object) -> None:
    """Raise InvalidRequest for options that cannot be combined with `what`."""
    refused = [f"--{name.replace('_', '-')}" for name, value in others.items() if value]
    if arguments.engine == "ray":
        refused.append("--engine ray")
    if refused:
        raise InvalidRequest(f"{what} cannot be combined with {', '.join(refused)}")


def _needs(flag: str, value: object, other: str, other_value: object) -> None:
    """Raise InvalidRequest for an option that is given without the one that it belongs to."""
    if value is not None and other_value is None:
        raise InvalidRequest(f"{flag} has no effect without {other}")


def _target(arguments: argparse.Namespace) -> RestoreTarget:
    if arguments.server is not None:
        attempts = WATCH_ATTEMPTS if arguments.watch is not None else None
        return ServerTarget(arguments.server, lambda: _client(arguments, attempts))
    return LocalTarget(_settings(arguments))


def _settings(arguments: argparse.Namespace) -> Settings:
    """Read the settings of a run in this process; only the chosen model is loaded. Raises InvalidRequest."""
    settings = settings_from(arguments)
    models = served_models(settings.backend)
    chosen = models.get(arguments.model or next(iter(models)))
    if chosen is None:
        raise InvalidRequest(f"there is no model {arguments.model}; the artifacts are of {', '.join(models)}")
    return settings.model_copy(update={"backend": settings.backend.model_copy(update={"artifact": (chosen.artifact,)})})


def _client(arguments: argparse.Namespace, attempts: int | None) -> "AsyncClient":
    try:
        from promptir_client import AsyncClient, Retries
    except ImportError as error:
        raise InvalidRequest(
            f"--server needs {error.name}: install promptir-client (in a checkout: pip install ./promptir_client)"
        ) from error
    key = None
    if arguments.api_key_file is not None:
        key = _key(arguments.api_key_file)
    try:
        return AsyncClient(arguments.server, key, retries=None if attempts is None else Retries(attempts))
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _key(file: Path) -> str:
    try:
        return file.read_bytes().partition(b"\n")[0].strip().decode("ascii")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{file} contains no key: keys consist of ASCII characters") from None
