"""Tests of build options on a stand-in for the library, since TensorRT-RTX lacks some of them."""

import enum
from pathlib import Path
from typing import Any

import pytest

from export.build_progress import BuildProgress
from export.plan_builder import BuildError, PlanBuilder
from models.plan_manifest import BuildOptions, ShapeProfile

PROFILE = ShapeProfile(min=(1, 8, 8), opt=(1, 64, 64), max=(2, 128, 128))
FOREIGN, KNOWN, MEASURED = b"of another device", b"of this device", b"measured"


class Severity(enum.Enum):
    WARNING = 2
    ERROR = 1


class Level(enum.Enum):
    NONE = 0
    AMPERE_PLUS = 1
    SAME_COMPUTE_CAPABILITY = 2


class TimingCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + MEASURED


class Config:
    """Builder configuration that records its options and refuses timings of another device."""

    hardware_compatibility_level = Level.NONE
    builder_optimization_level = 3
    progress_monitor = None

    def __init__(self) -> None:
        self.flags: list[str] = ["tf32"]  # as in the real library
        self.pools: dict[str, int] = {}
        self.profiles: list[list[tuple[object, ...]]] = []
        self.timings: TimingCache | None = None

    def set_flag(self, flag: str) -> None:
        self.flags.append(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.remove(flag)

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.pools[pool] = size

    def add_optimization_profile(self, profile: "Profile") -> None:
        self.profiles.append(profile.shapes)

    def create_timing_cache(self, content: bytes) -> TimingCache:
        return TimingCache(content)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        if cache.content == FOREIGN and not ignore_mismatch:
            return False
        self.timings = cache
        return True


class Profile:
    def __init__(self) -> None:
        self.shapes: list[tuple[object, ...]] = []

    def set_shape(self, name: str, *shapes: object) -> None:
        self.shapes.append((name, *shapes))


class Library:
    """The part of `tensorrt` that a build uses; `answer` is the plan, `complaints` the log lines."""

    class ILogger:
        pass

    class IProgressMonitor:
        pass

    class MemoryPoolType:
        WORKSPACE = "workspace"

    class BuilderFlag:
        TF32 = "tf32"
        VERSION_COMPATIBLE = "version compatible"

    HardwareCompatibilityLevel = Level

    def __init__(self, answer: bytes | None = b"plan", complaints: tuple[tuple[Severity, str], ...] = ()) -> None:
        self.answer = answer
        self.complaints = complaints
        self.config = Config()
        self.log: Any = None

    def Builder(self, log: Any) -> "Library":  # noqa: N802 - the library's own name
        self.log = log
        return self

    def create_builder_config(self) -> Config:
        return self.config

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: object, config: Config) -> bytes | None:
        for severity, line in self.complaints:
            self.log.log(severity, line)
        return self.answer


def build(library: Library, options: BuildOptions | None = None, timing_cache: Path | None = None) -> bytes:
    builder = PlanBuilder(library)
    builder.start()
    plan: bytes = builder.build("image", [PROFILE], options or BuildOptions(), timing_cache, BuildProgress())
    return plan


def test_a_plain_build_leaves_every_choice_but_tf32_to_the_library() -> None:
    library = Library()
    assert build(library) == b"plan"
    config = library.config
    assert (config.flags, config.pools, config.timings) == ([], {}, None)
    assert (config.hardware_compatibility_level, config.builder_optimization_level) == (Level.NONE, 3)
    assert config.profiles == [[("image", (1, 3, 8, 8), (1, 3, 64, 64), (2, 3, 128, 128))]]


def test_every_option_reaches_the_library() -> None:
    library = Library()
    build(
        library,
        BuildOptions(
            workspace_mb=512, optimisation_level=5, hardware_compatibility="ampere_plus", version_compatible=True
        ),
    )
    config = library.config
    assert config.pools == {"workspace": 512 * 1024 * 1024}
    assert config.builder_optimization_level == 5
    assert config.hardware_compatibility_level == Level.AMPERE_PLUS
    assert config.flags == ["version compatible"]


@pytest.mark.parametrize(("kept", "taken"), [(None, b""), (KNOWN, KNOWN), (FOREIGN, b"")])
def test_timings_that_fit_are_taken_up_and_written_back(tmp_path: Path, kept: bytes | None, taken: bytes) -> None:
    file, library = tmp_path / "caches" / "timings", Library()
    if kept is not None:
        file.parent.mkdir()
        file.write_bytes(kept)
    build(library, timing_cache=file)
    assert library.config.timings is not None
    assert library.config.timings.content == taken
    assert file.read_bytes() == taken + MEASURED
    assert [path.name for path in file.parent.iterdir()] == ["timings"]


def test_a_failed_build_leaves_the_timings_alone(tmp_path: Path) -> None:
    file = tmp_path / "timings"
    file.write_bytes(KNOWN)
    with pytest.raises(BuildError, match="TensorRT cannot build the plan: it gave no reason"):
        build(Library(answer=None), timing_cache=file)
    assert file.read_bytes() == KNOWN


def test_a_failed_build_tells_the_errors_of_the_log_and_not_its_warnings() -> None:
    library = Library(None, ((Severity.WARNING, "slow"), (Severity.ERROR, "layer /a/Conv: no tactic\n")))
    with pytest.raises(BuildError, match=r"^TensorRT cannot build the plan: layer /a/Conv: no tactic$"):
        build(library)


def test_a_build_that_fails_for_want_of_a_driver_says_so() -> None:
    library = Library(None, ((Severity.ERROR, "cudaError 35: CUDA driver version is insufficient"),))
    with pytest.raises(BuildError, match="no usable NVIDIA GPU or driver"):
        build(library)
