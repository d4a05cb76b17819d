"""Tests of the registry of backends."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

import server
from server import backends
from server.backends.settings import RuntimeSettings
from server.settings import BackendSettings

PROJECT = Path(server.__file__).parents[1]
KINDS = backends.registry()
CHOICES = tuple(KINDS)
RUNTIMES = {"onnxruntime", "torch", "tensorrt", "tensorrt_rtx", "cuda", "openvino"}


def settings_of(choice: str, **given: Any) -> RuntimeSettings:
    """Return the settings of the backend that serves one model."""
    return BackendSettings(backend=choice, **given).of_model(Path("model"))


def _imported_by(statements: str) -> set[str]:
    program = f"{statements}\nimport sys; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(process.stdout.split())


def test_the_settings_choose_the_backend() -> None:
    made = {choice: type(backends.create(settings_of(choice), 2)) for choice in CHOICES}
    assert [kind.__module__ for kind in made.values()] == [f"server.backends.{module}" for module in backends.MODULES]
    shipped = {
        "simulated": "SimulatedBackend",
        "onnx": "OnnxBackend",
        "tensorrt": "PlanBackend",
        "pytorch": "TorchBackend",
    }
    assert {choice: kind.__name__ for choice, kind in made.items()}.items() >= shipped.items()


def test_a_backend_is_made_for_a_device_or_for_the_first_one() -> None:
    settings = settings_of("simulated", devices=("left", "right"))
    assert backends.create(settings, 2, "right").start().device == "right"
    assert backends.create(settings, 2).start().device == "left"


@pytest.mark.parametrize("choice", CHOICES)
def test_choosing_loads_no_runtime_before_start(choice: str) -> None:
    imported = _imported_by(
        "from pathlib import Path; from server import backends; from server.settings import BackendSettings\n"
        f"backends.create(BackendSettings(backend={choice!r}).of_model(Path('model')), 1)"
    )
    assert not RUNTIMES & imported


def test_the_protocol_and_the_parser_of_settings_load_no_runtime() -> None:
    assert not RUNTIMES & _imported_by("import server.settings")
    assert "server.backends.pytorch" not in _imported_by("import server.backends.base")


def test_every_backend_is_a_choice_of_the_settings() -> None:
    assert get_args(BackendSettings.model_fields["backend"].annotation) == ("auto", *CHOICES)
    *named, last = map(repr, CHOICES)
    with pytest.raises(ValidationError, match=f"{', '.join(named)} or {last}"):
        BackendSettings(backend="abacus")


@pytest.mark.parametrize("choice", CHOICES)
def test_the_default_device_is_one_that_the_backend_serves(choice: str) -> None:
    (name,) = BackendSettings(backend=choice).device_names
    assert BackendSettings(backend=choice, devices=(name,)).device_names == (name,)


def test_a_setting_of_one_backend_is_named_after_it_and_refused_by_the_others() -> None:
    own = {kind.name: kind.own_fields for kind in backends.registry().values()}
    shipped = {"onnx": ["onnx_providers"], "tensorrt": [], "pytorch": ["torch_compile", "torch_precision"]}
    assert {name: sorted(own[name]) for name in shipped} == shipped
    for name, fields in own.items():
        for field in fields:
            value = {field: BackendSettings.model_fields[field].default}
            assert BackendSettings(backend=name, **value).backend == name
            for other in own.keys() - {name}:
                with pytest.raises(ValidationError, match=f"{field.upper()} is of the backend {name}"):
                    BackendSettings(backend=other, **value)
