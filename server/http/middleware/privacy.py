"""Privacy: headers that keep answers out of shared caches, and browsers from guessing media types."""

from collections.abc import Iterable

from starlette.types import Message, Send

Header = tuple[bytes, bytes]

CREDENTIALS = "Authorization, X-API-Key"
_NOSNIFF: Header = (b"x-content-type-options", b"nosniff")
_PRIVATE: Header = (b"cache-control", b"private")
_VARY, _BY_KEY = b"vary", CREDENTIALS.encode()


def kept_private(headers: Iterable[Header]) -> list[Header]:
    """Add the headers that make an answer private, unless it says otherwise itself."""
    kept = list(headers)
    names = dict(kept)
    if _NOSNIFF[0] not in names:
        kept.append(_NOSNIFF)
    if _PRIVATE[0] not in names:
        kept.append(_PRIVATE)
    return kept


def varying_by_key(send: Send) -> Send:
    """Add to an answer that it depends on the API key of its request."""

    async def send_varying(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            others = [value for name, value in headers if name == _VARY and value != _BY_KEY]
            headers = [header for header in headers if header[0] != _VARY]
            message["headers"] = [*headers, (_VARY, b", ".join([*others, _BY_KEY]))]
        await send(message)

    return send_varying
