"""Tests of the ONNX Runtime backend: its libraries, its providers and the devices of its sessions."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from onnx_models import new_backend, started_backend, write_artifact

from server.backends.onnx_providers import PROVIDER_NAMES
from server.errors import BackendUnavailable

pytest.importorskip("onnxruntime", reason="runs its models with onnxruntime")

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return partial(write_artifact, tmp_path)


def test_a_missing_onnxruntime_names_the_extras(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailable, match="extra `cpu`, or `gpu`"):
        started_backend(make())


def test_two_distributions_in_each_others_way_are_named(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site = tmp_path_factory.mktemp("site")
    for name in ("onnxruntime", "onnxruntime-gpu"):
        folder = site / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(site)
    with pytest.raises(BackendUnavailable, match="both installed"):
        started_backend(make())


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_installed_is_an_error_and_no_run_on_the_cpu(
    make: Make, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendUnavailable, match=f"has no provider {provider}: install .* extra `gpu`"):
        new_backend(make(), provider, "cpu").start()


def test_a_provider_that_is_installed_but_does_not_load_is_an_error_and_no_run_on_the_cpu(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    open_session = onnxruntime.InferenceSession

    def fall_back(model: Path, options: Any, providers: Any, **_: Any) -> Any:
        assert [name for name, _ in providers] == [PROVIDER_NAMES["cuda"], PROVIDER_NAMES["cpu"]]
        return open_session(model, options, providers=["CPUExecutionProvider"])  # as onnxruntime does, with a log line

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDER_NAMES.values()))
    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    with pytest.raises(BackendUnavailable, match="could not load its provider cuda and would run on CPUExecution"):
        new_backend(make(), "cuda", "cpu").start()


@pytest.mark.parametrize(
    ("device", "steps"), [("cuda:0", ["libraries", "session"]), ("cpu", ["session"])], ids=["cuda", "cpu"]
)
def test_the_libraries_of_cuda_are_loaded_before_a_session_that_needs_them(
    make: Make, monkeypatch: pytest.MonkeyPatch, device: str, steps: list[str]
) -> None:
    import onnxruntime

    taken: list[str] = []

    def open_session(*_: Any, **__: Any) -> Any:
        taken.append("session")
        raise RuntimeError("enough")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDER_NAMES.values()))
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: taken.append("libraries"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    with pytest.raises(BackendUnavailable, match="enough"):
        new_backend(make(), "cuda", "cpu", device=device).start()
    assert taken == steps


def test_an_onnxruntime_that_cannot_load_them_is_left_to_find_them(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    open_session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDER_NAMES.values()))
    monkeypatch.delattr(onnxruntime, "preload_dlls")
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda model, options, **_: open_session(model, options))
    with pytest.raises(BackendUnavailable, match="could not load its provider cuda"):
        new_backend(make(), "cuda", "cpu").start()


def test_a_session_is_opened_for_its_own_device(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    opened: list[tuple[int, list[tuple[str, str | None]]]] = []

    def open_session(model: Path, options: Any, providers: Any, **_: Any) -> Any:
        asked = [(name, options.get("device_id")) for name, options in providers]
        opened.append((options.intra_op_num_threads, asked))
        raise RuntimeError("enough")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDER_NAMES.values()))
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    settings = {"devices": ("cuda:0", "cuda:1", "cpu"), "threads": 3}
    for device in ("cuda:1", "cpu"):
        with pytest.raises(BackendUnavailable, match="enough"):
            new_backend(make(), "cuda", "cpu", device=device, **settings).start()
    cuda, cpu = PROVIDER_NAMES["cuda"], PROVIDER_NAMES["cpu"]
    assert opened == [(3, [(cuda, "1"), (cpu, None)]), (3, [(cpu, None)])]
