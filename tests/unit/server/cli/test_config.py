"""Tests of `promptir config`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from models.artifact import DEFAULT_ARTIFACT
from server.cli import config, main
from server.settings import PREFIX, Settings, SettingsError, environment_names, is_secret

SECRET = "open-sesame-4711"  # noqa: S105


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment_names():
        monkeypatch.delenv(PREFIX + name, raising=False)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, object]]:
    assert main(["config", "--json", *arguments]) == 0
    found: dict[str, dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_every_setting_is_shown_with_its_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROMPTIR_PORT", "9000")
    monkeypatch.setenv("PROMPTIR_MAX_BATCH", "3")
    monkeypatch.setenv("PROMPTIR_HOST", "")
    found = shown(capsys, "--max-batch", "4")
    assert found["PROMPTIR_PORT"] == {"value": 9000, "source": "environment"}
    assert found["PROMPTIR_MAX_BATCH"] == {"value": 4, "source": "flag"}
    assert found["PROMPTIR_HOST"] == {"value": "127.0.0.1", "source": "default"}
    assert set(found) == {PREFIX + name for name in environment_names()}


def test_what_is_unset_is_shown_as_it_comes_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROMPTIR_BACKEND", "pytorch")
    found = shown(capsys, "--devices", "cuda:0,cpu")
    assert found["PROMPTIR_DEVICES"] == {"value": ["cuda:0", "cpu"], "source": "flag"}
    assert found["PROMPTIR_MAX_RUN_PIXELS"]["value"] == {"cuda:0": 2_097_152, "cpu": 262_144}
    assert found["PROMPTIR_MAX_WHOLE_PIXELS"] == {"value": 1_048_576, "source": "default"}
    assert found["PROMPTIR_JOBS_FOLDER"] == {"value": None, "source": "default"}


def test_the_table_reads_like_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--onnx-providers", "cuda,cpu"]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert lines["PROMPTIR_ONNX_PROVIDERS"] == ["flag", "cuda,cpu"]
    assert lines["PROMPTIR_TORCH_COMPILE"] == ["default", "false"]
    assert lines["PROMPTIR_JOBS_FOLDER"] == ["default"]


def test_the_automatic_choice_of_the_backend_is_told_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--devices", "cpu"]) == 0
    sentence = "PROMPTIR_BACKEND=auto chose onnx, because the devices that are set are CPUs"
    assert capsys.readouterr().out.splitlines()[-1] == sentence
    assert main(["config", "--backend", "simulated"]) == 0
    assert "auto" not in capsys.readouterr().out


def test_what_serve_refuses_is_refused_in_the_same_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--devices", "gpu0"]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == (
        "",
        "promptir: PROMPTIR_DEVICES=gpu0: the devices of onnx are cpu, cpu:N or cuda:N\n",
    )


@pytest.mark.parametrize(
    ("backend", "fault"),
    [
        ("onnx", "cpu: the artifact cannot be served: {0}/model.onnx does not match its manifest: expected sha256 "),
        ("pytorch", "cpu: the weights cannot be served: {0} has no weights.safetensors, which this backend runs "),
        ("tensorrt", "cuda:0: the plan cannot be served: {0} contains an ONNX artifact, not a TensorRT plan; "),
    ],
)
def test_an_artifact_that_serve_refuses_is_refused(
    backend: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    shutil.copy(DEFAULT_ARTIFACT / "manifest.json", folder)
    (folder / "model.onnx").write_bytes(b"cut off")
    assert main(["config", "--backend", backend, "--artifact", str(folder)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("promptir: " + fault.format(folder))


@pytest.mark.parametrize("backend", ["onnx", "pytorch"])
def test_one_missing_artifact_among_several_is_refused(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--backend", backend, "--artifact", f"{DEFAULT_ARTIFACT},/nowhere"]) == 1
    assert "/nowhere does not exist" in capsys.readouterr().err


def test_what_the_wiring_of_serve_refuses_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--artifact", f"{DEFAULT_ARTIFACT},{DEFAULT_ARTIFACT}"]) == 1
    assert "both hold a model called promptnaf" in capsys.readouterr().err
    assert main(["config", "--keys-file", str(tmp_path / "keys")]) == 1
    assert str(tmp_path / "keys") in capsys.readouterr().err
    secrets = ["--webhook-hosts", "example.org", "--webhook-secret-file", str(tmp_path / "secret")]
    assert main(["config", "--jobs-folder", str(tmp_path / "jobs"), *secrets]) == 1
    assert "PROMPTIR_WEBHOOK_SECRET_FILE" in capsys.readouterr().err
    assert not (tmp_path / "jobs").exists()


class WithSecrets(Settings):
    """Settings with an additional secret."""

    token: SecretStr | None = Field(default=None, min_length=4, description="Of a client.")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_secret_is_never_printed(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {**environment_names(), "TOKEN": ("", "token")}
    monkeypatch.setattr("server.settings.tree.environment_names", lambda: names)
    monkeypatch.setattr(config, "environment_names", lambda: names)
    monkeypatch.setattr(config, "Settings", WithSecrets)
    monkeypatch.setenv("PROMPTIR_TOKEN", SECRET)
    assert main(["config", *flags]) == 0
    out = capsys.readouterr().out
    assert "PROMPTIR_TOKEN" in out
    assert config.HIDDEN in out
    assert SECRET not in out
    monkeypatch.setenv("PROMPTIR_TOKEN", "abc")
    with pytest.raises(SettingsError, match=r"^PROMPTIR_TOKEN=: .*at least 4") as refusal:
        WithSecrets.from_environment()
    assert "abc" not in str(refusal.value)


def test_secrets_are_known_by_their_type() -> None:
    assert is_secret(SecretStr)
    assert is_secret(tuple[SecretStr, ...] | None)
    assert not is_secret(str | None)


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = [sys.executable, "-c", "from server.cli import main; raise SystemExit(main(['config']))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
