"""Events: server-sent events from their lines (WHATWG HTML, section 9.2)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One event with data; `id` is the last that the stream has named."""

    id: str | None
    name: str
    data: str


class EventReader:
    """Is fed line by line and gives each event at the blank line that ends it; comments and `retry` are dropped."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._name = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """The event that the line completes."""
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
