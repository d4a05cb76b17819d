"""Says in a few words what a restoration did to a photo; server/web/verdict.js says the same on the page."""

from collections.abc import Mapping

from server import formats

UNKNOWN = "restored"
PRESENT = 0.5
"""A degradation more probable than this is named."""
UNSEEN = 0.006
"""Mean change, in fractions of the full range, below which nobody sees one: about 1.5 of 255."""
SLIGHT = 0.02
_NAMES = {"jpeg": "JPEG blocks"}


def verdict(mean_abs: float, degradations: Mapping[str, float] | None) -> str:
    """Describe a mean change in fractions of the full range; `degradations` is None if the model names none."""
    found = [_NAMES.get(label, label) for label, share in (degradations or {}).items() if share > PRESENT]
    if mean_abs < UNSEEN:
        looks_clean = degradations is not None and not found
        return "looks clean: almost nothing changed" if looks_clean else "almost nothing changed"
    if found:
        return f"{formats.listing(found, 'and')} found and reduced"
    return "slightly changed" if mean_abs < SLIGHT else "clearly changed"
