"""The TensorRT backend on a real device, with a plan that is built for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.plan_manifest import ShapeProfile
from server.backends.base import ModelInput, Pixels
from server.backends.onnx_runtime import OnnxBackend, OnnxSettings
from server.backends.settings import RuntimeSettings
from server.backends.tensorrt_plan import PlanBackend
from server.errors import UnsupportedSize
from server.scheduling.execution.recovery import psnr

to_onnx = pytest.importorskip("export.to_onnx", reason="exports its model (extra `export`)")
to_tensorrt = pytest.importorskip("export.to_tensorrt", reason="builds its plan (extra `export`)")
pytestmark = pytest.mark.gpu

PROFILES = (
    ShapeProfile(min=(1, 8, 8), opt=(2, 64, 64), max=(2, 128, 128)),
    ShapeProfile(min=(1, 8, 8), opt=(1, 512, 512), max=(1, 512, 512)),
)


@pytest.fixture(scope="session")
def artifacts(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The ONNX folder and the plan folder; skipped where no TensorRT is installed."""
    folder = tmp_path_factory.mktemp("plan")
    to_onnx.export_onnx(weights, "promptir-tiny", folder / "onnx", precision="mixed")
    try:
        to_tensorrt.export_plan(folder / "onnx", folder / "plan", PROFILES)
    except to_tensorrt.TensorRTUnavailable as error:
        pytest.skip(str(error))
    return folder / "onnx", folder / "plan"


@pytest.fixture
def backend(artifacts: tuple[Path, Path]) -> Iterator[PlanBackend]:
    backend = PlanBackend(RuntimeSettings(backend="tensorrt", artifact=artifacts[1]), max_batch=8)
    backend.start()
    yield backend
    backend.stop()


def test_a_plan_answers_like_the_onnx_file_on_both_profiles_and_when_replayed(
    artifacts: tuple[Path, Path], backend: PlanBackend, photo: Callable[..., Pixels]
) -> None:
    reference = OnnxBackend(OnnxSettings(artifact=artifacts[0]), max_batch=8)
    reference.start()
    for shape in [(1, 3, 64, 64), (2, 3, 128, 96), (5, 3, 64, 64), (1, 3, 512, 512)]:
        for seed in range(4):
            batch = photo(*shape, seed=seed)
            assert psnr(backend.run(ModelInput(batch)).pixels, reference.run(ModelInput(batch)).pixels) > 50


def test_a_size_outside_the_profiles_is_an_error_and_the_next_run_goes_well(
    backend: PlanBackend, photo: Callable[..., Pixels]
) -> None:
    with pytest.raises(UnsupportedSize, match="outside the sizes that this server's model was built for"):
        backend.run(ModelInput(photo(1, 3, 520, 512)))
    assert backend.run(ModelInput(photo(1, 3, 64, 64))).pixels.shape == (1, 3, 64, 64)
