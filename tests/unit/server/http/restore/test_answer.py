"""Tests of what routes write into headers."""

import pytest

from server.formats.codec import OutputFormat
from server.http.restore.answer import disposition


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        (None, 'inline; filename="restored.png"'),
        ("", 'inline; filename="restored.png"'),
        ("holiday.jpeg", 'inline; filename="holiday-restored.png"'),
        ("../../etc/passwd", 'inline; filename="passwd-restored.png"'),
        (r"C:\photos\cat.bmp", 'inline; filename="cat-restored.png"'),
        ('a"b\r\nSet-Cookie: x.png', 'inline; filename="abSet-Cookie: x-restored.png"'),
        ("été.png", "inline; filename=\"_t_-restored.png\"; filename*=UTF-8''%C3%A9t%C3%A9-restored.png"),
        ("\ud800.png", "inline; filename=\"_-restored.png\"; filename*=UTF-8''%3F-restored.png"),
    ],
)
def test_the_suggested_name_is_the_uploads_and_safe_in_a_header(filename: str | None, expected: str) -> None:
    assert disposition(filename, OutputFormat.PNG) == expected


def test_the_suggested_name_is_not_endless() -> None:
    assert len(disposition("x" * 5000 + ".png", OutputFormat.WEBP)) < 200
