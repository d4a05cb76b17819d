"""Entity tag of a response, computed before the response (RFC 9110, section 8.8.3)."""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache

_LISTED = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_DIGITS = 32
_MOST_BEGUN = 256


def entity_tag(data: bytes, options: Mapping[str, object], model: str) -> str:
    """Return the entity tag for restoring `data` with these options and this model, such as `W/"5f1c..."`.

    Computed from the inputs rather than the output pixels, so that a repeated request is recognised before it costs a
    decode or a run. Weak, because a run in another batch may differ in the last bit. Uses SHA-256 because processors
    have instructions for it. `options` are those that affect the response, JSON-serialisable; `model` is any string
    that changes with the artifact, such as its hash and precision.
    """
    digest = _begun(model, tuple(options.items())).copy()
    digest.update(data)
    return f'W/"{digest.hexdigest()[:_DIGITS]}"'


@lru_cache(_MOST_BEGUN)  # few options occur, and serialising them takes longer than hashing a small image
def _begun(model: str, options: tuple[tuple[str, object], ...]) -> "hashlib._Hash":
    return hashlib.sha256(json.dumps([model, dict(options)], sort_keys=True).encode() + b"\0")


def is_listed(tag: str, if_none_match: str | None) -> bool:
    """Return whether an If-None-Match header lists the tag, by weak comparison (RFC 9110, section 13.1.2)."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return tag.removeprefix("W/").strip('"') in _LISTED.findall(if_none_match)
