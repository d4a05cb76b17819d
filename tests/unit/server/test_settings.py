"""Tests of the Settings tree."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from models.artifact import DEFAULT_ARTIFACT
from server.settings import (
    MAX_RUN_PIXELS,
    BatchingSettings,
    Settings,
    SettingsError,
    environment_names,
)

# 24 without jobs and large photos. `max_whole_pixels`, `upload_stall_s` and the job settings limit what no other
# setting limits; `tracing` costs time, `successor` is the folder of better artifacts, `grpc_port` opens another port.
# `tone_guide` is the only choice about results that clients do not have.
# Only operators know keys, origins and the metrics port.
MOST_KNOBS = 47


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment_names():
        monkeypatch.delenv(f"PROMPTIR_{name}", raising=False)


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environment() == Settings()
    assert Settings().backend.artifact == (DEFAULT_ARTIFACT,)


def test_each_group_reads_its_flat_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HOST": "0.0.0.0",  # noqa: S104
        "PORT": "9000",
        "MAX_BATCH": "3",
        "BACKEND": "simulated",
        "SIMULATED_BASE_MS": "1.5",
        "SIMULATED_MS_PER_MEGAPIXEL": "7",
        "ARTIFACT": "some/folder, another",
        "MAX_IMAGE_PIXELS": "1000",
        "LOG_LEVEL": "WARNING",
    }.items():
        monkeypatch.setenv(f"PROMPTIR_{name}", value)
    settings = Settings.from_environment()
    assert (settings.http.host, settings.http.port) == ("0.0.0.0", 9000)  # noqa: S104
    assert settings.batching.max_batch == 3
    assert settings.backend.backend == "simulated"
    assert (settings.backend.simulated_base_ms, settings.backend.simulated_ms_per_megapixel) == (1.5, 7.0)
    assert settings.backend.artifact == (Path("some/folder"), Path("another"))
    assert settings.limits.max_image_pixels == 1000
    assert settings.log_level == "WARNING"


def test_an_override_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTIR_PORT", "9000")
    assert Settings.from_environment({"port": 9001}).http.port == 9001


def test_an_override_of_none_and_an_empty_variable_count_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTIR_PORT", "9000")
    monkeypatch.setenv("PROMPTIR_MAX_BATCH", "")
    settings = Settings.from_environment({"port": None})
    assert settings.http.port == 9000
    assert settings.batching.max_batch == BatchingSettings().max_batch


def test_every_bad_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTIR_PORT", "http")
    monkeypatch.setenv("PROMPTIR_BACKEND", "abacus")
    with pytest.raises(SettingsError, match=r"PROMPTIR_PORT=http: .*; PROMPTIR_BACKEND=abacus: .*'simulated'"):
        Settings.from_environment()


@pytest.mark.parametrize("name", ["THREADS", "MAX_BATCH", "FP32_CHECK_EVERY"])
def test_a_bad_value_is_told_by_its_own_name_and_not_by_its_group(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"^PROMPTIR_{name}=-1: "):
        Settings.from_environment({name.lower(): -1})


def test_an_unknown_name_is_refused_with_the_nearest_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTIR_MAXBATCH", "3")
    with pytest.raises(SettingsError, match=r"PROMPTIR_MAXBATCH is not a setting; did you mean PROMPTIR_MAX_BATCH\?"):
        Settings.from_environment()


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises(SettingsError, match="PROMPTIR_COLOUR is not a setting"):
        Settings.from_environment({"colour": "blue"})


def test_constructors_do_not_look_at_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTIR_PORT", "9000")
    assert Settings().http.port != 9000


@pytest.mark.parametrize("name", ["max_run_pixels", "max_whole_pixels"])
def test_a_run_cannot_exceed_what_a_tensor_can_index(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^PROMPTIR_{name.upper()}={MAX_RUN_PIXELS + 1}: [^;]*4194303$"):
        Settings.from_environment({name: MAX_RUN_PIXELS + 1})


def test_runs_are_as_large_as_the_device_can_use_and_its_memory_holds() -> None:
    mixed = Settings.from_environment({"backend": "pytorch", "devices": "cuda:0,cpu"})
    assert mixed.run_pixels("cpu") < mixed.run_pixels("cuda:0")
    gpu = Settings.from_environment({"backend": "tensorrt"})
    assert mixed.whole_pixels < gpu.whole_pixels  # any device may run the image
    assert mixed.run_pixels("cpu") <= mixed.whole_pixels


def test_runs_are_as_large_as_asked_for_on_every_device() -> None:
    settings = Settings.from_environment({"max_run_pixels": "5000", "max_whole_pixels": "6000"})
    assert (settings.run_pixels("cpu"), settings.run_pixels("cuda:0"), settings.whole_pixels) == (5000, 5000, 6000)


def test_providers_are_a_list_in_the_order_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTIR_ONNX_PROVIDERS", "tensorrt, cuda,cpu")
    assert Settings.from_environment().backend.onnx_providers == ("tensorrt", "cuda", "cpu")
    with pytest.raises(SettingsError, match="'tensorrt', 'cuda' or 'cpu'"):
        Settings.from_environment({"onnx_providers": "gpu"})


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ("cpu",)),
        ({"onnx_providers": "cuda,cpu"}, ("cuda:0",)),
        ({"backend": "pytorch"}, ("cpu",)),
        ({"backend": "tensorrt"}, ("cuda:0",)),
        ({"backend": "tensorrt", "devices": "cuda:1, cuda:0"}, ("cuda:1", "cuda:0")),
        ({"backend": "pytorch", "devices": "cuda:0,cpu"}, ("cuda:0", "cpu")),
        ({"backend": "simulated", "devices": "sim:0,left"}, ("sim:0", "left")),
    ],
)
def test_devices_are_those_asked_for_or_the_backends_own(settings: dict[str, str], names: tuple[str, ...]) -> None:
    assert Settings.from_environment(settings).backend.device_names == names


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"devices": "gpu0"}, r"PROMPTIR_DEVICES=gpu0: the devices of onnx are cpu, cpu:N or cuda:N"),
        ({"backend": "tensorrt", "devices": "cuda:0,cpu"}, r"PROMPTIR_DEVICES=cpu: the devices of tensorrt are cuda:N"),
        ({"backend": "simulated", "devices": "a b"}, "the devices of simulated are any names"),
        ({"backend": "pytorch", "devices": "cpu,cpu"}, "PROMPTIR_DEVICES=cpu: a device is named once"),
        ({"devices": "cuda:0"}, "PROMPTIR_DEVICES=cuda:0: onnx runs on it with a provider .*ONNX_PROVIDERS=cuda,cpu"),
    ],
)
def test_a_device_that_the_backend_cannot_use_is_refused_with_those_it_can(
    settings: dict[str, str], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings.from_environment(settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"torch_precision": "fp16"},
            "PROMPTIR_TORCH_PRECISION is of the backend pytorch, and PROMPTIR_BACKEND is onnx",
        ),
        ({"backend": "tensorrt", "onnx_providers": "cuda"}, "PROMPTIR_ONNX_PROVIDERS is of the backend onnx"),
        ({"jobs_keep_hours": "1"}, "PROMPTIR_JOBS_KEEP_HOURS: has no effect without PROMPTIR_JOBS_FOLDER"),
    ],
)
def test_what_would_be_ignored_is_refused(settings: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=f"^{words}"):
        Settings.from_environment(settings)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().http.port = 1  # type: ignore[misc]


def test_every_knob_has_a_reason_and_there_are_few() -> None:
    names = environment_names()
    assert len(names) <= MOST_KNOBS
    for group, field in names.values():
        model = type(getattr(Settings(), group)) if group else Settings
        assert model.model_fields[field].description, field


def test_flat_names_do_not_collide() -> None:
    fields = [
        name for group in ("http", "limits", "batching", "backend") for name in getattr(Settings(), group).model_dump()
    ]
    assert len(fields) == len(set(fields))


def test_padded_shapes_are_read_as_width_and_height() -> None:
    settings = Settings.from_environment({"padded_shapes": "1024x768, 64x64"})
    assert settings.batching.padded_shape_sides == [(768, 1024), (64, 64)]
    assert Settings().batching.padded_shape_sides == []


@pytest.mark.parametrize("name", ["1024", "1024x", "0x8", "1020x768", "8x8x8", "-8x8", "1024X768"])
def test_a_padded_shape_that_no_image_can_fill_stops_the_start(name: str) -> None:
    with pytest.raises(SettingsError, match=r"^PROMPTIR_PADDED_SHAPES=.*: .* is not WIDTHxHEIGHT, both multiples of 8"):
        Settings.from_environment({"padded_shapes": name})


@pytest.mark.parametrize(
    ("asked", "devices", "cores", "count"),
    [
        ("0", "cuda:0", 16, 0),
        ("3", "cpu", 2, 3),
        ("auto", "cuda:0", 16, 8),
        ("auto", "cuda:0", 4, 0),
        ("auto", "cpu", 16, 0),
    ],
)
def test_codec_processes_are_counted_by_cores_where_a_gpu_is(
    monkeypatch: pytest.MonkeyPatch, asked: str, devices: str, cores: int, count: int
) -> None:
    monkeypatch.setenv("PROMPTIR_CODEC_PROCESSES", asked)
    monkeypatch.setenv("PROMPTIR_BACKEND", "simulated")
    monkeypatch.setenv("PROMPTIR_DEVICES", devices)
    assert Settings.from_environment().codec_process_count(cores) == count


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"http_processes": 2, "grpc_port": 0}, "PROMPTIR_GRPC_PORT=0: several HTTP processes share one port"),
        ({"http_processes": 2, "jobs_folder": "jobs"}, "PROMPTIR_HTTP_PROCESSES=2: with PROMPTIR_JOBS_FOLDER there"),
        ({"http_processes": 0}, "PROMPTIR_HTTP_PROCESSES=0"),
    ],
)
def test_what_several_http_processes_cannot_share_is_refused(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        Settings.from_environment(given)
