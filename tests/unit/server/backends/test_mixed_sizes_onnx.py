"""The ONNX Runtime backend with a model for mixed sizes: several sizes in one run, and memory that does not grow."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.artifact import MANIFEST_FILE, Manifest
from server.backends.base import ModelInput
from server.backends.onnx_runtime import OnnxBackend, OnnxSettings
from server.errors import BackendUnavailable

if TYPE_CHECKING:
    from models.restoration import RestorationNetwork

pytest.importorskip("torch", reason="exports its model with torch")
pytest.importorskip("onnxslim", reason="exports its model with onnxslim")

TOLERANCE = 1e-5
SIZES = [(24, 40), (8, 8), (48, 16)]
CANVAS = (48, 40)
MOST_GROWTH = 1.05


@pytest.fixture(scope="module")
def artifact(drawn_network: "Callable[[str], RestorationNetwork]", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact for mixed sizes of the network for tests; not to be changed."""
    from safetensors.torch import save_file

    from export.to_onnx import export_onnx

    folder = tmp_path_factory.mktemp("mixed")
    save_file(drawn_network("promptir-tiny").state_dict(), folder / "weights.safetensors")
    export_onnx(folder / "weights.safetensors", "promptir-tiny", folder / "artifact", masked=True)
    return folder / "artifact"


@pytest.fixture
def backend(artifact: Path) -> Iterator[OnnxBackend]:
    backend = OnnxBackend(OnnxSettings(artifact=artifact), 8)
    assert backend.start().model.mixed_sizes
    yield backend
    backend.stop()


def test_images_of_several_sizes_come_out_as_alone(backend: OnnxBackend) -> None:
    padded_shape = np.random.default_rng(1).random((len(SIZES), 3, *CANVAS), np.float32)
    together = backend.run(ModelInput(padded_shape, np.array(SIZES, np.int64)))
    assert together.pixels.shape == padded_shape.shape
    for index, (height, width) in enumerate(SIZES):
        alone = backend.run(ModelInput(np.ascontiguousarray(padded_shape[index : index + 1, :, :height, :width])))
        assert np.abs(together.pixels[index, :, :height, :width] - alone.pixels[0]).max() < TOLERANCE
        assert np.abs(together.aux[index] - alone.aux[0]).max() < TOLERANCE


def test_a_bound_run_takes_the_sizes_too(backend: OnnxBackend) -> None:
    padded_shape = np.random.default_rng(2).random((len(SIZES), 3, *CANVAS), np.float32)
    sides = dict(zip(("height", "width"), np.ascontiguousarray(np.array(SIZES, np.int64).T), strict=True))
    bound = backend._run_bound(backend._session, padded_shape, "cpu", sides)
    free = backend.run(ModelInput(padded_shape, np.array(SIZES, np.int64)))
    assert np.array_equal(bound.pixels, free.pixels)
    assert np.array_equal(bound.aux, free.aux)


def test_a_manifest_that_leaves_the_sizes_out_is_refused(artifact: Path, tmp_path: Path) -> None:
    plain = Manifest.load(artifact).model_copy(update={"size_inputs": None})
    for file in artifact.iterdir():
        if file.name != MANIFEST_FILE:
            (tmp_path / file.name).symlink_to(file)
    plain.save(tmp_path)
    with pytest.raises(BackendUnavailable, match="inputs are"):
        OnnxBackend(OnnxSettings(artifact=tmp_path), 8).start()


MEMORY_OF_SIZES = """
import random, sys
from pathlib import Path
import numpy as np
from server.backends.base import ModelInput
from server.backends.onnx_runtime import OnnxBackend, OnnxSettings
from server.restore.allocator import limit_retained_memory

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

limit_retained_memory()  # as the server does
backend = OnnxBackend(OnnxSettings(artifact=Path(sys.argv[1]), threads=1), 8)
backend.start()
sizes = [(8 * h, 8 * w) for h in range(1, 21) for w in range(1, 26)]
random.Random(1).shuffle(sizes)
seen = []
for height, width in sizes:
    backend.run(ModelInput(np.zeros((1, 3, height, width), np.float32)))
    seen.append(resident_bytes())
# A single reading swings with the last size; what stays is the least of them, what is needed the most.
early, late = seen[50:150], seen[-100:]
print(min(early), min(late), max(early), max(late))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the resident memory from /proc")
def test_five_hundred_sizes_take_no_more_memory_than_a_hundred(artifact: Path) -> None:
    command = [sys.executable, "-c", MEMORY_OF_SIZES, str(artifact)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    least, least_late, most, most_late = (float(found) / 2**20 for found in ended.stdout.split())
    assert least_late <= MOST_GROWTH * least, f"{least:.0f} MiB, then {least_late:.0f} MiB"
    assert most_late <= MOST_GROWTH * most, f"at most {most:.0f} MiB, then {most_late:.0f} MiB"
