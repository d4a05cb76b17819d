"""Page: the files that a browser is given at `/`, and the headers that come with them."""

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

from server.http.restore.accept import Accept
from server.imaging.entity_tag import is_listed

FOLDER = Path(__file__).resolve().parents[2] / "web"
PATH = "/"
ASSETS_PATH = "/web"
START, DOCS = "index.html", "docs.html"
DOCS_PATH, REDOC_PATH = "/docs", "/redoc"
VIEWER_PACKAGE = "fastapi_offline"
"""Has the files of Swagger UI in it, which FastAPI itself would have browsers load from other sites."""
VIEWER_FILES = ("swagger-ui-bundle.js", "swagger-ui.css")
VERSION_MARK = b"{version}"
"""In a page: the version of the files, so that their addresses change with them."""

HTML = "text/html"
_TEXT = {".html": f"{HTML}; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_BINARY = {".svg": "image/svg+xml", ".webp": "image/webp", ".woff2": "font/woff2"}
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
    "X-Frame-Options": "DENY",  # for what does not know frame-ancestors
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# The style sheet of the viewer has its icons inside.
VIEWER_SECURITY = {**SECURITY, "Content-Security-Policy": POLICY.replace("img-src", "img-src data:")}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, as it is sent."""

    content: bytes
    media_type: str
    zipped: bytes | None = None
    """The same with gzip; None where that makes nothing smaller."""

    @classmethod
    def of(cls, content: bytes, suffix: str) -> Self:
        """A file by its suffix."""
        if suffix in _TEXT:
            return cls(content, _TEXT[suffix], gzip.compress(content, mtime=0))
        return cls(content, _BINARY[suffix])

    def answer(self, request: Request, caching: str, security: Mapping[str, str] = SECURITY) -> Response:
        """The file, or 304 where the client has it."""
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
    """The files of a folder, held in memory: the start page at `/`, that of the API at `/docs`, the others below
    `/web/<version>/`.

    Their addresses in the pages are relative: a proxy may offer the server below any path.
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
        self._files = files
        self._assets: dict[str, Asset] = {}

    def routes(self) -> list[BaseRoute]:
        """Routes to put before those of the API: what asks for JSON at `/` passes them by."""
        return [
            _BrowserRoute(PATH, self._start, include_in_schema=False),
            Route(ASSETS_PATH + "/{version}/{name:path}", self._asset, include_in_schema=False),
            Route(DOCS_PATH, self._docs, include_in_schema=False),
            Route(REDOC_PATH, self._redoc, include_in_schema=False),
        ]

    async def _start(self, request: Request) -> Response:
        asked = _asked(request)
        if not asked.endswith("/"):  # the root path: what is relative would lead beside it
            return _moved(f"{asked.rpartition('/')[2]}/")
        return (await self._of(START)).answer(request, _ASKED_FOR_AGAIN)

    async def _docs(self, request: Request) -> Response:
        if _asked(request).endswith("/"):  # likewise, below it
            return _moved(f"..{DOCS_PATH}")
        return (await self._of(DOCS)).answer(request, _ASKED_FOR_AGAIN, VIEWER_SECURITY)

    async def _redoc(self, request: Request) -> Response:
        return _moved(f"..{DOCS_PATH}" if _asked(request).endswith("/") else DOCS_PATH[1:])

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._files:
            raise HTTPException(404)
        # A page that an older or newer server gave, as while a fleet is updated, still works, but is not kept.
        is_own = request.path_params["version"] == self.version
        return (await self._of(name)).answer(request, _KEPT if is_own else _ASKED_FOR_AGAIN)

    async def _of(self, name: str) -> Asset:
        if name not in self._assets:
            # In a thread, and for the first who asks: to compress the viewer takes a tenth of a second.
            self._assets[name] = await run_in_threadpool(Asset.of, self._files[name], Path(name).suffix)
        return self._assets[name]


def _asked(request: Request) -> str:
    """The path as it was asked for, of which the root path and final slashes were taken off."""
    path: bytes = request.scope["raw_path"]
    return path.decode("ascii")


def _moved(relative: str) -> Response:
    # Relative, since Host may say anything, and a proxy may offer the server anywhere.
    return Response(status_code=307, headers={**SECURITY, "Location": relative, "Cache-Control": _ASKED_FOR_AGAIN})


class _BrowserRoute(Route):
    """A route for those who would rather have HTML than JSON."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is not Match.NONE and not _wants_html(scope):
            return Match.NONE, {}
        return match, child


def _wants_html(scope: Scope) -> bool:
    header = b",".join(value for name, value in scope["headers"] if name == b"accept")
    accept = Accept(header.decode("latin-1"))
    return accept.names(HTML) and accept.weight(HTML) >= accept.weight("application/json")
