"""Tests of archives: what is told of a damaged one, and the names of results."""

import pytest

from server.errors import InvalidRequest
from server.jobs.archive import ArchiveReader, Names


def test_an_archive_without_its_end_is_called_cut_off() -> None:
    with pytest.raises(InvalidRequest, match="cut off or damaged"):
        ArchiveReader(b"PK\x03\x04" + bytes(100), 1000)


@pytest.mark.parametrize("character", ["x", "\u5c71", "\U0001f3de", "\ud800"])
def test_a_name_fits_into_every_file_system(character: str) -> None:
    names = Names()
    for _ in range(3):
        name = names.of(f"{character * 400}/{character * 400}.png", ".tiff")
        assert all(0 < len(part.encode()) <= 255 for part in name.split("/"))
