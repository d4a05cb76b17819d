"""Schemas: the JSON documents of OpenAI's image API."""

from collections.abc import Mapping

from pydantic import BaseModel, Field
from starlette.types import Scope

ROOT = "/v1/images"
PATH = f"{ROOT}/edits"


class EditedImage(BaseModel):
    """One restored image."""

    b64_json: str = Field(description="The image file in base64.")


class ImagesResponse(BaseModel):
    """The restored images, in the order of the upload."""

    created: int = Field(description="Seconds since 1970.")
    output_format: str
    data: list[EditedImage]


class ErrorDetail(BaseModel):
    """What is wrong with a request."""

    message: str
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(description="The field that is wrong.")
    code: str | None = Field(examples=["unsupported-image"])


class OpenAIError(BaseModel):
    """An error in the form that OpenAI's clients read."""

    error: ErrorDetail


def is_openai(scope: Scope) -> bool:
    """Whether a request is one of OpenAI's API, and its errors have that form."""
    path: str = scope["path"]
    return path == ROOT or path.startswith(f"{ROOT}/")


def error_document(status: int, slug: str, detail: str, extensions: Mapping[str, object]) -> dict[str, object]:
    """Describe an error as OpenAI's API does; the code is the slug of the problem, or OpenAI's own for a bad key."""
    param = extensions.get("param")
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    code = "invalid_api_key" if status == 401 else slug
    shown = param if isinstance(param, str) else None
    return {"error": {"message": detail, "type": kind, "param": shown, "code": code}}
