"""Shown: the beginning of a text that a stranger chose, as much as a line of the log or a sentence shows."""

SHOWN_CHARACTERS = 200


def shown(text: str) -> str:
    """Cut a text that is longer."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
