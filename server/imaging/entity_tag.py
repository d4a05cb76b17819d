"""Entity tags, which identify a response before it is computed (RFC 9110, section 8.8.3)."""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache

_LISTED = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_DIGITS = 32
_MAX_CACHED = 256


def entity_tag(data: bytes, options: Mapping[str, object], model: str) -> str:
    """Compute the tag of a response, such as `W/"5f1c..."`, from the upload, the options and the model.

    The restored pixels are not needed, so a repeated request is recognised before it costs a decode or a run. The tag
    is weak because results may differ in the last bit between batches. SHA-256 has processor instructions. `options`
    holds every option that affects the response, as JSON values; `model` identifies the artifact, for example by its
    hash and precision.
    """
    digest = _hash_of_options(model, tuple(options.items())).copy()
    digest.update(data)
    return f'W/"{digest.hexdigest()[:_DIGITS]}"'


@lru_cache(_MAX_CACHED)  # few combinations occur, and serialising one takes longer than hashing a small image
def _hash_of_options(model: str, options: tuple[tuple[str, object], ...]) -> "hashlib._Hash":
    return hashlib.sha256(json.dumps([model, dict(options)], sort_keys=True).encode() + b"\0")


def is_listed(tag: str, if_none_match: str | None) -> bool:
    """Return whether an If-None-Match header contains the tag, by weak comparison (RFC 9110, section 13.1.2)."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    return tag.removeprefix("W/").strip('"') in _LISTED.findall(if_none_match)
