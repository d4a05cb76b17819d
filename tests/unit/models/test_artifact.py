"""Tests of the manifest: validation, saving and loading."""

import json
import os
from pathlib import Path

import pytest

from models.artifact import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    MAX_MODEL_BYTES,
    MODEL_FILE,
    ArtifactError,
    Manifest,
    Parity,
    sha256_of,
)

MODEL_BYTES = b"not really a model"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / MODEL_FILE).write_bytes(MODEL_BYTES)
    manifest = Manifest(
        name="promptir-tiny",
        variant="promptir-tiny",
        input_name="image",
        output_name="restored",
        size_multiple=8,
        precision="fp32",
        opset=17,
        sha256=sha256_of(tmp_path / MODEL_FILE),
        parameters=345_878,
        parity=(Parity(shape=(1, 3, 64, 64), max_abs_error=1.5e-7),),
        exporter={"torch": "2.13.0"},
    )
    manifest.save(tmp_path)
    return manifest


def edit(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_saved_manifest_loads_as_it_was(manifest: Manifest, tmp_path: Path) -> None:
    assert Manifest.load(tmp_path) == manifest


def test_an_artifact_from_before_prompt_weights_has_one_output(manifest: Manifest, tmp_path: Path) -> None:
    fields = json.loads((tmp_path / MANIFEST_FILE).read_text())
    del fields["prompt_output"]
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(fields))
    loaded = Manifest.load(tmp_path)
    assert (loaded.prompt_output, loaded.output_names) == (None, ("restored",))


def test_the_outputs_are_named_in_the_models_order(manifest: Manifest, tmp_path: Path) -> None:
    edit(tmp_path, prompt_output={"name": "prompt_weights", "levels": 3, "components": 5})
    loaded = Manifest.load(tmp_path)
    assert loaded.output_names == ("restored", "prompt_weights")
    assert loaded.prompt_output is not None
    assert loaded.prompt_output.shape == (3, 5)


def test_saving_leaves_no_file_but_the_manifest(manifest: Manifest, tmp_path: Path) -> None:
    assert {path.name for path in tmp_path.iterdir()} == {MODEL_FILE, MANIFEST_FILE}


def test_the_model_file_it_was_written_for_is_accepted(manifest: Manifest, tmp_path: Path) -> None:
    manifest.verify(tmp_path)


def test_a_changed_model_file_is_refused_with_both_hashes(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).write_bytes(MODEL_BYTES + b"!")
    with pytest.raises(ArtifactError) as refusal:
        manifest.verify(tmp_path)
    message = str(refusal.value)
    assert str(tmp_path / MODEL_FILE) in message
    assert manifest.sha256 in message
    assert sha256_of(tmp_path / MODEL_FILE) in message


def test_a_missing_model_file_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).unlink()
    with pytest.raises(ArtifactError, match=r"cannot read the model file .*model\.onnx"):
        manifest.verify(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere does not exist"):
        Manifest.load(tmp_path / "nowhere")


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot read .*manifest\.json: No such file"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00"])
def test_what_is_not_json_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(ArtifactError, match="is not JSON"):
        Manifest.load(tmp_path)


def test_json_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_text("[1, 2]")
    with pytest.raises(ArtifactError, match="must hold a JSON object, found list"):
        Manifest.load(tmp_path)


def test_a_missing_field_is_named(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / MANIFEST_FILE
    fields = json.loads(path.read_text())
    del fields["sha256"]
    path.write_text(json.dumps(fields))
    with pytest.raises(ArtifactError, match="field 'sha256': Field required"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("surprise", 1),
        ("sha256", "abc"),
        ("precision", "int4"),
        ("size_multiple", 0),
        ("parameters", "many"),
        ("parity", [{"shape": [1, 3, 8], "max_abs_error": 0}]),
        ("parity", [{"shape": [1, 3, 8, 8], "max_abs_error": -1}]),
    ],
)
def test_a_wrong_field_is_named(manifest: Manifest, tmp_path: Path, field: str, value: object) -> None:
    edit(tmp_path, **{field: value})
    with pytest.raises(ArtifactError, match=f"is not a valid manifest: field '{field}"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused_before_its_fields_are_read(
    manifest: Manifest, tmp_path: Path, version: object
) -> None:
    edit(tmp_path, format_version=version, surprise=1)
    with pytest.raises(ArtifactError, match=r"format_version .*; this release reads version 1"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("opening", ["[", '{"parity":'])
def test_a_manifest_that_is_nested_without_end_is_refused_in_a_sentence(opening: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_text(opening * (MAX_MANIFEST_BYTES // len(opening)))
    with pytest.raises(ArtifactError, match="is nested too deeply"):
        Manifest.load(tmp_path)


def test_a_manifest_without_end_is_refused_before_it_is_read(manifest: Manifest, tmp_path: Path) -> None:
    edit(tmp_path, exporter={str(number): "x" * 200 for number in range(6000)})
    with pytest.raises(ArtifactError, match=f"is larger than {MAX_MANIFEST_BYTES} bytes"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("field", ["format_version", "x" * 10_000])
def test_what_a_manifest_says_is_quoted_in_part_only(field: str, manifest: Manifest, tmp_path: Path) -> None:
    edit(tmp_path, **{field: "x" * 10_000})
    with pytest.raises(ArtifactError) as refused:
        Manifest.load(tmp_path)
    assert len(str(refused.value)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("name", [MANIFEST_FILE, MODEL_FILE])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_refused_and_never_waited_for(
    name: str, kind: str, manifest: Manifest, tmp_path: Path
) -> None:
    (tmp_path / name).unlink()
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    elif kind == "device":
        (tmp_path / name).symlink_to("/dev/zero")
    else:
        (tmp_path / name).mkdir()
    with pytest.raises(ArtifactError, match="not a regular file"):
        Manifest.load(tmp_path).verify(tmp_path)


def test_a_model_file_with_holes_of_any_size_is_not_hashed(manifest: Manifest, tmp_path: Path) -> None:
    os.truncate(tmp_path / MODEL_FILE, MAX_MODEL_BYTES + 1)
    with pytest.raises(ArtifactError, match="a model has at most"):
        manifest.verify(tmp_path)


def test_a_link_to_a_model_file_is_followed(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).rename(tmp_path / "elsewhere")
    (tmp_path / MODEL_FILE).symlink_to("elsewhere")
    manifest.verify(tmp_path)
