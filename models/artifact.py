"""Manifest of an exported model: JSON that the exporter writes and the server checks."""

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from models.regular_file import open_regular, read_regular

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
FORMAT_VERSION = 1
"""Incremented whenever a field changes its meaning; a reader accepts only its own version."""
MAX_MANIFEST_BYTES = 1 << 20
MAX_MODEL_BYTES = 4 << 30
"""Twice the largest possible ONNX file. Limits the bytes hashed, since a sparse file can claim any size."""
_LONGEST_QUOTE = 80

DEFAULT_ARTIFACT = Path(__file__).resolve().parent / "artifacts" / "promptnaf"

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(gt=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

Precision = Literal["fp32", "mixed"]
"""`mixed` is float16 except for the parts that `export/precision.py` keeps in float32. Images are float32 in both."""


class ArtifactError(ValueError):
    """Artifact folder that is missing, damaged or in another format; the message is one sentence for an operator."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Parity(_Record):
    """Error of the exported model against PyTorch for one input of `shape` (N, C, H, W); the signal range is 1."""

    shape: tuple[Count, Count, Count, Count]
    max_abs_error: Annotated[float, Field(ge=0)]
    psnr_db: float | None = None
    """PSNR of the worst image in the batch; None in artifacts that predate this field."""
    prompt_weights_error: Annotated[float, Field(ge=0)] | None = None
    """Largest absolute error of a prompt weight; None if the model does not output them."""
    padded_shape: tuple[Count, Count] | None = Field(
        default=None, validation_alias=AliasChoices("padded_shape", "canvas")
    )
    """(height, width) of the mixed-size batch in which the image ran; None if it ran alone. Was `canvas` in 0.1."""


class PromptOutput(_Record):
    """Second output of a model, float32 (N, rows, columns): prompt weights and degradation probabilities of each image.

    The first `levels` rows are prompt weights, from coarse to fine, each summing to 1 over `components`. If there are
    `labels`, a further row holds the probability of each label. Shorter rows are padded with zeros.
    """

    name: Name
    levels: Annotated[int, Field(ge=0)]
    components: Annotated[int, Field(ge=0)]
    labels: tuple[Name, ...] = ()
    """Degradation labels, such as noise or haze; they are not mutually exclusive."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return the shape for one image: (rows, columns)."""
        return self.levels + bool(self.labels), max(self.components, len(self.labels))


class Manifest(_Record):
    """Description of an artifact, which the server checks before it loads the model."""

    model_file: ClassVar[str] = MODEL_FILE

    format_version: int = FORMAT_VERSION
    name: Name
    variant: Name
    input_name: Name
    output_name: Name
    input_shape: tuple[Name, Count, Name, Name] = ("n", 3, "h", "w")
    """Fixed axes as numbers, dynamic axes as names; the output has the shape of the input."""
    size_inputs: tuple[Name, Name] | None = None
    """Additional int64 (N,) inputs of a masked model: each image's own height and width within the padded batch."""
    prompt_output: PromptOutput | None = None
    """None if the model outputs only the image."""
    size_multiple: Count
    """Height and width must be divisible by this number."""
    precision: Precision
    opset: Count
    sha256: Sha256
    """Hash of the model file."""
    weights_sha256: Sha256 | None = None
    """Hash of the weights file that the model was exported from."""
    parameters: Count
    parity: tuple[Parity, ...]
    exporter: dict[str, str]
    """Library name -> version used to write and verify the model."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the names of all outputs, in the model's order."""
        return (self.output_name,) if self.prompt_output is None else (self.output_name, self.prompt_output.name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the manifest in `folder`; raise `ArtifactError` if it is missing, not JSON, incomplete or of another
        version.
        """
        path = folder / MANIFEST_FILE
        fields = _read_object(path)
        version = fields.get("format_version")
        if version != FORMAT_VERSION:
            raise ArtifactError(
                f"{path} has format_version {_quoted(version)}; this release reads version {FORMAT_VERSION}"
            )
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise ArtifactError(f"{path} is not a valid manifest: {_first_problem(error)}") from None

    def verify(self, folder: Path) -> None:
        """Check the hash of the model file in `folder`; raise `ArtifactError` with both hashes if they differ."""
        path = folder / self.model_file
        try:
            found = sha256_of(path)
        except OSError as error:
            raise ArtifactError(f"cannot read the model file {path}: {error.strerror}") from error
        if found != self.sha256:
            raise ArtifactError(
                f"{path} does not match its manifest: expected sha256 {self.sha256}, found {found}; "
                "export the artifact again or restore the file"
            )

    def save(self, folder: Path) -> None:
        """Write the manifest into `folder` atomically."""
        partial = folder / f"{MANIFEST_FILE}.partial"
        partial.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / MANIFEST_FILE)


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file; raise `OSError` if it is unreadable or not a regular file."""
    with open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_MODEL_BYTES:
            raise OSError(errno.EFBIG, f"It has {size} bytes; a model has at most {MAX_MODEL_BYTES}", str(path))
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_object(path: Path) -> dict[str, object]:
    if not path.parent.is_dir():
        fault = "is not a folder" if path.parent.exists() else "does not exist"
        raise ArtifactError(f"artifact folder {path.parent} {fault}")
    try:
        fields = json.loads(read_regular(path, MAX_MANIFEST_BYTES).decode())
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    except RecursionError:
        raise ArtifactError(f"{path} is nested too deeply") from None
    except ValueError as error:  # not UTF-8 or not JSON
        raise ArtifactError(f"{path} is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ArtifactError(f"{path} must hold a JSON object, found {type(fields).__name__}")
    return fields


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"field {_quoted(field)}: {first['msg']}"


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}..."
