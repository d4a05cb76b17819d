"""Upload routes: what every route that reads an upload does around its own work."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from server.access.caller import Caller
from server.errors import PromptIRServeError, UndecodableImage, UnsupportedImage
from server.errors.memory import drop_frames
from server.http import error_responses
from server.http.body.body import Body, UploadRoom, declared_bytes
from server.http.body.cancellation import WhileConnected
from server.http.body.refusal import refuse
from server.http.scope import caller_of, has_arrived_of, headers_of, note_outcome
from server.http.services import Services

_TEXT_FORM = b"application/x-www-form-urlencoded"
_CURL_DATA = "`curl -d` strips line breaks from files: send it with `-F file=@photo.jpg` or `--data-binary @photo.jpg`."


@dataclass(eq=False, slots=True)
class Exchange:
    """One request with an upload: its scope, its headers by lower-case name, and its body."""

    scope: Scope
    receive: Receive
    headers: dict[bytes, bytes]
    body: Body

    @property
    def caller(self) -> Caller | None:
        """Whose request this is; None if the server asks for no keys."""
        return caller_of(self.scope)

    def while_connected(self) -> WhileConnected:
        """Run a block that ends with the client; for a body that was read."""
        return WhileConnected(self.receive, has_arrived_of(self.scope))


class UploadRoute(ABC):
    """An ASGI application for the path of an upload: a framework would cost more per request than a small image.

    It answers with what `answer` returns, or with the error that it raises, while the upload may still be arriving.
    """

    def __init__(self, services: Services, room: UploadRoom) -> None:
        self._services = services
        self._room = room

    @abstractmethod
    async def answer(self, exchange: Exchange) -> tuple[str, ASGIApp]:
        """Return the outcome for log and metrics, and the response; raises PromptIRServeError, ClientDisconnect."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        limits = self._services.limits
        bounds = declared_bytes(headers), limits.max_upload_bytes, self._room, limits.upload_stall_s
        body = Body(receive, *bounds, has_arrived_of(scope))
        try:
            outcome, response = await self.answer(Exchange(scope, receive, headers, body))
        except PromptIRServeError as error:
            refusal = error_responses.answer(scope, _advised(error, headers))
            drop_frames(error)
        except ClientDisconnect:
            refusal = error_responses.client_gone(scope)
        else:
            note_outcome(scope, outcome)
            await response(scope, receive, send)
            return
        # Out of the except block: the traceback of the error holds the upload, while the rest of it is dropped.
        await refuse(refusal, body, scope, receive, send)


def _advised(error: PromptIRServeError, headers: dict[bytes, bytes]) -> PromptIRServeError:
    """Add to the error of a damaged file how curl sends it whole, where curl's default type suggests `-d`."""
    is_damaged = isinstance(error, UndecodableImage | UnsupportedImage)
    if is_damaged and headers.get(b"content-type", b"").startswith(_TEXT_FORM):
        return type(error)(f"{error.detail} {_CURL_DATA}", **error.extensions)
    return error
