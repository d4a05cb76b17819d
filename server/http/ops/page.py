"""Page: the files for browsers at `/`, and their headers."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Self

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from server import formats
from server.http.restore.accept import Accept
from server.imaging.entity_tag import is_listed

FOLDER = Path(__file__).resolve().parents[2] / "web"
PATH = "/"
ASSETS_PATH = "/web"
START, DOCS = "index.html", "docs.html"
DOCS_PATH, REDOC_PATH = "/docs", "/redoc"
VIEWER_PACKAGE = "fastapi_offline"
"""Contains the files of Swagger UI, which FastAPI itself would let browsers load from other sites."""
VIEWER_FILES = ("swagger-ui-bundle.js", "swagger-ui.css")
VERSION_MARK = b"{version}"
"""Stands in a page for the version of the files, so that their URLs change with them."""

_FORMAT_MARKS = {
    b"{suffixes}": ",".join(formats.SUFFIXES),
    b"{input_formats}": formats.listing(formats.NAMES, "or"),
    b"{output_formats}": "".join(f'<option value="{key}">{one.name}</option>' for key, one in formats.WRITTEN.items()),
}
"""In the start page: what is inserted from the list of formats."""

HTML = "text/html"
_TEXT = {".html": f"{HTML}; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_BINARY = {".jpg": "image/jpeg", ".svg": "image/svg+xml", ".webp": "image/webp", ".woff2": "font/woff2"}
_VERSION_DIGITS = 16
_KEPT = "public, max-age=31536000, immutable"
_ASKED_FOR_AGAIN = "no-cache"

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
SECURITY: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # for browsers that do not know frame-ancestors
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# The style sheet of the viewer contains its icons.
VIEWER_SECURITY = {**SECURITY, "Content-Security-Policy": POLICY.replace("img-src", "img-src data:")}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent."""

    content: bytes
    media_type: str
    zipped: bytes | None = None
    """The content in gzip; None for binary files, which gzip would not make smaller."""

    @classmethod
    def of(cls, content: bytes, suffix: str) -> Self:
        """Prepare a file, by its suffix."""
        if suffix in _TEXT:
            return cls(content, _TEXT[suffix], gzip.compress(content, mtime=0))
        return cls(content, _BINARY[suffix])

    def answer(self, request: Request, caching: str, security: Mapping[str, str] = SECURITY) -> Response:
        """Answer with the file, or with 304 if the client has it."""
        headers = {**security, "Cache-Control": caching, "Vary": "Accept, Accept-Encoding"}
        content = self.content
        if self.zipped is not None and Accept(request.headers.get("accept-encoding", "identity")).names("gzip"):
            content = self.zipped
            headers["Content-Encoding"] = "gzip"
        headers["ETag"] = tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        if is_listed(tag, request.headers.get("if-none-match")):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=self.media_type)


class Page:
    """The files of a folder, in memory: the start page at `/`, the API page at `/docs`, others at `/web/<version>/`.

    The links in the pages are relative, since a proxy may serve this below any path.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        kinds = _TEXT | _BINARY
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.suffix in kinds
        }
        viewer = resources.files(VIEWER_PACKAGE) / "static"
        files |= {f"viewer/{name}": (viewer / name).read_bytes() for name in VIEWER_FILES}
        digest = hashlib.sha256()
        for name, content in files.items():
            digest.update(b"%b %d " % (name.encode(), len(content)) + content)
        self.version = digest.hexdigest()[:_VERSION_DIGITS]
        for page in {START, DOCS} & set(files):
            files[page] = files[page].replace(VERSION_MARK, self.version.encode())
        for mark, text in _FORMAT_MARKS.items() if START in files else ():
            files[START] = files[START].replace(mark, text.encode())
        self._files = files
        self._assets: dict[str, Asset] = {}

    def routes(self) -> list[BaseRoute]:
        """Return the routes, to put before those of the API: a request for JSON at `/` does not match them."""
        return [
            _BrowserRoute(PATH, self._start, include_in_schema=False),
            Route(ASSETS_PATH + "/{version}/{name:path}", self._asset, include_in_schema=False),
            Route(DOCS_PATH, self._docs, include_in_schema=False),
            Route(REDOC_PATH, self._redoc, include_in_schema=False),
        ]

    async def _start(self, request: Request) -> Response:
        asked = _asked(request)
        if not asked.endswith("/"):  # the root path without a slash: relative links would miss it
            return _moved(f"{asked.rpartition('/')[2]}/")
        return (await self._of(START)).answer(request, _ASKED_FOR_AGAIN)

    async def _docs(self, request: Request) -> Response:
        if _asked(request).endswith("/"):  # relative links would miss it too
            return _moved(f"..{DOCS_PATH}")
        return (await self._of(DOCS)).answer(request, _ASKED_FOR_AGAIN, VIEWER_SECURITY)

    async def _redoc(self, request: Request) -> Response:
        return _moved(f"..{DOCS_PATH}" if _asked(request).endswith("/") else DOCS_PATH[1:])

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._files:
            raise HTTPException(404)
        # Files of another version, from a server of a fleet in the middle of an update, work but are not cached.
        is_own = request.path_params["version"] == self.version
        return (await self._of(name)).answer(request, _KEPT if is_own else _ASKED_FOR_AGAIN)

    async def _of(self, name: str) -> Asset:
        if name not in self._assets:
            # In a thread, at the first request: to compress the viewer takes a tenth of a second.
            self._assets[name] = await run_in_threadpool(Asset.of, self._files[name], Path(name).suffix)
        return self._assets[name]


def _asked(request: Request) -> str:
    """Return the path as it was requested, with root path and final slashes."""
    path: bytes = request.scope["raw_path"]
    return path.decode("ascii")


def _moved(relative: str) -> Response:
    # Relative, since the Host header may name anything, and a proxy may serve this below any path.
    return Response(status_code=307, headers={**SECURITY, "Location": relative, "Cache-Control": _ASKED_FOR_AGAIN})


class _BrowserRoute(Route):
    """A route for clients that prefer HTML to JSON."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is not Match.NONE and not _wants_html(scope):
            return Match.NONE, {}
        return match, child


def _wants_html(scope: Scope) -> bool:
    header = b",".join(value for name, value in scope["headers"] if name == b"accept")
    accept = Accept(header.decode("latin-1"))
    return accept.names(HTML) and accept.weight(HTML) >= accept.weight("application/json")
