"""Tests of the Dockerfile: the linter, and consistency with other files."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from server.settings import HttpSettings, environment_names

PROJECT = Path(__file__).resolve().parents[3]
TARGETS = ("serve-cpu", "serve-gpu", "export")


@pytest.fixture(scope="session")
def dockerfile(docker: Path) -> str:
    return (docker / "Dockerfile").read_text()


def stage(dockerfile: str, name: str) -> str:
    """Return the instructions of a stage and of its base stages; the base image has none."""
    found = re.search(rf"^FROM (\S+) AS {name}$(.*?)(?=^FROM |\Z)", dockerfile, re.MULTILINE | re.DOTALL)
    if found is None:
        return ""
    return stage(dockerfile, found[1]) + found[2]


def test_hadolint_finds_nothing(docker: Path, tool: Callable[[str], str]) -> None:
    command = [tool("hadolint"), "--config", PROJECT / ".hadolint.yaml", docker / "Dockerfile"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_hadolint_would_find_a_shell_form_entry_point(docker: Path, tool: Callable[[str], str], tmp_path: Path) -> None:
    broken = tmp_path / "Dockerfile"
    broken.write_text((docker / "Dockerfile").read_text() + "CMD promptir serve\n")
    command = [tool("hadolint"), "--config", PROJECT / ".hadolint.yaml", broken]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "DL3025" in found.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_as_the_user_that_owns_its_folders_and_in_exec_form(dockerfile: str, target: str) -> None:
    instructions = stage(dockerfile, target)
    users = re.findall(r"^USER (\d+):(\d+)$", instructions, re.MULTILINE)
    assert users
    assert users[-1] != ("0", "0")
    uid, gid = users[-1]
    assert f"--owner={uid} --group={gid} /plans /var/cache/promptir /var/lib/promptir/jobs" in instructions
    assert re.search(r"^ENTRYPOINT \[", instructions, re.MULTILINE)


@pytest.mark.parametrize("target", ["serve-cpu", "serve-gpu"])
def test_a_serving_target_exposes_and_checks_the_port_of_the_settings(
    dockerfile: str, target: str, script: Callable
) -> None:
    instructions = stage(dockerfile, target)
    port = HttpSettings().port
    assert re.findall(r"^EXPOSE (\d+)$", instructions, re.MULTILINE) == [str(port)]
    assert int(script("healthcheck").DEFAULT_PORT) == port
    assert "HEALTHCHECK" in instructions
    assert "/opt/docker/healthcheck.py" in instructions


def test_every_setting_in_the_images_exists(dockerfile: str, docker: Path) -> None:
    text = dockerfile + "".join(path.read_text() for path in docker.glob("*.py"))
    used = set(re.findall(r"\bPROMPTIR_([A-Z_]+)", text))
    assert used
    assert used <= set(environment_names())


def test_every_copied_file_exists_and_is_let_through_to_the_build(dockerfile: str) -> None:
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    allowed = [line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in copied:
        assert (PROJECT / source).exists(), source
        assert any(Path(source).match(pattern) or source.startswith(f"{pattern}/") for pattern in allowed), source


def test_no_file_names_an_index_or_a_registry_of_images(docker: Path) -> None:
    for path in [*docker.rglob("*"), *(PROJECT / "k8s").rglob("*")]:
        if not path.is_file() or path.suffix == ".pyc":
            continue
        for line in path.read_text().splitlines():
            for host in re.findall(r"[a-z]+://([^/\s\"'$]+)", line):
                assert re.match(
                    r"(127\.0\.0\.1|prometheus|prometheus-operated\.monitoring\.svc|photos\.example)\b", host
                ), (path, line)
            assert not re.match(r"\s*--(extra-)?index-url|\s*--find-links", line), (path, line)
