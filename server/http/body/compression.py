"""Compression: bodies that a client has compressed, and answers that it wants so."""

import zlib
from collections.abc import Iterable, Iterator, Mapping

from isal import isal_zlib

from server.errors import UnsupportedEncoding

# As HTTP names them (RFC 9110, section 8.4.1): `deflate` has zlib's header.
_GZIP, _ZLIB = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS
WINDOWS: Mapping[str, int] = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
_FASTEST = 1


def encoding_of(headers: Mapping[bytes, bytes]) -> str | None:
    """How a body is compressed; None where it is not. Raises UnsupportedEncoding."""
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in WINDOWS:
        raise UnsupportedEncoding(
            f"Content-Encoding {encoding} is not read; gzip and deflate are.", encodings=sorted(WINDOWS)
        )
    return encoding


def wanted_encoding(headers: Mapping[bytes, bytes]) -> str | None:
    """The compression of an answer: only where a client names that one and no other.

    Pixels shrink little and libraries offer all that they can undo, so a list is no wish.
    """
    accepted = headers.get(b"accept-encoding", b"").decode("latin-1").strip().lower()
    return accepted if accepted in ("gzip", "deflate") else None


def deflated(pieces: Iterable[bytes | memoryview], encoding: str) -> Iterator[bytes]:
    """Compress an answer, quickly and piece by piece."""
    deflater = isal_zlib.compressobj(_FASTEST, isal_zlib.DEFLATED, WINDOWS[encoding])
    for piece in pieces:
        yield bytes(deflater.compress(piece))
    yield bytes(deflater.flush())
