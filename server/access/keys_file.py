"""The keys file: one API key a line, by its hash."""

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from models.regular_file import read_regular
from server.errors import KeysUnavailable
from server.logs import KEY_PREFIX

KEY_BYTES = 32
MAX_BYTES = 1 << 20
"""Some thousands of keys, read on the event loop."""

# Safe in a log line, a label of a metric and a file.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_SUSPENDED = "suspended"
_LIMITS = ("requests_per_minute", "megapixels_per_minute")
_LABEL_BYTES = 6


@dataclass(frozen=True, slots=True)
class Terms:
    """What a client may do; None is without a limit."""

    requests_per_minute: float | None = None
    megapixels_per_minute: float | None = None
    suspended: bool = False

    def words(self) -> list[str]:
        """As the keys file has them."""
        limits = [f"{name}={plain(value)}" for name in _LIMITS if (value := getattr(self, name)) is not None]
        return [*limits, _SUSPENDED] if self.suspended else limits


@dataclass(frozen=True, slots=True)
class Keys:
    """What a keys file says: who has which hash, and each client's terms."""

    clients: tuple[tuple[bytes, str], ...]
    """(digest, name); a client may have several, the old and the new one."""
    terms: Mapping[str, Terms]
    cut: str | None = None
    """The client of a last line that does not end, so that words may still follow: no line before it has the client."""

    def labels(self) -> dict[str, str]:
        """Each client's label in the metrics, which tells its name only to who has the keys file.

        It stays the same over restarts and replicas, until the first of the client's lines is another one.
        """
        first = {name: digest for digest, name in reversed(self.clients)}
        return {name: _label(name, first[name]) for name in self.terms}


def plain(value: float) -> str:
    """A number in digits, without an exponent."""
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def digest_of(key: str) -> bytes:
    """SHA-256: a key has 256 random bits, so that nobody finds it from its hash, however fast hashing is.

    scrypt and its kind slow down who guesses passwords. Here there is nothing to guess, and each request would pay.
    """
    return hashlib.sha256(key.encode()).digest()


def new_key(name: str, terms: Terms) -> tuple[str, str]:
    """A new key, which is kept nowhere, and its line for the file. Raises KeysUnavailable for a bad name."""
    if not _NAME.fullmatch(name):
        raise KeysUnavailable(f"{name!r} is no name for a key: 1 to 64 of A-Z a-z 0-9 . _ -")
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    return key, " ".join([name, f"sha256:{digest_of(key).hex()}", *terms.words()])


def read_keys(path: Path) -> Keys:
    """Read a keys file; raises KeysUnavailable with the line that is wrong."""
    try:
        text = read_regular(path, MAX_BYTES).decode()
    except OSError as error:
        raise KeysUnavailable(f"the keys file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KeysUnavailable(f"the keys file {path}: {error}") from error
    try:
        return _keys(text)
    except ValueError as error:
        raise KeysUnavailable(f"the keys file {path}: {error}") from error


def _keys(text: str) -> Keys:
    clients: dict[bytes, str] = {}
    terms: dict[str, Terms] = {}
    cut: str | None = None
    lines = text.split("\n")  # and at nothing else that Unicode takes for the end of a line
    for number, (name, digest, words) in _entries(lines):
        if clients.setdefault(digest, name) != name:
            raise ValueError(f"line {number}: the hash is that of {clients[digest]} already")
        own = _terms(words, number)
        if number == len(lines) and name not in terms:
            cut = name
        if terms.setdefault(name, own) != own:
            raise ValueError(f"line {number}: {name} has other limits in a line before; a client's lines agree")
    return Keys(tuple(clients.items()), terms, cut)


def _entries(lines: Iterable[str]) -> Iterator[tuple[int, tuple[str, bytes, list[str]]]]:
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        found = _HASH.fullmatch(words[1]) if len(words) > 1 else None
        # The line itself is not said: it may hold a key by mistake.
        if found is None or not _NAME.fullmatch(words[0]):
            raise ValueError(f"line {number} is not NAME sha256:HEX; `promptir key new --name NAME` writes one")
        yield number, (words[0], bytes.fromhex(found[1]), words[2:])


def _terms(words: Iterable[str], number: int) -> Terms:
    limits: dict[str, float] = {}
    suspended = False
    for word in words:
        name, _, value = word.partition("=")
        if word == _SUSPENDED:
            suspended = True
        elif name in _LIMITS and re.fullmatch(r"\d+(\.\d+)?", value) and float(value) > 0:
            limits[name] = float(value)
        else:
            raise ValueError(f"line {number}: {name} is none of {', '.join(_LIMITS)} with a number, {_SUSPENDED}")
    return Terms(**limits, suspended=suspended)


def _label(name: str, digest: bytes) -> str:
    # Names can be guessed, digests cannot.
    return hashlib.blake2s(name.encode(), key=digest, digest_size=_LABEL_BYTES).hexdigest()
