"""The OpenAPI document of a real server."""

from typing import Any


def test_restore_lists_every_response_it_can_give(server: Any) -> None:
    document = server.client.get("/openapi.json").json()
    responses = document["paths"]["/restore"]["post"]["responses"]
    refusals = ["400", "404", "406", "408", "413", "415", "422", "429", "500", "503", "504", "507"]
    assert sorted(responses) == ["200", "304", *refusals]
    images = ["image/avif", "image/jpeg", "image/png", "image/tiff", "image/webp"]
    content = responses["200"]["content"]
    assert sorted(content) == ["*/*", "application/octet-stream", *images]
    for status, response in responses.items():
        if status in refusals:
            content = response["content"]
            assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def test_a_status_has_one_type_of_answer_for_clients_that_are_made_from_the_document(server: Any) -> None:
    """Generators take the first media type that they know, of these: what they make must read what is answered."""
    document = server.client.get("/openapi.json").json()
    known = ("application/octet-stream", "application/json", "application/problem+json", "text/plain")
    pictures = {("post", "/restore"), ("get", "/v1/jobs/{job_id}/result")}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                first = next((media for media in response.get("content", ()) if media in known), None)
                is_picture = (method, path) in pictures and status == "200"
                assert (first == "application/octet-stream") is is_picture, (method, path, status)
                schemas = [media.get("schema") for media in response.get("content", {}).values() if media.get("schema")]
                if is_picture:
                    assert all(schema == {"type": "string", "format": "binary"} for schema in schemas)


def test_the_problem_schema_is_there_and_true(server: Any) -> None:
    document = server.client.get("/openapi.json").json()
    schema = document["components"]["schemas"]["Problem"]
    problem = server.client.get("/nothing").json()
    assert set(schema["required"]) == {"type", "title", "status", "detail", "instance"} <= set(problem)


def test_the_body_may_be_a_form_or_raw_bytes(server: Any) -> None:
    document = server.client.get("/openapi.json").json()
    body = document["paths"]["/restore"]["post"]["requestBody"]
    assert sorted(body["content"]) == ["application/octet-stream", "image/*", "multipart/form-data"]
    assert body["content"]["multipart/form-data"]["schema"]["required"] == ["file"]


def test_the_parameters_of_restore_are_the_ones_that_are_checked(server: Any) -> None:
    document = server.client.get("/openapi.json").json()
    parameters = {
        (parameter["in"], parameter["name"]): parameter
        for parameter in document["paths"]["/restore"]["post"]["parameters"]
    }
    query = ["color", "effort", "format", "metadata", "model", "overlap", "quality", "report", "strength", "tile"]
    headers = ["Accept", "If-None-Match", "X-Deadline-Ms", "X-Priority"]
    assert sorted(parameters) == [*(("header", name) for name in headers), *(("query", name) for name in query)]
    assert parameters["header", "X-Priority"]["schema"]["enum"] == ["interactive", "batch"]
    assert not any(parameter["required"] for parameter in parameters.values())


def test_every_reference_leads_somewhere_and_every_route_is_described(server: Any) -> None:
    document = server.client.get("/openapi.json").json()
    assert sorted(document["paths"]) == [
        "/",
        "/healthz",
        "/metrics",
        "/readyz",
        "/restore",
        "/v1/health/live",
        "/v1/health/ready",
        "/v1/images/edits",
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/events",
        "/v1/jobs/{job_id}/result",
        "/v1/limits",
        "/v1/scheduler",
        "/v1/version",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/stats",
        *sorted(
            f"/v2/models/{model}{what}"
            for model in ("{model}", "{model}/versions/{version}")
            for what in ("", "/config", "/infer", "/ready", "/stats")
        ),
        "/v2/repository/index",
    ]
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    assert "503" in document["paths"]["/readyz"]["get"]["responses"]


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for child in node.values() for found in _references(child)]
    if isinstance(node, list):
        return [found for child in node for found in _references(child)]
    return []
