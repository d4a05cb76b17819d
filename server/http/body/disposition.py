"""Disposition: the Content-Disposition of a form's part (RFC 7578, section 4.2; RFC 5987)."""

from dataclasses import dataclass
from email.message import Message
from typing import Self

_HEADER = "Content-Disposition"
# The charsets that RFC 5987, section 3.2.1, names besides UTF-8. All others are read as UTF-8, which most of them are.
_ONE_BYTE = ("iso-8859-1", "us-ascii")


@dataclass(frozen=True, slots=True)
class Disposition:
    """The field name and file name of a part, from its Content-Disposition."""

    name: str | None
    filename: str | None

    @classmethod
    def of(cls, value: bytes) -> Self:
        """Parse the header; `filename*` (RFC 5987) takes precedence over `filename`, which can hold less."""
        message = Message()
        message[_HEADER] = " ".join(value.decode("latin-1").splitlines())
        plain: dict[str, str] = {}
        extended: dict[str, str] = {}
        for name, given in message.get_params([], _HEADER)[1:]:
            if isinstance(given, tuple):
                charset, _, text = given
                extended.setdefault(name.lower(), _text(text, charset))
            else:  # browsers write UTF-8
                plain.setdefault(name.lower(), _text(given))
        both = plain | extended
        return cls(both.get("name"), both.get("filename"))


def _text(octets: str, charset: str | None = None) -> str:
    is_plain = (charset or "").lower() in _ONE_BYTE
    return octets if is_plain else octets.encode("latin-1", "replace").decode("utf-8", "replace")
