"""Access: lets in who has a key of the keys file, which may change while the server runs."""

import hmac
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from server.access.caller import Caller
from server.access.keys_file import digest_of, read_keys
from server.errors import Forbidden, KeysUnavailable, Unauthorized
from server.metrics import Metrics

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between looks whether the file has changed: a key that is removed is refused after so long at most."""
MAX_KEY_BYTES = 512

_AUTHORIZATION, _API_KEY = b"authorization", b"x-api-key"
_BEARER = b"bearer "
_HOW = "send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`"

Signature = tuple[int, int, int]


class Access:
    """`enter` is the one way in, for HTTP and for gRPC; it belongs to one event loop.

    A file that is broken or gone while the server runs is told in the log, and the keys that were stay.
    """

    def __init__(self, path: Path, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._metrics = metrics
        self._clock = clock
        self._clients: tuple[tuple[bytes, str], ...] = ()
        self._callers: dict[str, Caller] = {}
        self._seen: Signature | None = None
        self._look_at = 0.0

    def open(self) -> None:
        """Read the keys for the first time; raises KeysUnavailable. Further calls do nothing."""
        if self._callers:
            return
        self._seen = self._signature()
        self._read()
        self._look_at = self._clock() + LOOK_S

    def enter(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """The client whose key is in the headers, lower-case names. Raises Unauthorized, Forbidden."""
        self._look()
        key = _key_in(headers)
        if not key:
            raise Unauthorized(f"This server asks for an API key: {_HOW}.")
        digest = digest_of(key.decode("latin-1")) if len(key) <= MAX_KEY_BYTES else b""
        name = None
        for known, client in self._clients:  # all of them: how long it takes tells nothing
            if hmac.compare_digest(known, digest):
                name = client
        if name is None:
            raise Unauthorized(f"The API key is not known here; {_HOW}.")
        caller = self._callers[name]
        if caller.terms.suspended:
            self._metrics.count_key_refusal(name, "suspended")
            raise Forbidden(f"The key {name} is suspended.")
        return caller

    def _look(self) -> None:
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        signature = self._signature()
        if signature == self._seen:
            return
        self._seen = signature
        try:
            self._read()
        except KeysUnavailable as error:
            log.error("the keys stay as they were", extra={"error": error.detail})

    def _read(self) -> None:
        keys = read_keys(self._path)
        # A client whose terms are the same keeps what it has used up.
        same = {name: old for name, old in self._callers.items() if keys.terms.get(name) == old.terms}
        self._callers = {
            name: same.get(name) or Caller(name, terms, self._metrics, self._clock)
            for name, terms in keys.terms.items()
        }
        self._clients = keys.clients
        log.info("keys read", extra={"keys": len(keys.clients), "clients": len(keys.terms)})

    def _signature(self) -> Signature | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _key_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    key = b""
    for name, value in headers:
        if name == _AUTHORIZATION and value[: len(_BEARER)].lower() == _BEARER:
            return value[len(_BEARER) :].strip()
        if name == _API_KEY:
            key = value.strip()
    return key
