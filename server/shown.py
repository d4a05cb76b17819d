"""Shown: the beginning of a text that a stranger chose, as much as a line of the log or a sentence shows."""

import re

SHOWN_CHARACTERS = 200
KEY_PREFIX = "promptir_"
"""With which every API key begins, for scanners for leaked secrets and for what follows here."""

# A key has 43 characters behind its prefix; a shorter beginning of one opens nothing and may be a name. Credentials of
# other forms are known only by the word before them.
_SECRET = re.compile(
    rf"({KEY_PREFIX})[A-Za-z0-9_-]{{32,}}|\b((?:bearer|basic)(?:\s|%20|\+)+)[^\s\"\\/?&#,;]+", re.IGNORECASE
)


def shown(text: str) -> str:
    """Cut a text that is longer, without what has the form of a key."""
    text = redacted(text)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def redacted(text: str) -> str:
    """The text with `***` for API keys, and for what follows the words Bearer and Basic."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2]}***", text)
