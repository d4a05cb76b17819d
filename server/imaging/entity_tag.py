"""Entity tag: a name for an answer before it is made (RFC 9110, section 8.8.3)."""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache

_LISTED = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_DIGITS = 32
_MOST_BEGUN = 256


def entity_tag(data: bytes, options: Mapping[str, object], model: str) -> str:
    """Name the restoration of an upload's bytes with these options by this model, such as `W/"5f1c..."`.

    It is made of what goes in and not of the pixels that come out, so a repeated request is recognised before it costs
    a decode or a run. It is weak because a run in another batch may differ in its last bit. SHA-256 and no newer hash,
    since processors have instructions for it. `options` are those that shape the answer, as JSON can hold them; `model`
    is whatever changes with the artifact, such as its hash and precision.
    """
    digest = _begun(model, tuple(options.items())).copy()
    digest.update(data)
    return f'W/"{digest.hexdigest()[:_DIGITS]}"'


@lru_cache(_MOST_BEGUN)  # few options are ever asked for, and to spell them takes longer than to hash a small image
def _begun(model: str, options: tuple[tuple[str, object], ...]) -> "hashlib._Hash":
    return hashlib.sha256(json.dumps([model, dict(options)], sort_keys=True).encode() + b"\0")


def is_listed(tag: str, if_none_match: str | None) -> bool:
    """Whether an If-None-Match header names the tag, by the weak comparison (RFC 9110, section 13.1.2)."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return tag.removeprefix("W/").strip('"') in _LISTED.findall(if_none_match)
