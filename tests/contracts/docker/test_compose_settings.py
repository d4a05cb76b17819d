"""Tests of the variables, .env file and secret that Compose passes to the server, with podman-compose."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.settings import PREFIX, Settings, environment_names

Model = dict[str, Any]
RunCompose = Callable[..., str]
SERVERS = ("server-gpu", "server-cpu")
FIXED = {"HOST", "PORT", "CACHE_FOLDER", "JOBS_FOLDER", "KEYS_FILE", "WEBHOOK_SECRET_FILE"}
"""Settings that compose itself decides: ports, volumes and the secret depend on them."""
OTHERS_PORTS = {"GRPC_PORT", "METRICS_PORT"}
"""Ports that compose.yaml does not publish."""
CHOSEN_BY_THE_IMAGE = {"ARTIFACT", "SUCCESSOR"}
FOR_DEVELOPMENT = {name for name in environment_names() if name.startswith(("SIMULATED_", "TORCH_"))}
OPERATED = set(environment_names()) - FIXED - OTHERS_PORTS - CHOSEN_BY_THE_IMAGE - FOR_DEVELOPMENT
EXAMPLE_LINE = re.compile(r"^#([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def example(docker: Path) -> dict[str, str]:
    """Return the variables of .env.example, uncommented."""
    return dict(EXAMPLE_LINE.findall((docker / ".env.example").read_text()))


def started(podman_compose: RunCompose, service: str = "server-cpu", **how: str) -> list[str]:
    """Return the words of the command that would start a server."""
    profile = service.removeprefix("server-")
    said = podman_compose(
        "--verbose", "--profile", profile, "--dry-run", "run", "--rm", "--no-deps", service, "serve", **how
    )
    (line,) = (line for line in said.splitlines() if "podman run " in line)
    return shlex.split(line.partition("podman run ")[2])


def environment(words: list[str]) -> dict[str, str]:
    """Return the variables that `-e NAME=VALUE` sets in the container."""
    given = [words[at + 1] for at, word in enumerate(words) if word == "-e"]
    return dict(pair.split("=", 1) for pair in given if "=" in pair)


def test_the_example_is_inactive_until_it_is_edited(docker: Path) -> None:
    lines = (docker / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_the_example_names_every_setting_an_operator_sets(example: dict[str, str]) -> None:
    assert {name.removeprefix(PREFIX) for name in example if name.startswith(PREFIX)} == OPERATED


def test_the_example_names_every_variable_of_compose_with_its_default(example: dict[str, str], docker: Path) -> None:
    text = (docker / "compose.yaml").read_text()
    defaults: dict[str, set[str]] = {}
    for name, default in re.findall(r"\$\{([A-Z_]+):?-([^}]*)\}", text):
        defaults.setdefault(name, set()).add(default)
    assert {name for name in example if not name.startswith(PREFIX)} == set(defaults)
    assert defaults.pop("KEYS_FILE") == defaults.pop("WEBHOOK_SECRET_FILE") == {"/dev/null"}
    assert {name: example[name] in values for name, values in defaults.items()} == dict.fromkeys(defaults, True)


def test_the_server_takes_every_value_of_the_example(example: dict[str, str], monkeypatch: Any, tmp_path: Path) -> None:
    for name, value in example.items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv(f"{PREFIX}JOBS_FOLDER", str(tmp_path))
    settings, default = Settings.from_environment(), Settings()
    assert settings.http.root_path == "/photos"
    for group in ("limits", "batching"):
        shown = getattr(settings, group).model_dump(exclude={"max_run_pixels", "max_whole_pixels", "padded_shapes"})
        assert shown.items() <= getattr(default, group).model_dump().items()
    assert settings.http.drain_timeout_s == default.http.drain_timeout_s
    assert settings.backend.device_cache_bytes == default.backend.device_cache_bytes
    assert settings.jobs.jobs_max_bytes == default.jobs.jobs_max_bytes


@pytest.mark.parametrize("name", SERVERS)
def test_every_setting_of_the_shell_reaches_the_server(compose: Model, name: str) -> None:
    passed = {
        variable.removeprefix(PREFIX)
        for variable, value in compose["services"][name]["environment"].items()
        if value is None
    }
    assert passed == OPERATED


@pytest.mark.parametrize("name", SERVERS)
def test_the_env_file_and_the_shell_reach_the_server(podman_compose: RunCompose, name: str) -> None:
    words = started(
        podman_compose, name, dotenv="PROMPTIR_MAX_BATCH=4\nSERVER_MEMORY=20g\n", PROMPTIR_LOG_LEVEL="DEBUG"
    )
    given = environment(words)
    assert (given["PROMPTIR_MAX_BATCH"], given["PROMPTIR_LOG_LEVEL"]) == ("4", "DEBUG")
    assert words[words.index("-m") + 1] == "20g"


def test_the_env_file_beside_compose_is_optional_and_read_whole(compose: Model) -> None:
    for name in SERVERS:
        assert compose["services"][name]["env_file"] == [{"path": ".env", "required": False}]


def test_a_cpu_limit_is_set_only_where_it_is_asked_for(podman_compose: RunCompose) -> None:
    assert "--cpus" not in started(podman_compose)
    words = started(podman_compose, dotenv="SERVER_CPUS=1.5\n")
    assert words[words.index("--cpus") + 1] == "1.5"


@pytest.mark.parametrize("name", SERVERS)
def test_jobs_are_kept_on_a_volume_unless_they_are_switched_off(podman_compose: RunCompose, name: str) -> None:
    words = started(podman_compose, name)
    folder = environment(words)["PROMPTIR_JOBS_FOLDER"]
    assert f"type=volume,source=promptir_jobs,destination={folder}" in words
    assert environment(started(podman_compose, name, dotenv="JOBS_FOLDER=\n"))["PROMPTIR_JOBS_FOLDER"] == ""


def test_the_keys_file_is_a_secret_and_without_one_no_key_is_asked_for(
    podman_compose: RunCompose, tmp_path: Path
) -> None:
    assert environment(started(podman_compose))["PROMPTIR_KEYS_FILE"] == ""
    (tmp_path / "keys").write_text("")
    words = started(podman_compose, dotenv=f"KEYS_FILE={tmp_path / 'keys'}\n")
    mounted = environment(words)["PROMPTIR_KEYS_FILE"]
    assert mounted == "/run/secrets/promptir_keys"
    assert any(word.startswith(f"{tmp_path / 'keys'}:{mounted}:ro") for word in words)
