"""OpenAPI document: FastAPI's description of its routes, and of those that it cannot see."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from server.http.auth import document_keys
from server.http.jobs.submit import submit_document
from server.http.open_inference.route import infer_documents, infer_schemas
from server.http.openai.route import edits_document, edits_schemas
from server.http.ops.schemas import Problem
from server.http.restore.openapi import restore_document
from server.http.restore.report import ReportWithImage


def install(app: FastAPI, public_root: str, *, asks_for_keys: bool) -> None:
    """Let the application describe itself as served under `public_root`; written at the first request."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _written(app)
            if asks_for_keys:
                document_keys(app.openapi_schema)
            if public_root:
                app.openapi_schema["servers"] = [{"url": public_root}]
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _written(app: FastAPI) -> dict[str, Any]:
    routes = [restore_document(), submit_document(), edits_document(), *infer_documents(), *app.routes]
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=routes)
    schemas = schema["components"]["schemas"]
    # FastAPI lists a response model under application/json only, so the routes refer to schemas that are added here.
    schemas["Problem"] = Problem.model_json_schema()
    report = ReportWithImage.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= report.pop("$defs") | {"ReportWithImage": report} | infer_schemas() | edits_schemas()
    _leave_out_own_validation(schema)
    return schema


def _leave_out_own_validation(schema: dict[str, Any]) -> None:
    # FastAPI adds its own 422 to every route with a parameter; this server answers 400 with a problem document.
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    for operations in schema["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
