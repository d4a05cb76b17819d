"""Authentication by API keys; the keys file may change while the server runs."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

from server.access.caller import Caller
from server.access.keys_file import Keys, digest_of, read_keys
from server.errors import Forbidden, KeysUnavailable, Unauthorized
from server.metrics import Metrics

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 1.0
"""Interval of checks for changes of the keys file: a removed key works for at most this long."""
MAX_KEY_BYTES = 512
MAX_KEYS_PER_REQUEST = 16
"""Limit per request: proxies may add keys of their own, and each lookup costs time."""

_AUTHORIZATION, _API_KEY = b"authorization", b"x-api-key"
_BEARER = b"bearer"
_HOW = "send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`"

Signature = tuple[int, int, int]


class Access:
    """Authenticates HTTP and gRPC requests; belongs to one event loop.

    If the keys file becomes broken, half written or missing while the server runs, this is logged and the loaded keys
    stay valid.
    """

    def __init__(self, path: Path, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._metrics = metrics
        self._clock = clock
        self._keys: Keys | None = None
        self._names: dict[bytes, str] = {}
        self._callers: dict[str, Caller] = {}
        self._seen: Signature | None = None
        self._next_check = 0.0
        self._was_empty = False

    @property
    def clients(self) -> Collection[str]:
        """Names of all clients; readable from any thread."""
        return self._callers.keys()

    def open(self) -> None:
        """Load the keys file; raises KeysUnavailable. Further calls do nothing."""
        if self._keys is not None:
            return
        self._seen = self._signature()
        self._read()
        self._next_check = self._clock() + CHECK_INTERVAL_S

    def enter(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Authenticate a request by the first valid key in its headers (lower-case names).

        A request may have several keys, so that credentials added by a proxy do not hide the client's. Raises
        Unauthorized or Forbidden.
        """
        self._reload_if_changed()
        given = list(islice(_keys_in(list(headers)), MAX_KEYS_PER_REQUEST))
        if not given:
            raise Unauthorized(f"This server requires an API key: {_HOW}.")
        known = [caller for key in given if (caller := self._find(key)) is not None]
        if not known:
            raise Unauthorized(f"The API key is unknown: {_HOW}.")
        for caller in known:
            if not caller.terms.suspended:
                return caller
        self._metrics.count_key_refusal(known[0].label, "suspended")
        raise Forbidden(f"The key {known[0].name} is suspended.")

    def _find(self, key: bytes) -> Caller | None:
        # A dictionary lookup is safe: it compares hashes, so its timing reveals nothing about the keys.
        name = self._names.get(digest_of(key.decode("latin-1"))) if len(key) <= MAX_KEY_BYTES else None
        return None if name is None else self._callers[name]

    def _reload_if_changed(self) -> None:
        now = self._clock()
        if now < self._next_check:
            return
        self._next_check = now + CHECK_INTERVAL_S
        signature = self._signature()
        if signature == self._seen:
            return
        self._seen = signature
        try:
            self._read()
        except KeysUnavailable as error:
            log.error("the keys file cannot be read; the loaded keys stay valid", extra={"error": error.detail})

    def _read(self) -> None:
        keys = read_keys(self._path)
        if self._keys is not None:
            self._check_whole(keys, self._keys)
        elif keys.cut is not None:
            log.warning("the last line of the keys file has no line end and may be truncated", extra={"key": keys.cut})
        labels = keys.labels()
        # A client with unchanged terms keeps its used quota.
        same = {name: old for name, old in self._callers.items() if keys.terms.get(name) == old.terms}
        for name, caller in same.items():
            caller.count_as(labels[name])
        self._callers = {
            name: same.get(name) or Caller(name, labels[name], terms, self._metrics, self._clock)
            for name, terms in keys.terms.items()
        }
        self._keys, self._names = keys, dict(keys.clients)
        log.info("keys read", extra={"keys": len(keys.clients), "clients": len(keys.terms)})

    def _check_whole(self, keys: Keys, present: Keys) -> None:
        """Raise KeysUnavailable if a changed file may still be in the middle of a write."""
        if self._signature() != self._seen:
            self._seen = None  # the next check reads the file again
            raise KeysUnavailable(f"the keys file {self._path} changed while it was read")
        was_empty, self._was_empty = self._was_empty, not keys.clients
        if not keys.clients and present.clients and not was_empty:
            self._seen = None
            raise KeysUnavailable(f"the keys file {self._path} has no keys; it takes effect if the next check agrees")
        name = keys.cut
        # Limits and suspension are at the end of a line, so a cut line could grant more.
        if name is not None and not keys.terms[name].suspended and keys.terms[name] != present.terms.get(name):
            raise KeysUnavailable(
                f"the keys file {self._path}: the last line, of {name}, has no line end and may be half written"
            )

    def _signature(self) -> Signature | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _keys_in(headers: list[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Yield each key in the headers, from repeated headers or values that a proxy joined with commas."""
    for name, value in headers:
        if name == _AUTHORIZATION:
            for part in value.split(b",", MAX_KEYS_PER_REQUEST):
                scheme, *key = part.split(None, 1)[:2] or [b""]
                if scheme.lower() == _BEARER and key:
                    yield key[0].strip()
    for name, value in headers:
        if name == _API_KEY:
            yield from filter(None, (part.strip() for part in value.split(b",", MAX_KEYS_PER_REQUEST)))
