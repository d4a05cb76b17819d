"""Tests of the Makefile by its dry run: the order of a release, and the packages that targets install."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
REGISTRY = "registry.example/team"
FRESH = "VENV=fresh"  # a missing folder, so that everything would be installed


def dry_run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Return the commands that make would run."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("needs make")
    return subprocess.run([make, "-n", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)


def extras(output: str) -> set[str]:
    """Return the extras of this package that would be installed."""
    return {name for listed in re.findall(r'--editable "\.\[(.+?)\]"', output) for name in listed.split(",")}


def test_a_release_scans_before_it_pushes_and_signs_what_it_has_pushed() -> None:
    done = dry_run("release", f"REGISTRY={REGISTRY}", "VERSION=1.2.3")
    assert done.returncode == 0, done.stderr
    for target in ("cpu", "gpu", "export"):
        image = f"{REGISTRY}/promptir:1.2.3-{target}"
        steps = [
            f"--tag {image} .",
            f"trivy image --severity HIGH,CRITICAL --ignore-unfixed --exit-code 1 {image}",
            f"syft scan docker:{image}",
            f"docker push {image}",
            f"> runs/release/1.2.3-{target}.digest",
            f"cosign sign --yes $(cat runs/release/1.2.3-{target}.digest)",
            f"--predicate runs/release/1.2.3-{target}.spdx.json",
        ]
        places = [done.stdout.find(step) for step in steps]
        assert -1 not in places
        assert places == sorted(places)


def test_the_targets_of_a_release_are_stages_of_the_dockerfile() -> None:
    built = re.findall(r"--target (\S+)", dry_run("release", f"REGISTRY={REGISTRY}").stdout)
    stages = re.findall(r"^FROM \S+ AS (\S+)$", (PROJECT / "docker/Dockerfile").read_text(), re.MULTILINE)
    assert built == ["serve-cpu", "serve-gpu", "export"]
    assert set(built) <= set(stages)


def test_a_release_without_a_registry_stops_and_says_what_to_give() -> None:
    done = dry_run("release")
    assert done.returncode != 0
    assert "REGISTRY is not set: make release REGISTRY=" in done.stderr
    assert "docker" not in done.stdout


def test_the_version_of_a_release_is_that_of_the_package() -> None:
    (version,) = re.findall(r'^version = "(.+)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert f"promptir:{version}-cpu" in dry_run("release", f"REGISTRY={REGISTRY}").stdout


def test_serve_installs_the_client_and_neither_serve_nor_docs_installs_torch() -> None:
    assert extras(dry_run("serve", FRESH).stdout) == {"cpu", "heif", "client"}
    assert extras(dry_run("docs", FRESH).stdout) == {"cpu", "heif", "client", "docs"}


def test_an_installation_says_first_how_much_it_will_take() -> None:
    for target, size in (("serve", "GB, once."), ("test", "GB, once.")):
        output = dry_run(target, FRESH).stdout
        assert size in output[: output.index("pip install")], target


def test_the_web_interface_of_locust_is_on_this_machine_only() -> None:
    output = dry_run("load-ui", FRESH).stdout
    assert "loadtests/locust/locustfile.py --class-picker --web-host 127.0.0.1" in output


def test_another_python_has_a_venv_of_its_own() -> None:
    done = dry_run("test-python", "PYTHON=/opt/bin/python3.13")
    assert "/opt/bin/python3.13 -m venv .venv-python3.13" in done.stdout
    assert ".venv-python3.13/bin/python -m pytest" in done.stdout
    assert ".venv/bin" not in done.stdout


def test_a_venv_that_could_not_be_finished_is_removed(tmp_path: Path) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("needs make")
    python = tmp_path / "python"  # as on Debian without python3-venv
    make_venv = f'"{sys.executable}" -m venv --without-pip "$3"'
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 0\n{make_venv}\ntouch {tmp_path}/ran\nexit 1\n')
    python.chmod(0o755)
    venv = tmp_path / "venv"
    done = subprocess.run(
        [make, f"{venv}/bin/python", f"VENV={venv}", f"PYTHON={python}"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert (tmp_path / "ran").exists()
    assert not venv.exists()
