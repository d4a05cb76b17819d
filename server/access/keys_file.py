"""Keys file: one hashed API key per line."""

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
"""Room for thousands of keys; small enough to read on the event loop."""

# Characters that are safe in log lines, metric labels and files.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_SUSPENDED = "suspended"
_LIMITS = ("requests_per_minute", "megapixels_per_minute")
_LABEL_BYTES = 6


@dataclass(frozen=True, slots=True)
class Terms:
    """Quotas and suspension of a client; None means unlimited."""

    requests_per_minute: float | None = None
    megapixels_per_minute: float | None = None
    suspended: bool = False

    def words(self) -> list[str]:
        """Return the terms as words of the keys file."""
        limits = [f"{name}={plain(value)}" for name in _LIMITS if (value := getattr(self, name)) is not None]
        return [*limits, _SUSPENDED] if self.suspended else limits


@dataclass(frozen=True, slots=True)
class Keys:
    """Content of a keys file: a client for each hash, and terms for each client."""

    clients: tuple[tuple[bytes, str], ...]
    """(digest, name) pairs; a client may have several, such as an old and a new key."""
    terms: Mapping[str, Terms]
    cut: str | None = None
    """Client of an unterminated last line, which may be incomplete, if no earlier line has that client."""

    def labels(self) -> dict[str, str]:
        """Derive each client's label in the metrics, which reveals the name only to readers of the keys file.

        A label is the same on all replicas and after restarts, until the client's first line changes.
        """
        first = {name: digest for digest, name in reversed(self.clients)}
        return {name: _label(name, first[name]) for name in self.terms}


def plain(value: float) -> str:
    """Format a number without an exponent."""
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def digest_of(key: str) -> bytes:
    """Hash a key with SHA-256.

    A key has 256 random bits and cannot be guessed, so a slow password hash such as scrypt would only cost time.
    """
    return hashlib.sha256(key.encode()).digest()


def new_key(name: str, terms: Terms) -> tuple[str, str]:
    """Generate a key and its line for the keys file, without storing them; raises KeysUnavailable for a bad name."""
    if not _NAME.fullmatch(name):
        raise KeysUnavailable(f"{name!r} is not a valid key name: use 1 to 64 of A-Z a-z 0-9 . _ -")
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    return key, " ".join([name, f"sha256:{digest_of(key).hex()}", *terms.words()])


def read_keys(path: Path) -> Keys:
    """Read a keys file; raises KeysUnavailable, naming the invalid line."""
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
    lines = text.split("\n")  # not splitlines, which also splits at other Unicode line ends
    for number, (name, digest, words) in _entries(lines):
        if clients.setdefault(digest, name) != name:
            raise ValueError(f"line {number}: {clients[digest]} already has this hash")
        own = _terms(words, number)
        if number == len(lines) and name not in terms:
            cut = name
        if terms.setdefault(name, own) != own:
            raise ValueError(f"line {number}: {name} has different limits on an earlier line; they must be equal")
    return Keys(tuple(clients.items()), terms, cut)


def _entries(lines: Iterable[str]) -> Iterator[tuple[int, tuple[str, bytes, list[str]]]]:
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        found = _HASH.fullmatch(words[1]) if len(words) > 1 else None
        # The message does not quote the line, because it may contain a key by mistake.
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
            raise ValueError(f"line {number}: {name} is not one of {', '.join(_LIMITS)} with a number, or {_SUSPENDED}")
    return Terms(**limits, suspended=suspended)


def _label(name: str, digest: bytes) -> str:
    # Keyed with the digest, because a hash of the name alone could be guessed.
    return hashlib.blake2s(name.encode(), key=digest, digest_size=_LABEL_BYTES).hexdigest()
