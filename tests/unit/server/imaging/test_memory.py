"""Tests of a lack of memory, in a process with a bounded address space, and of the bound on decoded images."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from server.errors import MemoryShort, QueueFull, UndecodableImage
from server.imaging.memory import DecodedRoom, blaming_memory

ROOT = Path(__file__).parents[4]
MEGABYTE = 2**20
# Decodes an image with too little memory, and prints the reported error.
SCENE = """
import io, resource, sys
import PIL.Image
from server.errors import PromptIRServeError
from server.formats import codec
from server.formats.header import probe
from server.formats.output import OutputFormat
from server.settings import LimitSettings

kind, room = sys.argv[1], int(sys.argv[2])
file = io.BytesIO()
PIL.Image.new(sys.argv[3], (4000, 3000)).save(file, kind)
header = probe(file.getvalue(), LimitSettings())
warm = io.BytesIO()
PIL.Image.new(sys.argv[3], (64, 64)).save(warm, kind)
codec.decode(warm.getvalue(), probe(warm.getvalue(), LimitSettings()))
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + room, size + room))
try:
    image = codec.decode(file.getvalue(), header)
    print("decoded")
    for output in OutputFormat:
        try:
            codec.encode(image, image.planes, output, 90)
            print("encoded")
        except PromptIRServeError as error:
            print(error.slug)
except PromptIRServeError as error:
    print(error.slug)
"""


@pytest.mark.parametrize("room", [1, 50])
@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGB"), ("TIFF", "RGB"), ("BMP", "RGB"), ("WEBP", "RGB"), ("JPEG", "RGB"), ("JPEG", "CMYK")],
)
def test_a_lack_of_memory_is_reported_and_never_blamed_on_the_file(kind: str, mode: str, room: int) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCENE, kind, str(room * MEGABYTE), mode],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        check=False,
    )
    said = run.stdout.split()
    assert said, run.stderr
    assert set(said) <= {"decoded", "encoded", "memory-short"}, run.stderr
    if room == 1:
        assert said == ["memory-short"]


def test_only_the_errors_of_failed_allocations_count_as_lack_of_memory() -> None:
    short = cv2.error("no memory")
    short.code = -4
    for cause in (MemoryError(), short):
        with pytest.raises(MemoryShort), blaming_memory():
            raise UndecodableImage("damaged") from cause
    with pytest.raises(MemoryShort), blaming_memory():
        raise MemoryError
    with pytest.raises(UndecodableImage), blaming_memory(1000):
        raise UndecodableImage("damaged") from cv2.error("bad")
    with pytest.raises(MemoryShort), blaming_memory(2**60):
        raise UndecodableImage("damaged")


def test_large_images_share_a_bound_and_a_single_image_is_always_accepted() -> None:
    room = DecodedRoom(100 * MEGABYTE)
    with room.take(400 * MEGABYTE):
        with pytest.raises(QueueFull, match="decoded"), room.take(9 * MEGABYTE):
            pass
        with room.take(MEGABYTE):
            assert room.held_bytes == 401 * MEGABYTE
    assert room.held_bytes == 0
    with room.take(50 * MEGABYTE), room.take(50 * MEGABYTE), pytest.raises(QueueFull), room.take(9 * MEGABYTE):
        pass
    assert room.held_bytes == 0
