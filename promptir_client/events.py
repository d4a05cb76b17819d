"""Parser of server-sent events (WHATWG HTML, section 9.2)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `id` is the latest id in the stream."""

    id: str | None
    name: str
    data: str


class EventReader:
    """Parser of a stream, line by line; an event ends with a blank line. Comments and `retry` are ignored."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._name = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """Process a line; returns the event that it completes, or None."""
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self._id = value
        elif name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        return None

    def _dispatch(self) -> Event | None:
        data, name = self._data, self._name
        self._data, self._name = [], ""
        return Event(self._id, name or "message", "\n".join(data)) if data else None
