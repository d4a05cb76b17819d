"""Tests of the room for uploads and results, and of what one request holds of it."""

import pytest

from server.errors import QueueFull
from server.restore.byte_room import ByteRoom, Reservation


def test_beyond_the_room_bytes_are_refused_and_counted_and_nothing_is_taken() -> None:
    refusals: list[str] = []
    room = ByteRoom(100, refusals.append)
    with Reservation(room) as first:
        first.take(60)
        with pytest.raises(QueueFull) as refusal, Reservation(room) as second:
            second.take(41)
        assert refusal.value.extensions["max_uploads_bytes"] == 100
        assert (refusals, room.used_bytes) == (["queue-full"], 60)
        first.take(40)
    assert room.used_bytes == 0


def test_a_reservation_gives_its_bytes_back_once() -> None:
    room = ByteRoom(100)
    reservation, other = Reservation(room), Reservation(room)
    reservation.take(30)
    other.take(20)
    reservation.release()
    reservation.release()
    assert room.used_bytes == 20
