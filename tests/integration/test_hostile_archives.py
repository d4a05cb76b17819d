"""Archives and forms that would harm the server or other photos, through a real server."""

import struct
import time
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from archives import zipped
from problems import assert_problem

Image = Callable[..., bytes]
MAX_BYTES = 200_000


@pytest.fixture(scope="module")
def jobs(session_start: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that keeps jobs; shared, so that no test may stop it."""
    folder = tmp_path_factory.mktemp("jobs")
    return session_start(jobs_folder=folder, max_upload_bytes=MAX_BYTES).until_ready()


def encrypted(data: bytes) -> bytes:
    """An archive whose first entry says that it is encrypted, in both of its headers."""
    patched = bytearray(zipped({"a.png": data}))
    patched[6] |= 1
    patched[patched.index(b"PK\x01\x02") + 8] |= 1
    return bytes(patched)


def overlapping(data: bytes) -> bytes:
    """An archive whose directory names the same bytes many times."""
    whole = zipped({"a.png": data})
    at = whole.index(b"PK\x01\x02")
    end = whole.index(b"PK\x05\x06")
    entry = whole[at:end]
    count = 100
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(entry) * count, at, 0)
    return whole[:at] + entry * count + tail


def lying(data: bytes) -> bytes:
    """An archive whose directory says that an entry of many bytes has ten."""
    whole = bytearray(zipped({"a.png": data}, zipfile.ZIP_DEFLATED))
    at = whole.index(b"PK\x01\x02")
    struct.pack_into("<I", whole, at + 24, 10)
    return bytes(whole)


def nameless(data: bytes) -> bytes:
    """An archive whose only entry has an empty name."""
    whole = zipped({"a": data}).replace(b"\x01\x00\x00\x00a", b"\x00\x00\x00\x00", 1)
    at = whole.index(b"PK\x01\x02")
    entry = bytearray(whole[at : at + 46])
    struct.pack_into("<H", entry, 28, 0)
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), at, 0)
    return whole[:at] + bytes(entry) + tail


def far_away(data: bytes) -> bytes:
    """An archive whose directory puts an entry 2^63 bytes away, in the field of zip64."""
    whole = zipped({"a.png": data})
    at = whole.index(b"PK\x01\x02")
    entry = bytearray(whole[at : whole.index(b"PK\x05\x06")])
    struct.pack_into("<H", entry, 30, 12)
    struct.pack_into("<I", entry, 42, 0xFFFFFFFF)
    entry += struct.pack("<HHQ", 1, 8, 2**63)
    return whole[:at] + entry + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), at, 0)


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], int, str]] = {
    "bomb": (lambda data: zipped({"a.bmp": bytes(50_000_000)}, zipfile.ZIP_DEFLATED), 413, "50000000 bytes"),
    "many files": (lambda data: zipped({f"{n}": b"" for n in range(300)}), 400, "256 entries"),
    "overlapping": (overlapping, 400, "overlap"),
    "nameless": (nameless, 400, "no name"),
    "far away": (far_away, 400, "cannot be read"),
    "hidden": (lambda data: zipped({".a.png": data, "__MACOSX/b.png": data}), 400, "no photo"),
    "lying": (lying, 400, "cannot be read"),
    "up": (lambda data: zipped({"../a.png": data}), 400, "leads out"),
    "deep up": (lambda data: zipped({"a/../../b.png": data}), 400, "leads out"),
    "backslashes": (lambda data: zipped({"..\\a.png": data}), 400, "leads out"),
    "absolute": (lambda data: zipped({"/etc/a.png": data}), 400, "leads out"),
    "drive": (lambda data: zipped({"C:\\a.png": data}), 400, "leads out"),
    "deep": (lambda data: zipped({"/".join("abcdefghij") + ".png": data}), 400, "8 parts"),
    "nested": (lambda data: zipped({"a.zip": zipped({"b.png": data})}), 400, "inside the archive"),
    "encrypted": (encrypted, 400, "encrypted"),
    "other method": (lambda data: zipped({"a.png": data}, zipfile.ZIP_LZMA), 400, "store and deflate"),
    "empty": (lambda data: zipped({}), 400, "no photo"),
    "only folders": (lambda data: zipped({"a/": b""}), 400, "no photo"),
    "cut off": (lambda data: zipped({"a.png": data})[:-30], 400, "cannot be read"),
    "magic only": (lambda data: b"PK\x03\x04", 400, "cannot be read"),
    "noise": (lambda data: b"PK\x03\x04" + np.random.default_rng(1).bytes(5000), 400, "cannot be read"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_of_it_is_kept(jobs: Any, png: Image, kind: str) -> None:
    make, status, reason = HOSTILE[kind]
    before = jobs.metric('promptir_jobs{state="queued"}'), jobs.metric("promptir_jobs_bytes")
    began = time.monotonic()
    response = jobs.client.post("/v1/jobs", content=make(png(30, 30)))
    assert response.status_code == status, response.text
    assert reason in response.json()["detail"]
    assert time.monotonic() - began < 10
    assert (jobs.metric('promptir_jobs{state="queued"}'), jobs.metric("promptir_jobs_bytes")) == before
    assert jobs.client.get("/readyz").status_code == 200
    assert not [line for line in jobs.lines if line["level"] == "ERROR"]


def test_a_form_with_parts_without_end_is_refused_soon(jobs: Any) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="x"; filename=""\r\n\r\n\r\n'
    began = time.monotonic()
    for path in ("/v1/jobs", "/v1/images/edits"):
        response = jobs.client.post(
            path, content=part * 2000 + b"--b--\r\n", headers={"Content-Type": "multipart/form-data; boundary=b"}
        )
        assert response.status_code == 400, response.text
        assert "parts" in response.text
    assert time.monotonic() - began < 10


def test_a_form_with_the_wrong_files_is_refused(jobs: Any, png: Image) -> None:
    data = png(8, 8)
    for files, reason in (
        ([("file", ("a.png", data)), ("image", ("b.png", data))], "send one kind"),
        ([("file", ("a.png", data)), ("file", ("b.png", data))], "as `image`"),
        ([("other", ("a.png", data))], "no file"),
        ([("image", (f"{n}.png", b"x")) for n in range(257)], "256 files"),
    ):
        response = jobs.client.post("/v1/jobs", files=files)
        assert_problem(response, 400, "invalid-request")
        assert reason in response.json()["detail"]
    large = [("image", (f"{n}.png", bytes(MAX_BYTES // 2))) for n in range(3)]
    assert_problem(jobs.client.post("/v1/jobs", files=large), 413, "image-too-large")
