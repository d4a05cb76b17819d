"""Tests of compose.yaml: the specification's schema, a security linter, and this project's rules."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from server.cli.http_server import CLOSE_CONNECTIONS_S
from server.settings import BatchingSettings, HttpSettings, LimitSettings, Settings

GIGABYTE_A_MEGAPIXEL = 3
BYTES_A_QUEUED_PIXEL = 12
SERVERS = ("server-gpu", "server-cpu")

Model = dict[str, Any]


def complaints(model: Model, schema: Model) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(model)]


def test_it_follows_the_specification(compose: Model, compose_schema: Model) -> None:
    assert complaints(compose, compose_schema) == []


def test_the_specification_refuses_what_it_does_not_know(compose: Model, compose_schema: Model) -> None:
    server = compose["services"]["server-cpu"]
    broken = compose | {"services": {"server-cpu": server | {"portz": ["80:80"]}}}
    assert any("portz" in complaint for complaint in complaints(broken, compose_schema))


def test_the_security_linter_finds_nothing_of_weight(docker: Path, tool: Callable[[str], str]) -> None:
    command = [tool("compose-lint"), "--fail-on", "high", docker / "compose.yaml"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_service_is_limited_and_confined(compose: Model) -> None:
    for name, service in compose["services"].items():
        assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"]), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name


def test_every_port_is_published_on_this_machine_only(compose: Model) -> None:
    for name, service in compose["services"].items():
        for port in service.get("ports", []):
            assert re.match(r"(127\.0\.0\.1|\$\{SERVER_ADDRESS:-127\.0\.0\.1\}):", port), (name, port)


def test_a_real_implementation_reads_it_and_every_port_is_on_loopback(resolved: Model, compose: Model) -> None:
    assert set(resolved["services"]) == set(compose["services"])
    ports = {name: service["ports"] for name, service in resolved["services"].items() if "ports" in service}
    assert ports.pop("server-gpu") == ports.pop("server-cpu") == ["127.0.0.1:8000:8000"]
    assert ports == {
        "prometheus": ["127.0.0.1:9090:9090"],
        "alertmanager": ["127.0.0.1:9093:9093"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_no_cpu_limit_is_set_by_default_that_a_small_host_could_refuse(resolved: Model) -> None:
    limits = {
        name: float(service["deploy"]["resources"]["limits"]["cpus"]) for name, service in resolved["services"].items()
    }
    assert [limits.pop(name) for name in ("server-gpu", "server-cpu", "export")] == [0, 0, 0]
    assert max(limits.values()) <= 1


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_reached_on_the_port_of_the_settings(compose: Model, name: str) -> None:
    (port,) = compose["services"][name]["ports"]
    assert port.rsplit(":", 1)[1] == str(HttpSettings().port)


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_has_time_to_drain(resolved: Model, name: str) -> None:
    grace = resolved["services"][name]["stop_grace_period"]
    assert int(grace.removesuffix("s")) >= HttpSettings().drain_timeout_s + CLOSE_CONNECTIONS_S


def test_a_run_and_all_that_may_wait_fit_the_memory_of_the_cpu_server(resolved: Model) -> None:
    memory = resolved["services"]["server-cpu"]["deploy"]["resources"]["limits"]["memory"]
    waiting = BYTES_A_QUEUED_PIXEL * BatchingSettings().max_queued_pixels + LimitSettings().max_uploads_bytes
    run = GIGABYTE_A_MEGAPIXEL * 1e9 * Settings().whole_pixels / 1e6
    assert int(memory.removesuffix("g")) * 2**30 >= run + waiting


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_ends_by_itself_is_replaced(compose: Model, name: str) -> None:
    # it exits with 1 after permanent loss of its devices; `on-failure` would not start it after a restart of Docker
    assert compose["services"][name]["restart"] == "unless-stopped"


def test_what_needs_a_gpu_reserves_one(compose: Model) -> None:
    for name in ("server-gpu", "export"):
        (device,) = compose["services"][name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        assert device["capabilities"] == ["gpu"]
        assert len(device["device_ids"]) == 1


def test_only_the_export_writes_to_the_plans(compose: Model) -> None:
    mounts = {
        name: [volume for volume in service.get("volumes", []) if volume.startswith("plans:")]
        for name, service in compose["services"].items()
    }
    assert mounts.pop("server-gpu") == ["plans:/plans:ro"]
    assert mounts.pop("export") == ["plans:/plans"]
    assert not any(mounts.values())


def test_every_build_target_and_mounted_file_exists(compose: Model, docker: Path) -> None:
    dockerfile = (docker / "Dockerfile").read_text()
    for name, service in compose["services"].items():
        if "build" in service:
            assert re.search(rf"^FROM \S+ AS {service['build']['target']}$", dockerfile, re.MULTILINE), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (docker / source).exists() if source.startswith(".") else source in compose["volumes"], volume


def test_profiles_start_one_server_each_and_the_export_only_when_asked(compose: Model) -> None:
    services = compose["services"]
    assert services["server-gpu"]["profiles"] == ["gpu"]
    assert services["server-cpu"]["profiles"] == ["cpu"]
    assert services["export"]["profiles"] == ["export"]
    assert services["export"]["restart"] == "no"


def test_the_start_is_ordered_by_health(compose: Model) -> None:
    services = compose["services"]
    for name, service in services.items():
        for dependency, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy", name
            # the servers' images contain their health check
            assert "healthcheck" in services[dependency] or dependency in SERVERS
            if services[dependency].get("profiles"):
                assert how["required"] is False, f"{name} could not start without the profile of {dependency}"


def test_no_variable_of_compose_looks_like_a_setting_of_the_server(docker: Path) -> None:
    # `promptir` refuses to start in a shell that exports an unknown PROMPTIR_ variable
    assert "${PROMPTIR_" not in (docker / "compose.yaml").read_text()
